"""Statistics of features: what evaluation exchanges (no torch here).

Count, sum and sum of outer products in float64, about a shift near the mean, add up exactly enough
over shards, and give mean and covariance at the end. The features themselves come along for metrics that need every image.
The record with them says whose features they are.
"""

import hashlib
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Self

import numpy as np

from stylenat.errors import UserError
from stylenat.io import brief, read_npz, write_npz
from stylenat.records import StatisticsRecord

BLOCK = 4096  # vectors that are float64 at once

OPTIONAL = ("features", "head", "labels", "thumbnails")  # what statistics may hold beside moments

# What must agree for a distance between two statistics to mean anything …
COMPARABLE = ("extractor", "weights_sha256", "dataset.resolution", "dataset.filter")
# … and for two to be parts of one set.
MERGEABLE = (*COMPARABLE, "kind", "dataset.name", "generator_sha256", "subset")


@dataclass
class Moments:
    """count, Σ (x − s) (d,) and Σ (x − s) (x − s)ᵀ (d, d) of feature vectors x.

    The shift s (d,) is the mean of the first vectors: sums about 0 would lose a spread that is small
    beside the mean.
    """

    count: int
    sum: np.ndarray
    outer: np.ndarray
    shift: np.ndarray

    @classmethod
    def zeros(cls, dimension: int) -> Self:
        """Of no vectors yet."""
        return cls(0, np.zeros(dimension), np.zeros((dimension, dimension)), np.zeros(dimension))

    @classmethod
    def of(cls, features: np.ndarray) -> Self:
        """Of vectors (n, d)."""
        moments = cls.zeros(features.shape[1])
        for start in range(0, len(features), BLOCK):
            moments.update(features[start : start + BLOCK])
        return moments

    def update(self, features: np.ndarray) -> None:
        """Add vectors (n, d)."""
        if not self.count and len(features):
            self.shift = features.mean(0, dtype=np.float64)
        x = np.subtract(features, self.shift, dtype=np.float64)
        self.count += len(x)
        self.sum += x.sum(0)
        self.outer += x.T @ x

    def merge(self, other: Self) -> None:
        """Add the vectors of ``other``."""
        if not self.count:
            self.shift = other.shift
        move = other.shift - self.shift
        cross = np.outer(other.sum, move)
        self.outer += other.outer + cross + cross.T + other.count * np.outer(move, move)
        self.sum += other.sum + other.count * move
        self.count += other.count

    @property
    def mean(self) -> np.ndarray:
        """(d,)"""
        return self.shift + self.sum / self.count

    @property
    def covariance(self) -> np.ndarray:
        """(d, d), unbiased: divided by n − 1."""
        if self.count < 2:
            raise UserError(f"{self.count} images have no covariance; use at least 2.")
        return (self.outer - np.outer(self.sum, self.sum) / self.count) / (self.count - 1)


@dataclass
class Statistics:
    """Moments with their record.

    Where they were asked for, also ``features`` (n, d) float32 in the order of the images, and
    their ``thumbnails`` (n, 32, 32, 3) uint8;
    ``head`` (classes, d), which makes class logits of them, if the network has one; and ``labels``
    (n, a) int8, if the images' attributes are known: positions in the lists of values that the
    record's ``attributes`` has by name, in the order of the columns.
    """

    moments: Moments
    record: StatisticsRecord
    features: np.ndarray | None = None
    head: np.ndarray | None = None
    labels: np.ndarray | None = None
    thumbnails: np.ndarray | None = None
    # Which images are in the first half of every split (n, splits), bool, where sets with images in common
    # are to be split alike; not saved.
    halves: np.ndarray | None = None

    def save(self, path: str | Path) -> None:
        """Write an npz that is whole or absent; features that are not finite are a
        :class:`UserError`."""
        self._require_finite(str(path))
        moments = self.moments
        arrays = {"count": np.array(moments.count, np.int64)}
        arrays |= {name: getattr(moments, name) for name in ("sum", "outer", "shift")}
        optional = {name: getattr(self, name) for name in OPTIONAL}
        arrays |= {name: array for name, array in optional.items() if array is not None}
        write_npz(path, arrays, self.record.to_dict())

    @classmethod
    def load(cls, path: str | Path, features: bool = True) -> Self:
        """Read what :meth:`save` wrote, without the features if they are not wanted (400 MB for
        50,000 of 2048); anything else is a :class:`UserError`."""
        skipped = () if features else OPTIONAL
        arrays, values = read_npz(path, skip=skipped)
        remedy = "make it with stylenat.steps.statistics"
        record = StatisticsRecord.read(values, path, remedy)
        try:
            shift = arrays.get("shift", np.zeros_like(arrays["sum"]))  # of before there was one
            moments = Moments(int(arrays["count"]), arrays["sum"], arrays["outer"], shift)
        except (KeyError, TypeError) as error:
            raise UserError(
                f"{path} does not hold statistics of features ({brief(error)} is missing); {remedy}."
            ) from error
        optional = (arrays.get(name) for name in OPTIONAL)
        statistics = cls(moments, record, *optional)
        statistics._require_finite(str(path))
        return statistics

    def take(self, indices: np.ndarray) -> Self:
        """Statistics of some of the images, which must have their features."""
        assert self.features is not None
        features = self.features[indices]
        rest = (
            None if array is None else array[indices]
            for array in (self.labels, self.thumbnails, self.halves)
        )
        return type(self)(Moments.of(features), self.record, features, self.head, *rest)

    def _require_finite(self, where: str) -> None:
        for values in (self.moments.sum, self.moments.outer, self.features):
            if values is not None and not np.isfinite(values).all():
                raise UserError(
                    f"{where}: features of {self.record.dataset.name} are not finite; the "
                    "feature network's weights or the images are damaged: make both again."
                )

    def merge(self, other: Self) -> Self:
        """Statistics of both parts of one set, without labels; parts of different sets are
        refused."""
        require_same(MERGEABLE, self.record, other.record)
        total = Moments.zeros(len(self.moments.sum))
        total.merge(self.moments)
        total.merge(other.moments)
        first, second = self.record, other.record
        hashes = first.dataset.content_sha256 + second.dataset.content_sha256
        joined = hashlib.sha256(hashes.encode()).hexdigest()
        dataset = first.dataset.model_copy(update={"content_sha256": joined})
        record = first.model_copy(update={"dataset": dataset})
        if first.seeds is not None and second.seeds is not None:
            record = record.model_copy(update={"seeds": f"{first.seeds},{second.seeds}"})
        features = _joined(self.features, other.features)
        thumbnails = _joined(self.thumbnails, other.thumbnails)
        return type(self)(total, record, features, self.head, thumbnails=thumbnails)


def _joined(a: np.ndarray | None, b: np.ndarray | None) -> np.ndarray | None:
    return None if a is None or b is None else np.concatenate((a, b))


def require_same(fields: tuple[str, ...], a: StatisticsRecord, b: StatisticsRecord) -> None:
    """Raise a :class:`UserError` naming the first field in which two records differ.

    A field that one of them leaves open (None: images from converted weights know no filter) is
    not compared.
    """
    for field in fields:
        left, right = map(attrgetter(field), (a, b))
        if None not in (left, right) and left != right:
            raise UserError(
                f"{field} is {left!r} in one set of statistics and {right!r} in the other; "
                "the two cannot be combined: compute one of them again to match."
            )
