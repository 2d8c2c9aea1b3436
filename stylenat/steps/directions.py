"""Find directions in w along which pictures change, and draw a sample moved both ways along each.

Principal directions of w (GANSpace), and those that the layers which read w enlarge most (SeFa).
"""

from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor

from stylenat import command
from stylenat.io import sha256, write_npz
from stylenat.models import Generator, load_generator
from stylenat.models.directions import Directions, principal_directions, style_directions
from stylenat.models.latents import MEAN_SEEDS, render, styles
from stylenat.report.mosaic import draw_mosaic
from stylenat.report.style import save, styled
from stylenat.runtime import select_device

STEPS = (-3.0, -2.0, -1.0, 0.0, 1.0, 2.0, 3.0)  # standard deviations of w along a direction


def run(
    *,
    weights: Path,
    principal: Path,
    style: Path,
    device: str = "auto",
    count: int = 6,
    seed: int = 0,
    vectors: Path | None = None,
) -> None:
    generator = load_generator(weights, select_device(device))
    w = styles(generator, MEAN_SEEDS)
    found = {
        "principal": (principal_directions(w, count), "of the variance", principal),
        "style": (style_directions(generator, w, count), "of the gain", style),
    }
    for directions, what, output in found.values():
        with styled():
            figure, facts = draw_walks(generator, directions, seed, what)
            save(figure, [output], facts)
        command.log.info("%s: %s", output, facts)
    if vectors is not None:
        arrays = {
            f"{name}_{field}": array.numpy()
            for name, (directions, _, _) in found.items()
            for field, array in directions._asdict().items()
        }
        record = {"generator_sha256": sha256(weights), "samples": len(MEAN_SEEDS)}
        write_npz(vectors, arrays, record)
        command.log.info("%s: %s", vectors, ", ".join(arrays))


def draw_walks(
    generator: Generator, directions: Directions, seed: int, what: str
) -> tuple[Figure, dict[str, str]]:
    """A row for each direction, the sample of ``seed`` in the middle; and what was drawn, in words.

    ``what`` the shares are of.
    """
    path = walks(styles(generator, [seed])[0], directions)
    pictures = command.pictures(render(generator, path.flatten(0, 1)), path.shape[:2])
    rows = [f"{n}: {share:.1%} {what}" for n, share in enumerate(directions.shares.tolist(), 1)]
    columns = ["0" if step == 0 else f"{step:+g} σ" for step in STEPS]
    middle = STEPS.index(0)
    framed = {(row, middle) for row in range(len(rows))}
    figure = draw_mosaic(pictures, rows, columns, framed=framed)
    facts = {
        "seed": str(seed),
        "steps": ", ".join(f"{step:g}" for step in STEPS),
        "unit": f"standard deviation of w along the direction, over {len(MEAN_SEEDS)} samples",
        "truncation": "None",
    }
    return figure, facts


def walks(w: Tensor, directions: Directions) -> Tensor:
    """The path of w (style_dim,) along each direction: (n, steps, style_dim)."""
    steps = torch.tensor(STEPS, dtype=torch.float64)[:, None]
    moves = steps * (directions.spreads[:, None] * directions.vectors)[:, None]
    return w + moves.to(w)


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    options.add_argument("--count", type=int, help="directions of each kind")
    options.add_argument("--seed", type=int, help="of the sample that is moved")
    command.add_files(options, principal="PNG of the directions of w")
    command.add_files(options, style="PNG of those of the layers")
    options.add_argument("--vectors", type=Path, help="also write the directions (npz)")
    command.main(options, run)


if __name__ == "__main__":
    main()
