"""From statistics to metric records: the steps `metrics` and `neighbours`, and what they refuse."""

import json
import logging
import re
from functools import reduce
from operator import attrgetter
from typing import Any

import numpy as np
import pytest
import scipy.linalg

from stylenat import command
from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.io import read_json, read_npz, sha256, write_json
from stylenat.metrics import METRICS
from stylenat.metrics.fid import frechet_distance
from stylenat.metrics.moments import Statistics
from stylenat.models import Generator, save_generator
from stylenat.records import MetricRecord, Provenance, StatisticsRecord
from stylenat.report.tables import metric_table
from stylenat.steps import floor, metrics, neighbours
from tests.colours import HAIR, compute, expected_features, install, portraits, random_images, store
from tests.project import ROOT
from tests.tiny import experiment


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    return install(tmp_path, monkeypatch)


@pytest.fixture
def chain(workplace):
    """Reals, a snapshot with its samples, and everything's statistics."""
    config = experiment(dataset="photos", size=8)
    write_json(workplace / "experiment.json", config.to_dict())
    provenance = Provenance(experiment={"name": "tiny"}, step=400, images_seen=6400)
    save_generator(workplace / "g.safetensors", Generator(config.model), provenance)
    store(workplace / "real.lmdb", random_images(0, 120))
    store(
        workplace / "fake.lmdb",
        random_images(1, 90) // 2,
        name="tiny",
        generator_sha256=sha256(workplace / "g.safetensors"),
    )
    compute(workplace, workplace / "real.lmdb", output="all.npz")
    compute(workplace, workplace / "fake.lmdb", output="fake.npz")
    return workplace


def measure_all(
    chain, *measured, reference="all.npz", weights="g.safetensors", metric="frechet", held_out=None
) -> list[dict]:
    metrics.run(
        statistics=[chain / name for name in measured or ["fake.npz"]],
        reference=chain / reference,
        held_out=held_out and chain / held_out,
        metric=metric,
        protocol=f"{metric}_of_colours",
        experiment=chain / "experiment.json",
        weights=weights and chain / weights,
        output=chain / "metric.json",
    )
    return read_json(chain / "metric.json")


def measure_floors(
    chain, reference="all.npz", held_out=None, samples=90, metric="frechet"
) -> list[dict]:
    floor.run(
        reference=chain / reference,
        held_out=held_out and chain / held_out,
        samples=samples,
        metric=metric,
        protocol=f"{metric}_of_colours",
        experiment=chain / "experiment.json",
        output=chain / "floor.json",
    )
    return read_json(chain / "floor.json")


def measure(chain, *measured, **options) -> dict:
    """The record of a metric that is a single number."""
    (record,) = measure_all(chain, *measured, **options)
    return record


