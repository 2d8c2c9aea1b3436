"""The record of a metric, over several sets of images that were measured alike."""

from collections.abc import Sequence

import numpy as np

from stylenat import runtime
from stylenat.metrics.attributes import describe_missing, missing_values
from stylenat.metrics.base import Measurement, Shares
from stylenat.metrics.moments import Statistics
from stylenat.records import Draw, Origin, StatisticsRecord, Summary


def origin(
    reference: Statistics,
    measured: StatisticsRecord,
    n_generated: int,
    n_real: int,
    seeds: list[str | None],
) -> Origin:
    """Where a measurement of images with the record ``measured`` comes from."""
    record = reference.record
    return Origin(
        n_generated=n_generated,
        n_real=n_real,
        seeds=seeds,
        reals=Draw(subset=record.subset, seed=record.seed),
        extractor=record.extractor,
        weights_sha256=record.weights_sha256,
        filter=record.dataset.filter,
        dataset_sha256=record.dataset.content_sha256,
        dataset_licence=record.dataset.licence,
        dataset_creator=record.dataset.creator,
        device=measured.device,
        dtype=measured.dtype,
        versions=runtime.versions(),
        commit=runtime.commit(),
    )


def summary(sets: tuple[Measurement, ...], count: int) -> Summary:
    """One metric over all sets of ``count`` images: the mean first, and every set's own value."""
    first, values = sets[0], [one.value for one in sets]
    found = Summary(
        metric=first.metric,
        better=first.better,
        value=float(np.mean(values)),
        values=values,
        uncertainty=standard_error(sets),
        uncertainty_of=first.uncertainty_of,
        note=first.note,
    )
    if first.attribute is None:
        return found
    shares = [one.shares for one in sets if one.shares is not None]
    return _with_missing(found, first.attribute, shares, count)


def standard_error(sets: Sequence[Measurement]) -> float | None:
    """Of the mean over sets of samples that were compared with the same reals: the samples' part averages
    out, the reals' part stays, and so does all of it where the parts are not known."""
    errors = [one.uncertainty for one in sets if one.uncertainty is not None]
    if len(errors) < len(sets):
        return None
    of_reals = [
        error if one.of_reals is None else one.of_reals
        for one, error in zip(sets, errors, strict=True)
    ]
    total, shared = (np.mean(np.square(values)) for values in (errors, of_reals))
    return float(np.sqrt(shared + (total - shared) / len(sets)))


def _with_missing(found: Summary, attribute: str, sets: list[Shares], count: int) -> Summary:
    """With the means of an attribute's shares over all sets, and the values that are missing, as they
    are and in words."""
    shares = {
        value: (reals, float(np.mean([one[value][1] for one in sets])))
        for value, (reals, _) in sets[0].items()
    }
    missing = missing_values(shares, count)
    texts = [describe_missing(attribute, value, shares, count) for value in missing]
    return found.model_copy(
        update={
            "attribute": attribute,
            "shares": {
                value: dict(zip(("reals", "samples"), pair, strict=True))
                for value, pair in shares.items()
            },
            "missing": missing,
            "note": "; ".join(texts) or None,
        }
    )
