"""Two processes at one file, odd places and accounts: it works, or one sentence says what to do."""

import fcntl
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from stylenat.data import writer
from stylenat.data.listing import empty_results
from stylenat.errors import UserError
from stylenat.io import alone
from tests.crash import STEPS, prepare
from tests.project import ROOT, make_clone
from tests.training_run import make_run, wait_for

CONFIG = ROOT / "tests/smoke.yaml"


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


def test_a_lock_that_its_holder_deleted_meanwhile_is_none(tmp_path, monkeypatch):
    """Between our opening it and locking it."""
    path, flock = tmp_path / "x", fcntl.flock

    def late(descriptor, operation):
        monkeypatch.setattr(fcntl, "flock", flock)
        (tmp_path / "x.lock").unlink()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", late)
    with alone(path), pytest.raises(UserError, match="being made by another process"):  # noqa: SIM117
        with alone(path):
            pass


def test_a_file_system_without_locks_does_no_harm(tmp_path, monkeypatch):
    def flock(*_: int) -> None:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(fcntl, "flock", flock)
    with alone(tmp_path / "x"):
        pass


@pytest.mark.parametrize("step", ["pack", "sample"])
def test_images_are_made_by_one_process_at_a_time(tmp_path, monkeypatch, step):
    monkeypatch.setattr(writer, "_TRANSACTION", writer._TRANSACTION)  # which the step changes
    prepare(tmp_path)
    refused = pytest.raises(UserError, match="x.lmdb is being made by another process")
    with alone(tmp_path / "out/x.lmdb"), refused:
        STEPS[step](tmp_path)
    assert not (tmp_path / "out/x.lmdb").exists()


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


# ------------------------------------------------------------------------- after a power cut


def test_empty_results_are_found_and_not_what_is_in_the_making(tmp_path):
    for name in ("a/x.npz", "a/x.npz.7.part", "a/4.state.records", "x.lmdb.lock"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("logs/x/x.log", "x.download/1.png"):
        (tmp_path / name).parent.mkdir(parents=True)
        (tmp_path / name).touch()
    (tmp_path / "full").write_text("x")
    (tmp_path / "dangling").symlink_to("gone")
    assert empty_results(tmp_path) == [str(tmp_path / "a/x.npz")]
    assert empty_results(tmp_path / "gone") == []


# ---------------------------------------------------------------------- places and accounts

TARGETS = ("results/faces32/weights/2.safetensors", "results/faces32/receptive.svg")
ODD = 'it\'s a "t\N{LATIN SMALL LETTER A WITH DIAERESIS}st"'


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount and become somebody else")
def test_training_in_an_odd_place_as_nobody(tmp_path):
    """Quotes, spaces and umlauts in the name, another file system for the results, no entry in the
    list of users, the locale C, 64 open files, 1 MB of shared memory."""
    folder = tmp_path / ODD
    folder.mkdir()
    make_clone(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "results").symlink_to(elsewhere / "results")
    shutil.copy(CONFIG, folder / "smoke.yaml")
    script = (
        f"mount -t tmpfs tmpfs {elsewhere} && mount -t tmpfs -o size=1m tmpfs /dev/shm && "
        f"mkdir {elsewhere}/results && chown -R 54321:54321 {tmp_path} && ulimit -n 64 && "
        # It may read this Python, wherever that is.
        "exec setpriv --reuid 54321 --regid 54321 --clear-groups --inh-caps=+dac_read_search "
        "--ambient-caps=+dac_read_search snakemake --cores 2 --configfile smoke.yaml -- "
    )
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", script + " ".join(TARGETS)],
        cwd=folder,
        env={"PATH": path, "LC_ALL": "C", "HOME": str(tmp_path), "USER": "somebody"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
