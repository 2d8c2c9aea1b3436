# What a dry run says of the evaluation's cost. Snakemake calls no hook in a dry run, so it is printed at
# the end of the process.
import atexit

from stylenat.metrics import cost


def count_of_seeds(seeds):
    first, last = map(int, seeds.split("-"))
    return last - first + 1


def count_of_reals(dataset, subset):
    """How many images are read of a data set; 0 of one whose source doesn't say how many it has."""
    return DATASETS[dataset]["sources"][0].get("count", 0) if subset == "all" else int(subset)


def samples_read(it):
    side = EXPERIMENTS[it.experiment].config.model.image_size
    return cost.Reading(it.extractor, count_of_seeds(it.seeds), side, it.kind == "features")


def reals_read(it):
    count = count_of_reals(it.dataset, it.subset)
    return cost.Reading(it.extractor, count, DATASETS[it.dataset]["resolution"], True)


def gpu_jobs(rule):
    """What the wildcards are of the rule's jobs that are to run on a GPU; at the end of a dry run, they
    count as finished."""
    jobs = workflow.dag.needrun_jobs(exclude_finished=False)
    return [job.wildcards for job in jobs if job.rule.name == rule and needs_gpu(job.wildcards)]


def print_cost():
    if not workflow.dryrun or workflow.dag is None:
        return
    sampling = [
        cost.Sampling(EXPERIMENTS[it.experiment].config.model, count_of_seeds(it.seeds))
        for it in gpu_jobs("sample")
    ]
    reading = [
        *map(samples_read, gpu_jobs("statistics")),
        *map(reals_read, gpu_jobs("statistics_of_reals")),
    ]
    if sampling or reading:
        print(*cost.describe(cost.estimate(sampling, reading)), sep="\n", file=sys.stderr)


atexit.register(print_cost)
