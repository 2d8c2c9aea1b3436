"""The step itself, killed and stopped in all ways: it goes on to the same bytes."""

import os
import re
import signal
import subprocess

import pytest

from tests.training_run import Run, make_run, wait_for

UNTIL = 40
# The training step with a data set that is too large for memory, so that workers read it.
FROM_FILE = (
    "import sys; from stylenat.data import loader; loader._CACHE_BYTES = 0; "
    "del sys.argv[1]; from stylenat.steps import train; train.main()"
)


@pytest.fixture(scope="module", params=[{}, {"augment": "ada", "ada_images": 200}])
def run(request, tmp_path_factory) -> Run:
    return make_run(tmp_path_factory.mktemp("run"), **request.param)


def finish(process: subprocess.Popen) -> tuple[int, str]:
    _, errors = process.communicate(timeout=120)
    return process.returncode, errors


def outputs(run: Run) -> list[bytes]:
    return [
        path.read_bytes()
        for path in (run.file(f"{UNTIL}.state"), run.folder / f"weights/{UNTIL}.safetensors")
    ]


@pytest.fixture(scope="module")
def undisturbed(run) -> list[bytes]:
    """What one run without a disturbance leaves; its files are removed."""
    status, errors = finish(run.start("-m", *run.arguments(0, UNTIL)))
    assert status == 0, errors
    expected = outputs(run)
    for path in run.file("").glob(f"{UNTIL}.*"):
        path.unlink()
    return expected


def saved(run: Run, step: int):
    """Whether the records tell that a segment has come to a step."""
    path = run.file(f"{UNTIL}.state.records")
    return lambda: path.exists() and f'"step": {step},' in path.read_text()


def test_killed_and_stopped_again_and_again(run, undisturbed):
    command = ("-m", *run.arguments(0, UNTIL, "--save-every", "0"))
    for step, number in ((9, signal.SIGKILL), (18, signal.SIGKILL), (27, signal.SIGTERM)):
        process = run.start(*command)
        wait_for(saved(run, step), process)
        process.send_signal(number)
        status, errors = finish(process)
        assert status == (75 if number == signal.SIGTERM else -number), errors
    stopped = re.search(r"stopped at step (\d+) \(SIGTERM\)", errors)
    assert int(stopped[1]) >= 27
    status, errors = finish(run.start(*command))
    assert status == 0, errors
    assert f"resuming from step {stopped[1]} " in errors
    assert outputs(run) == undisturbed


def test_a_signal_to_the_whole_group_spares_the_loading_processes(tmp_path):
    run = make_run(tmp_path)
    process = run.start("-c", FROM_FILE, *run.arguments(0, UNTIL, "--save-every", "0"))
    wait_for(saved(run, 3), process)
    os.killpg(process.pid, signal.SIGTERM)
    status, errors = finish(process)
    assert status == 75, errors
    assert "stopped at step" in errors and "Traceback" not in errors
