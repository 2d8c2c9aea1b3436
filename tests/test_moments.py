"""Moments add up over shards; statistics files refuse what does not fit."""

import copy
from functools import reduce
from itertools import pairwise

import numpy as np
import pytest

from stylenat.errors import UserError
from stylenat.io import write_npz
from stylenat.metrics.moments import Moments, Statistics
from stylenat.records import StatisticsRecord
from tests.records import STATISTICS, STATISTICS_JSON


def moments_of(features):
    moments = Moments.zeros(features.shape[1])
    moments.update(features)
    return moments


def random_features(count=400, dimension=24):
    return np.random.default_rng(0).normal(3, 2, (count, dimension)).astype(np.float32)


def with_field(field, value):
    values = copy.deepcopy(STATISTICS_JSON)
    *path, last = field.split(".")
    reduce(dict.__getitem__, path, values)[last] = value
    return StatisticsRecord(**values)


def test_mean_and_unbiased_covariance():
    features = random_features()
    moments = moments_of(features)
    assert moments.count == 400
    np.testing.assert_allclose(moments.mean, features.mean(0, dtype=np.float64), rtol=1e-13)
    expected = np.cov(features.astype(np.float64), rowvar=False)
    np.testing.assert_allclose(moments.covariance, expected, rtol=0, atol=1e-12)


def test_seven_uneven_shards_equal_the_whole():
    features = random_features()
    bounds = [0, 1, 4, 64, 65, 200, 333, 400]
    shards = [moments_of(features[a:b]) for a, b in pairwise(bounds)]
    merged = reduce(Statistics.merge, [Statistics(shard, STATISTICS) for shard in shards]).moments
    whole = moments_of(features)
    assert merged.count == whole.count
    np.testing.assert_allclose(merged.mean, whole.mean, rtol=1e-10)
    np.testing.assert_allclose(merged.covariance, whole.covariance, rtol=0, atol=1e-10)


def test_a_spread_that_is_small_beside_the_mean():
    rng = np.random.default_rng(1)
    features = 1e4 + 1e-3 * rng.normal(size=(5000, 3))  # float64: float32 would round it away
    moments = Moments.of(features)
    expected = np.cov(features - 1e4, rowvar=False)
    np.testing.assert_allclose(moments.covariance, expected, rtol=0, atol=1e-7 * 1e-6)
    # Parts have other shifts; one of them has seen nothing.
    merged = Moments.zeros(3)
    for part in (features[:7], features[7:7], features[7:3000], features[3000:]):
        merged.merge(Moments.of(part))
    assert merged.count == 5000
    np.testing.assert_allclose(merged.covariance, expected, rtol=0, atol=1e-6 * 1e-6)
    np.testing.assert_allclose(merged.mean, features.mean(0), rtol=1e-14)


def test_statistics_of_before_there_was_a_shift(tmp_path):
    x = random_features().astype(np.float64)
    arrays = {"count": np.int64(len(x)), "sum": x.sum(0), "outer": x.T @ x}
    write_npz(tmp_path / "old.npz", arrays, STATISTICS_JSON)
    loaded = Statistics.load(tmp_path / "old.npz").moments
    np.testing.assert_allclose(loaded.mean, x.mean(0))
    np.testing.assert_allclose(loaded.covariance, np.cov(x, rowvar=False), atol=1e-10)


def test_merging_leaves_the_parts_alone():
    a, b = (Statistics(moments_of(random_features(n)), STATISTICS) for n in (10, 20))
    a.merge(b)
    assert (a.moments.count, b.moments.count) == (10, 20)


def test_parts_of_one_set_get_an_identity_of_their_own():
    a = Statistics(moments_of(random_features()), STATISTICS)
    b = Statistics(moments_of(random_features()), with_field("dataset.content_sha256", "c1"))
    hashes = {s.record.dataset.content_sha256 for s in (a, b, a.merge(b), b.merge(a))}
    assert len(hashes) == 4


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("extractor", "inception"),
        ("weights_sha256", "00"),
        ("dataset.resolution", 64),
        ("dataset.filter", "box"),
        ("dataset.name", "b"),
        ("kind", "real"),
        ("generator_sha256", "00"),
        ("subset", "50"),
    ],
)
def test_parts_of_different_sets_are_refused_naming_the_field(field, value):
    a = Statistics(moments_of(random_features()), STATISTICS)
    b = Statistics(moments_of(random_features()), with_field(field, value))
    with pytest.raises(UserError, match=f"^{field} is .* and {value!r} in the other"):
        a.merge(b)


def test_one_image_has_no_covariance():
    with pytest.raises(UserError, match="at least 2"):
        _ = moments_of(random_features(1)).covariance


def test_files_keep_every_bit(tmp_path):
    statistics = Statistics(moments_of(random_features()), STATISTICS)
    statistics.save(tmp_path / "a.npz")
    loaded = Statistics.load(tmp_path / "a.npz")
    assert loaded.record == STATISTICS and loaded.record.to_dict() == STATISTICS_JSON
    assert loaded.moments.count == 400
    np.testing.assert_array_equal(loaded.moments.sum, statistics.moments.sum)
    np.testing.assert_array_equal(loaded.moments.outer, statistics.moments.outer)
    np.testing.assert_array_equal(loaded.moments.shift, statistics.moments.shift)


def test_truncated_and_foreign_files_are_refused(tmp_path):
    path = tmp_path / "a.npz"
    Statistics(moments_of(random_features()), STATISTICS).save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="truncated"):
        Statistics.load(path)
    np.savez(path, mu=np.zeros(3), sigma=np.eye(3))  # as pytorch-fid saves them
    with pytest.raises(UserError, match="holds mu, sigma, but no record .* left as it is"):
        Statistics.load(path)
    arrays = {"count": np.int64(2), "sum": np.zeros(3), "outer": np.eye(3)}
    for values, message in (
        (
            {key: STATISTICS_JSON[key] for key in STATISTICS_JSON if key != "kind"},
            "its kind: is missing",
        ),
        (
            STATISTICS_JSON | {"dataset": {**STATISTICS_JSON["dataset"], "name": 3}},
            "its dataset.name: .* string",
        ),
        ([], "its record: .* not of type object"),
    ):
        write_npz(path, arrays, values)
        with pytest.raises(UserError, match=f"{message}; make it with stylenat.steps.statistics"):
            Statistics.load(path)
    write_npz(path, {"sum": np.zeros(3)}, STATISTICS_JSON)
    with pytest.raises(UserError, match="is missing"):
        Statistics.load(path)


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused(tmp_path, value, monkeypatch):
    """Written or read."""
    features = random_features()
    features[3, 4] = value
    statistics = Statistics(moments_of(features), STATISTICS)
    path = tmp_path / "a.npz"
    with pytest.raises(UserError, match="features of a are not finite"):
        statistics.save(path)
    assert not path.exists()
    with monkeypatch.context() as before:
        before.setattr(Statistics, "_require_finite", lambda *_: None)
        statistics.save(path)
    with pytest.raises(UserError, match="a.npz: features of a are not finite"):
        Statistics.load(path)
