"""The loop of a segment: what it keeps, what it passes over, and when it gives up."""

import json
import logging
import math
import os
import shutil
import signal
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from stylenat import runtime
from stylenat.errors import UserError
from stylenat.io import read_json
from stylenat.records import DataIdentity
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import capture, load_state, write_state
from stylenat.training.interruption import Interruption
from stylenat.training.loop import Interrupted, TrainingLoop
from stylenat.training.rolling import RollingStates
from stylenat.training.tracking import Trackers
from tests.tiny import experiment
from tests.training_loop import DATA, failing, make_loop, pixels, run, stop, stopping_at
from tests.training_run import ALONE

pytestmark = pytest.mark.usefixtures("handlers")


@pytest.fixture(autouse=True)
def logged(caplog):
    caplog.set_level(logging.INFO)
    return caplog


@pytest.fixture(scope="module")
def straight(tmp_path_factory) -> Path:
    """Iterations 0 to 12 without a disturbance."""
    folder = tmp_path_factory.mktemp("straight")
    run(make_loop(folder))
    return folder


# ------------------------------------------------------------------------------- interruption


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR2])
def test_a_signal_stops_at_the_next_iteration_and_the_result_is_the_same(
    tmp_path, straight, number
):
    loop = make_loop(tmp_path, batches=stopping_at(4, number))
    with pytest.raises(Interrupted, match=f"stopped at step 5 \\({signal.Signals(number).name}\\)"):
        run(loop)
    assert not (tmp_path / "12.state").exists()
    resumed = make_loop(tmp_path)
    assert resumed.trainer.step == 5
    run(resumed)
    assert (tmp_path / "12.state").read_bytes() == (straight / "12.state").read_bytes()


def test_a_signal_before_the_first_iteration_stops_there(tmp_path):
    loop = make_loop(tmp_path)
    os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(Interrupted, match="stopped at step 0"):
        run(loop)
    assert make_loop(tmp_path).trainer.step == 0


def test_the_time_limit_leaves_room_to_save(monkeypatch):
    now = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    hours, minutes = Interruption(240), Interruption(2)
    now[0] += 61
    assert (hours.reason, minutes.reason) == (None, "time limit")
    now[0] += 240 * 60 - 61 - 119
    assert hours.reason == "time limit"


# ------------------------------------------------------------------------------- rolling states


def test_the_clock_saves_two_states_and_keeps_their_records(tmp_path):
    loop = make_loop(tmp_path, batches=stopping_at(6), save_seconds=0)
    with pytest.raises(Interrupted):
        run(loop)
    assert load_state(tmp_path / "12.state.rolling").step == 7
    assert load_state(tmp_path / "12.state.previous").step == 6
    lines = (tmp_path / "12.state.records").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [1, 2, 3, 4, 5, 6, 7]


def test_records_beyond_the_state_are_written_once(tmp_path):
    stop(tmp_path, 5, save_seconds=0)
    (tmp_path / "12.state.rolling").unlink()
    with open(tmp_path / "12.state.records", "a") as file:
        file.write('{"step": 6, "loss')  # the kill came in the middle of a line
    run(make_loop(tmp_path))
    steps = [json.loads(line)["step"] for line in (tmp_path / "records.jsonl").open()]
    assert steps == [1, 2, 3, 4, 12]


def test_killed_between_renaming_and_saving(tmp_path, straight):
    stop(tmp_path, 4)
    (tmp_path / "12.state.rolling").rename(tmp_path / "12.state.previous")
    (tmp_path / "12.state.rolling.4711.part").write_bytes(b"half a state")
    resumed = make_loop(tmp_path)
    assert resumed.trainer.step == 4
    assert not list(tmp_path.glob("*.part"))
    run(resumed)
    assert (tmp_path / "12.state").read_bytes() == (straight / "12.state").read_bytes()


def test_a_damaged_state_is_passed_over_and_the_one_before_it_survives(tmp_path, straight, logged):
    stop(tmp_path, 3, save_seconds=0)
    newest, previous = tmp_path / "12.state.rolling", tmp_path / "12.state.previous"
    newest.write_bytes(newest.read_bytes()[:-1000])
    resumed = stop(tmp_path, 6)
    assert f"{newest} is truncated" in logged.text
    assert load_state(previous).step == 2, "the damaged one must not take its place"

    flipped = bytearray(newest.read_bytes())
    flipped[-1] ^= 1
    newest.write_bytes(flipped)
    resumed = make_loop(tmp_path)
    assert resumed.trainer.step == 2
    assert f"{newest} is damaged" in logged.text
    run(resumed)
    assert (tmp_path / "12.state").read_bytes() == (straight / "12.state").read_bytes()


def test_without_a_whole_state_it_says_so(tmp_path):
    loop = make_loop(tmp_path)
    (tmp_path / "0.state").write_bytes(b"")
    with pytest.raises(UserError, match="0.state is truncated"):
        loop.states.load(12)
    (tmp_path / "0.state").unlink()
    with pytest.raises(UserError, match="0.state does not exist"):
        loop.states.load(12)


