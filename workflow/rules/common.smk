# From the wildcards of a rule to what the configuration says; devices.smk has what the profile says.
import json
import os
import re
import sys
from dataclasses import asdict
from pathlib import Path

# Steps come from this checkout and run with this interpreter, activated or not.
sys.path.insert(0, str(ROOT))
os.environ.update(
    PATH=os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
    PYTHONPATH=os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
)

# Threads that wait for each other by spinning bring a busy machine to a standstill; these sleep.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

from stylenat.blocks import BLOCKS
from stylenat.errors import UserError
from stylenat.experiments import refuse_duplicate_keys, resolve
from stylenat.io import sha256
from stylenat.metrics import METRICS

# The literature's numbers.
PUBLISHED = str(ROOT / "config/published.csv")


def refuse(message):
    """End Snakemake with one sentence; an exception would come with the place it was raised at."""
    sys.exit(f"error: {message}")


try:
    for path in workflow.configfiles:
        refuse_duplicate_keys(path)
    EXPERIMENTS, FAMILIES = resolve(config)
except UserError as error:
    refuse(error)


for name, it in config["protocols"].items():
    if it["metric"] not in METRICS:
        refuse(f"protocols.{name}.metric: {it['metric']!r} is not one of {', '.join(METRICS)}")


# A data set's held-out images are a data set of their own: of other sources, or a share of the same.
DATASETS = config["datasets"] | {
    f"{name}.test": it | ({"sources": it["test"]} if isinstance(it["test"], list) else {})
    for name, it in config["datasets"].items()
    if "test" in it
}


# ------------------------------------------------------------------------- wildcards and targets


def any_of(names):
    """A wildcard constraint: one of these names (a pattern that never matches if there are none)."""
    return "|".join(map(re.escape, names)) or "$^"


def trained_experiments():
    return [name for name, it in EXPERIMENTS.items() if it.checkpoint is None]


def foreign_experiments():
    return [name for name, it in EXPERIMENTS.items() if it.checkpoint is not None]


def downloading_experiments():
    """Experiments with weights from an address, to evaluate or to start from."""
    return [name for name, it in EXPERIMENTS.items() if download_of(it)]


def download_of(experiment):
    """Where an experiment's weights are downloaded from, or None."""
    source = experiment.checkpoint
    if source is None and (start := experiment.config.training.start_from):
        source = {"url": start.url, "sha256": start.sha256}
    if source and source.get("url"):
        return {"url": source["url"], "sha256": source.get("sha256")}


def first_files():
    """A pattern that the states and weights begin with that training starts from."""
    names = (
        f"{re.escape(name)}/(train|weights)/{it.snapshots[0]}" for name, it in EXPERIMENTS.items()
    )
    return f"({'|'.join(names)})[.]"


def protocols_at(experiment, step):
    """What is measured of this snapshot."""
    it = EXPERIMENTS[experiment]
    last = int(step) == it.snapshots[-1]
    return list(dict.fromkeys([*it.protocols, *(it.final_protocols if last else [])]))


def protocols_of(experiment):
    return protocols_at(experiment, EXPERIMENTS[experiment].snapshots[-1])


def metric(protocol):
    return METRICS[config["protocols"][protocol]["metric"]]


def protocol_table(protocol):
    """Fréchet distances have a table of all snapshots for each feature network."""
    return metric(protocol).table(config["protocols"][protocol]["extractor"])


def table_names(names):
    """A table for each Fréchet distance, one of everything about the last snapshot, and one of the
    throughput."""
    used = {protocol_table(p) for name in names for p in protocols_of(name)}
    return [*sorted(used | {"metrics"}), "throughput"]


def tables(names):
    return [f"results/{name}_{table}.csv" for name in names for table in table_names([name])]


def overviews(names):
    return [f"results/{name}_overview.html" for name in names]


def grids(names):
    return [
        f"results/{name}/grids/{step}.png" for name in names for step in EXPERIMENTS[name].snapshots
    ]


