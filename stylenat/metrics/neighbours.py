"""Nearest neighbours among feature vectors.

Euclidean distances throughout, in blocks of rows: of 50,000 × 50,000 pairs only 512 × 50,000 are
in memory at a time.
"""

from collections.abc import Iterator

import numpy as np

from stylenat.errors import UserError

BLOCK = 512  # rows; with 50,000 columns the distances and their order take 300 MB


def squared_distances(x: np.ndarray, y: np.ndarray) -> Iterator[tuple[slice, np.ndarray]]:
    """All pairs of x (n, d) and y (m, d), block by block: (rows of x, float32 (rows, m))."""
    centre = y.mean(0)  # short vectors leave |a|² + |b|² − 2ab little to cancel
    y = y - centre
    lengths = np.einsum("nd,nd->n", y, y)
    for start in range(0, len(x), BLOCK):
        rows = slice(start, min(start + BLOCK, len(x)))
        block = x[rows] - centre
        distances = block @ y.T
        distances *= -2
        distances += lengths
        distances += np.einsum("nd,nd->n", block, block)[:, None]
        yield rows, np.maximum(distances, 0, out=distances)


def nearest(
    queries: np.ndarray, references: np.ndarray, k: int, same: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """The k nearest references (m, d) of every query (n, d): indices and distances, each (n, k).

    Nearest first. ``same``: both are one set, and a vector is not its own neighbour. The distances
    are taken again in float64 from the vectors' differences, so that of a copy is exactly 0.
    """
    if len(references) < k + same:
        raise UserError(
            f"{len(references)} images are too few to have {k} neighbours each; use more images."
        )
    indices = np.empty((len(queries), k), np.int64)
    distances = np.empty((len(queries), k))
    for rows, block in squared_distances(queries, references):
        if same:
            block[np.arange(len(block)), np.arange(rows.start, rows.stop)] = np.inf
        found = np.argpartition(block, k - 1, axis=1)[:, :k]
        differences = queries[rows, None].astype(np.float64) - references[found]
        exact = np.sqrt(np.einsum("nkd,nkd->nk", differences, differences))
        order = np.argsort(exact, axis=1, kind="stable")
        indices[rows] = np.take_along_axis(found, order, 1)
        distances[rows] = np.take_along_axis(exact, order, 1)
    return indices, distances
