"""Every metric against a brute-force or closed-form computation, and on sets with known answers."""

import math
import re

import numpy as np
import pytest

from stylenat.errors import UserError
from stylenat.io import read_json
from stylenat.metrics import METRICS, kid, neighbours
from stylenat.metrics.base import Measurement
from stylenat.metrics.copies import TrainingSet
from stylenat.metrics.fid import frechet_distance
from stylenat.metrics.fid_infinity import extrapolate
from stylenat.metrics.inception_score import inception_scores
from stylenat.metrics.kid import kernel_distances, random_subsets, unbiased_mmd
from stylenat.metrics.moments import Moments, Statistics
from stylenat.metrics.neighbours import nearest
from stylenat.metrics.prdc import Manifold, manifold_scores
from stylenat.metrics.subsets import content_order
from tests.project import run
from tests.records import STATISTICS


def normal(seed: int, count: int, dimension: int = 8, shift: float = 0.0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(shift, 1, (count, dimension))
    return values.astype(np.float32)


def all_distances(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return np.linalg.norm(x[:, None].astype(float) - y[None], axis=2)


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch):
    """Sets of some hundred vectors go through several blocks, the last one incomplete."""
    monkeypatch.setattr(neighbours, "BLOCK", 64)


# -------------------------------------------------------------------------------- neighbours


def test_nearest_neighbours_are_those_of_all_pairs():
    x, y = normal(0, 150), normal(1, 90)
    indices, distances = nearest(x, y, 4)
    order = np.argsort(all_distances(x, y), axis=1)[:, :4]
    np.testing.assert_array_equal(indices, order)
    expected = np.take_along_axis(all_distances(x, y), order, 1)
    np.testing.assert_allclose(distances, expected, rtol=1e-12)


def test_a_vector_is_not_its_own_neighbour():
    x = normal(0, 150)
    pairs = all_distances(x, x)
    np.fill_diagonal(pairs, np.inf)
    indices, distances = nearest(x, x, 2, same=True)
    np.testing.assert_array_equal(indices, np.argsort(pairs, axis=1)[:, :2])
    twin = np.concatenate([x, x[:1]])
    indices, distances = nearest(twin, twin, 1, same=True)
    assert (indices[0, 0], indices[150, 0]) == (150, 0)
    assert distances[0, 0] == 0, "exactly, wherever the vectors lie"


@pytest.mark.parametrize("k", [1, 6])
def test_neighbours_within_a_set_of_several_blocks_are_those_of_all_pairs(k):
    x = normal(0, 400, 6)
    x[350:370] = x[:20]
    pairs = all_distances(x, x)
    np.fill_diagonal(pairs, np.inf)
    indices, distances = nearest(x, x, k, same=True)
    np.testing.assert_array_equal(indices, np.argsort(pairs, axis=1, kind="stable")[:, :k])
    np.testing.assert_allclose(distances, np.sort(pairs, axis=1)[:, :k], rtol=1e-12)


def test_a_set_of_copies_of_few_vectors_has_neighbours():
    x = np.repeat(normal(0, 3), 100, axis=0)
    indices, distances = nearest(x, x, 4, same=True)
    assert not distances.any() and (indices // 100 == np.arange(300)[:, None] // 100).all()
    assert (indices != np.arange(300)[:, None]).all()


def test_too_few_images_for_neighbours_are_refused():
    with pytest.raises(UserError, match="5 images are too few to have 5 neighbours"):
        nearest(normal(0, 5), normal(0, 5), 5, same=True)


def test_copies_of_training_images_are_flagged_and_new_images_are_not():
    training = TrainingSet.of(normal(0, 600))
    assert training.copies(normal(0, 600)).all()
    assert training.copies(normal(0, 600) + normal(1, 600) * 1e-3).all(), "nearly the same"
    fresh = training.copies(normal(2, 2000))
    assert 0 < fresh.mean() < 0.03, "about as often as training images resemble each other"
    mixed = np.concatenate([normal(3, 30), normal(0, 600)[:10]])
    assert training.copies(mixed)[30:].all() and not training.copies(mixed)[:30].all()


# --------------------------------------------------------- precision, recall, density, coverage


def brute_force_scores(real, generated):
    """Straight from the definitions, with whole matrices of pairs."""

    def radii(x, k):
        return np.sort(all_distances(x, x), axis=1)[:, k]

    pairs = all_distances(real, generated)
    return {
        "precision": (pairs <= radii(real, 3)[:, None]).any(0).mean(),
        "recall": (pairs <= radii(generated, 3)[None]).any(1).mean(),
        "density": (pairs < radii(real, 5)[:, None]).sum(0).mean() / 5,
        "coverage": (pairs.min(1) < radii(real, 5)).mean(),
    }


def scores(real, generated):
    found = manifold_scores(Manifold.of(real), Manifold.of(generated))
    return {name: score.value for name, score in found.items()}


@pytest.mark.parametrize(("count", "shift"), [(200, 0.0), (130, 0.5), (70, 1.5)])
def test_manifold_scores_equal_their_definitions(count, shift):
    real, generated = normal(0, 150), normal(1, count, shift=shift)
    expected = brute_force_scores(real, generated)
    assert scores(real, generated) == pytest.approx(expected, abs=1e-12)


def test_manifold_scores_of_identical_and_of_disjoint_sets():
    x = normal(0, 200)
    same = {"precision": 1, "recall": 1, "density": 1, "coverage": 1}
    assert scores(x, x.copy()) == same
    assert scores(x, x + 100) == dict.fromkeys(same, 0)


def test_far_from_the_origin_rounding_does_not_decide():
    real, generated = normal(0, 150), normal(1, 150, shift=0.3)
    far = scores(real + 1000, generated + 1000)
    assert far == pytest.approx(scores(real, generated), abs=0.02)


def clusters(seed: int, count: int) -> np.ndarray:
    """Four clusters of width 1e-3, some 50 apart: rounding in float32 is wider than they are."""
    random = np.random.default_rng(seed)
    centres = 6 * np.random.default_rng(99).normal(size=(4, 64))
    return (centres[random.integers(0, 4, count)] + 1e-3 * random.normal(size=(count, 64))).astype(
        np.float32
    )


def test_narrow_clusters_far_apart_are_told_from_each_other():
    real, generated = clusters(0, 400), clusters(1, 300)
    expected = brute_force_scores(real, generated)
    assert 0.3 < expected["precision"] < 0.9, "rounding would make all the difference"
    assert scores(real, generated) == pytest.approx(expected, abs=1e-12)
    indices, _ = nearest(generated, real, 4)
    pairs = all_distances(generated, real)
    np.testing.assert_array_equal(indices, np.argsort(pairs, axis=1)[:, :4])


def test_edges_are_inside_for_precision_and_recall_and_outside_for_density_and_coverage():
    six_times = np.repeat(normal(0, 50), 6, axis=0)
    assert scores(six_times, six_times) == {
        "precision": 1,
        "recall": 1,
        "density": 0,
        "coverage": 0,
    }


def test_the_order_of_the_images_makes_no_difference_to_scores_and_errors():
    real, generated = normal(0, 150), normal(1, 130, shift=0.3)
    one = manifold_scores(Manifold.of(real), Manifold.of(generated))
    assert manifold_scores(Manifold.of(real[::-1]), Manifold.of(generated[::-1])) == one


def test_swapping_real_and_generated_swaps_precision_and_recall():
    narrow, wide = normal(0, 150) * 0.3, normal(1, 150)
    one, other = scores(wide, narrow), scores(narrow, wide)
    assert (one["precision"], one["recall"]) == (other["recall"], other["precision"])
    assert one["precision"] > 0.9 and one["recall"] < 0.5, "few things, but good ones"


# --------------------------------------------------------------------------------------- KID


def test_mmd_equals_its_double_sums():
    x, y = normal(0, 20, 5), normal(1, 31, 5, shift=0.4)

    def kernel(a, b):
        return (sum(float(i) * float(j) for i, j in zip(a, b, strict=True)) / 5 + 1) ** 3

    def mean(values):
        values = list(values)
        return sum(values) / len(values)

    within = sum(
        mean(kernel(s[i], s[j]) for i in range(len(s)) for j in range(len(s)) if i != j)
        for s in (x, y)
    )
    between = mean(kernel(a, b) for a in x for b in y)
    assert unbiased_mmd(x, y) == pytest.approx(within - 2 * between, rel=1e-10)


def test_products_of_many_features_are_as_good_in_float32():
    """Against float64, wherever the features lie."""
    for offset in (0, 50):
        x, y = normal(0, 200, 300) + offset, normal(1, 200, 300, shift=0.1) + offset
        one, other = x.astype(float), y.astype(float)
        within = [(s @ s.T / 300 + 1) ** 3 for s in (one, other)]
        expected = sum((k.sum() - np.trace(k)) / (200 * 199) for k in within)
        expected -= 2 * ((one @ other.T / 300 + 1) ** 3).mean()
        assert unbiased_mmd(x, y) == pytest.approx(expected, rel=1e-6)


def distances(x, y, subsets, size):
    draws = random_subsets(content_order(x), content_order(y), subsets, size)
    return kernel_distances(x, y, draws)


def test_kernel_distance_is_unbiased_and_sees_a_difference():
    pool = normal(0, 4000)
    one, other = pool[:2000], pool[2000:]
    same = distances(one, other, 100, 200)
    assert abs(same.mean()) < 3 * same.std() / 10
    assert (same < 0).any(), "an estimate without bias falls on both sides of 0"
    apart = distances(one, other + 0.3, 100, 200)
    assert apart.mean() > 5 * same.std()


def test_the_order_of_the_images_makes_no_difference():
    x, y = normal(0, 300), normal(1, 400)
    order = np.random.default_rng(5).permutation(300)
    first, again = distances(x, y, 5, 100), distances(x[order], y[::-1], 5, 100)
    np.testing.assert_array_equal(first, again)


def test_the_kernel_distance_sorts_every_set_once(monkeypatch):
    """Hashing 50,000 vectors of 2,048 features takes a quarter of a second."""
    sorted_ = []
    monkeypatch.setattr(kid, "content_order", lambda x: sorted_.append(len(x)) or np.arange(len(x)))
    reals = statistics(normal(0, 60), "lite0")
    distance = METRICS["kid"].measure(reals)
    for count in (40, 50):
        distance(statistics(normal(1, count), "lite0"))
    assert sorted_ == [60, 40, 50]


def test_kernel_subsets_are_seeded_and_drawn_without_replacement():
    x, y = normal(0, 50), normal(1, 60)
    first = distances(x, y, 7, 50)
    np.testing.assert_array_equal(first, distances(x, y, 7, 50))
    assert first.shape == (7,) and first.std() > 0
    whole = distances(x, y[:50], 3, 50)
    np.testing.assert_allclose(whole, unbiased_mmd(x, y[:50]), rtol=1e-10)
    with pytest.raises(UserError, match="subsets of 51"):
        distances(x, y, 7, 51)


# --------------------------------------------------------------------------------- Inception Score


def test_inception_score_equals_its_definition():
    features, head = normal(0, 95, 6), normal(1, 12, 6)
    found, errors = inception_scores(features, head, splits=10)
    assert found.shape == errors.shape == (10,)
    for part, value in zip(np.array_split(features, 10), found, strict=True):
        p = np.exp(part.astype(float) @ head.T.astype(float))
        p /= p.sum(1, keepdims=True)
        divergence = (p * np.log(p / p.mean(0))).sum(1)
        assert value == pytest.approx(math.exp(divergence.mean()), rel=1e-6)


def test_inception_score_is_the_number_of_classes_at_best_and_1_at_worst():
    certain = np.tile(np.eye(4, dtype=np.float32) * 1000, (50, 1))
    identity = np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(inception_scores(certain, identity, 5)[0], 4)
    alike = np.tile(normal(0, 1, 4), (50, 1))
    np.testing.assert_allclose(inception_scores(alike, identity, 5)[0], 1)


# ----------------------------------------------------------------------------------- infinity


def test_extrapolation_removes_the_bias_of_few_samples():
    dimension = 24
    reference = Moments.of(normal(0, 60_000, dimension))
    fit = extrapolate(normal(1, 1500, dimension), reference)
    assert fit.counts == (300, 750, 1500)
    assert fit.distances[0] > fit.distances[1] > fit.distances[2] > 0.1
    assert abs(fit.value) < 0.1 * fit.distances[2], "the distributions are the same"


def test_too_few_images_to_extrapolate_from_are_refused():
    reference = Moments.of(normal(0, 1000, 64))
    for count in (200, 400):
        message = f"{count} images of 64 features are too few .* raise .* to 768 or more"
        with pytest.raises(UserError, match=message):
            extrapolate(normal(1, count, 64), reference)
    extrapolate(normal(1, 768, 64), reference)


def test_extrapolation_is_the_line_through_the_mean_distances_of_all_parts():
    reference, features = Moments.of(normal(0, 300, 4)), normal(1, 103, 4, shift=0.2)
    order, points = content_order(features), []
    for n in (20, 51, 103):
        runs = [features[order][i : i + n] for i in range(0, 103 - n + 1, n)]
        values = [
            frechet_distance(
                run.mean(0), np.cov(run.T.astype(float)), reference.mean, reference.covariance
            )
            for run in runs
        ]
        points.append((1 / n, np.mean(values)))
    x, y = np.array(points).T
    slope = ((x - x.mean()) * (y - y.mean())).sum() / ((x - x.mean()) ** 2).sum()
    fit = extrapolate(features, reference)
    assert fit.value == pytest.approx(y.mean() - slope * x.mean(), rel=1e-4)
    assert fit.slope == pytest.approx(slope, rel=1e-4)
    np.testing.assert_allclose(fit.distances, y, rtol=1e-4)
    assert extrapolate(features[::-1], reference) == fit, "whatever the order of the images"


# --------------------------------------------------------------------------------------- names


def statistics(features, extractor, **fields):
    attributes = {"hairColor": ["#000000", "#ffffff"]}
    record = STATISTICS.model_copy(update={"extractor": extractor, "attributes": attributes})
    labels = (features[:, :1] > 0).astype(np.int8)
    return Statistics(Moments.of(features), record, features, labels=labels, **fields)


def measure(metric: str, extractor: str, **fields) -> dict[str, Measurement]:
    real = statistics(normal(0, 60), extractor)
    generated = statistics(normal(1, 100, shift=0.2), extractor, **fields)
    return {one.metric: one for one in METRICS[metric].measure(real)(generated)}


def test_only_inceptions_frechet_distance_is_called_fid():
    assert [*measure("frechet", "inception")] == ["fid"]
    assert [*measure("frechet_infinity", "inception")] == ["fid_infinity"]
    for metric in METRICS.keys() - {"inception_score"}:
        for name in measure(metric, "lite0"):
            assert "lite0" in name and "fid" not in name
    assert [*measure("prdc", "inception")] == [
        "precision_inception",
        "recall_inception",
        "density_inception",
        "coverage_inception",
    ]


def test_measurements_say_which_way_is_better_and_what_their_uncertainty_is():
    kid = measure("kid", "lite0")["kid_lite0"]
    assert kid.better == "lower"
    assert kid.uncertainty_of.startswith(
        "standard error over both sets of images; std over 100 subsets of 30 images: "
    )
    assert kid.uncertainty > 0
    recall = measure("prdc", "lite0")["recall_lite0"]
    assert recall.better == "higher"
    for one in (recall, *measure("frechet", "lite0").values()):
        assert one.uncertainty_of == "standard error over both sets of images"
        assert one.uncertainty > 0
    infinity = measure("frechet_infinity", "inception")["fid_infinity"]
    assert infinity.uncertainty > 0
    assert re.fullmatch(
        r"from values at 20, 50, 100 samples; the bias of 60 reals, some [0-9.]+, is still in it",
        infinity.note,
    )
    score = measure("inception_score", "inception", head=normal(2, 12))["inception_score"]
    assert score.uncertainty_of.startswith(
        "standard error over the images; std over 10 splits of 10: "
    )
    generated = normal(1, 100, shift=0.2)[::-1]
    again = statistics(generated, "inception", head=normal(2, 12))
    (reversed_,) = METRICS["inception_score"].measure(again)(again)
    assert reversed_.value == score.value, "whatever the order of the images"


def test_moments_alone_leave_the_uncertainty_of_a_frechet_distance_open():
    bare = Statistics(Moments.of(normal(0, 60)), STATISTICS)
    (distance,) = METRICS["frechet"].measure(bare)(bare)
    assert distance.uncertainty is None


def test_the_benchmark_measures_every_metric_it_is_asked_for(tmp_path):
    sizes = ("--images", "60", "--dimension", "8", "--metrics", "prdc", "frechet")
    done = run("python", "-m", "benchmarks.metrics", *sizes, "--output", str(tmp_path))
    assert done.returncode == 0, done.stderr
    rows = read_json(tmp_path / "metrics.json")["rows"]
    assert [row["metric"] for row in rows] == ["prdc", "frechet", "frechet"]
    assert all(min(row["wall_s"], row["cpu_s"], row["memory_mb"]) > 0 for row in rows)


def test_metrics_of_single_images_need_their_features():
    bare = Statistics(Moments.of(normal(0, 60)), STATISTICS)
    full = statistics(normal(1, 60), "lite0")
    METRICS["frechet"].measure(bare)(bare)
    for metric in METRICS.keys() - {"frechet", "frechet_infinity", "inception_score"}:
        with pytest.raises(UserError, match="of a hold no features.*--features"):
            METRICS[metric].measure(bare)
    for metric in METRICS.keys() - {"frechet"}:
        with pytest.raises(UserError, match="of a hold no features.*--features"):
            METRICS[metric].measure(full)(bare)
    with pytest.raises(UserError, match="lite0 has no class logits"):
        METRICS["inception_score"].measure(full)(full)


def test_twins_among_the_training_images_do_not_hide_copies():
    features = normal(0, 500, 8)
    features[:10] = features[10:20]
    training = TrainingSet.of(features)
    assert training.threshold > 0
    assert training.copies(features[100:150] + 1e-4).all()
