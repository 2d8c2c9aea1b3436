"""What images show, by attribute: a linear probe, trained on labelled reals, reads it off features.

The shares of an attribute's values among samples, against those among reals, say in plain words
which modes a generator has dropped.
"""

import re
from collections.abc import Sequence

import numpy as np

from stylenat.errors import UserError
from stylenat.metrics.base import (
    Measure,
    Measurement,
    Metric,
    Shares,
    extractor_of,
    features_of,
    over_both,
)
from stylenat.metrics.colours import colour_name, is_colour
from stylenat.metrics.moments import Statistics
from stylenat.metrics.probe import (
    Probe,
    Whitening,
    estimate_shares,
    of_reals,
    total_variation,
    total_variation_error,
)

MOST_VALUES = 32  # an attribute with more is not one of categories
ABSENT = "none"  # the value of an image that has not got the attribute

MISSING = 0.1  # of its share among the reals: a value with less is missing …
EXPECTED = 20  # … if so many samples should have had it


def encode(
    attributes: Sequence[dict[str, str] | None],
) -> tuple[np.ndarray, dict[str, list[str]]] | None:
    """The attributes of n images as codes (n, a) int8, and each one's values in the order of the
    codes. Those with a single value, or more than 32, say nothing of categories and are left out;
    None if none remains."""
    names = sorted({name for image in attributes if image for name in image})
    columns, values = [], {}
    for name in names:
        texts = [(image or {}).get(name, ABSENT) for image in attributes]
        found = sorted(set(texts))
        if 2 <= len(found) <= MOST_VALUES:
            values[name] = found
            code = {text: number for number, text in enumerate(found)}
            columns.append([code[text] for text in texts])
    return (np.array(columns, np.int8).T, values) if values else None


def missing_values(shares: Shares, count: int) -> list[str]:
    """The values that less than a tenth as many of ``count`` samples have as should have, of those
    that 20 or more should have."""
    return [
        value
        for value, (reals, samples) in shares.items()
        if count * reals >= EXPECTED and samples < MISSING * reals
    ]


def describe_missing(attribute: str, value: str, shares: Shares, count: int) -> str:
    """In plain words, as in "no samples with hair colour white (#e8e1e1; 3.2 % of the reals)"."""
    reals, samples = shares[value]
    how_many = "no" if count * samples < 0.5 else "almost no"
    words = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", attribute).lower().replace("color", "colour")
    name = f"{colour_name(value)} ({value}; " if is_colour(value) else f"{value} ("
    return f"{how_many} samples with {words} {name}{100 * reals:.1f} % of the reals)"


def recode(codes: np.ndarray, values: list[str], known: list[str]) -> np.ndarray:
    """Codes (n,) of ``values`` as codes of ``known``, −1 for what is not known there."""
    table = np.array([known.index(value) if value in known else -1 for value in values])
    found: np.ndarray = table[codes]
    return found


def require_labels(name: str, labels: np.ndarray | None) -> np.ndarray:
    """The labels; a :class:`UserError` about the data set ``name`` where there are none."""
    if labels is None:
        raise UserError(
            f"the statistics of {name} hold no attributes, which this metric needs; compute them "
            "again with --features, from a data set whose source knows attributes (avatars)."
        )
    return labels


def _measure(real: Statistics) -> Measure:
    """How often samples have which hair, skin, … colour, against the reals' labels; and, of images
    whose labels are known, how well a probe trained on the reals reads them."""
    features = features_of(real)
    labels = require_labels(real.record.dataset.name, real.labels)
    values = real.record.attributes or {}
    whiten = Whitening.of(features)
    inputs = whiten(features)
    probes = {
        name: Probe.fit(inputs, codes, len(values[name]))
        for name, codes in zip(values, labels.T, strict=True)
        if name.endswith("Color")  # what a probe can read off small pictures, and a person sees
    }

    def measure(generated: Statistics) -> list[Measurement]:
        inputs = whiten(features_of(generated))
        found = {name: probe.probabilities(inputs) for name, probe in probes.items()}
        variations = [
            _variation(name, probes[name], values[name], probabilities, real)
            for name, probabilities in found.items()
        ]
        if generated.labels is None:
            return variations
        known = generated.record.attributes or {}
        columns = dict(zip(known, generated.labels.T, strict=True))
        accuracies = []
        for name, probabilities in found.items():
            if name in columns:
                codes = recode(columns[name], known[name], values[name])
                accuracies.append(_accuracy(name, probes[name], codes, probabilities, real))
        return variations + accuracies

    return measure


def _variation(
    name: str, probe: Probe, values: list[str], probabilities: np.ndarray, real: Statistics
) -> Measurement:
    shares = estimate_shares(probabilities, probe.shares)
    errors = (
        total_variation_error(probabilities, probe.shares, shares),
        of_reals(probe.shares, shares, real.moments.count),
    )
    return Measurement(
        f"attribute_tv_{name}_{extractor_of(real)}",
        total_variation(probe.shares, shares),
        "lower",
        **over_both(errors),
        attribute=name,
        shares=dict(
            zip(values, zip(probe.shares.tolist(), shares.tolist(), strict=True), strict=True)
        ),
    )


def _accuracy(
    name: str, probe: Probe, codes: np.ndarray, probabilities: np.ndarray, real: Statistics
) -> Measurement:
    right = probabilities.argmax(1) == codes
    always = float((codes == probe.shares.argmax()).mean())
    return Measurement(
        f"attribute_accuracy_{name}_{extractor_of(real)}",
        float(right.mean()),
        "higher",
        float(right.std(ddof=1) / np.sqrt(len(right))),
        f"standard error over {len(right):,} images",
        f"of a probe; always the most frequent value would be right for {100 * always:.1f} %",
        of_reals=0.0,
    )


METRIC = Metric(_measure)
