"""From stored images to a metric record: the steps `statistics` and `metrics`, with faults."""

import json
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn

from stylenat.config import ExperimentConfig
from stylenat.data.store import ImageStore
from stylenat.data.writer import write_store
from stylenat.errors import UserError
from stylenat.evaluation import features, frechet_distance
from stylenat.evaluation.moments import Statistics
from stylenat.evaluation.network import FeatureNetwork
from stylenat.evaluation.subsets import choose
from stylenat.models import Generator, save_generator
from stylenat.records import read_json, sha256, write_json
from stylenat.steps import metrics, statistics

ROOT = Path(__file__).parents[1]


class Colours(FeatureNetwork):
    """Mean red, green and blue, scaled: features anyone can compute."""

    dimension = 3

    def __init__(self, weights):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(3))
        self.load_weights(weights)

    def features(self, pixels):
        return pixels.mean((2, 3)) * self.scale


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    monkeypatch.setitem(features.NETWORKS, "colours", Colours)
    torch.save({"scale": torch.tensor([1.0, 0.5, 2.0])}, tmp_path / "colours.pth")
    return tmp_path


def random_images(seed, count, side=8):
    return np.random.default_rng(seed).integers(0, 256, (count, side, side, 3), dtype=np.uint8)


def store(path, images, **metadata):
    values = {"name": "photos", "filter": "lanczos", "source": "", "licence": "", "notes": ""}
    write_store(path, images, values | metadata)
    return path


def compute(workplace, *images, subset="all", weights="colours.pth", output="out.npz"):
    statistics.run(
        Namespace(
            images=list(images),
            subset=subset,
            extractor="colours",
            weights=workplace / weights,
            output=workplace / output,
            device=torch.device("cpu"),
        )
    )
    return workplace / output


def expected_features(images):
    return images.mean((1, 2)) * [1.0, 0.5, 2.0]


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
    assert (record["kind"], record["subset"], record["extractor"]) == ("real", "all", "colours")
    assert record["weights_sha256"] == sha256(workplace / "colours.pth")
    assert record["dataset"]["filter"] == "lanczos"
    assert record["dataset"]["resolution"] == 8
    assert len(record["dataset"]["content_sha256"]) == 64


def test_features_come_in_the_order_asked_for_whatever_the_threads(workplace):
    images = random_images(0, 100)
    path = store(workplace / "a.lmdb", images)
    network = features.extractor("colours", workplace / "colours.pth")
    order = np.random.default_rng(0).permutation(100)
    threads = torch.get_num_threads()
    torch.set_num_threads(3)
    try:
        batches = list(features.features(network, ImageStore(path), order))
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(threads)
    np.testing.assert_allclose(np.concatenate(batches), expected_features(images[order]), rtol=1e-5)


def test_parts_of_a_set_give_the_statistics_of_the_whole(workplace):
    images = random_images(0, 100)
    parts = [
        store(workplace / f"{start}.lmdb", images[start:stop], generator_sha256="9e")
        for start, stop in ((0, 7), (7, 60), (60, 100))
    ]
    result = Statistics.load(compute(workplace, *parts))
    assert result.record["kind"] == "generated"
    assert result.moments.count == 100
    np.testing.assert_allclose(result.moments.mean, expected_features(images).mean(0), rtol=1e-6)


def test_a_numbered_subset_is_drawn_by_seed_without_replacement(workplace):
    images = random_images(0, 150)
    path = store(workplace / "a.lmdb", images)
    first = compute(workplace, path, subset="40", output="1.npz")
    second = compute(workplace, path, subset="40", output="2.npz")
    moments = Statistics.load(first).moments
    assert moments.count == 40
    np.testing.assert_array_equal(moments.outer, Statistics.load(second).moments.outer)
    chosen = expected_features(images[choose("40", 150, seed=0)])
    np.testing.assert_allclose(moments.mean, chosen.mean(0), rtol=1e-6)
    assert Statistics.load(first).record["seed"] == 0


def test_subsets():
    half0, half1 = choose("half0", 101, 0), choose("half1", 101, 0)
    assert sorted([*half0, *half1]) == list(range(101))
    assert abs(len(half0) - len(half1)) == 1
    drawn = choose("60", 101, 0)
    assert len(set(drawn)) == 60
    assert not np.array_equal(drawn, choose("60", 101, 1))
    assert not np.array_equal(drawn, np.arange(60))
    np.testing.assert_array_equal(choose("101", 101, 0), choose("all", 101, 0))


@pytest.mark.parametrize("subset", ["102", "0", "-3", "half2", "3.5"])
def test_impossible_subsets_are_refused(subset):
    with pytest.raises(UserError, match=subset):
        choose(subset, 101, 0)


# ---------------------------------------------------------------------------------- metrics


