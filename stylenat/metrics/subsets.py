"""Which images of a set are counted: all, a seeded draw, or one of two disjoint halves."""

import numpy as np

from stylenat.errors import UserError

HALVES = ("half0", "half1")


def choose(subset: str, count: int, seed: int) -> np.ndarray:
    """Ascending indices into ``count`` images for ``all``, a number, ``half0`` or ``half1``.

    A number draws without replacement. All draws with one seed come from one permutation, so the
    halves share no image.
    """
    if subset == "all":
        return np.arange(count)
    order = np.random.default_rng(seed).permutation(count)
    if subset in HALVES:
        return np.sort(np.array_split(order, 2)[HALVES.index(subset)])
    if not subset.isdecimal() or int(subset) == 0:
        raise UserError(f"subset is {subset!r}; use all, {', '.join(HALVES)} or a positive number.")
    if int(subset) > count:
        raise UserError(
            f"a subset of {subset} images is more than the {count} there are; "
            "use a smaller number, or all."
        )
    return np.sort(order[: int(subset)])
