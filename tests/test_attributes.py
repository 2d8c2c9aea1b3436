"""The probe for attributes on clusters of known overlap, and the shares that it finds in sets."""

import numpy as np
import pytest
from scipy.stats import norm

from stylenat.metrics.attributes import describe_missing, encode, missing_values, recode
from stylenat.metrics.colours import colour_name, is_colour
from stylenat.metrics.probe import (
    Probe,
    Whitening,
    estimate_shares,
    total_variation,
    total_variation_error,
)

TRAINED = np.array([0.5, 0.3, 0.2])
APART = 3.0  # standard deviations between two of the three clusters


def clusters(seed: int, counts) -> tuple[np.ndarray, np.ndarray]:
    """Features (n, 12) and codes (n,): clusters at the corners of an equilateral triangle,
    rotated, and with features in units that differ by up to 1,000."""
    random = np.random.default_rng(seed)
    codes = np.repeat(np.arange(3), counts)
    x = random.normal(size=(len(codes), 12))
    x[:, :3] += APART / np.sqrt(2) * np.eye(3)[codes]
    rotation = np.linalg.qr(np.random.default_rng(99).normal(size=(12, 12)))[0]
    return (x @ rotation * np.geomspace(0.01, 10, 12) + 50).astype(np.float32), codes


@pytest.fixture(scope="module")
def probe():
    features, codes = clusters(0, (2500, 1500, 1000))
    whiten = Whitening.of(features)
    fitted = Probe.fit(whiten(features), codes, 3)
    return lambda seed, counts: fitted.probabilities(whiten(clusters(seed, counts)[0]))


def bayes_accuracy(counts) -> float:
    """Of the best rule there is on these clusters, by sampling its own densities."""
    random = np.random.default_rng(5)
    codes = np.repeat(np.arange(3), np.array(counts) * 20)
    x = random.normal(size=(len(codes), 3)) + APART / np.sqrt(2) * np.eye(3)[codes]
    log_p = np.log(TRAINED) + norm.logpdf(x[:, None], APART / np.sqrt(2) * np.eye(3)).sum(2)
    return (log_p.argmax(1) == codes).mean()


def test_the_probe_reads_as_well_as_can_be(probe):
    counts = (5000, 3000, 2000)
    accuracy = (probe(1, counts).argmax(1) == clusters(1, counts)[1]).mean()
    best = bayes_accuracy(counts)
    assert 0.85 < best < 0.95
    assert accuracy == pytest.approx(best, abs=0.01)


def test_the_probe_is_the_same_every_time():
    features, codes = clusters(0, (250, 150, 100))
    inputs = Whitening.of(features)(features)
    first, second = (Probe.fit(inputs, codes, 3) for _ in range(2))
    np.testing.assert_array_equal(first.weights, second.weights)
    np.testing.assert_array_equal(first.shares, TRAINED)


def test_whitened_features_are_uncorrelated_and_constant_ones_are_left_out():
    features, _ = clusters(0, (250, 150, 100))
    white = Whitening.of(np.hstack([features, np.full((500, 2), 7, np.float32)]))(
        np.hstack([features, np.full((500, 2), 7, np.float32)])
    )
    assert white.shape == (500, 13) and (white[:, -1] == 1).all()
    covariance = np.cov(white[:, :-1].T, bias=True)
    variances = np.linalg.eigvalsh(np.corrcoef(features.T))
    np.testing.assert_allclose(covariance, np.diag(variances / (variances + 1)), atol=2e-3)


@pytest.mark.parametrize(
    "counts", [(1000, 600, 400), (200, 800, 1000), (1000, 1000, 0), (0, 0, 2000)]
)
def test_shares_are_found_although_the_probe_confuses_values(probe, counts):
    probabilities = probe(2, counts)
    truth = np.array(counts) / sum(counts)
    shares = estimate_shares(probabilities, TRAINED)
    np.testing.assert_allclose(shares, truth, atol=0.015)
    counted = np.bincount(probabilities.argmax(1), minlength=3) / sum(counts)
    if 0 in counts:
        assert total_variation(shares, truth) < total_variation(counted, truth) / 2


def test_total_variation_is_half_the_sum_of_differences():
    a, b = np.array([0.5, 0.3, 0.2]), np.array([0.1, 0.4, 0.5])
    assert total_variation(a, b) == pytest.approx((0.4 + 0.1 + 0.3) / 2)
    assert total_variation(a, a) == 0
    assert total_variation(np.array([1.0, 0]), np.array([0, 1.0])) == 1