def test_the_metric_in_contributing_gets_its_row(chain, published, monkeypatch):
    """From the dict to a row of the table: no other place knows a metric."""
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "CONTRIBUTING.md").read_text(), re.DOTALL)
    module: dict[str, Any] = {}
    exec(code, module)  # noqa: S102
    monkeypatch.setitem(METRICS, "mean_shift", module["METRIC"])
    record = measure(chain, metric="mean_shift")
    real = expected_features(random_images(0, 120)).mean(0)
    fake = expected_features(random_images(1, 90) // 2).mean(0)
    assert record["value"] == pytest.approx(np.abs(real - fake).mean(), rel=1e-5)
    config = ExperimentConfig.from_dict(read_json(chain / "experiment.json"))
    frame = metric_table({"record": MetricRecord(**record)}, "metrics", config, published)
    assert frame.loc[0, ["metric", "value"]].tolist() == ["mean_shift_colours", record["value"]]


def another_set(chain, seed: int, count: int = 90, darker: int = 2) -> str:
    """Statistics of as many other samples of the same weights."""
    generator = sha256(chain / "g.safetensors")
    images = random_images(seed, count) // darker
    seeds = f"{100 * seed}-{100 * seed + count - 1}"
    path = store(chain / f"{seed}.lmdb", images, generator_sha256=generator, seeds=seeds)
    return compute(chain, path, output=f"{seed}.npz", keep=True).name


def change(chain, name, **fields):
    """A copy of a statistics file with other fields in its record; a.b for nested ones."""
    result = Statistics.load(chain / name)
    values = result.record.to_dict()
    for field, value in fields.items():
        *path, last = field.split("__")
        reduce(dict.__getitem__, path, values)[last] = value
    result.record = StatisticsRecord(**values)
    result.save(chain / "changed.npz")
    return "changed.npz"


def test_a_snapshots_record(chain):
    record = measure(chain)
    real = expected_features(random_images(0, 120))
    fake = expected_features(random_images(1, 90) // 2)
    expected = frechet_distance(real.mean(0), np.cov(real.T), fake.mean(0), np.cov(fake.T))
    assert record["value"] == pytest.approx(expected, rel=1e-5)
    assert record["values"] == [record["value"]]
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
        "protocol": "frechet_of_colours",
        "metric": "fd_colours",
        "better": "lower",
        "seeds": [None],
        "generator_sha256": sha256(chain / "g.safetensors"),
    }
    assert {key: record[key] for key in known} == known
    trained = json.loads((chain / "experiment.json").read_text())["model"]
    assert trained["image_size"] == 8
    assert record["parameters"] > 1000


def test_several_sampling_sets_give_their_mean_and_every_value(chain):
    names = ["fake.npz", another_set(chain, 2), another_set(chain, 3)]
    alone = [measure(chain, name)["value"] for name in names]
    record = measure(chain, *names)
    assert record["values"] == alone and len(set(alone)) == 3
    assert record["value"] == pytest.approx(np.mean(alone))
    assert (record["n_generated"], record["seeds"]) == (90, [None, "200-289", "300-389"])


def test_sampling_sets_that_are_not_several_are_refused(chain):
    name = another_set(chain, 2)
    with pytest.raises(UserError, match="2.npz and .*2.npz hold the same images"):
        measure(chain, "fake.npz", name, name)
    with pytest.raises(UserError, match="fake.npz holds 90 images and .*3.npz 50"):
        measure(chain, "fake.npz", another_set(chain, 3, count=50))
    with pytest.raises(UserError, match="changed.npz but"):
        measure(chain, "fake.npz", change(chain, name, generator_sha256="00"))


@pytest.mark.parametrize(
    ("metric", "names"),
    [
        ("kid", ["kid_colours"]),
        ("prdc", [f"{p}_colours" for p in ("precision", "recall", "density", "coverage")]),
        ("copies", ["copies_colours", "copies_pixels"]),
        ("frechet_infinity", ["fd_colours_infinity"]),
    ],
)
def test_metrics_of_features_are_one_record_each(chain, metric, names):
    compute(chain, chain / "real.lmdb", output="all.npz", keep=True)
    sets = [another_set(chain, 2), another_set(chain, 3)]
    records = measure_all(chain, *sets, metric=metric)
    assert [record["metric"] for record in records] == names
    for record in records:
        assert len(record["values"]) == 2 and record["uncertainty_of"]
        assert (record["n_generated"], record["n_real"], record["kind"]) == (90, 120, "snapshot")


@pytest.mark.parametrize("metric", ["kid", "prdc", "copies", "frechet_infinity"])
def test_statistics_that_do_not_fit_are_refused_by_every_metric(chain, metric):
    compute(chain, chain / "real.lmdb", output="all.npz", keep=True)
    samples = another_set(chain, 2)
    for field, value in (("extractor", "lite0"), ("weights_sha256", "00")):
        with pytest.raises(UserError, match=f"^{field} is"):
            measure_all(chain, change(chain, samples, **{field: value}), metric=metric)
    with pytest.raises(UserError, match="^dataset.filter is"):
        changed = change(chain, samples, dataset__filter="box")
        measure_all(chain, changed, metric=metric)


def test_without_held_out_reals_the_floor_is_that_of_halves_scaled_to_the_counts(chain):
    compute(chain, chain / "real.lmdb", output="all.npz", keep=True)
    (record,) = measure_floors(chain)
    assert (record["kind"], record["step"], record["floor_of"]) == ("floor", None, "halves")
    assert (record["n_generated"], record["n_real"], len(record["values"])) == (90, 120, 10)
    assert record["note"] == "measured between 60 and 60 images, and scaled"
    features = expected_features(random_images(0, 120))
    random, distances = np.random.default_rng(9), []
    for _ in range(50):
        order = random.permutation(120)
        distances.append(brute_force(features[order[:60]], features[order[60:]]))
    expected = np.mean(distances) * (1 / 90 + 1 / 120) / (2 / 60)
    spread = np.std(record["values"]) / np.sqrt(10)
    assert abs(record["value"] - expected) < 4 * spread < expected
    assert record["uncertainty"] > 0


def test_the_floor_does_not_depend_on_the_order_of_the_images(chain):
    compute(chain, chain / "real.lmdb", output="all.npz", keep=True)
    store(chain / "turned.lmdb", random_images(0, 120)[::-1])
    compute(chain, chain / "turned.lmdb", output="turned.npz", keep=True)
    for metric in ("frechet", "prdc"):
        values = [record["value"] for record in measure_floors(chain, metric=metric)]
        again = measure_floors(chain, reference="turned.npz", metric=metric)
        assert [record["value"] for record in again] == pytest.approx(values, rel=1e-6)


def test_a_floor_needs_features_and_reals(chain):
    with pytest.raises(UserError, match="photos hold no features.*with --features"):
        measure_floors(chain)
    with pytest.raises(UserError, match="fake.npz is of generated images"):
        measure_floors(chain, reference="fake.npz")


# ------------------------------------------------------------------------- held-out reals


@pytest.fixture
def held_out(chain) -> str:
    """Statistics of 100 other reals, a test split of the chain's data set."""
    path = store(chain / "held.lmdb", random_images(7, 100), name="photos.test")
    return compute(chain, path, output="held.npz", keep=True).name


def brute_force(a, b) -> float:
    """The Fréchet distance, by scipy's matrix square root."""
    covariances = np.cov(a.T), np.cov(b.T)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    means = a.mean(0) - b.mean(0)
    return means @ means + np.trace(covariances[0] + covariances[1] - 2 * root)


def test_a_snapshot_is_compared_with_held_out_reals_too(chain, held_out):
    names = ["fake.npz", another_set(chain, 2)]
    bare = measure(chain, *names)
    record = measure(chain, *names, held_out=held_out)
    assert {key: record[key] for key in bare} == bare, "nothing else has changed"
    assert record.keys() - bare.keys() == {
        "held_out",
        "held_out_values",
        "held_out_uncertainty",
        "n_real_held_out",
    }
    assert record["n_real_held_out"] == 100
    real = expected_features(random_images(7, 100))
    expected = [brute_force(expected_features(random_images(i, 90) // 2), real) for i in (1, 2)]
    assert record["held_out_values"] == pytest.approx(expected, rel=1e-4)
    assert record["held_out"] == pytest.approx(np.mean(expected), rel=1e-4)
    assert abs(record["held_out"] - record["value"]) > 1e-3


@pytest.mark.parametrize("metric", ["kid", "prdc", "frechet_infinity"])
def test_metrics_of_features_are_those_of_either_set_of_reals(chain, held_out, metric):
    compute(chain, chain / "real.lmdb", output="all.npz", keep=True)
    samples = another_set(chain, 2, darker=1)
    both = measure_all(chain, samples, metric=metric, held_out=held_out)
    change(chain, held_out, dataset__name="photos")
    alone = measure_all(chain, samples, metric=metric, reference="changed.npz")
    assert [r["held_out"] for r in both] == [r["value"] for r in alone]
    assert [r["held_out_uncertainty"] for r in both] == [r["uncertainty"] for r in alone]
    assert [r["held_out"] for r in both] != [r["value"] for r in both]


def test_copies_are_looked_for_among_training_images_alone(chain, held_out):
    compute(chain, chain / "real.lmdb", output="all.npz", keep=True)
    samples = another_set(chain, 2)
    for record in measure_all(chain, samples, metric="copies", held_out=held_out):
        assert not {"held_out", "held_out_values", "n_real_held_out"} & record.keys()
    for real in measure_floors(chain, held_out=held_out, metric="copies"):
        assert (real["floor_of"], real["n_generated"]) == ("held-out", 90)
        assert real["value"] < 0.1


def test_the_floor_is_held_out_reals_against_the_reference(chain, held_out):
    """In disjoint sets of as many images as there are samples."""
    (record,) = measure_floors(chain, held_out=held_out, samples=100)
    assert (record["kind"], record["floor_of"]) == ("floor", "held-out")
    assert (record["n_generated"], record["n_real"], record["note"]) == (100, 120, None)
    real, other = (expected_features(random_images(*key)) for key in ((0, 120), (7, 100)))
    assert record["value"] == pytest.approx(brute_force(other, real), rel=1e-4)
    (few,) = measure_floors(chain, held_out=held_out, samples=33)
    assert (few["n_generated"], len(few["values"]), len(set(few["values"]))) == (33, 3, 3)
    assert few["value"] > record["value"], "fewer images are farther away"


def test_too_few_held_out_reals_are_all_measured_and_the_distance_is_scaled(chain, held_out):
    (whole,) = measure_floors(chain, held_out=held_out, samples=100)
    (record,) = measure_floors(chain, held_out=held_out, samples=1000)
    scale = (1 / 1000 + 1 / 120) / (1 / 100 + 1 / 120)
    assert record["value"] == pytest.approx(whole["value"] * scale, rel=1e-9)
    assert record["note"] == "measured between 100 and 120 images, and scaled"
    compute(chain, chain / "real.lmdb", output="all.npz", keep=True)
    recall = measure_floors(chain, held_out=held_out, samples=1000, metric="prdc")[1]
    assert (recall["n_generated"], recall["note"]) == (100, None), "no law is known for it"


def test_held_out_reals_are_taken_for_nothing_else(chain, held_out):
    with pytest.raises(UserError, match="'photos.test' in .*held out of the data set"):
        measure(chain, reference=held_out)
    with pytest.raises(UserError, match="'photos' in .*all.npz .*are called 'photos.test'"):
        measure(chain, held_out="all.npz")
    with pytest.raises(UserError, match="'tiny' in .*generated images.*called 'photos.test'"):
        measure(chain, held_out="fake.npz")
    other = change(chain, held_out, dataset__name="others.test")
    with pytest.raises(UserError, match="'others.test' in .*called 'photos.test'"):
        measure(chain, held_out=other)
    with pytest.raises(UserError, match="subset is '50' in .*used whole"):
        measure(chain, held_out=change(chain, held_out, subset="50"))
    with pytest.raises(UserError, match="^extractor is"):
        measure(chain, held_out=change(chain, held_out, extractor="lite0"))
    with pytest.raises(UserError, match="hold the same images"):
        measure(chain, held_out=change(chain, "all.npz", dataset__name="photos.test"))


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
    name = field.replace("__", ".")
    found = attrgetter(name)(Statistics.load(chain / "fake.npz").record)
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


# ------------------------------------------------------------------------------ attributes


def samples_of(chain, colours, seed: int) -> str:
    """Statistics of samples of the chain's weights, whose colours nobody has written down."""
    generator = sha256(chain / "g.safetensors")
    path = chain / f"samples{seed}.lmdb"
    portraits(path, colours, seed, known=False, generator_sha256=generator, seeds=f"{seed}")
    return compute(chain, path, output=f"samples{seed}.npz", keep=True).name


@pytest.fixture
def portrait_reals(chain):
    """Reals with black, brown and white hair, 150, 120 and 30; held-out ones with 50 of each."""
    black, brown, white = HAIR
    colours = [black] * 150 + [brown] * 120 + [white] * 30
    compute(chain, portraits(chain / "p.lmdb", colours), output="all.npz", keep=True)
    path = portraits(chain / "q.lmdb", [*HAIR] * 50, 1, name="photos.test")
    return compute(chain, path, output="held.npz", keep=True).name


def test_what_samples_lack_is_said_in_plain_words(chain, portrait_reals, caplog):
    caplog.set_level(logging.INFO, command.log.name)
    black, brown, white = HAIR
    sets = [samples_of(chain, [black] * 160 + [brown] * 40, seed) for seed in (2, 3)]
    (record,) = measure_all(chain, *sets, metric="attributes", held_out=portrait_reals)
    assert record["metric"] == "attribute_tv_hairColor_colours"
    assert record["value"] == pytest.approx(0.3, abs=0.01), "0.8, 0.2, 0 against 0.5, 0.4, 0.1"
    assert record["held_out"] == pytest.approx(0.8 - 1 / 3, abs=0.01)
    assert record["shares"][black] == pytest.approx({"reals": 0.5, "samples": 0.8}, abs=0.01)
    assert record["missing"] == [white]
    assert record["note"] == "no samples with hair colour white (#e8e1e1; 10.0 % of the reals)"
    assert record["note"] in caplog.text

    # 10 % of 190 are 19, and as few may be missing by chance.
    few = samples_of(chain, [black] * 150 + [brown] * 40, 4)
    (record,) = measure_all(chain, few, metric="attributes")
    assert (record["missing"], record["note"]) == ([], None)


def test_the_floor_says_how_well_the_probe_reads(chain, portrait_reals):
    caught, read = measure_floors(chain, held_out=portrait_reals, samples=180, metric="attributes")
    assert caught["value"] == pytest.approx(1 / 6 + 1 / 15, abs=0.01)
    assert (caught["kind"], caught["missing"]) == ("floor", [])
    assert (read["metric"], read["better"]) == ("attribute_accuracy_hairColor_colours", "higher")
    assert read["value"] > 0.95
    assert read["note"] == "of a probe; always the most frequent value would be right for 33.3 %"


def test_without_a_test_split_the_probe_is_tried_on_the_other_half(chain):
    path = portraits(chain / "p.lmdb", [*HAIR] * 60)
    compute(chain, path, output="all.npz", keep=True)
    _, read = measure_floors(chain, metric="attributes")
    assert (read["floor_of"], read["n_generated"], read["n_real"]) == ("halves", 90, 90)
    assert read["value"] > 0.95


def test_reals_without_attributes_are_refused(chain):
    compute(chain, chain / "real.lmdb", output="all.npz", keep=True)
    with pytest.raises(UserError, match="photos hold no attributes.*avatars"):
        measure(chain, another_set(chain, 2), metric="attributes")


# ------------------------------------------------------------------------------ neighbours


def find_neighbours(chain, samples: str, reference: str = "all.npz"):
    neighbours.run(
        statistics=chain / samples,
        reference=chain / reference,
        protocol="copies_colours",
        step=400,
        experiment=chain / "experiment.json",
        output=chain / "neighbours.npz",
    )
    return read_npz(chain / "neighbours.npz")


def copied_samples(chain) -> str:
    """Samples of a generator that knows the training images by heart, last one first."""
    images = random_images(0, 120)[::-1]
    path = store(chain / "copied.lmdb", images, generator_sha256="9e", seeds="0-119")
    return compute(chain, path, output="copied.npz", keep=True).name


def test_a_copied_training_set_is_flagged_and_traced(chain):
    compute(chain, chain / "real.lmdb", output="all.npz", keep=True)
    arrays, record = find_neighbours(chain, copied_samples(chain))
    assert record["copies"] == 1
    np.testing.assert_array_equal(arrays["seeds"], np.arange(16))
    np.testing.assert_array_equal(arrays["indices"][:, 0], 119 - np.arange(16))
    assert not arrays["distances"][:, 0].any() and (np.diff(arrays["distances"]) > 0).all()
    assert (arrays["sample_distances"] <= record["threshold"]).all()
    assert (arrays["train_distances"] <= record["threshold"]).mean() == pytest.approx(
        0.01, abs=0.01
    )

    arrays, record = find_neighbours(chain, another_set(chain, 2))
    assert record["copies"] < 0.1
    np.testing.assert_array_equal(arrays["seeds"], np.arange(200, 216))
    assert arrays["indices"].shape == (16, 5) and arrays["sample_distances"].shape == (90,)


def test_neighbours_need_all_training_images_and_features(chain):
    with pytest.raises(UserError, match="all.npz holds no features"):
        find_neighbours(chain, copied_samples(chain))
    compute(chain, chain / "real.lmdb", subset="60", output="60.npz", keep=True)
    with pytest.raises(UserError, match="60.npz is not of all training images"):
        find_neighbours(chain, copied_samples(chain), "60.npz")
    compute(chain, chain / "real.lmdb", output="all.npz", keep=True)
    with pytest.raises(UserError, match="all.npz is not of samples"):
        find_neighbours(chain, "all.npz")
    with pytest.raises(UserError, match="'photos.test' in .*held out of the data set"):
        changed = change(chain, "all.npz", dataset__name="photos.test")
        find_neighbours(chain, copied_samples(chain), changed)
    with pytest.raises(UserError, match="^extractor is"):
        find_neighbours(chain, change(chain, copied_samples(chain), extractor="lite0"))
