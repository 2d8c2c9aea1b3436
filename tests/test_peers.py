"""Our metrics against what other programs made of the same features, as benchmarks/results has it."""

import json
from pathlib import Path

import pytest

from benchmarks import peers
from tests.project import ROOT

RECORD = json.loads((ROOT / "benchmarks/results/peers.json").read_text())
# Of kinds that all programs are right about.
ORDINARY = (
    "another mean",
    "half the spread",
    "correlated",
    "non-negative, as Inception's",
    "unequal counts",
)
TOLERANCES = {"frechet": 1e-6, "kernel": 1e-4}  # of the value; of the others 1e-6


@pytest.mark.parametrize("name", ORDINARY)
def test_other_programs_agree_on_ordinary_sets(name):
    found = peers.ours(*peers.make(name))
    rows = [row for row in RECORD["rows"] if row["set"] == name]
    assert [row["metric"] for row in rows] == list(found)
    compared = set()
    for row in rows:
        metric, tolerance = row["metric"], TOLERANCES.get(row["metric"], 1e-6)
        assert found[metric] == pytest.approx(row["exact"], rel=1e-9)
        for program in ("pytorch-fid", "clean-fid", "torch-fidelity", "prdc"):
            if row[program] is not None:
                assert found[metric] == pytest.approx(row[program], rel=tolerance), program
                compared |= {(program, metric)}
    expected = {("torch-fidelity", m) for m in ("frechet", "precision", "recall")}
    assert compared >= expected | {
        ("prdc", "density"),
        ("prdc", "coverage"),
        ("pytorch-fid", "frechet"),
    }


def test_the_table_has_every_kind_of_set():
    assert {row["set"] for row in RECORD["rows"]} == peers.SETS.keys()
    text = Path(ROOT / "benchmarks/results/peers.md").read_text()
    assert all(text.count(f"| {name} |") == len(peers.METRICS) for name in peers.SETS)


def test_exact_values_are_those_of_the_definitions():
    """Of sets with known answers."""
    real, generated = peers.make("identical sets")
    exact = peers.exact(real, generated)
    assert exact["frechet"] == pytest.approx(0, abs=1e-30)
    assert (exact["precision"], exact["recall"], exact["density"], exact["coverage"]) == (
        1,
        1,
        1,
        1,
    )
    moved = peers.exact(real, real + 1)
    assert moved["frechet"] == pytest.approx(peers.DIMENSION, rel=1e-6)
