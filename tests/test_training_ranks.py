"""Several processes, and several passes: the same training; and what is said when one is lost."""

import os
import re
import signal
import socket
from contextlib import nullcontext
from itertools import islice
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.distributed.elastic.multiprocessing.errors import ProcessFailure

from stylenat.errors import UserError
from stylenat.steps import train
from stylenat.training import distributed, launch
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import load_state
from stylenat.training.distributed import World
from stylenat.training.interruption import EXIT_CODE
from stylenat.training.loop import TrainingLoop
from stylenat.training.trainer import Trainer
from tests.tiny import experiment
from tests.training_run import ALONE, CPU, advance, everything, make_run, wait_for

BATCH = 16


def trained(world: World, microbatch: int | None = None) -> dict[str, torch.Tensor]:
    """Every tensor after ten iterations in double precision."""
    trainer: Trainer = build_trainer(experiment(batch_size=BATCH), world, microbatch)
    for network in (trainer.generator, trainer.discriminator, trainer.generator_ema):
        network.double()
    # Where they are 0, what bCR cuts out lies on the kink of a leaky ReLU, and rounding decides on which
    # side of it.
    for name, parameter in trainer.discriminator.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.constant_(parameter, 0.01)
    advance(trainer, 10, torch.float64)
    return everything(trainer)


@pytest.fixture(scope="module")
def alone() -> dict[str, torch.Tensor]:
    return trained(ALONE)


def assert_equal(found: dict[str, torch.Tensor], expected: dict[str, torch.Tensor]) -> None:
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        torch.testing.assert_close(found[key], value, rtol=0, atol=1e-10, msg=key)


def _rank(rank: int, size: int, microbatch: int | None, store: str, result: str) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{store}", rank=rank, world_size=size
    )
    tensors = trained(World(rank, size, CPU), microbatch)
    if rank == 0:
        torch.save(tensors, result)
    torch.distributed.destroy_process_group()


@pytest.mark.parametrize(("size", "microbatch"), [(2, 1), (4, None)])
def test_several_ranks_equal_one(tmp_path, alone, size, microbatch):
    result = tmp_path / "result.pt"
    mp.spawn(_rank, (size, microbatch, str(tmp_path / "store"), str(result)), nprocs=size)
    assert_equal(torch.load(result), alone)


@pytest.mark.parametrize("microbatch", [8, 4, 3])
def test_several_passes_equal_one(alone, microbatch):
    """Also where G's images are fewer than a group of the minibatch standard deviation."""
    assert_equal(trained(ALONE, microbatch), alone)


@pytest.mark.parametrize(
    ("most", "generated", "judged_for_d"),
    [
        # For D, and twice for each of G's groups; fakes and reals, both with what bCR makes of them.
        (3, [3, 3, 2] + 2 * [3, 1, 3, 1], [8, 8]),
        (4, 2 * [4, 4], [16]),
    ],
)
def test_no_more_images_are_computed_at_once_than_the_limit_or_a_group(
    most, generated, judged_for_d
):
    trainer = build_trainer(experiment(), ALONE, most)
    made, judged = [], []
    trainer.generator.register_forward_pre_hook(lambda _, z: made.append(len(z[0])))
    trainer.discriminator.register_forward_pre_hook(lambda _, x: judged.append(len(x[0])))
    advance(trainer, 1)
    assert made == generated
    assert judged == 2 * judged_for_d + 2 * [4] + 2 * [4], "for D, R1 and G, each in two groups"


def test_passes_are_as_few_as_the_limit_allows():
    assert World(0, 2, CPU).accumulation_steps(64, None) == 1
    assert World(0, 2, CPU).accumulation_steps(64, 32) == 1
    assert World(0, 2, CPU).accumulation_steps(64, 31) == 2
    assert World(0, 2, CPU).accumulation_steps(24, 11) == 3, (
        "six images are not whole groups of four"
    )
    assert World(0, 2, CPU).accumulation_steps(64, 3) == 8, "one group at least"
    with pytest.raises(UserError, match="--microbatch 0 is not a number of images"):
        World(0, 2, CPU).accumulation_steps(64, 0)


