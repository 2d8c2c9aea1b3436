"""docs/first-steps.ipynb runs from its first cell to its last, with tiny sizes in its cell of parameters."""

import os
import sys
from pathlib import Path

import nbformat
import pytest

from tests.project import ROOT, make_clone

nbclient = pytest.importorskip("nbclient")

NOTEBOOK = ROOT / "docs/first-steps.ipynb"
SIZES = {
    "CORES": 1,
    "DRAWN": 16,
    "WIDTH": 16,
    "FACES": 24,
    "ITERATIONS": 2,
    "TUNING": 1,
    "SAMPLES": 12,
}


@pytest.fixture
def notebook() -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOK, as_version=4)


def test_it_is_kept_without_outputs(notebook):
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert not any(cell.outputs or cell.execution_count for cell in code)


def test_it_runs_to_its_end(notebook, tmp_path, monkeypatch):
    """Opened in docs/ of a checkout. The test has no network: sizes are overwritten at the end of the
    cell of parameters, and the folder of images is the one that the notebook draws."""
    clone = make_clone(tmp_path)
    (clone / "docs").mkdir()
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", f"{clone}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    (cell,) = (it for it in notebook.cells if it.metadata.get("tags") == ["parameters"])
    names = {line.partition(" = ")[0] for line in cell.source.splitlines()}
    assert SIZES.keys() < names
    cell.source += "".join(f"\n{name} = {value}" for name, value in SIZES.items())

    where = {"metadata": {"path": clone / "docs"}}
    nbclient.NotebookClient(notebook, timeout=900, resources=where).execute()
    shown = [
        output.data
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "execute_result"
    ]
    picture, table = shown
    assert "image/png" in picture
    for text in ("<th>a</th>", "<th>p</th>", "fd_lite0", "coverage_lite0"):
        assert text in table["text/html"]
