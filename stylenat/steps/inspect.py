"""Print the metadata of a data set and draw a contact sheet of images spread evenly over it."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from stylenat import command
from stylenat.data.store import ImageStore
from stylenat.io import atomic
from stylenat.pictures import LEGIBLE, tile


def run(*, dataset: Path, count: int = 64, output: Path | None = None) -> None:
    store = ImageStore(dataset)
    print(json.dumps(store.metadata.to_dict(), indent=2, ensure_ascii=False))
    chosen = np.linspace(0, len(store) - 1, min(count, len(store))).round().astype(int)
    picture = output or dataset.with_suffix(".png")
    with atomic(picture) as temporary:
        sheet = tile(np.stack([_thumbnail(store.read(int(index))) for index in chosen]))
        Image.fromarray(sheet).save(temporary, "PNG")
    command.log.info("%s: images %s", picture, ", ".join(map(str, chosen)))


def _thumbnail(pixels: np.ndarray) -> np.ndarray:
    picture = Image.fromarray(pixels)
    picture.thumbnail((LEGIBLE, LEGIBLE), Image.Resampling.LANCZOS)
    return np.asarray(picture)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("dataset", type=Path, help="a packed data set (LMDB)")
    options.add_argument("--count", type=int, help="images on the contact sheet")
    options.add_argument(
        "--output", type=Path, help="the contact sheet (PNG); beside the data set if not given"
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
