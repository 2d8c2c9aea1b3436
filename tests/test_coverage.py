"""Stated 90 % intervals cover the truth in 85 to 95 % of 200 simulations; all of them: benchmarks/coverage.py."""

import json

import numpy as np
import pytest

from benchmarks import coverage
from stylenat.metrics import kid
from tests.project import ROOT

# What takes a few seconds.
QUICK = {
    "Fréchet distance: 500 and 400 images, 8 features, mean 0.3 apart",
    "Fréchet distance, three sets of samples: 200 samples, 2,000 reals, 8 features",
    "kernel distance: 200 samples, 240 reals, 8 features, mean 0.3 apart",
    "precision … coverage: 200 samples, 240 reals, 8 features",
    "difference: frechet: two equal distributions",
    "Inception Score: 400 images, 10 classes",
    "copies by features: 800 samples, 300 reals, 16 features",
    "ablation: difference: 3 seeds",
    "ablation: p-values: 3 seeds, 6 equal variants",
}
CASES = {f"{case.interval}: {case.simulation}": case for case in coverage.all_cases()}


@pytest.mark.parametrize("name", sorted(QUICK))
def test_intervals_cover_the_truth(name, monkeypatch):
    monkeypatch.setattr(kid, "SUBSETS", coverage.SUBSETS)
    for row in coverage.measure(CASES[name], 200):
        assert coverage.FEWEST <= row["covered"] <= coverage.MOST, row


def test_halves_of_one_set_are_not_counted_as_independent():
    """Standard errors of floors beside how their values scatter."""
    found: dict[str, list[coverage.Stated]] = {}
    for seed in range(60):
        random = np.random.default_rng(seed)
        for one in coverage.floors("prdc", coverage.normal(160), None, 80, random):
            found.setdefault(one.metric, []).append(one)
    assert len(found) == 4
    for name, several in found.items():
        scatter = np.std([one.value for one in several], ddof=1)
        stated = np.sqrt(np.mean([one.reach**2 for one in several])) / coverage.NORMAL
        assert 0.8 < stated / scatter < 1.25, name


def test_the_table_is_of_these_cases():
    record = json.loads((ROOT / "benchmarks/results/coverage.json").read_text())
    assert {f"{row['interval']}: {row['simulation']}" for row in record["rows"]} <= CASES.keys()
    assert {row["repetitions"] for row in record["rows"]} == {200}
