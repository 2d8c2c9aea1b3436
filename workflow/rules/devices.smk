# Where and in how many processes a job runs: functions of the profile's resources.
#
# Where a job runs must not be a reason to run it again. Snakemake leaves a parameter out of that
# comparison when its function takes `resources`, whether or not it looks at them.
from stylenat import runtime


def users(wildcards):
    """The experiments that a job works for: one, or all on its data set."""
    if "experiment" in wildcards.keys():
        return [wildcards.experiment]
    dataset = wildcards.dataset.removesuffix(".test")
    return [name for name, it in EXPERIMENTS.items() if it.config.dataset == dataset]


def needs_gpu(wildcards):
    return any(EXPERIMENTS[name].device == "gpu" for name in users(wildcards))


def gpus(wildcards):
    """The resource `gpu` where the profile does not set it."""
    return int(needs_gpu(wildcards))


def device(wildcards, resources):
    return "cuda" if needs_gpu(wildcards) else "auto"


def time_limit(wildcards, resources):
    """The minutes that the profile grants a job, so that it can stop cleanly before they end."""
    return f"--time-limit {resources.runtime}" if "runtime" in resources.keys() else ""


def microbatch(wildcards, resources):
    """The most images that the profile lets a GPU compute at once."""
    return f"--microbatch {resources.microbatch}" if "microbatch" in resources.keys() else ""


def execution(wildcards, resources):
    """How the profile has training launch what a GPU does."""
    return f"--execution {resources.execution}" if "execution" in resources.keys() else ""


def tracking(wildcards, resources):
    return json.dumps(EXPERIMENTS[wildcards.experiment].tracking)


def run_iterations(wildcards, resources):
    """The length of the whole run; a longer one keeps the segments that it has."""
    return f"--run-iterations {EXPERIMENTS[wildcards.experiment].iterations}"


def processes_on_cpus(wildcards, threads):
    """As many as share the batch in whole groups of four (the minibatch standard deviation's):
    small networks gain little from threads that share an operation."""
    batch = EXPERIMENTS[wildcards.experiment].config.training.batch_size
    return max(n for n in range(1, threads + 1) if n == 1 or batch % (4 * n) == 0)


def launcher(wildcards, threads, resources):
    """How to start a module: a process per GPU, on as many nodes as the profile asks for."""
    processes = resources.get("gpu", 0) or processes_on_cpus(wildcards, threads)
    nodes = resources.get("nodes", 1)
    if processes % nodes:
        refuse(f"profile: {processes} GPUs (gpu) cannot be shared out to {nodes} nodes (nodes)")
    if processes == 1:
        return "python -m"
    run = f"python -m stylenat.training.launch --nproc-per-node={processes // nodes}"
    # Without `--` the launcher takes the step's --log for its own --log-dir.
    if nodes == 1:
        return f"{run} --standalone -m --"
    # Slurm's variables exist only inside srun; node names need not resolve, addresses do. Jobs
    # that share a node need ports of their own.
    return (
        f"srun --ntasks={nodes} --nodes={nodes} --ntasks-per-node=1 --cpus-per-task={threads} "
        f"bash -c '{run} --nnodes={nodes} --node-rank=$SLURM_NODEID "
        "--master-addr=$SLURM_LAUNCH_NODE_IPADDR --master-port=$((20000 + SLURM_JOB_ID % 10000)) "
        '-m -- "$@"\' --'
    )


def require_gpu():
    """Refuse a run on this machine that would come to a job it cannot do, before any job starts."""
    if not workflow.local_exec or workflow.touch:
        return
    jobs = [job for job in workflow.dag.needrun_jobs() if job.params.get("device") == "cuda"]
    if jobs:
        try:
            runtime.select_device("cuda")
        except UserError as error:
            job = min(jobs, key=lambda job: len(users(job.wildcards)))
            refuse(f"experiments.{users(job.wildcards)[0]}: {error}")
