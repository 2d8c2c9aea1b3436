# From the wildcards of a rule to the files that it reads.


def manifest(wildcards):
    """What was downloaded of a data set; one for both parts where a share is held out."""
    name = wildcards.dataset
    whole = name.removesuffix(".test") if isinstance(DATASETS[name].get("test"), float) else name
    return f"results/data/{whole}.download.json"


def dataset(wildcards):
    return f"results/data/{EXPERIMENTS[wildcards.experiment].config.dataset}.lmdb"


def all_reals(wildcards):
    """The training images and, where the data set has them, the held-out ones."""
    name = EXPERIMENTS[wildcards.experiment].config.dataset
    return [f"results/data/{it}.lmdb" for it in (name, f"{name}.test") if it in DATASETS]


def shown_reals(wildcards):
    """The reals that samples are shown with: images that no network was trained on, if there are."""
    return all_reals(wildcards)[-1]


def previous_state(wildcards):
    """The state that a training segment starts from."""
    it, step = EXPERIMENTS[wildcards.experiment], int(wildcards.step)
    first, segment = it.snapshots[0], it.segment
    if step < first or (step - first) % segment:
        refuse(
            f"experiments.{wildcards.experiment}.run.segment: there is no snapshot at iteration "
            f"{step}, which is not {f'{first} plus ' if first else ''}a multiple of {segment}"
        )
    return f"results/{wildcards.experiment}/train/{step - segment}.state"


def start_file(wildcards):
    """What training starts from, if not from initial weights."""
    start = EXPERIMENTS[wildcards.experiment].config.training.start_from
    if start is None:
        return []
    if start.url:
        return f"results/weights/{wildcards.experiment}.pth"
    if start.file:
        return start.file
    if EXPERIMENTS[start.experiment].checkpoint is None:
        return f"results/{start.experiment}/train/{start.step}.state"
    return f"results/{start.experiment}/weights/{start.step}.safetensors"


def checkpoint_file(wildcards):
    """The user's own copy, or the one that the rule `weights` downloads."""
    downloaded = f"results/weights/{wildcards.experiment}.pth"
    return EXPERIMENTS[wildcards.experiment].checkpoint.file or downloaded


def first_weights(wildcards):
    """Any weights do for measuring speed; these are there first."""
    step = EXPERIMENTS[wildcards.experiment].snapshots[0]
    return f"results/{wildcards.experiment}/weights/{step}.safetensors"


def statistics_kind(protocols, **same):
    """`features` if one of these protocols on the same images needs more than their moments."""
    needed = any(
        metric(protocol).needs_features and same.items() <= config["protocols"][protocol].items()
        for protocol in protocols
    )
    return "features" if needed else "statistics"


def last_weights(wildcards):
    step = EXPERIMENTS[wildcards.experiment].snapshots[-1]
    return f"results/{wildcards.experiment}/weights/{step}.safetensors"


def family_runs(wildcards):
    """Every variant's experiments."""
    return FAMILIES[wildcards.family].experiments


def family_metrics(wildcards):
    """What a family's protocol measures of every run, and the floor."""
    protocol, runs = FAMILIES[wildcards.family].protocol, family_runs(wildcards)
    paths = [
        f"results/{name}/metrics/{step}.{protocol}.json"
        for name in runs
        for step in EXPERIMENTS[name].snapshots
    ]
    return [*paths, f"results/{runs[0]}/metrics/floor.{protocol}.json"]


def family_records(wildcards):
    return [
        f"results/{name}/train/{step}.jsonl"
        for name in family_runs(wildcards)
        for step in EXPERIMENTS[name].snapshots[1:]
    ]


def family_generators(wildcards):
    """One experiment of every variant: speed and size do not depend on the seed."""
    runs = FAMILIES[wildcards.family].runs.values()
    return [f"results/{next(iter(seeds.values()))}/experiment.json" for seeds in runs]


def family_values(wildcards):
    return json.dumps(asdict(FAMILIES[wildcards.family]))


def compared_experiments():
    """The experiments whose generators are measured side by side."""
    return [f"results/{name}/experiment.json" for name in config["comparison"]["experiments"]]


def snapshot_statistics(wildcards):
    """Every sampling set of a snapshot: seeds 0 to n - 1, n to 2n - 1, …"""
    experiment, step = wildcards.experiment, wildcards.step
    protocol = config["protocols"][wildcards.protocol]
    extractor, n = protocol["extractor"], protocol["samples"]
    kind = statistics_kind(protocols_at(experiment, step), extractor=extractor, samples=n)
    it = EXPERIMENTS[experiment]
    repeats = it.repeats if int(step) == it.snapshots[-1] else 1
    return [
        f"results/{experiment}/{kind}/{step}.{extractor}.{first}-{first + n - 1}.npz"
        for first in range(0, repeats * n, n)
    ]


def first_statistics(wildcards):
    return snapshot_statistics(wildcards)[0]


def statistics_of_real(wildcards, dataset, subset):
    """Statistics of reals for a protocol; with their features, from which floors are drawn."""
    extractor = config["protocols"][wildcards.protocol]["extractor"]
    return f"results/data/{dataset}.{extractor}.{subset}.features.npz"


def reference_statistics(wildcards):
    """The reals that a protocol compares with."""
    reals = config["protocols"][wildcards.protocol]["reals"]
    name = EXPERIMENTS[wildcards.experiment].config.dataset
    return statistics_of_real(wildcards, name, reals)


def held_out_statistics(wildcards):
    """All reals that no network trains on, where a data set has any."""
    name = f"{EXPERIMENTS[wildcards.experiment].config.dataset}.test"
    return statistics_of_real(wildcards, name, "all") if name in DATASETS else []


def metrics_of(experiment, protocols, last=False):
    """Records of every snapshot that each protocol measures, or of the last one; and the floors."""
    it, paths = EXPERIMENTS[experiment], []
    for protocol in protocols:
        every = protocol in it.protocols and not last
        steps = [*(it.snapshots if every else it.snapshots[-1:]), "floor"]
        paths += [f"results/{experiment}/metrics/{step}.{protocol}.json" for step in steps]
    return paths


def all_metrics(wildcards):
    return metrics_of(wildcards.experiment, EXPERIMENTS[wildcards.experiment].protocols)


def training_records(wildcards):
    """Of every segment; weights from elsewhere have none."""
    steps = EXPERIMENTS[wildcards.experiment].snapshots[1:]
    return [f"results/{wildcards.experiment}/train/{step}.jsonl" for step in steps]


def table_records(wildcards):
    """What a table lists: a Fréchet distance at every snapshot, all metrics of the last one, or the
    throughput."""
    experiment, table = wildcards.experiment, wildcards.table
    if table == "throughput":
        return [f"results/{experiment}/throughput.json"]
    if table == "metrics":
        return metrics_of(experiment, protocols_of(experiment), last=True)
    used = [p for p in protocols_of(experiment) if protocol_table(p) == table]
    if not used:
        refuse(
            f"experiments.{experiment}.evaluation.protocols: none of "
            f"{', '.join(protocols_of(experiment))} writes to the table {table}"
        )
    return metrics_of(experiment, used)
