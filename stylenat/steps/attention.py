"""Draw what a generator attends to while it makes the image of one seed.

--mean-query: every head's logits of all keys against the mean query, at levels from 16² on, as the
reference draws them. --neighbourhoods: the true attention weights of one pixel's query, with their
kernel and dilation, at every level of neighbourhood attention.
"""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from stylenat import command
from stylenat.errors import UserError
from stylenat.images import to_uint8
from stylenat.models import load_generator
from stylenat.models.attention_maps import (
    BlockAttention,
    mean_query_maps,
    neighbourhood_weights,
    record_attention,
)
from stylenat.models.latents import styles
from stylenat.report import style
from stylenat.report.attention import GroupMaps, draw_mean_query, draw_neighbourhoods
from stylenat.runtime import select_device

REFERENCE_LEVELS = 16  # sides from which the reference draws its maps


def run(
    *,
    weights: Path,
    mean_query: Path,
    neighbourhoods: Path,
    device: str = "auto",
    seed: int = 0,
    pixel: Sequence[int] | None = None,
) -> None:
    generator = load_generator(weights, select_device(device))
    size = generator.config.image_size
    row, column = pixel or (size // 2, size // 2)
    place = row, column
    if not all(0 <= p < size for p in place):
        raise UserError(f"--pixel {place[0]} {place[1]}: outside of an image of {size} × {size}.")
    image, blocks = record_attention(generator, styles(generator, [seed]))
    picture = to_uint8(image)[0].permute(1, 2, 0).cpu().numpy()
    means = [
        maps
        for block in blocks
        if block.side >= REFERENCE_LEVELS
        for maps in _by_group(block, mean_query_maps(block))
    ]
    if not means:
        raise UserError(f"{weights} has no neighbourhood attention at 16² or finer to show.")
    true = []
    for block in blocks:
        y, x = (p * block.side // size for p in place)
        true += _by_group(block, neighbourhood_weights(block, y, x))
    facts = {"seed": str(seed), "truncation": "None"}
    with style.styled():
        style.save(draw_mean_query(picture, seed, means), [mean_query], facts)
        figure = draw_neighbourhoods(picture, seed, place, true)
        facts["pixel"] = f"row {place[0]}, column {place[1]}"
        style.save(figure, [neighbourhoods], facts)
    command.log.info("%s, %s: %s", mean_query, neighbourhoods, facts)


def _by_group(block: BlockAttention, maps: Tensor) -> list[GroupMaps]:
    """Maps (heads, side, side) of a block, shared out to its head groups."""
    parts = torch.split(maps, [group.heads for group in block.groups])
    return [
        GroupMaps(block.level, block.block, group, part.numpy())
        for group, part in zip(block.groups, parts, strict=True)
    ]


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    options.add_argument("--seed", type=int, help="whose image is made")
    options.add_argument(
        "--pixel", type=int, nargs=2, metavar=("ROW", "COLUMN"), help="the query; default: centre"
    )
    command.add_files(options, mean_query="the PNG", neighbourhoods="the PNG")
    command.main(options, run)


if __name__ == "__main__":
    main()
