# The configuration, and what it says of experiments and protocols. What rules need of it is in targets.smk,
# inputs.smk, params.smk and outputs.smk; what the profile says is in devices.smk.
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

# The literature's numbers: those of this directory, where it has some, as it is with the configuration. Never
# in a storage.
PUBLISHED = Path("config/published.csv")
PUBLISHED = local(str(PUBLISHED if PUBLISHED.exists() else ROOT / PUBLISHED))


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
    source = experiment.checkpoint or experiment.config.training.start_from
    if source and source.url:
        return {"url": source.url, "sha256": source.sha256}


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
