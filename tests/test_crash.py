"""Steps killed, or without disk space, at a write: the same command again gives the same bytes.

A few points of every step here, all with ``pytest -m slow tests/test_crash.py``. Their table is in
docs/crash-points.md.
"""

import json
import os
import sys

import pytest

from stylenat.io import atomic
from tests.crash import DONE, REFUSED, STEPS
from tests.project import ROOT, run

# Transactions, renames and syncs; writes are those of the libraries.
CALLS = ("lmdb", "os.replace", "os.fsync")


def tried(step: str, folder, *points: str) -> list[dict]:
    done = run(sys.executable, "-m", "tests.crash", step, str(folder), *points)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert [result["calls"].count(name) for name in CALLS] == documented(step)
    return result["found"]


def documented(step: str) -> list[int]:
    """How often the table of the documentation says that a step makes each of these calls."""
    lines = (ROOT / "docs/crash-points.md").read_text().splitlines()
    start = next(n for n, line in enumerate(lines) if line.startswith("| step |")) + 2
    row = lines[start + list(STEPS).index(step)]
    assert row.startswith(f"| `{step.partition('-')[0]}`")
    _, _, _, *counts, _, _ = (cell.strip() for cell in row.split("|"))
    return [int(count or 0) for count in counts]


def check(found: list[dict]) -> None:
    assert found
    for one in found:
        # A child that is killed ends by signal 9; a full disk is a sentence.
        assert one["ended"] == (REFUSED if one["how"] == "full" else -9), one
        assert one["again"] == DONE and one["whole"] and one["same"], one
        # Half-written files have a name that nothing reads.
        assert all(name.endswith(".part") for name in one["left"]), one


def test_content_is_on_the_disk_before_its_name_and_the_name_before_the_end(tmp_path, monkeypatch):
    """Otherwise a power cut may leave an empty file under the name of a result."""
    calls = []

    def note(name: str) -> None:
        call = getattr(os, name)

        def noted(file, *rest):
            calls.append((name, os.stat(file).st_ino))
            call(file, *rest)

        monkeypatch.setattr(os, name, noted)

    note("fsync")
    note("replace")
    with atomic(tmp_path / "x") as temporary:
        temporary.write_text("x")
    file, folder = (it.stat().st_ino for it in (tmp_path / "x", tmp_path))
    assert calls == [("fsync", file), ("replace", file), ("fsync", folder)]


@pytest.mark.parametrize("step", STEPS)
def test_a_few_points(step, tmp_path):
    check(tried(step, tmp_path, "0", "2", "-3", "-2", "-1"))


@pytest.mark.slow
@pytest.mark.parametrize("step", STEPS)
def test_every_point(step, tmp_path):
    check(tried(step, tmp_path))