def test_a_state_of_another_experiment_or_data_set_is_refused_by_name(tmp_path):
    stop(tmp_path, 4)
    with pytest.raises(
        UserError, match=r"state\.rolling .*training\.generator_lr \(0\.001 there, 0\.5 here\)"
    ):
        make_loop(tmp_path, config=experiment(generator_lr=0.5))
    state = load_state(tmp_path / "12.state.rolling")
    header = state.header.model_copy(update={"data": DataIdentity(name="other")})
    write_state(tmp_path / "12.state.rolling", replace(state, header=header))
    with pytest.raises(UserError, match=r"data\.name \(other there, dots here\)"):
        make_loop(tmp_path)


def test_a_state_of_another_past_is_passed_over(tmp_path, logged):
    """The segment before was trained again, and came out differently."""
    stop(tmp_path, 4)
    trainer = build_trainer(experiment(seed=7), ALONE)
    write_state(tmp_path / "0.state", capture(trainer, experiment(), None))
    assert make_loop(tmp_path).trainer.step == 0
    assert "does not continue" in logged.text


def test_ranks_that_found_different_states_stop(tmp_path, monkeypatch):
    loop = make_loop(tmp_path)
    monkeypatch.setattr(type(ALONE), "same", lambda self, value: False)
    with pytest.raises(UserError, match="the ranks found different states"):
        loop.resume()


# ------------------------------------------------------------------------- the end of a segment


def test_outputs_that_the_workflow_deletes_are_back_in_a_moment(tmp_path, straight):
    run(make_loop(tmp_path))
    for name in ("12.state", "records.jsonl"):
        (tmp_path / name).unlink()
    again = make_loop(tmp_path)
    assert again.trainer.step == 12
    run(again)
    assert (tmp_path / "12.state").read_bytes() == (straight / "12.state").read_bytes()
    assert json.loads((tmp_path / "records.jsonl").read_text())["step"] == 12


def test_a_changed_program_trains_the_segment_again(tmp_path, monkeypatch, logged):
    run(make_loop(tmp_path))
    monkeypatch.setattr(runtime, "commit", lambda: "another")
    assert make_loop(tmp_path).trainer.step == 0
    assert "another version's result" in logged.text


def test_the_next_segment_removes_what_only_a_restart_needed(tmp_path):
    run(make_loop(tmp_path), "12.jsonl")
    config = experiment()
    states = RollingStates(tmp_path / "12.state", tmp_path / "20.state", config, DATA)
    trainer = build_trainer(config, ALONE)
    TrainingLoop(
        trainer, states, 20, pixels, Interruption(), Trackers({}, tmp_path, config), 1
    ).resume()
    assert trainer.step == 12
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0.state", "12.jsonl", "12.state"]


@pytest.fixture
def megabyte(tmp_path):
    """A file system of 1 MB."""
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", folder], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_the_last_good_state(megabyte, straight):
    stop(megabyte, 4)
    free = shutil.disk_usage(megabyte).free
    (megabyte / "ballast").write_bytes(bytes(free - 100_000))  # no room for a second state
    loop = make_loop(megabyte)
    with pytest.raises(UserError, match=r"could not be written \(.*No space left on device"):
        run(loop)
    assert not (megabyte / "12.state").exists()

    (megabyte / "ballast").unlink()
    resumed = make_loop(megabyte)
    assert resumed.trainer.step == 4
    run(resumed)
    assert (megabyte / "12.state").read_bytes() == (straight / "12.state").read_bytes()


# --------------------------------------------------------------------------- skipped steps


def test_single_failures_are_skipped_and_counted(tmp_path, monkeypatch):
    failing(monkeypatch, first=5, times=2)
    run(make_loop(tmp_path))
    line = read_json(tmp_path / "records.jsonl")
    assert line["skipped"] == 2, "the discriminator's step at 5 and 6; R1's turn is at 4 and 8"
    assert line.pop("device").startswith("cpu")
    assert line.pop("precision") == "float32"
    assert all(math.isfinite(value) for value in line.values()), "means of what was finite"
    tensors = load_state(tmp_path / "12.state").tensors
    assert all(tensor.isfinite().all() for tensor in tensors.values())


def test_training_that_diverges_stops_at_the_last_good_state(tmp_path, monkeypatch):
    stop(tmp_path, 12, until=60)
    failing(monkeypatch, first=15, times=20)
    loop = make_loop(tmp_path, until=60, save_seconds=0)
    with pytest.raises(UserError) as error:
        run(loop)
    message = str(error.value)
    assert "no finite gradient in any of the iterations 15 to 34 (at 15: loss_d nan" in message
    assert "The last good state, of step 15, is kept" in message
    assert "under a new experiment name" in message
    again = make_loop(tmp_path, until=60)
    assert again.trainer.step == 15
    run(again)  # what failed was temporary: nothing is lost
    undisturbed = tmp_path / "undisturbed"
    run(make_loop(undisturbed, until=60))
    assert (tmp_path / "60.state").read_bytes() == (undisturbed / "60.state").read_bytes()
