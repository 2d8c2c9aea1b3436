"""Which pixels attend to which: the geometry of neighbourhood attention, without a tensor in it."""

from functools import lru_cache

FAR = 7  # pixels: beyond it, attention counts as long-range


@lru_cache(maxsize=64)
def axis_windows(
    length: int, kernel_size: int, dilation: int
) -> tuple[list[list[int]], list[list[int]]]:
    """What each pixel of one axis attends to; two dimensions are the product of both axes.

    Returns, per pixel, the kernel_size pixels of its window, and for each of them the offset
    key - query in steps of the dilation, from -(kernel_size - 1) to kernel_size - 1.
    """
    pixels, offsets = [], []
    for pixel in range(length):
        members = list(range(pixel % dilation, length, dilation))
        rank = members.index(pixel)
        centred = rank - kernel_size // 2
        first = min(max(centred, 0), len(members) - kernel_size)
        window = range(first, first + kernel_size)
        pixels.append([members[key] for key in window])
        offsets.append([key - rank for key in window])
    return pixels, offsets