def test_the_error_of_the_total_variation_is_its_spread_over_sets(probe):
    counts, values, errors = (600, 100, 300), [], []
    for seed in range(10, 90):
        random = np.random.default_rng(seed)
        probabilities = probe(seed, random.multinomial(1000, np.array(counts) / 1000))
        shares = estimate_shares(probabilities, TRAINED)
        values.append(total_variation(TRAINED, shares))
        errors.append(total_variation_error(probabilities, TRAINED, shares))
    assert np.mean(errors) == pytest.approx(np.std(values), rel=0.25)
    assert np.mean(values) == pytest.approx(0.2, abs=0.01)


def test_the_error_with_a_certain_probe_is_that_of_counting():
    codes = np.repeat(np.arange(2), (700, 300))
    certain, trained = np.eye(2)[codes], np.array([0.5, 0.5])
    shares = estimate_shares(certain, trained)
    np.testing.assert_allclose(shares, [0.7, 0.3])
    error = total_variation_error(certain, trained, shares)
    assert error == pytest.approx(np.sqrt(0.7 * 0.3 / 1000))


def test_a_removed_value_is_missing_and_no_other(probe):
    for removed in range(3):
        counts = np.delete(np.array([1000, 600, 400]), removed)
        found = estimate_shares(probe(3, np.insert(counts, removed, 0)), TRAINED)
        shares = dict(zip("abc", zip(TRAINED, found, strict=True), strict=True))
        assert missing_values(shares, counts.sum()) == ["abc"[removed]]


def test_missing_is_less_than_a_tenth_of_what_was_to_be_expected():
    shares = {"a": (0.5, 0.051), "b": (0.3, 0.029), "c": (0.02, 0.0), "d": (0.0, 0.0)}
    assert missing_values(shares, 999) == ["b"], "19.98 samples with c would have been expected"
    assert missing_values(shares, 1000) == ["b", "c"]


def test_what_is_missing_in_words():
    def words(attribute, value, reals, samples):
        return describe_missing(attribute, value, {value: (reals, samples)}, 2048)

    assert words("hairColor", "#e8e1e1", 0.032, 0.0001) == (
        "no samples with hair colour white (#e8e1e1; 3.2 % of the reals)"
    )
    assert words("hairColor", "#724133", 0.2, 0.002) == (
        "almost no samples with hair colour brown (#724133; 20.0 % of the reals)"
    )
    assert words("hatColor", "none", 0.5, 0) == (
        "no samples with hat colour none (50.0 % of the reals)"
    )


def test_attributes_become_codes_and_lists_of_values():
    images = [{"hair": "b", "stroke": "x", "id": str(i)} for i in range(40)]
    images[3] = {"hair": "a", "stroke": "x", "hat": "h", "id": "0"}
    codes, values = encode(images)
    assert values == {"hair": ["a", "b"], "hat": ["h", "none"]}, "not one value, and not 39"
    assert codes.shape == (40, 2) and codes.dtype == np.int8
    assert codes[3].tolist() == [0, 0] and codes[4].tolist() == [1, 1]
    assert encode([None] * 5) is None
    assert encode([None, {"hair": "a"}])[1] == {"hair": ["a", "none"]}


def test_codes_of_another_set_mean_the_same_values():
    codes = np.array([0, 1, 2, 1])
    assert recode(codes, ["a", "c", "d"], ["a", "b", "c"]).tolist() == [0, 2, -1, 2]


@pytest.mark.parametrize(
    ("colour", "name"),
    [
        ("#000000", "black"), ("#FFFFFF", "white"), ("#e8e1e1", "white"), ("#545454", "grey"),
        ("#2c1b18", "black"), ("#5c3829", "brown"), ("#724133", "brown"), ("#d6b370", "blond"),
        ("#f1c3a5", "beige"), ("#b11f1f", "red"), ("#f59e0b", "yellow"), ("#ea580c", "orange"),
        ("#15803d", "green"), ("#1d4ed8", "blue"), ("#7e22ce", "purple"), ("#db2777", "pink"),
        ("#b6e3f4", "light blue"),
    ],
)  # fmt: skip
def test_colours_have_the_names_that_people_give_them(colour, name):
    assert is_colour(colour) and colour_name(colour) == name


def test_what_is_no_colour():
    assert not any(map(is_colour, ("smile", "#fff", "b6e3f4", "#b6e3f4ff", "none")))
