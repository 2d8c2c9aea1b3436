"""Metrics by the names that protocols use. A new one is a file with its ``METRIC`` and a line here."""

from stylenat.metrics import (
    attributes,
    copies,
    fid,
    fid_infinity,
    inception_score,
    kid,
    prdc,
)
from stylenat.metrics.base import Metric

METRICS: dict[str, Metric] = {
    "frechet": fid.METRIC,
    "frechet_infinity": fid_infinity.METRIC,
    "kid": kid.METRIC,
    "prdc": prdc.METRIC,
    "inception_score": inception_score.METRIC,
    "copies": copies.METRIC,
    "attributes": attributes.METRIC,
}