def pictures(names):
    """What is drawn of the last snapshot, as far as an experiment has it."""
    wanted = []
    for name in names:
        it = EXPERIMENTS[name]
        model = it.config.model
        wanted += [
            f"results/{name}/{picture}"
            for picture in ("receptive.svg", "latents/truncation.png", "spectrum.svg")
        ]
        if it.curated:
            wanted.append(f"results/{name}/grids/curated.png")
        if any(BLOCKS[block].has_neighbourhoods for block in model.block):
            wanted.append(f"results/{name}/attention/reach.svg")
        # Where the attention maps begin.
        if any(
            BLOCKS[block].has_neighbourhoods and side >= 16
            for block, side in zip(model.block, model.resolutions)
        ):
            wanted.append(f"results/{name}/attention/neighbourhoods.png")
    return wanted + copies(names)


def curves(names):
    return [
        f"results/{name}/training.svg" for name in names if EXPERIMENTS[name].checkpoint is None
    ]


# ----------------------------------------------------------------------------------------- inputs


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
    return EXPERIMENTS[wildcards.experiment].checkpoint.get("file", downloaded)


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


def local_families():
    """Families that can run on any machine."""
    return [name for name, it in FAMILIES.items() if EXPERIMENTS[it.experiments[0]].device == "any"]


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


def copies(names):
    """Samples beside the training images nearest to them, where a protocol looks for copies."""
    return [
        f"results/{name}/copies/{EXPERIMENTS[name].snapshots[-1]}.{protocol}.png"
        for name in names
        for protocol in protocols_of(name)
        if metric(protocol).shows_nearest
    ]


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


# ----------------------------------------------------------------------------------------- params


def experiment_values(wildcards):
    return json.dumps(EXPERIMENTS[wildcards.experiment].config.to_dict())


def dataset_sources(wildcards):
    return json.dumps(DATASETS[wildcards.dataset]["sources"])


def split_of(wildcards):
    """The share of a data set's images that is held out, and which part of it this is."""
    name = wildcards.dataset
    share = DATASETS[name].get("test")
    if not isinstance(share, float):
        return ""
    return f"--test-share {share}{' --held-out' if name.endswith('.test') else ''}"


def dataset_value(key, default=None):
    return lambda wildcards: DATASETS[wildcards.dataset].get(key, default)


def weights_source(wildcards):
    """Where a weights file comes from: of a feature network, or of an experiment's checkpoint."""
    name = wildcards.weights
    return json.dumps(config["weights"].get(name) or download_of(EXPERIMENTS[name]))


def checkpoint_step(wildcards):
    return EXPERIMENTS[wildcards.experiment].checkpoint["step"]


def protocol_metric(wildcards):
    return config["protocols"][wildcards.protocol]["metric"]


def features_option(wildcards):
    return "--features" if wildcards.kind == "features" else ""


def protocol_samples(wildcards):
    return config["protocols"][wildcards.protocol]["samples"]


def held_out_option(wildcards, input):
    return f"--held-out {input.held_out}" if input.held_out else ""


def grid_seeds(wildcards):
    return f"0-{EXPERIMENTS[wildcards.experiment].grid - 1}"


def curated_seeds(wildcards):
    return ",".join(map(str, EXPERIMENTS[wildcards.experiment].curated))


def published_content(wildcards):
    return sha256(PUBLISHED)


def throughput_batch_sizes(wildcards):
    return EXPERIMENTS[wildcards.experiment].throughput_batch_sizes


def snapshot_label(wildcards):
    """Padded with spaces as wide as digits, because the report sorts labels as text."""
    return {"iteration": f"{int(wildcards.step):,}".rjust(9, "\N{FIGURE SPACE}")}


wildcard_constraints:
    experiment=any_of(EXPERIMENTS),
    dataset=any_of(DATASETS),
    protocol=any_of(config["protocols"]),
    extractor=any_of(config["weights"]),
    table=any_of(table_names(EXPERIMENTS)),
    step="[0-9]+",
    seeds="[0-9]+-[0-9]+",
    kind="statistics|features",
    subset="all|[0-9]+",
