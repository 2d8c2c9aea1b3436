"""Project images of the demo, draw directions of its w, and copy the numbers into latent-tools.md.

Generated images are those of the first seeds, real ones the first that were held out of training.
"""

import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from docs.make import ROOT, demo, fill, markdown, number, one_commit, write
from stylenat import runtime
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.models import Generator, load_generator, read_header
from stylenat.models.directions import principal_directions, style_directions
from stylenat.models.latents import MEAN_SEEDS, generate, render, styles
from stylenat.report.mosaic import draw_mosaic
from stylenat.report.style import save, styled
from stylenat.steps.directions import draw_walks
from stylenat.steps.project import NAMES, STEPS, distance_from, fit, measured, psnr

STEP = 1500  # of the demo's weights
IMAGES = 8  # of either kind
SHOWN = 3  # of either kind
DIRECTIONS = 4  # of either kind
DOCUMENT = "docs/latent-tools.md"
TABLE, PICTURE = "docs/projection.csv", "docs/projection.png"
KINDS = ("generated", "held out")


def project_all(
    generator: Generator, images: Iterable[tuple[str, int, np.ndarray]], steps: int
) -> tuple[pd.DataFrame, np.ndarray]:
    """A row per image (kind, index, uint8 (S, S, 3)) and w, and uint8 (n, 4, S, S, 3): the image and
    what the mean w, the w and the w+ give."""
    rows, shown = [], []
    for kind, index, image in images:
        pixels = torch.tensor(image).permute(2, 0, 1)[None].float()
        distance = distance_from(pixels, None)
        found = fit(generator, pixels, distance, steps, seed=0)
        pictures = [next(render(generator, w[None])) for w in found]
        for name, picture in zip(NAMES, pictures, strict=True):
            values = {"psnr": psnr(picture, image), "distance": measured(distance, picture)}
            rows.append({"kind": kind, "index": index, "of": name, "steps": steps} | values)
            print(rows[-1], file=sys.stderr)
        shown.append([image, *pictures])
    return pd.DataFrame(rows), np.array(shown)


def block(frame: pd.DataFrame) -> str:
    """The table and where it comes from, in Markdown."""
    lines = [["images", *(f"{what}, {of}" for what in ("PSNR", "distance") for of in NAMES)]]
    lines.append(["---"] * len(lines[0]))
    for kind in KINDS:
        rows = frame[frame["kind"] == kind]
        line = [f"{kind}: {rows['index'].nunique()}"]
        for what, unit in (("psnr", " dB"), ("distance", "")):
            for of in NAMES:
                values = rows.loc[rows["of"] == of, what]
                low, high = number(values.min()), number(values.max())
                line.append(f"{number(values.mean())}{unit} ({low} to {high})")
        lines.append(line)
    first = frame.iloc[0]
    return (
        f"{markdown(lines)}\nMean (smallest to largest); {first['steps']} iterations for w, and again "
        f"for w+. Distances are those of lite0's features. {first['device']}, commit "
        f"`{first['commit']}`; weights of commit `{first['weights_commit']}`.\n"
    )


def draw_projections(frame: pd.DataFrame, pictures: np.ndarray) -> Figure:
    """The first images of either kind, a row each, with their PSNR."""
    keys = frame[["kind", "index"]].drop_duplicates().reset_index(drop=True)
    chosen = keys.groupby("kind").head(SHOWN).index
    rows, notes = [], []
    for kind, index in keys.loc[chosen].itertuples(index=False):
        rows.append(f"{'seed' if kind == KINDS[0] else kind} {index}")
        own = frame[(frame["kind"] == kind) & (frame["index"] == index)]
        notes.append(["", *(f"{decibels:.1f} dB" for decibels in own["psnr"])])
    with styled():
        return draw_mosaic(pictures[chosen], rows, ["image", *NAMES], notes)


def make(root: Path, name: str, steps: int = STEPS, count: int = IMAGES) -> str:
    """Write everything; the commit that projected."""
    commit = one_commit({"this code": runtime.commit()})
    weights = root / f"results/{name}/weights/{STEP}.safetensors"
    generator = load_generator(weights)
    store = ImageStore(root / f"results/data/{name}.test.lmdb")
    images = [
        (KINDS[0], seed, image) for seed, image in enumerate(generate(generator, range(count)))
    ]
    images += [(KINDS[1], index, store.read(index)) for index in range(count)]
    frame, pictures = project_all(generator, images, steps)
    frame = frame.assign(
        device=runtime.describe_device(torch.device("cpu")),
        commit=commit,
        weights_commit=read_header(weights)[1].commit,
    )
    write(root / TABLE, frame.to_csv(index=False))
    save(draw_projections(frame, pictures), [root / PICTURE], {})
    w = styles(generator, MEAN_SEEDS)
    for kind, directions, what in (
        ("principal", principal_directions(w, DIRECTIONS), "of the variance"),
        ("style", style_directions(generator, w, DIRECTIONS), "of the gain"),
    ):
        with styled():
            figure, facts = draw_walks(generator, directions, 0, what)
            save(figure, [root / f"docs/directions-{kind}.png"], facts)
    text = block(frame)
    write(root / "docs/projection.md", text)
    write(root / DOCUMENT, fill((root / DOCUMENT).read_text(), {"docs/projection.md": text}))
    return commit


if __name__ == "__main__":
    try:
        print(f"docs/: projections and directions, made by commit {make(ROOT, demo())}")
    except UserError as error:
        sys.exit(f"error: {error}")
