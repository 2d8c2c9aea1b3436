"""Statistics of other programs: read without running anything in them, and written for them."""

import os
import pickle

import numpy as np
import pytest

from stylenat.errors import UserError
from stylenat.metrics.fid import frechet_distance
from stylenat.metrics.foreign import read_gaussian, write_gaussian
from stylenat.metrics.moments import Moments, Statistics
from tests.records import STATISTICS

X = np.random.default_rng(0).normal(2, 3, (50, 4)).astype(np.float32)
MU, SIGMA = X.mean(0, dtype=float), np.cov(X.T.astype(float))


def npz(path):
    np.savez(path, mu=MU, sigma=SIGMA)


def edm2(path):
    values = {"fid": {"mu": MU, "sigma": SIGMA}, "fd_dinov2": {"mu": MU + 1, "sigma": SIGMA}}
    path.write_bytes(pickle.dumps(values))


def stylegan3(path):
    """Sums in float64, and a covariance over n, as its FeatureStats has them."""
    x = X.astype(float)
    attributes = {
        "capture_all": False, "capture_mean_cov": True, "max_items": None, "num_items": len(x),
        "num_features": 4, "all_features": None, "raw_mean": x.sum(0), "raw_cov": x.T @ x,
    }  # fmt: skip
    path.write_bytes(pickle.dumps(attributes))


@pytest.mark.parametrize(
    ("write", "name", "count"),
    [(npz, "a.npz", None), (edm2, "a.pkl", None), (stylegan3, "a.pkl", 50)],
)
def test_each_kind_is_read(tmp_path, write, name, count):
    write(tmp_path / name)
    found = read_gaussian(tmp_path / name)
    np.testing.assert_allclose(found.mean, MU, rtol=1e-12)
    sigma = SIGMA * 49 / 50 if count else SIGMA
    np.testing.assert_allclose(found.covariance, sigma, rtol=1e-10)
    assert found.count == count
    statistics = found.statistics(tmp_path / name, "inception")
    np.testing.assert_allclose(statistics.moments.mean, MU, rtol=1e-12)
    np.testing.assert_allclose(statistics.moments.covariance, found.covariance, rtol=1e-12)


def test_the_metric_chooses(tmp_path):
    edm2(tmp_path / "a.pkl")
    np.testing.assert_allclose(read_gaussian(tmp_path / "a.pkl", "fd_dinov2").mean, MU + 1)


def test_what_is_written_is_what_others_read(tmp_path):
    statistics = Statistics(Moments.of(X), STATISTICS)
    write_gaussian(tmp_path / "a.npz", statistics)
    with np.load(tmp_path / "a.npz") as archive:
        assert sorted(archive.files) == ["mu", "sigma"]
        distance = frechet_distance(archive["mu"], archive["sigma"], MU, SIGMA)
    assert distance < 1e-9
    np.testing.assert_allclose(read_gaussian(tmp_path / "a.npz").covariance, SIGMA, rtol=1e-6)


class Touch:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_code_in_a_pickle_is_not_run(tmp_path):
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"mu": Touch(tmp_path / "made")}))
    with pytest.raises(UserError, match=r"asks for `posix\.mkdir`.*do not trust"):
        read_gaussian(tmp_path / "a.pkl")
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1", "Git LFS pointer"),
        (pickle.dumps({"mean": MU}), r"no mean and covariance that are known here \(mean\)"),
        (pickle.dumps([1, 2]), "cannot be read|no mean and covariance"),
        (pickle.dumps({"mu": MU, "sigma": SIGMA[:3]}), "do not belong together"),
        (pickle.dumps({"mu": MU * np.nan, "sigma": SIGMA}), "not finite"),
        (pickle.dumps({"mu": MU, "sigma": SIGMA})[:-30], "cannot be read"),
    ],
)
def test_anything_else_is_one_sentence(tmp_path, content, message):
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(UserError, match=message):
        read_gaussian(tmp_path / "a.pkl")
