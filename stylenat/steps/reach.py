"""How far the heads of a generator look: mean distance, entropy and far share of attention weights,
for every level and view, as a table and a figure."""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from stylenat import command
from stylenat.errors import UserError
from stylenat.io import atomic
from stylenat.models import load_generator
from stylenat.models.attention_maps import Reach, reach, record_attention
from stylenat.models.latents import styles
from stylenat.report import style
from stylenat.report.reach import draw_reach
from stylenat.runtime import select_device


def run(
    *, weights: Path, output: Path, figures: Sequence[Path], device: str = "auto", images: int = 8
) -> None:
    generator = load_generator(weights, select_device(device))
    found: dict[tuple[int, str], list[Reach]] = defaultdict(list)
    for seed in command.progress(range(images), total=images, unit="img"):
        _, blocks = record_attention(generator, styles(generator, [seed]))
        for block in blocks:
            for group, one in zip(block.groups, reach(block), strict=True):
                found[block.side, group.name].append(one)
    if not found:
        raise UserError(f"{weights} has no neighbourhood attention.")
    rows = [
        {"level": side, "view": view, **_mean(several), "images": images}
        for (side, view), several in sorted(found.items(), key=lambda item: item[0][0])
    ]
    frame = pd.DataFrame(rows)
    with atomic(output) as temporary:
        frame.to_csv(temporary, index=False)
    with style.styled():
        style.save(draw_reach(frame), figures)
    command.log.info("%s: %d views", output, len(frame))


def _mean(several: list[Reach]) -> dict[str, float]:
    """Over images and the blocks of a level."""
    return {
        key: sum(getattr(one, key) for one in several) / len(several)
        for key in Reach.__dataclass_fields__
    }


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    options.add_argument("--images", type=int, help="seeds 0, 1, … that are averaged")
    options.add_argument("--output", type=Path, required=True, help="the table (CSV)")
    command.add_files(options, many=True, figures=style.FORMATS)
    command.main(options, run)


if __name__ == "__main__":
    main()