@pytest.mark.parametrize("batch_size", [10, 8])
def test_a_batch_that_does_not_divide_is_refused(batch_size):
    assert World(0, 4, CPU).check_batch(16) == 4
    with pytest.raises(UserError, match=f"batch_size {batch_size} does not divide over 4 proc"):
        World(0, 4, CPU).check_batch(batch_size)


# ------------------------------------------------------------------------------- lost ranks


def free_port() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return str(probe.getsockname()[1])


def test_a_missing_rank_is_reported(monkeypatch):
    monkeypatch.setattr(distributed, "TIMEOUT", distributed.timedelta(seconds=2))
    settings = {"WORLD_SIZE": "2", "RANK": "0", "MASTER_ADDR": "127.0.0.1"}
    for key, value in (settings | {"MASTER_PORT": free_port()}).items():
        monkeypatch.setenv(key, value)
    with pytest.raises(UserError, match="rank 0 of 2 could not join the others within 2 s"):
        distributed.start(CPU)


def test_a_missing_node_is_reported(monkeypatch, capsys):
    monkeypatch.setattr(launch, "TIMEOUT", distributed.timedelta(seconds=2))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with pytest.raises(SystemExit) as end:
        launch.main(["--nnodes=2", "--node-rank=1", f"--master-port={free_port()}", "nothing.py"])
    assert end.value.code == 1
    assert "error: node 1 of 2 did not reach the others" in capsys.readouterr().err


@pytest.mark.parametrize(("granted", "share"), [("8", "1"), ("1", "1"), (None, "2")])
def test_ranks_share_the_threads_of_a_node(monkeypatch, granted, share):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: range(4), raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    if granted:
        monkeypatch.setenv("OMP_NUM_THREADS", granted)
    launch._share_threads(2 if granted is None else 4)
    assert os.environ["OMP_NUM_THREADS"] == share


def ranks(run_pid: int) -> list[int]:
    """The processes that a launcher started."""
    children = Path(f"/proc/{run_pid}/task/{run_pid}/children").read_text().split()
    return [
        int(child)
        for child in children
        if b"stylenat.steps.train" in Path(f"/proc/{child}/cmdline").read_bytes()
    ]


def test_a_killed_rank_ends_the_others_and_a_stop_has_a_status_of_its_own(tmp_path):
    run = make_run(tmp_path)
    saved = run.file("1000000.state.previous")
    step = run.arguments(0, 1_000_000, "--save-every", "0")
    command = ("-m", "stylenat.training.launch", "--nproc-per-node=2", "--standalone", "-m", *step)

    process = run.start(*command)
    wait_for(saved.exists, process)
    os.kill(ranks(process.pid)[1], signal.SIGKILL)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 1
    assert "error: rank 0 of 2 lost contact with the others" in errors
    assert "error: rank 1 was ended by SIGKILL" in errors
    assert "Traceback" not in errors

    reached = max(load_state(path).step for path in saved.parent.glob("*.rolling"))
    process = run.start(*command)
    saved.unlink()
    wait_for(saved.exists, process)
    os.kill(ranks(process.pid)[1], signal.SIGTERM)  # one rank is told, all of them stop
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 75
    assert f"resuming from step {reached} " in errors
    stopped = re.search(r"stopped at step (\d+) \(another rank\); the same command goes on", errors)
    assert int(stopped[1]) == load_state(run.file("1000000.state.rolling")).step > reached
    assert "Traceback" not in errors


