"""StyleSwin's double attention in windows (Zhang et al., "StyleSwin", CVPR 2022, section 3.2)."""

from stylenat.blocks.base import Block, LevelConfig, View
from stylenat.errors import require


def window_side(config: LevelConfig, level: int) -> int:
    """Side of the windows of a window-attention level: its one kernel size."""
    side, sizes = config.resolutions[level], config.kernels[level]
    heads = config.heads(side)
    require(heads % 2 == 0, "min_heads", f"{heads} heads at {side}² do not halve for windows")
    require(
        len(sizes) == 1 and sizes[0] % 2 == 0 and side % sizes[0] == 0,
        f"kernels[{level}]",
        f"{list(sizes)} is not the side of windows, which has to be one even divisor of {side}",
    )
    return sizes[0]


def spans(length: int, window: int, shift: int) -> list[tuple[int, int, int]]:
    """Cut an axis into (start, length, side of the windows in it).

    Shifted windows that would reach over a border are cut there. This gives the same result as
    rolling the map and masking pairs from opposite borders, without copies and masked products.
    """
    if shift == 0:
        return [(0, length, window)]
    rest = window - shift
    return [(0, shift, shift), (shift, length - window, window), (length - rest, rest, rest)]


def shift_of(side: int, window: int) -> int:
    """By how much the windows of the second half of the heads are shifted: not at all where one
    window covers the map."""
    return 0 if window == side else window // 2


def views(config: LevelConfig, level: int) -> list[View]:
    """Half of the heads in windows that tile the map, half in windows shifted by half their side."""
    side, window = config.resolutions[level], window_side(config, level)
    heads, shift, name = config.heads(side), shift_of(side, window), f"{window}×{window}"
    if shift == 0:
        return [View(heads, name, _tiles(side, window, 0))]
    return [
        View(heads // 2, name, _tiles(side, window, 0)),
        View(heads // 2, f"{name} shifted", _tiles(side, window, shift)),
    ]


def _tiles(side: int, window: int, shift: int) -> list[list[int]]:
    """The windows, cut at the borders."""
    starts = [(pixel - shift) // window * window + shift for pixel in range(side)]
    return [list(range(max(0, start), min(start + window, side))) for start in starts]


WINDOWS = Block(
    views, "stylenat.models.blocks.windows:WindowAttention", at_4="windows", model="StyleSwin"
)
