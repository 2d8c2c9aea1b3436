"""Nearest neighbours among feature vectors.

Euclidean distances throughout, in blocks of rows: of 50,000 × 50,000 pairs only 512 × 50,000 are
in memory at a time. Products in float32 sort out the pairs that matter, with bounds for their
rounding errors; what they leave open is decided in float64 from the vectors' differences. So near
ties and copies come out right, and the order of the vectors makes no difference.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from stylenat.errors import UserError

BLOCK = 512  # rows; with 50,000 columns their distances take 100 MB
PAIRS = 8192  # whose differences are in memory at once


@dataclass(frozen=True)
class Distances:
    """Of some rows of x (n, d) to all of y (m, d), as float32 squares (rows, m) that the exact ones
    are not below, and not above when the slack (rows,) of x and (m,) of y is added."""

    rows: slice
    least: np.ndarray
    slack_x: np.ndarray
    slack_y: np.ndarray


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[Distances]:
    """All pairs of x (n, d) and y (m, d), block by block."""
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
        least = block @ y.T
        least *= -2
        least += lengths
        least += (own * (1 - share))[:, None]
        yield Distances(rows, least, 2 * share * own, slack)


def exact_distances(x: np.ndarray, y: np.ndarray, i: np.ndarray, j: np.ndarray) -> np.ndarray:
    """Distances (p,) of the pairs x[i], y[j], in float64; those of copies are exactly 0."""
    squares = np.empty(len(i))
    for start in range(0, len(i), PAIRS):
        some = slice(start, start + PAIRS)
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
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k))
    for block in squared_distances(queries, references):
        rows, least = block.rows, block.least
        if same:
            least[np.arange(len(least)), np.arange(rows.start, rows.stop)] = np.inf
        # No k-th neighbour is farther than the farthest of any k, so all that may be are candidates.
        some = np.argpartition(least, k - 1, axis=1)[:, :k]
        most = np.take_along_axis(least, some, 1) + block.slack_y[some] + block.slack_x[:, None]
        i, j = np.nonzero(least <= most.max(1)[:, None])
        exact = exact_distances(queries[rows], references, i, j)
        order = np.lexsort((exact, i))
        first = np.searchsorted(i, np.arange(len(least)))
        found = order[first[:, None] + np.arange(k)]
        indices[rows], distances[rows] = j[found], exact[found]
    return indices, distances
