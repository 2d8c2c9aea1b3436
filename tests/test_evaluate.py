"""Anybody's images against reals, and two sets against each other."""

import logging

import numpy as np
import pytest
from PIL import Image

from stylenat import command
from stylenat.errors import UserError
from stylenat.io import read_json
from stylenat.metrics import METRICS
from stylenat.metrics.comparison import compare
from stylenat.metrics.fid import frechet_distance
from stylenat.metrics.moments import Moments, Statistics
from stylenat.steps import evaluate, moments
from tests.colours import compute, expected_features, install, random_images, store
from tests.records import STATISTICS


def features_of(random: np.random.Generator, count: int, shift: float = 0.0, seeds=None):
    values = random.normal(shift, 1, (count, 4)).astype(np.float32)
    record = STATISTICS.model_copy(update={"seeds": seeds})
    return Statistics(Moments.of(values), record, values)


def test_every_number_of_a_metric_is_compared():
    random = np.random.default_rng(0)
    sets = [features_of(random, 100, shift) for shift in (0, 0.1, 2)]
    found = {one.metric: one for one in compare(METRICS["prdc"], *sets)}
    assert [name.split("_")[0] for name in found] == ["precision", "recall", "density", "coverage"]
    assert all(one.high < 0 and one.p < 0.05 for one in found.values()), "2 is farther than 0.1"


def test_the_same_seeds_make_pairs():
    """Two networks that differ little make almost the same images of the same seeds."""
    random = np.random.default_rng(0)
    real = features_of(random, 200)
    one = features_of(random, 200, 0.3, "0-199")
    values = one.features + random.normal(0.02, 0.01, one.features.shape).astype(np.float32)
    other = Statistics(Moments.of(values), one.record, values)
    (paired,) = compare(METRICS["frechet"], real, one, other)
    other.record = STATISTICS.model_copy(update={"seeds": "200-399"})
    (apart,) = compare(METRICS["frechet"], real, one, other)
    assert paired.difference == apart.difference > 0
    assert paired.error < apart.error / 3
    assert paired.p < 0.05 < apart.p


# ---------------------------------------------------------------------------------- the step


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    install(tmp_path, monkeypatch)
    for name, images in (("real", random_images(0, 60)), ("fake", random_images(1, 50) // 2)):
        (tmp_path / name).mkdir()
        for index, image in enumerate(images):
            Image.fromarray(image).save(tmp_path / name / f"{index:02d}.png")
    return tmp_path


def run(folder, reference, images, against=None, metrics=("frechet",), **options):
    defaults = {"weights": folder / "colours.pth", "resolution": 8}
    paths = {"reference": reference, "images": images, "against": against}
    evaluate.run(
        **{key: path and folder / path for key, path in paths.items()},
        extractor="colours",
        metrics=metrics,
        output=folder / "out.json",
        device="cpu",
        **defaults | options,
    )
    return read_json(folder / "out.json")


def test_a_folder_of_images_against_another(workplace, caplog):
    caplog.set_level(logging.INFO, command.log.name)
    record = run(workplace, "real", "fake", metrics=("frechet", "prdc"))
    real = expected_features(random_images(0, 60))
    fake = expected_features(random_images(1, 50) // 2)
    expected = frechet_distance(real.mean(0), np.cov(real.T), fake.mean(0), np.cov(fake.T))
    first, *others = record["rows"]
    assert first["metric"] == "fd_colours"
    assert first["value"] == pytest.approx(expected, rel=1e-5) and first["uncertainty"] > 0
    assert [row["metric"].split("_")[0] for row in others] == [
        "precision", "recall", "density", "coverage",
    ]  # fmt: skip
    assert (record["reference"]["count"], record["images"]["count"]) == (60, 50)
    assert "fd_colours: " in caplog.text and "(lower is better)" in caplog.text


def test_packed_sets_and_statistics_are_taken_too(workplace):
    expected = run(workplace, "real", "fake")["rows"]
    store(workplace / "real.lmdb", random_images(0, 60))
    compute(workplace, workplace / "real.lmdb", output="real.npz", keep=True)
    for reference in ("real.lmdb", "real.npz"):
        assert run(workplace, reference, "fake")["rows"] == expected


def test_two_sets_against_each_other(workplace, caplog):
    caplog.set_level(logging.INFO, command.log.name)
    (row,) = run(workplace, "real", "real", against="fake")["rows"]
    assert row["a"] < 1e-6 < row["b"] == row["difference"] + row["a"]
    assert row["low"] > 0 and row["p"] < 1e-3
    assert "p < 0.001: told apart (lower is better)" in caplog.text


def test_mean_and_covariance_of_another_program(workplace, caplog):
    (expected,) = run(workplace, "real", "fake")["rows"]
    store(workplace / "real.lmdb", random_images(0, 60))
    compute(workplace, workplace / "real.lmdb", output="ours.npz")
    moments.run(statistics=workplace / "ours.npz", output=workplace / "theirs.npz")
    (row,) = run(workplace, "theirs.npz", "fake")["rows"]
    assert row["value"] == pytest.approx(expected["value"], rel=1e-6)
    assert row["uncertainty"] is None
    assert "nor how many there were" in caplog.text
    with pytest.raises(UserError, match="theirs hold no features"):
        run(workplace, "theirs.npz", "fake", metrics=["kid"])


def test_what_is_missing_is_one_sentence(workplace):
    with pytest.raises(UserError, match="real holds images; give .* as --weights"):
        run(workplace, "real", "fake", weights=None)
    with pytest.raises(UserError, match="real is no packed data set; give .* --resolution"):
        run(workplace, "real", "fake", resolution=None)
    with pytest.raises(UserError, match="nothing"):
        run(workplace, "real", "nothing")
    store(workplace / "other.lmdb", random_images(0, 60, side=16))
    with pytest.raises(UserError, match="^dataset.resolution is"):
        run(workplace, "other.lmdb", "fake")
