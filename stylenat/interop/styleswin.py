"""StyleSwin's names for a generator's tensors (microsoft/StyleSwin).

The two generators differ in nothing but attention. There, ``qkv`` and ``proj`` belong to the block,
``attn`` is the list of its two halves, and a bias table is flat, with the heads last and indexed by
query - key; ours (heads, y, x) by key - query. Saved index tables and masks follow from the sides.
"""

import re
from collections.abc import Collection, Iterable

import torch
from torch import Tensor

from stylenat.blocks.windows import spans
from stylenat.models.blocks.base import relative_position_index

_TABLE = "relative_position_bias_table"
_INDEX = "relative_position_index"
_MASK = "attn_mask2"
_FAR = -100.0  # added there to the logits of pixels that the border separates

# A bias table of ours: (the block, its level, which half)
_OURS = re.compile(r"(layers\.(\d+)\.blocks\.\d+)\.attn\.rpb\.(\d)")


def is_styleswin(keys: Iterable[str]) -> bool:
    """Whether a state dict with these keys is a generator of StyleSwin's."""
    return any(key.endswith(_TABLE) for key in keys)


def to_styleswin(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors of a generator with windows at every level, as StyleSwin saves them."""
    result = {}
    for key, value in tensors.items():
        match = _OURS.fullmatch(key)
        if match is None:
            result[_name(key)] = value
            continue
        block, level, half = match[1], int(match[2]), match[3]
        window, side = (value.shape[-1] + 1) // 2, 4 << level
        result[f"{block}.attn.{half}.{_TABLE}"] = value.flip(1, 2).flatten(1).T
        result[f"{block}.attn.{half}.{_INDEX}"] = relative_position_index(window).T
        if half == "1" and window < side:
            result[f"{block}.{_MASK}"] = _mask(side, window)
    return result


def from_styleswin(tensors: dict[str, Tensor], keys: Collection[str]) -> dict[str, Tensor]:
    """The inverse: StyleSwin's tensors under our ``keys``."""
    result = {}
    for key in keys:
        match = _OURS.fullmatch(key)
        if match is None:
            result[key] = tensors[_name(key)]
            continue
        table = tensors[f"{match[1]}.attn.{match[3]}.{_TABLE}"].T
        span = round(table.shape[1] ** 0.5)
        result[key] = table.reshape(-1, span, span).flip(1, 2)
    return result


def _name(key: str) -> str:
    return re.sub(r"\.attn\.(qkv|proj)\.", r".\1.", key)


def _mask(side: int, window: int) -> Tensor:
    """(windows, window², window²): 0 or -100, for a map rolled by half a window."""
    spanned = [length for _, length, _ in spans(side, window, window // 2)]
    # Rolling moves what was first to the end.
    pieces = torch.arange(3).repeat_interleave(torch.tensor([*spanned[1:], spanned[0]]))
    regions = 3 * pieces[:, None] + pieces
    grid = side // window
    regions = regions.view(grid, window, grid, window).transpose(1, 2).reshape(grid**2, -1)
    return (regions[:, :, None] != regions[:, None, :]) * _FAR