def test_two_trainings_on_one_node_do_not_meet(tmp_path):
    """Started at the same moment, each comes to what its seed gives on one process."""
    runs = {seed: make_run(tmp_path / str(seed), seed=seed) for seed in (1, 2)}
    launch = ("-m", "stylenat.training.launch", "--nproc-per-node=2", "--standalone", "-m")
    processes = {seed: run.start(*launch, *run.arguments(0, 3)) for seed, run in runs.items()}
    for seed, run in runs.items():
        _, errors = processes[seed].communicate(timeout=120)
        assert processes[seed].returncode == 0, errors
        config = experiment(seed=seed)
        trainer = build_trainer(config, ALONE)
        for pixels in islice(train.reals(run.folder / "dots.lmdb", config, ALONE, 0, 0), 3):
            TrainingLoop._iterate(SimpleNamespace(trainer=trainer, world=ALONE), pixels)
        found = load_state(run.file("3.state")).tensors
        # Adam makes much of a gradient near zero, whose sign the order of sums decides.
        for key, value in everything(trainer).items():
            assert (found[key] - value).abs().double().mean() < 1e-5, key


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        ((EXIT_CODE, EXIT_CODE), EXIT_CODE),
        ((EXIT_CODE, -signal.SIGTERM), EXIT_CODE),  # ended by torchrun while it was leaving
        ((-signal.SIGTERM, -signal.SIGTERM), 1),
        ((EXIT_CODE, -signal.SIGKILL), 1),
        ((EXIT_CODE, 3), 3),
        ((-signal.SIGABRT, 3), 3),  # NCCL aborts ranks that wait in vain
        ((-signal.SIGTERM, -signal.SIGABRT), 1),
    ],
)
def test_what_the_launcher_makes_of_its_ranks_ends(statuses, expected):
    failures = {
        rank: ProcessFailure(rank, 1000 + rank, status, "") for rank, status in enumerate(statuses)
    }
    assert launch._report(failures) == expected


@pytest.mark.parametrize(
    ("statuses", "said"),
    [
        ((-signal.SIGABRT, 70), "rank 1 ended with status 70"),
        ((70, -signal.SIGKILL), "rank 1 was ended by SIGKILL"),
        ((-signal.SIGTERM, -signal.SIGABRT), "rank 1 was ended by SIGABRT"),
    ],
)
def test_the_launcher_names_the_culprit(capsys, statuses, said):
    failures = {rank: ProcessFailure(rank, 1, status, "") for rank, status in enumerate(statuses)}
    launch._report(failures)
    assert said in capsys.readouterr().err


@pytest.mark.parametrize(
    ("end", "failed"), [(None, False), (EXIT_CODE, False), (1, True), (70, True), ("raise", True)]
)
def test_the_reason_is_logged_before_the_others_are_left(monkeypatch, end, failed):
    events = []

    def main(*arguments, precision):
        events.append("logged")
        if end == "raise":
            raise KeyboardInterrupt
        if end is not None:
            raise SystemExit(end)

    monkeypatch.setattr(train.command, "main", main)
    monkeypatch.setattr(train.distributed, "leave", lambda failed: events.append(failed))
    with nullcontext() if end is None else pytest.raises(BaseException):
        train.main()
    assert events == ["logged", failed]


def test_a_failed_rank_does_not_wait_for_the_others(monkeypatch):
    left = []
    monkeypatch.setattr(dist, "is_initialized", lambda: True)
    monkeypatch.setattr(dist, "get_backend", lambda: "nccl")
    monkeypatch.setattr(dist, "destroy_process_group", lambda: left.append("destroyed"))
    world = SimpleNamespace(abort=lambda: left.append("aborted"))
    monkeypatch.setattr(dist, "group", SimpleNamespace(WORLD=world))
    distributed.leave(failed=True)
    distributed.leave(failed=False)
    assert left == ["aborted", "destroyed"]


def test_waiting_is_limited_only_after_the_first_iteration(monkeypatch):
    """Of the process group itself, and by the loop in this order."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    try:
        for limit in (distributed.FIRST_TIMEOUT, distributed.TIMEOUT):
            World(0, 2, CPU).limit_waiting(limit)
            assert dist.group.WORLD._get_backend(CPU).options._timeout == limit
    finally:
        dist.destroy_process_group()
