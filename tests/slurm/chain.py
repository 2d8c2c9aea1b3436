"""The chain through profiles/slurm on a real Slurm, and what goes wrong on one (`make test-slurm`).

Not collected by `make test`: it takes minutes, and a machine on which a cluster can be started. The
chain and the faults are all started at once, because they spend most of their time waiting.
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
STATE = f"results/faces32/train/{LONG}.state"
PATIENCE = 600  # seconds; a machine may be busy
# Snakemake that asks Slurm every second. Its plugin waits ten seconds longer each time that no job has
# ended since.
SNAKEMAKE = """\
from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor
Executor.next_seconds_between_status_checks = property(lambda self: 1, lambda self, seconds: None)
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


def started(
    it: Clone, *targets: str, overlays: tuple[str, ...] = (), options: tuple[str, ...] = ()
) -> Iterator[tuple[Clone, subprocess.Popen]]:
    """A clone and Snakemake at work in it, which is ended with the tests."""
    process = it.start(*options, "--configfile", str(CONFIG), *overlays, "--", *targets)
    yield it, process
    process.terminate()
    process.wait()


@pytest.fixture(scope="module")
def chain(restart, tmp_path_factory) -> Iterator[tuple[Clone, subprocess.Popen]]:
    """The chain, under way on two nodes."""
    nodes = (("nodes: &nodes 1", "nodes: &nodes 2"), ("# mpi: srun", "mpi: srun"))
    yield from started(clone(tmp_path_factory.mktemp("chain"), *nodes), *TARGETS)


@pytest.fixture(scope="module")
def segment(chain, tmp_path_factory) -> Iterator[tuple[Clone, subprocess.Popen]]:
    """A long segment, under way on the last node, beside the chain."""
    partitions = (
        ("partition: cpu", "partition: spare"),
        ("&gpu-partition gpu", "&gpu-partition spare"),
    )
    it = clone(tmp_path_factory.mktemp("segment"), *partitions)
    length = f"{{iterations: {LONG}, segment: {LONG}}}"
    (it.folder / "overlay.yaml").write_text(f"experiments: {{faces32: {{run: {length}}}}}")
    yield from started(it, STATE, overlays=("overlay.yaml",))


@pytest.fixture(scope="module")
def failing(segment, tmp_path_factory) -> Iterator[tuple[Clone, subprocess.Popen]]:
    """Two jobs that fail, one by what it asks for and one by what it takes."""
    asked = ("initialise:slurm_partition=night", "pack:mem_mb=20")
    options = ("--keep-going", "--retries", "0", "--set-resources", *asked)
    it = clone(tmp_path_factory.mktemp("failing"))
    yield from started(it, "results/faces32/train/0.state", DATA, options=options)


def wait_for(
    condition: Callable[[], bool], process: subprocess.Popen, seconds: float = PATIENCE
) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.2)


def test_a_controller_that_is_started_again_is_waited_for(restart, chain, segment, failing):
    for it, process in (chain, segment):
        # A job that the controller has begun to start, and does not find on its node afterwards, would wait
        # for two minutes.
        wait_for((it.folder / "results/logs/initialise/faces32.0.log").exists, process)
    restart()
    for it, process in (chain, segment):
        assert process.poll() is None, it.said


def test_a_node_that_goes_down_in_mid_segment(segment):
    it, process = segment
    wait_for((it.folder / f"{STATE}.records").exists, process)
    subprocess.run(
        ["scontrol", "update", "nodename=node4", "state=down", "reason=test"], check=True
    )
    waiting = ["squeue", "--noheader", "--partition=spare", "--states=PENDING"]
    wait_for(lambda: subprocess.check_output(waiting) != b"", process)
    subprocess.run(["scontrol", "update", "nodename=node4", "state=resume"], check=False)
    assert process.wait(timeout=PATIENCE) == 0, it.said
    assert (it.folder / STATE).exists()


def test_a_refused_submission_is_said(failing):
    it, process = failing
    assert process.wait(timeout=PATIENCE) == 1
    assert "invalid partition specified: night" in it.said


def test_a_job_that_takes_more_memory_than_it_asked_for(failing):
    it, process = failing
    assert process.wait(timeout=PATIENCE) == 1
    # Without cgroups Slurm says FAILED, elsewhere OUT_OF_MEMORY.
    assert re.search("SLURM status is: '(FAILED|OUT_OF_MEMORY)'", it.said), it.said
    logs = (Path(path).read_text() for path in re.findall(r"log: (\S+\.log)\)", it.said))
    assert any("exceeded memory limit" in log for log in logs)


def test_the_chain_on_two_nodes(chain):
    it, process = chain
    assert process.wait(timeout=PATIENCE) == 0, it.said[-5000:]
    assert re.search(r"Job \d+ has been submitted with SLURM jobid \d+", it.said)

    assert not (it.folder / ".snakemake/slurm_logs/rule_weights").exists(), "a download"
    assert all((it.folder / target).stat().st_size > 0 for target in TARGETS)
    log = (it.folder / "results/logs/train/faces32.4.log").read_text()
    assert "resuming from step 2 (results/faces32/train/2.state)" in log