@pytest.fixture
def chain(workplace):
    """Reals, their halves, a snapshot with its samples, and everything's statistics."""
    values = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["defaults"]
    model = values["model"] | {
        "image_size": 8,
        "style_dim": 8,
        "mapping_layers": 1,
        "channel_max": 16,
        "min_heads": 2,
    }
    experiment = ExperimentConfig.from_dict(
        {
            "name": "tiny",
            "dataset": "photos",
            "model": model,
            "discriminator": {"image_size": 8} | values["discriminator"],
            "training": values["training"],
        }
    )
    write_json(workplace / "experiment.json", experiment.to_dict())
    provenance = {"experiment": {"name": "tiny"}, "step": 400, "images_seen": 6400}
    save_generator(workplace / "g.safetensors", Generator(experiment.model), provenance)
    store(workplace / "real.lmdb", random_images(0, 120))
    store(
        workplace / "fake.lmdb",
        random_images(1, 90) // 2,
        name="tiny",
        generator_sha256=sha256(workplace / "g.safetensors"),
    )
    for subset in ("all", "half0", "half1"):
        compute(workplace, workplace / "real.lmdb", subset=subset, output=f"{subset}.npz")
    compute(workplace, workplace / "fake.lmdb", output="fake.npz")
    return workplace


def measure(chain, measured="fake.npz", reference="all.npz", weights="g.safetensors"):
    metrics.run(
        Namespace(
            statistics=chain / measured,
            reference=chain / reference,
            protocol="fd_colours",
            table="fd_colours",
            experiment=chain / "experiment.json",
            weights=weights and chain / weights,
            output=chain / "metric.json",
        )
    )
    return read_json(chain / "metric.json")


def change(chain, name, **fields):
    """A copy of a statistics file with other fields in its record; a.b for nested ones."""
    result = Statistics.load(chain / name)
    for field, value in fields.items():
        record, (*path, last) = result.record, field.split("__")
        for key in path:
            record = record[key]
        record[last] = value
    result.save(chain / "changed.npz")
    return "changed.npz"


def test_a_snapshots_record(chain):
    record = measure(chain)
    real = expected_features(random_images(0, 120))
    fake = expected_features(random_images(1, 90) // 2)
    expected = frechet_distance(real.mean(0), np.cov(real.T), fake.mean(0), np.cov(fake.T))
    assert record["value"] == pytest.approx(expected, rel=1e-5)
    known = {
        "experiment": "tiny",
        "dataset": "photos",
        "resolution": 8,
        "kind": "snapshot",
        "step": 400,
        "images_seen": 6400,
        "n_generated": 90,
        "n_real": 120,
        "filter": "lanczos",
        "protocol": "fd_colours",
        "generator_sha256": sha256(chain / "g.safetensors"),
    }
    assert {key: record[key] for key in known} == known
    trained = json.loads((chain / "experiment.json").read_text())["model"]
    assert trained["image_size"] == 8
    assert record["parameters"] > 1000


def test_the_floor_compares_the_two_halves(chain):
    record = measure(chain, "half0.npz", "half1.npz", weights=None)
    assert (record["kind"], record["step"]) == ("floor", None)
    assert (record["n_generated"], record["n_real"]) == (60, 60)
    assert 0 < record["value"] < measure(chain)["value"]


def test_a_floor_of_overlapping_sets_is_refused(chain):
    with pytest.raises(UserError, match="subset is 'half0'.*'all'"):
        measure(chain, "half0.npz", "all.npz", weights=None)
    with pytest.raises(UserError, match="^dataset.content_sha256 is"):
        measure(
            chain,
            change(chain, "half0.npz", dataset__content_sha256="00"),
            "half1.npz",
            weights=None,
        )


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("extractor", "inception"),
        ("weights_sha256", "00"),
        ("dataset__resolution", 16),
        ("dataset__filter", "box"),
    ],
)
def test_statistics_that_do_not_fit_are_refused_with_field_and_values(chain, field, value):
    found = Statistics.load(chain / "fake.npz").record
    name = field.replace("__", ".")
    for key in name.split("."):
        found = found[key]
    with pytest.raises(UserError, match=f"^{name} is {found!r} .* {value!r}"):
        measure(chain, reference=change(chain, "all.npz", **{field: value}))


def test_a_filter_that_is_not_known_is_not_compared(chain):
    changed = change(chain, "fake.npz", dataset__filter=None)
    assert measure(chain, changed)["filter"] == "lanczos"


def test_samples_of_other_weights_are_refused(chain):
    with pytest.raises(UserError, match="^generator_sha256 is '00'|^generator_sha256 is 00"):
        measure(chain, change(chain, "fake.npz", generator_sha256="00"))


def test_another_data_sets_reals_are_refused(chain):
    with pytest.raises(UserError, match="dataset.name is 'other'.*'photos'"):
        measure(chain, reference=change(chain, "all.npz", dataset__name="other"))
    with pytest.raises(UserError, match="must be of reals"):
        measure(chain, reference="fake.npz")


def test_fewer_images_than_features_are_warned_about(chain, caplog):
    compute(chain, chain / "real.lmdb", subset="2", output="two.npz")
    measure(chain, reference="two.npz")
    assert "2 real images for 3 features" in caplog.text
