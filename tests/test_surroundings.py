"""Two processes at one file, odd places and accounts: it works, or one sentence says what to do."""

import fcntl
import signal
import subprocess
import sys

import pytest

from stylenat.errors import UserError
from stylenat.io import alone
from tests.training_run import make_run, wait_for

# ---------------------------------------------------------------------------- two at once


def test_a_lock_ends_with_its_process_however_that_ends(tmp_path):
    path = tmp_path / "x.lmdb"
    script = f"from stylenat.io import alone\nwith alone({str(path)!r}):\n print('held', flush=True)\n input()"
    holder = subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    holder.stdout.readline()
    with (
        pytest.raises(UserError, match=rf"x.lmdb is being made by .* \({holder.pid} on ") as caught,
        alone(path),
    ):
        pass
    assert "\n" not in str(caught.value)
    holder.kill()
    holder.communicate()
    with alone(path):
        assert [it.name for it in tmp_path.iterdir()] == ["x.lmdb.lock"]
    assert not list(tmp_path.iterdir())


def test_a_failure_gives_the_lock_back(tmp_path):
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), alone(tmp_path / "x"):
            1 / 0  # noqa: B018
    assert not list(tmp_path.iterdir())


def test_a_file_system_without_locks_does_no_harm(tmp_path, monkeypatch):
    def flock(*_: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with alone(tmp_path / "x"):
        pass


def test_a_segment_is_trained_by_one_process_at_a_time(tmp_path):
    run = make_run(tmp_path)
    command = ("-m", *run.arguments(0, 10_000))
    first = run.start(*command)
    wait_for(run.file("10000.state.records").exists, first)
    second = run.start(*command)
    said = second.communicate(timeout=60)[1]
    first.send_signal(signal.SIGKILL)
    first.communicate()
    assert second.returncode == 1 and "Traceback" not in said
    assert f"10000.state is being made by another process ({first.pid} on " in said
    third = run.start("-m", *run.arguments(0, 2))
    assert third.wait(timeout=60) == 0
    third.stderr.close()
