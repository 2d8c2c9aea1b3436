"""The chain through profiles/slurm on a real Slurm, and what goes wrong on one (`make test-slurm`).

Not collected by `make test`: it takes minutes, and a machine on which a cluster can be started. The
chain runs beside the faults, because both spend most of their time waiting.
"""

import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from tests.project import ROOT, make_clone
from tests.slurm.cluster import cluster, install, needs

CONFIG = ROOT / "tests/slurm/config.yaml"
# The last snapshot measured, and what else has resources of its own in the profile.
TARGETS = ("results/faces32/metrics/4.fd_lite0.json", "results/faces32_throughput.csv")
DATA = "results/data/few.lmdb"
LONG = 40  # iterations of the segment whose node goes down
PATIENCE = 600  # seconds; a machine may be busy
# Snakemake that asks Slurm every two seconds. Its plugin waits ten seconds longer each time that no
# job has ended since.
SNAKEMAKE = """\
from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor
Executor.next_seconds_between_status_checks = property(lambda self: 2, lambda self, seconds: None)
main()
"""


@pytest.fixture(scope="module")
def restart() -> Iterator[Callable[[], None]]:
    """Four virtual nodes with two fake GPUs each, one of them in a partition of its own; how to
    restart their controller."""
    if reason := needs():
        pytest.exit(f"make test-slurm: {reason}", returncode=1)
    install()
    with tempfile.TemporaryDirectory() as folder, cluster(Path(folder)) as restart:
        yield restart


@dataclass(frozen=True)
class Clone:
    """A copy of the workflow with a profile for the cluster."""

    folder: Path

    def start(self, *arguments: str) -> subprocess.Popen:
        """Snakemake in this clone; what it says goes to a file."""
        command = [sys.executable, "-c", SNAKEMAKE, "--profile", "profiles/test", *arguments]
        with open(self.folder / "said", "w") as said:
            return subprocess.Popen(command, cwd=self.folder, stdout=said, stderr=said)

    def run(self, *arguments: str) -> tuple[int, str]:
        """(exit status, what Snakemake said)."""
        return self.start(*arguments).wait(timeout=PATIENCE), self.said

    @property
    def said(self) -> str:
        return (self.folder / "said").read_text()


def clone(folder: Path, *changes: tuple[str, str]) -> Clone:
    """With lines of profiles/slurm changed, and those that suit this cluster: small GPUs, one thread
    per process, because the nodes share this machine's CPUs."""
    make_clone(folder)
    text = (ROOT / "profiles/slurm/config.yaml").read_text()
    for old, new in (("gpu: 8 ", "gpu: 2 "), ("# microbatch: 4 ", "microbatch: 4 "), *changes):
        assert old in text
        text = text.replace(old, new)
    profile = yaml.safe_load(text)
    profile["set-threads"] = dict.fromkeys(profile["set-threads"], 1)
    path = folder / "profiles/test/config.yaml"
    path.parent.mkdir()
    path.write_text(yaml.safe_dump(profile))
    return Clone(folder)


@pytest.fixture(scope="module")
def chain(restart, tmp_path_factory) -> Iterator[tuple[Clone, subprocess.Popen]]:
    """The chain, under way on two nodes."""
    nodes = (("nodes: &nodes 1", "nodes: &nodes 2"), ("# mpi: srun", "mpi: srun"))
    it = clone(tmp_path_factory.mktemp("chain"), *nodes)
    process = it.start("--configfile", str(CONFIG), "--", *TARGETS)
    yield it, process
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def spare(chain, tmp_path_factory) -> Clone:
    """A clone whose jobs go to the last node, beside the chain."""
    folder = tmp_path_factory.mktemp("spare")
    partitions = (
        ("partition: cpu", "partition: spare"),
        ("&gpu-partition gpu", "&gpu-partition spare"),
    )
    it = clone(folder, *partitions)
    length = f"{{iterations: {LONG}, segment: {LONG}}}"
    (folder / "overlay.yaml").write_text(f"experiments: {{faces32: {{run: {length}}}}}")
    return it


OVERLAY = ("--configfile", str(CONFIG), "overlay.yaml", "--")


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen, seconds: float = PATIENCE
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.2)


def test_a_refused_submission_is_said_and_ends_the_run(spare):
    night = ("--retries", "0", "--set-resources", "pack:slurm_partition=night")
    status, said = spare.run(*night, *OVERLAY, DATA)
    assert status == 1 and "invalid partition specified: night" in said


def test_a_controller_that_is_started_again_is_waited_for(restart, chain):
    it, process = chain
    wait_for(lambda: "has been submitted" in it.said, process)
    restart()
    assert process.poll() is None, it.said


def test_a_job_that_takes_more_memory_than_it_asked_for(spare):
    little = ("--retries", "0", "--set-resources", "pack:mem_mb=20")
    status, said = spare.run(*little, *OVERLAY, DATA)
    # Without cgroups Slurm says FAILED, elsewhere OUT_OF_MEMORY.
    assert status == 1 and re.search("SLURM status is: '(FAILED|OUT_OF_MEMORY)'", said)
    log = re.search(r"log: (\S+\.log)\)", said)[1]
    assert "exceeded memory limit" in Path(log).read_text()


def test_a_node_that_goes_down_in_mid_segment(spare):
    """In the run that makes what the two before could not."""
    state = f"results/faces32/train/{LONG}.state"
    process = spare.start(*OVERLAY, state)
    wait_for((spare.folder / f"{state}.records").exists, process)
    subprocess.run(
        ["scontrol", "update", "nodename=node4", "state=down", "reason=test"], check=True
    )
    waiting = ["squeue", "--noheader", "--partition=spare", "--states=PENDING"]
    wait_for(lambda: subprocess.check_output(waiting) != b"", process)
    subprocess.run(["scontrol", "update", "nodename=node4", "state=resume"], check=False)
    assert process.wait(timeout=PATIENCE) == 0, spare.said
    assert (spare.folder / state).exists()


def test_the_chain_on_two_nodes(chain):
    it, process = chain
    assert process.wait(timeout=PATIENCE) == 0, it.said[-5000:]
    assert re.search(r"Job \d+ has been submitted with SLURM jobid \d+", it.said)

    assert not (it.folder / ".snakemake/slurm_logs/rule_weights").exists(), "a download"
    assert all((it.folder / target).stat().st_size > 0 for target in TARGETS)
    log = (it.folder / "results/logs/train/faces32.4.log").read_text()
    assert "resuming from step 2 (results/faces32/train/2.state)" in log
