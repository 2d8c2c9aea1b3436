"""The check of a GPU: its list goes on whatever its parts do, and its parts run at toy sizes."""

import json
import sys

import pytest

from benchmarks.gpu_check import __main__ as gpu_check
from benchmarks.gpu_check.plan import MINUTES, PLAN, STARTING, Part
from stylenat.errors import UserError
from tests.project import ROOT, run

FOUND = '{"verdicts": [{"question": "Q?", "verdict": "yes", "answer": "A|B."}], "tables": {}}'
PROGRAMS = {
    "fails": "print('a first line'); raise SystemExit('a reason')",
    "crashes": "import os; os.abort()",
    "hangs": "import time, pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2]);"
    "time.sleep(600)",
    "works": "import pathlib, sys; pathlib.Path(sys.argv[1]).write_text(sys.argv[2])",
}


def test_no_part_stops_the_others(monkeypatch, tmp_path, caplog):
    caplog.set_level("INFO", "stylenat")
    monkeypatch.setattr(gpu_check, "PLAN", [Part(name, name.title(), 1) for name in PROGRAMS])
    monkeypatch.setattr(
        gpu_check,
        "_words",
        lambda part, file, *_: [sys.executable, "-c", PROGRAMS[part.name], str(file), FOUND],
    )
    # Enough for Python to start on a busy machine, but for what is to hang.
    monkeypatch.setattr(
        gpu_check, "_times", lambda part, *_: (9, 9 if part.name == "hangs" else 99)
    )
    gpu_check.run(device="cpu", dry=True, output=tmp_path)
    record = json.loads((tmp_path / "cpu-dry.json").read_text())
    ends = {part["name"]: part["end"] for part in record["parts"]}
    assert ends == {
        "fails": "failed with status 1",
        "crashes": "was ended by SIGABRT",
        "hangs": "was ended after its time limit of 9 s",
        "works": None,
    }
    verdicts = [[v["verdict"] for v in part["verdicts"]] for part in record["parts"]]
    assert verdicts == [["NO"], ["NO"], ["yes", "NO"], ["yes"]]
    assert record["parts"][0]["log"] == ["a first line", "a reason"]
    text = (tmp_path / "cpu-dry.md").read_text()
    assert "its last line: a reason" in text and "A\\|B." in text
    assert "3 questions were answered with NO" in caplog.messages
    assert f"please send us {tmp_path / 'cpu-dry.md'}" in caplog.text


def test_a_part_for_which_no_time_is_left_is_said_to_be_left_out(tmp_path):
    gpu_check.run(device="cpu", dry=True, minutes=1e-6, output=tmp_path)
    record = json.loads((tmp_path / "cpu-dry.json").read_text())
    assert [part["name"] for part in record["parts"]] == [part.name for part in PLAN]
    assert {v["verdict"] for part in record["parts"] for v in part["verdicts"]} == {"not asked"}


def test_without_a_gpu_the_real_sizes_are_refused(tmp_path):
    with pytest.raises(UserError, match="needs an NVIDIA GPU.*make gpu-check DRY=1"):
        gpu_check.run(device="cpu", output=tmp_path)


def test_parts_have_modules_and_fit_into_the_time():
    for part in PLAN:
        assert (ROOT / f"benchmarks/gpu_check/parts/{part.name}.py").exists()
    assert PLAN[-1].seconds is None, "what takes the time that is left comes last"
    assert sum(part.seconds for part in PLAN[:-1]) < 60 * MINUTES
    left = 60 * MINUTES
    for part in PLAN:  # all of them hang
        seconds, limit = gpu_check._times(part, left, dry=False)
        assert limit <= left and seconds <= limit
        left -= limit
        if left < STARTING:
            break


@pytest.mark.parametrize(
    "names",
    [
        ("preflight", "kernels", "images", "profile", "sampling"),
        pytest.param(
            ("golden", "resume", "ranks", "iterations", "graphs", "attention", "faces"),
            marks=pytest.mark.slow,
        ),
    ],
    ids=["seconds", "minutes"],
)
def test_the_list_at_toy_sizes(names, tmp_path):
    done = run(
        *("python", "-m", "benchmarks.gpu_check", "--dry", "--device", "cpu"),
        *("--only", *names, "--output", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / "cpu-dry.json").read_text())
    assert {part["name"] for part in record["parts"]} == set(names)
    for part in record["parts"]:
        assert part["end"] is None, part
        assert part["verdicts"], part["name"]
        for verdict in part["verdicts"]:
            assert verdict["verdict"] != "NO", verdict
    assert (tmp_path / "cpu-dry.md").read_text().count("\n## ") == len(names)
