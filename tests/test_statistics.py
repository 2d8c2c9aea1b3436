"""From stored images to statistics: the step `statistics`, its subsets and its parts."""

import hashlib

import numpy as np
import pytest
import torch

from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.io import sha256
from stylenat.metrics.collect import chosen
from stylenat.metrics.extractors import features
from stylenat.metrics.moments import Moments, Statistics
from stylenat.metrics.subsets import choose
from tests.colours import (
    HAIR,
    Colours,
    compute,
    expected_features,
    install,
    portraits,
    random_images,
    store,
)
from tests.records import STATISTICS


class Classifier(Colours):
    """With class logits, as Inception."""

    def __init__(self):
        super().__init__({"scale": torch.ones(3)})

    @property
    def head(self):
        return torch.eye(4, 3)


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    return install(tmp_path, monkeypatch)


def test_statistics_of_a_set_and_their_record(workplace):
    images = random_images(0, 150)
    path = store(workplace / "a.lmdb", images)
    result = Statistics.load(compute(workplace, path))
    assert result.moments.count == 150
    np.testing.assert_allclose(result.moments.mean, expected_features(images).mean(0), rtol=1e-6)
    np.testing.assert_allclose(
        result.moments.covariance, np.cov(expected_features(images).T), rtol=1e-5, atol=1e-4
    )
    record = result.record
    assert (record.kind, record.subset, record.extractor) == ("real", "all", "colours")
    assert record.weights_sha256 == sha256(workplace / "colours.pth")
    assert record.dataset.filter == "lanczos"
    assert record.dataset.resolution == 8
    assert len(record.dataset.content_sha256) == 64


def test_features_come_in_the_order_asked_for_whatever_the_threads(workplace):
    images = random_images(0, 100)
    path = store(workplace / "a.lmdb", images)
    network = features.extractor("colours", workplace / "colours.pth")
    order = np.random.default_rng(0).permutation(100)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        batches, small = zip(*features.features(network, ImageStore(path), order), strict=True)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(np.concatenate(batches), expected_features(images[order]), rtol=1e-5)
    # Each pixel of 8 × 8 becomes 4 × 4 of the thumbnail, whose middle it is.
    assert np.abs(np.concatenate(small).mean((1, 2)) - images[order].mean((1, 2))).max() < 3


def test_parts_of_a_set_give_the_statistics_of_the_whole(workplace):
    images = random_images(0, 100)
    parts = [
        store(workplace / f"{start}.lmdb", images[start:stop], generator_sha256="9e")
        for start, stop in ((0, 7), (7, 60), (60, 100))
    ]
    result = Statistics.load(compute(workplace, *parts))
    assert result.record.kind == "generated"
    assert result.moments.count == 100
    np.testing.assert_allclose(result.moments.mean, expected_features(images).mean(0), rtol=1e-6)


def test_features_are_kept_in_the_order_of_the_images(workplace):
    images = random_images(0, 100)
    parts = [
        store(workplace / f"{start}.lmdb", images[start:stop], generator_sha256="9e", seeds=seeds)
        for start, stop, seeds in ((0, 30, "0-29"), (30, 100, "30-99"))
    ]
    bare = Statistics.load(compute(workplace, *parts))
    assert bare.features is None
    result = Statistics.load(compute(workplace, *parts, keep=True))
    np.testing.assert_allclose(result.features, expected_features(images), rtol=1e-5)
    assert result.features.dtype == np.float32 and result.head is None
    np.testing.assert_array_equal(result.moments.outer, bare.moments.outer)
    assert result.record.seeds == "0-29,30-99"


def test_attributes_are_kept_beside_the_features_in_the_same_order(workplace):
    hair = [*HAIR]
    colours = [hair[number % 3] for number in range(50)]
    path = portraits(workplace / "a.lmdb", colours)
    result = Statistics.load(compute(workplace, path, keep=True))
    assert result.record.attributes == {"hairColor": sorted(hair)}, "the stroke is always black"
    values = result.record.attributes["hairColor"]
    assert [values[code] for code in result.labels[:, 0]] == colours
    drawn = Statistics.load(compute(workplace, path, subset="20", keep=True))
    indices = chosen("20", ImageStore(path))
    assert [values[code] for code in drawn.labels[:, 0]] == [colours[i] for i in indices]
    assert len(drawn.features) == 20

    bare = Statistics.load(compute(workplace, path))
    assert bare.labels is None and bare.record.attributes is None
    assert Statistics.load(compute(workplace, path, keep=True), features=False).labels is None
    unknown = portraits(workplace / "b.lmdb", colours, known=False)
    assert Statistics.load(compute(workplace, unknown, keep=True)).labels is None


def test_inceptions_classifier_comes_with_its_features(tmp_path):
    network = features.Extractor("inception", "67", Classifier())
    np.testing.assert_array_equal(network.head, np.eye(4, 3))
    moments = Moments.of(np.ones((5, 3), np.float32))
    statistics = Statistics(moments, STATISTICS, np.ones((5, 3), np.float32), network.head)
    statistics.save(tmp_path / "a.npz")
    np.testing.assert_array_equal(Statistics.load(tmp_path / "a.npz").head, np.eye(4, 3))


def test_a_numbered_subset_is_drawn_by_seed_without_replacement(workplace):
    images = random_images(0, 150)
    path = store(workplace / "a.lmdb", images)
    first = compute(workplace, path, subset="40", output="1.npz")
    second = compute(workplace, path, subset="40", output="2.npz")
    moments = Statistics.load(first).moments
    assert moments.count == 40
    np.testing.assert_array_equal(moments.outer, Statistics.load(second).moments.outer)
    in_order = sorted(images, key=lambda image: hashlib.sha256(image.tobytes()).digest())
    drawn = expected_features(np.array(in_order)[choose("40", 150, seed=0)])
    np.testing.assert_allclose(moments.mean, drawn.mean(0), rtol=1e-6)
    assert Statistics.load(first).record.seed == 0


def test_a_numbered_subset_does_not_depend_on_the_order_of_the_images(workplace):
    images = random_images(0, 90)
    images[1] = images[0]  # of equal images, either
    again = images[np.random.default_rng(3).permutation(90)]
    drawn = []
    for number, some in enumerate((images, again)):
        one = ImageStore(store(workplace / f"{number}.lmdb", some))
        indices = chosen("40", one)
        assert (np.diff(indices) > 0).all()
        drawn.append(sorted(some[index].tobytes() for index in indices))
    assert drawn[0] == drawn[1]
    assert chosen("90", one).tolist() == [*range(90)]


def test_subsets():
    drawn = choose("60", 101, 0)
    assert len(set(drawn)) == 60
    assert not np.array_equal(drawn, choose("60", 101, 1))
    assert not np.array_equal(drawn, np.arange(60))
    np.testing.assert_array_equal(choose("101", 101, 0), choose("all", 101, 0))


@pytest.mark.parametrize("subset", ["102", "0", "-3", "half0", "3.5"])
def test_impossible_subsets_are_refused(subset):
    with pytest.raises(UserError, match=subset):
        choose(subset, 101, 0)
