"""Two processes at one file, odd places and accounts: it works, or one sentence says what to do."""

import fcntl
import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from stylenat.data import writer
from stylenat.data.listing import empty_results
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.io import alone
from tests.crash import STEPS, prepare
from tests.project import ROOT, make_clone, snakemake
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


MINE = ("--cores", "1", "results/faces32/experiment.json")


@contextmanager
def at_work(folder: Path) -> Iterator[None]:
    """A Snakemake that makes :data:`MINE` in a clone as long as the body runs, and is killed then."""
    module = folder / "stylenat/steps/experiment.py"
    text = module.read_text()
    module.write_text("import time\ntime.sleep(3600)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "snakemake", *MINE],
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        locks = folder / ".snakemake/locks"
        wait_for(lambda: any(it.stat().st_size for it in locks.glob("*.output.lock")), process)
        yield
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        module.write_text(text)


def check_refused(done: subprocess.CompletedProcess) -> None:
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert "Directory cannot be locked" in done.stderr and "--unlock" in done.stderr


def test_two_snakemakes_in_one_checkout_make_different_files(tmp_path):
    folder = make_clone(tmp_path)
    with at_work(folder):
        check_refused(snakemake(*MINE, cwd=folder))
        beside = snakemake("--cores", "1", "results/data/faces32.download.json", cwd=folder)
    assert beside.returncode == 0, beside.stderr


def test_the_lock_of_a_snakemake_that_was_killed(tmp_path):
    folder = make_clone(tmp_path)
    with at_work(folder):
        pass
    check_refused(snakemake(*MINE, cwd=folder))
    assert snakemake("--unlock", *MINE, cwd=folder).returncode == 0
    again = snakemake(*MINE, cwd=folder)
    assert again.returncode == 0 and (folder / MINE[-1]).exists(), again.stderr


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
NOBODY = 54321  # no entry in the list of users
# It may read this Python, wherever that is.
AS_NOBODY = (
    *("setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"),
    *("--inh-caps=+dac_read_search", "--ambient-caps=+dac_read_search"),
)
by_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may mount and become somebody else"
)


def as_nobody(
    *commands: Sequence[object], before: str = "true", cwd: Path, **environment: str
) -> subprocess.CompletedProcess:
    """Run commands one after the other, without HOME, after ``before`` by root, whose mounts end with
    the commands."""
    script = " && ".join(shlex.join(map(str, (*AS_NOBODY, *command))) for command in commands)
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{before} && {script}"],
        cwd=cwd,
        env={"PATH": path, "PYTHONPATH": str(ROOT), "LC_ALL": "C", **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def step(verb: str, /, **options: object) -> list[object]:
    """The command line of a step."""
    pairs = [it for key, value in options.items() for it in (f"--{key.replace('_', '-')}", value)]
    return [sys.executable, "-m", f"stylenat.steps.{verb}", *pairs]


def given_to_nobody(folder: Path) -> Path:
    for path in (folder, *folder.rglob("*")):
        os.chown(path, NOBODY, NOBODY, follow_symlinks=False)
    return folder


@by_root
@pytest.mark.parametrize("kind", ["folder", "zip", "lmdb"])
def test_images_on_a_read_only_medium_are_packed(tmp_path, kind):
    prepare(tmp_path)
    medium, out = tmp_path / "medium", tmp_path / "out"
    out.mkdir()
    medium.mkdir()
    (tmp_path / "images").rename(medium / "folder")
    (tmp_path / "reals.lmdb").rename(medium / "lmdb")
    with zipfile.ZipFile(medium / "zip", "w") as archive:
        for path in (medium / "folder").iterdir():
            archive.write(path, path.name)
    for path in medium.rglob("*"):
        path.chmod(0o555 if path.is_dir() else 0o444)
    sources = json.dumps([{"kind": kind, "path": str(medium / kind)}])
    files = {"manifest": out / "x.json", "name": "x"}
    settings = {"resolution": 8, "filter": "box", "max_corrupt": 1}
    done = as_nobody(
        step("download", sources=sources, directory=out / "download", **files),
        step("pack", output=out / "x.lmdb", **files, **settings),
        before=f"mount --bind {medium} {medium} && mount -o remount,bind,ro {medium}",
        cwd=given_to_nobody(out),
    )
    assert done.returncode == 0, done.stderr
    assert len(ImageStore(out / "x.lmdb")) == (9 if kind == "lmdb" else 11)


@by_root
def test_a_folder_of_somebody_else(tmp_path):
    prepare(tmp_path)
    (tmp_path / "out").mkdir(mode=0o755)
    files = {"manifest": tmp_path / "x.json", "output": tmp_path / "out/x.lmdb"}
    done = as_nobody(step("pack", name="x", resolution=32, filter="none", **files), cwd=tmp_path)
    assert done.returncode == 1 and "Traceback" not in done.stderr
    last = done.stderr.splitlines()[-1]
    assert "out/x.lmdb could not be written (Permission denied); " in last


@by_root
def test_steps_in_an_odd_place_as_nobody(tmp_path):
    """Quotes, a space and an umlaut in the name, no entry in the list of users and no HOME, the locale C,
    64 open files, 1 MB of shared memory."""
    folder = tmp_path / ODD
    folder.mkdir()
    prepare(folder)
    run = make_run(folder)
    images = {"name": "x", "manifest": folder / "x.json", "resolution": 32, "filter": "none"}
    ranks = [sys.executable, "-m", "stylenat.training.launch", "--nproc-per-node=2", "--standalone"]
    weights = folder / "weights/2.safetensors"
    done = as_nobody(
        step("pack", output=folder / "x.lmdb", workers=2, max_corrupt=1, **images),
        [*ranks, "-m", "--", *run.arguments(0, 2)],
        step("sample", weights=weights, seeds="0-3", output=folder / "samples"),
        before="mount -t tmpfs -o size=1m tmpfs /dev/shm && ulimit -n 64",
        cwd=given_to_nobody(tmp_path),
    )
    assert done.returncode == 0, done.stderr
    assert len(ImageStore(folder / "x.lmdb")) == 11
    assert len(list((folder / "samples").glob("*.png"))) == 4


@by_root
@pytest.mark.parametrize("targets", [TARGETS[1:], pytest.param(TARGETS, marks=pytest.mark.slow)])
def test_the_workflow_in_an_odd_place_as_nobody(tmp_path, targets):
    """The same, with another file system for the results."""
    folder = tmp_path / ODD
    folder.mkdir()
    make_clone(folder)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (folder / "results").symlink_to(elsewhere / "results")
    shutil.copy(CONFIG, folder / "smoke.yaml")
    given_to_nobody(tmp_path)
    done = as_nobody(
        ("snakemake", "--cores", 2, "--configfile", "smoke.yaml", "--", *targets),
        before=f"mount -t tmpfs tmpfs {elsewhere} && mount -t tmpfs -o size=1m tmpfs /dev/shm && "
        f"mkdir {elsewhere}/results && chown {NOBODY}:{NOBODY} {elsewhere}/results && ulimit -n 64",
        cwd=folder,
        # Without which Snakemake itself does not start.
        HOME=str(tmp_path),
        USER="somebody",
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-5000:]
