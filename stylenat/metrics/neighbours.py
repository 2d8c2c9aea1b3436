"""Nearest neighbours among feature vectors.

Euclidean distances throughout, in blocks of rows: of 50,000 × 50,000 pairs only 512 × 50,000 are
in memory at a time. Products in float32 sort out the pairs that matter, with bounds for their
rounding errors; what they leave open is decided in float64 from the vectors' differences. So near
ties and copies come out right, and the order of the vectors makes no difference.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple, Self

import numpy as np

from stylenat.errors import UserError

BLOCK = 512  # rows; with 50,000 columns their distances take 100 MB
NUMBERS = 2**17  # of the pairs whose differences are computed at once, few enough for a cache
TIES = 32  # as far as its k-th neighbour, for one vector


@dataclass(frozen=True)
class Distances:
    """Of some rows of x (n, d) to y (m, d) or its rest, as float32 squares (rows, m) that the exact
    ones are not below, and not above when the slack (rows,) of x and (m,) of y is added."""

    rows: slice
    least: np.ndarray
    slack_x: np.ndarray
    slack_y: np.ndarray


def squared_distances(x: np.ndarray, y: np.ndarray, half: bool = False) -> Iterator[Distances]:
    """All pairs of x (n, d) and y (m, d), block by block; for a half of those of one set with itself,
    only the columns from a block's first row on."""
    centre = y.mean(0)  # of short vectors, |a|² + |b|² − 2ab cancels least
    y = y - centre
    # The error of a product of d terms is at most d roundings of |a||b| ≤ (|a|² + |b|²) / 2; those of
    # centring, squares and sums are a few more.
    share = np.float32((y.shape[1] + 16) * np.finfo(np.float32).eps / 2)
    lengths = np.einsum("md,md->m", y, y)
    slack = 2 * share * lengths
    lengths *= 1 - share
    for start in range(0, len(x), BLOCK):
        rows = slice(start, min(start + BLOCK, len(x)))
        block = x[rows] - centre
        own = np.einsum("nd,nd->n", block, block)
        rest = slice(start if half else 0, None)
        least = (-2 * block) @ y[rest].T
        least += lengths[rest]
        least += (own * (1 - share))[:, None]
        yield Distances(rows, least, 2 * share * own, slack[rest])


def positions(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Rows (p,) and columns (p,) of what is true in a bool array (n, m); where that is little, fifteen
    times as fast as :func:`numpy.nonzero`."""
    return np.divmod(np.flatnonzero(mask), mask.shape[1])


def exact_distances(x: np.ndarray, y: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Distances (p,) of the pairs x[i], y[j], in float64; those of copies are exactly 0."""
    squares = np.empty(len(i))
    step = max(1, NUMBERS // x.shape[1])
    for start in range(0, len(i), step):
        some = slice(start, start + step)
        differences = x[i[some]].astype(np.float64) - y[j[some]]
        squares[some] = np.einsum("pd,pd->p", differences, differences)
    return np.sqrt(squares)


def nearest(
    queries: np.ndarray, references: np.ndarray, k: int, same: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest references (m, d) of every query (n, d): indices, and float64 distances, each (n, k).

    Nearest first. ``same``: both are one set, and a vector is not its own neighbour.
    """
    if len(references) < k + same:
        raise UserError(
            f"{len(references)} images are too few to have {k} neighbours each; use more images."
        )
    # Features are float32; a caller of the library may have others.
    single = references.dtype == np.float32
    if same and single and (found := _nearest_others(references, k)):
        return found
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k))
    for block in squared_distances(queries, references):
        rows, least = block.rows, block.least
        if same:
            least[np.arange(len(least)), np.arange(rows.start, rows.stop)] = np.inf
        # No k-th neighbour is farther than the farthest of any k, so all that may be are candidates.
        most = least + block.slack_y
        most.partition(k - 1, axis=1)
        i, j = positions(least <= (most[:, k - 1] + block.slack_x)[:, None])
        exact = exact_distances(queries[rows], references, i, j)
        order = np.lexsort((exact, i))
        first = np.searchsorted(i, np.arange(len(least)))
        found = order[first[:, None] + np.arange(k)]
        indices[rows], distances[rows] = j[found], exact[found]
    return indices, distances


class Pairs(NamedTuple):
    """Vectors i (p,) and j (p,) of one set that may be neighbours, and what the squares of their
    distances are at least (p,) and at most (p,)."""

    i: np.ndarray
    j: np.ndarray
    least: np.ndarray
    most: np.ndarray

    @classmethod
    def of(cls, parts: list[Self]) -> Self:
        """All of them."""
        return cls(*map(np.concatenate, zip(*parts, strict=True)))

    def both_ways(self, values: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Every pair (2p,), (2p,) from either side, with its value (2p,)."""
        i, j = self.i, self.j
        return np.concatenate([i, j]), np.concatenate([j, i]), np.concatenate([values, values])

    def kth(self, count: int, k: int) -> np.ndarray:
        """What the square of each vector's k-th distance is at most (count,)."""
        # Bits of floats from 0 on are in their order, so that one sort of integers is enough.
        one, _, bits = self.both_ways(np.maximum(self.most, 0).view(np.uint32))
        keys = np.sort(one.astype(np.uint64) << 32 | bits)
        firsts = np.searchsorted(keys, np.arange(count, dtype=np.uint64) << 32)
        return (keys[firsts + k - 1] & 0xFFFFFFFF).astype(np.uint32).view(np.float32)

    def within(self, most: np.ndarray) -> Self:
        """Those that are not above what one of their vectors allows."""
        kept = self.least <= np.maximum(most[self.i], most[self.j])
        return type(self)(*(array[kept] for array in self))


def _nearest_others(x: np.ndarray, k: int) -> tuple[np.ndarray, np.ndarray] | None:
    """The k nearest other vectors of every vector of x (n, d), each pair's distance computed once; None
    where so many distances are the same that the pairs would fill the memory."""
    most = np.full(len(x), np.inf, np.float32)  # what the square of the k-th distance is at most
    parts: list[Pairs] = []
    for number, block in enumerate(squared_distances(x, x, half=True), 1):
        least, start, size = block.least, block.rows.start, len(block.least)
        np.fill_diagonal(least, np.inf)
        if number == 1:
            above = least + block.slack_x[:, None] + block.slack_y
            most[:size] = np.partition(above, k - 1, axis=1)[:, k - 1]
            if size < len(x):
                most[size:] = np.partition(above[:, size:], k - 1, axis=0)[k - 1]
        least[np.tril_indices(size)] = np.inf  # the square holds its pairs twice
        near = least <= most[block.rows, None]
        near |= least <= most[start:]
        i, j = positions(near)
        below = least[i, j]
        above = below + block.slack_x[i] + block.slack_y[j]
        parts.append(Pairs(i + start, j + start, below, above))
        if sum(len(part.i) for part in parts) > (TIES + 8 * k) * len(x):
            return None
        if number.bit_count() == 1:  # by then, as many have been added as there were before
            pairs = Pairs.of(parts)
            most = np.minimum(most, pairs.kth(len(x), k))
            parts = [pairs.within(most)]
    pairs = Pairs.of(parts)
    exact = exact_distances(x, x, pairs.i, pairs.j)
    one, other, distances = pairs.both_ways(exact)
    order = np.lexsort((other, distances, one))
    found = order[np.searchsorted(one[order], np.arange(len(x)))[:, None] + np.arange(k)]
    return other[found], distances[found]
