"""Which images of a set are counted: all, or a seeded draw; and an order of images or vectors, and
halves of them, that do not depend on where they stand."""

import hashlib
from collections.abc import Sequence

import numpy as np

from stylenat.errors import UserError

SPLITS = 25  # of a set into two halves, whose differences tell a standard error


def choose(subset: str, count: int, seed: int) -> np.ndarray:
    """Ascending indices into ``count`` images for ``all``, or a number: a draw without replacement."""
    if subset == "all":
        return np.arange(count)
    if not subset.isdecimal() or int(subset) == 0:
        raise UserError(f"subset is {subset!r}; use all or a positive number.")
    if int(subset) > count:
        raise UserError(
            f"a subset of {subset} images is more than the {count} there are; "
            "use a smaller number, or all."
        )
    return np.sort(np.random.default_rng(seed).permutation(count)[: int(subset)])


def content_order(features: np.ndarray) -> np.ndarray:
    """Indices (n,) that put vectors (n, d) into an order that their contents alone decide, as random
    as a hash."""
    return digest_order(
        [hashlib.sha256(np.ascontiguousarray(row).data).digest() for row in features]
    )


def digest_order(digests: Sequence[bytes]) -> np.ndarray:
    """Indices (n,) that sort hashes of what the order is to depend on."""
    return np.array(sorted(range(len(digests)), key=digests.__getitem__), np.int64)


def halves(features: np.ndarray, splits: int) -> np.ndarray:
    """Random halves of vectors (n, d), decided by their contents: bool (2 splits, n), a half and its
    complement after another."""
    order = content_order(features)
    random = np.random.default_rng(0)
    half = np.zeros((splits, len(order)), bool)
    for row in half:
        row[order[random.permutation(len(order))[: len(order) // 2]]] = True
    return np.stack([half, ~half], 1).reshape(2 * splits, len(order))
