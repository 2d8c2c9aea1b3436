"""Which model a state dict of the reference, or of StyleSwin, belongs to."""

import math
import re
from collections import Counter
from collections.abc import Sequence

from torch import Tensor

from stylenat.config import ModelConfig
from stylenat.interop.layouts import TABLE, is_published
from stylenat.interop.styleswin import is_styleswin
from stylenat.io import Json

# What neither the tensors nor, in the published files, the arguments tell.
PUBLISHED_DILATIONS = ((1,), (1,), (1, 2), (1, 4), (1, 8), (1, 16), (1, 32), (1, 64), (1, 128))
PUBLISHED_MAPPING_LR = 0.01
PUBLISHED_CHANNEL_BASE = 16384
PUBLISHED_MULTIPLIER = 2
FULL_ATTENTION_KERNELS = (3,)  # listed for the 4² level, not used

Shape = tuple[int, ...]
Levels = tuple[tuple[int, ...], ...]


def infer_config(tensors: dict[str, Tensor], settings: Json) -> ModelConfig:
    """The model behind a state dict of either layout, or of StyleSwin's.

    Sizes, heads and kernels follow from shapes; dilations, the mapping network's depth and its
    learning-rate multiplier from ``settings`` (the checkpoint's arguments, the reference's names)
    where given, else the published ones. Where tensors contradict each other the majority counts,
    so that a faulty one does not pass for the measure of the others. Raises KeyError for a tensor
    it cannot do without, ArithmeticError, IndexError, TypeError or ValueError for other nonsense.
    """
    shapes = {key: tuple(value.shape) for key, value in tensors.items()}
    levels = range(1 + max(_numbers(shapes, "layers")))
    sides = [4 << level for level in levels]
    widths = [_common(shapes, rf"layers.{level}.blocks.+(proj|fc2).+", 0) for level in levels]
    hidden = _common(shapes, r"layers.0.blocks.+fc1.+", 0)
    styleswin = is_styleswin(shapes)
    dilations: Levels
    if styleswin:
        dilations = ((1,),) * len(levels)
        heads, kernels = _windows(shapes, levels)
    else:
        dilations = settings.get("dilations") or PUBLISHED_DILATIONS[: len(levels)]
        heads, kernels = _neighbourhoods(shapes, levels, dilations)
    return ModelConfig(
        image_size=sides[-1],
        channel_max=max(widths),
        channel_base=_channels_at_one(widths, sides) // PUBLISHED_MULTIPLIER,
        channel_multiplier=PUBLISHED_MULTIPLIER,
        style_dim=_common(shapes, r"layers.+norm\d.style.weight", 1),
        mapping_layers=int(settings.get("n_mlp") or max(_numbers(shapes, "style"))),
        mapping_lr=float(settings.get("lr_mlp") or PUBLISHED_MAPPING_LR),
        min_heads=min(heads),  # the least that gives every level its heads
        mlp_ratio=hidden / widths[0],
        kernels=kernels,
        dilations=dilations,
        block="windows" if styleswin else "hydra",
    )


def _windows(shapes: dict[str, Shape], levels: range) -> tuple[list[int], Levels]:
    """Heads and sides of the windows, by level."""
    tables = [rf"layers.{level}.blocks.+relative_position_bias_table" for level in levels]
    sides = [math.isqrt(_common(shapes, table, 0)) // 2 + 1 for table in tables]
    return [2 * _common(shapes, table, 1) for table in tables], tuple((side,) for side in sides)


def _neighbourhoods(
    shapes: dict[str, Shape], levels: range, dilations: Sequence[Sequence[int]]
) -> tuple[list[int], Levels]:
    """Heads and kernel sizes by level."""
    heads = [_common(shapes, r"layers.0.blocks.+attn.rpb", 0)]
    kernels: list[tuple[int, ...]] = [FULL_ATTENTION_KERNELS]
    for level in levels[1:]:
        tables = _tables(shapes, level)
        heads.append(sum(table[0] for table in tables))
        sizes = tuple((table[1] + 1) // 2 for table in tables)
        # Equal kernels are one entry, unless they alone say how many groups there are.
        groups = 2 if is_published(shapes) else len(dilations[level])
        kernels.append(sizes[:1] if len(set(sizes)) == 1 and len(sizes) == groups else sizes)
    return heads, tuple(kernels)


def _numbers(shapes: dict[str, Shape], name: str) -> list[int]:
    """Numbers of the entries of a module list or sequence."""
    found = [int(key.split(".")[1]) for key in shapes if key.startswith(f"{name}.")]
    if not found:
        raise KeyError(name)
    return found


def _common(shapes: dict[str, Shape], pattern: str, axis: int) -> int:
    """The commonest size among the tensors of these names."""
    found = Counter(shape[axis] for key, shape in shapes.items() if re.fullmatch(pattern, key))
    if not found:
        raise KeyError(pattern)
    return found.most_common(1)[0][0]


def _tables(shapes: dict[str, Shape], level: int) -> list[Shape]:
    """Shapes of the bias tables of a level's blocks, which are alike."""
    blocks: dict[str, dict[int, Shape]] = {}
    for key, shape in shapes.items():
        match = TABLE.fullmatch(key)
        if match and key.startswith(f"layers.{level}."):
            blocks.setdefault(match[1], {})[int(match[2])] = shape
    if not blocks:
        raise KeyError(f"layers.{level}.blocks.0.attn.rpb.0")
    return [shape for _, shape in sorted(max(blocks.values(), key=len).items())]


def _channels_at_one(widths: list[int], sides: list[int]) -> int:
    """Numerator of the width formula, from a level that is not cut off by the largest width."""
    for width, side in zip(widths, sides, strict=True):
        if width < max(widths):
            return width * side
    return max(PUBLISHED_CHANNEL_BASE * PUBLISHED_MULTIPLIER, widths[-1] * sides[-1])
