"""The whole chain through profiles/slurm on a real Slurm (`make test-slurm`).

Not collected by `make test`: it takes minutes, and a machine on which a cluster can be started.
"""

import csv
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.project import ROOT, make_clone, snakemake
from tests.slurm.cluster import cluster, install, needs

CONFIG = ROOT / "tests/slurm/config.yaml"


@pytest.fixture(scope="module")
def nodes() -> Iterator[None]:
    """Two virtual nodes with two fake GPUs each."""
    if reason := needs():
        pytest.exit(f"make test-slurm: {reason}", returncode=1)
    install()
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)):
        yield


def two_node_profile(folder: Path) -> Path:
    """profiles/slurm with training on two nodes, by the lines that it says to change, and one
    thread per process, because the nodes share this machine's CPUs."""
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    for old, new in (
        ("nodes: &nodes 1", "nodes: &nodes 2"),
        ("# mpi: srun", "mpi: srun"),
        ("gpu: 8 ", "gpu: 2 "),
        ("# microbatch: 4 ", "microbatch: 4 "),
    ):
        assert old in text
        text = text.replace(old, new)
    profile = yaml.safe_load(text)
    profile["set-threads"] = dict.fromkeys(profile["set-threads"], 1)
    path = folder / "profiles/two-nodes/config.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(profile))
    return path.parent


def test_the_chain_on_two_nodes(nodes, tmp_path):
    clone = make_clone(tmp_path)
    profile = two_node_profile(clone)
    done = snakemake("--profile", str(profile), "--configfile", str(CONFIG), cwd=clone)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
    assert re.search(r"Job \d+ has been submitted with SLURM jobid \d+", done.stdout + done.stderr)

    with open(clone / "results/faces32_fd_lite0.csv", newline="") as file:
        steps = [row["step"] for row in csv.DictReader(file) if row["kind"] == "snapshot"]
    assert steps == ["0", "2", "4"]
    log = (clone / "results/logs/train/faces32.4.log").read_text()
    assert "resuming from step 2 (results/faces32/train/2.state)" in log
