"""Print the metadata of a data set and draw a contact sheet of images spread evenly over it."""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from stylenat import command
from stylenat.data.store import ImageStore
from stylenat.records import atomic

THUMBNAIL = 128  # pixels; every image is shown at this size


def run(args: argparse.Namespace) -> None:
    store = ImageStore(args.dataset)
    print(json.dumps(store.metadata, indent=2, ensure_ascii=False))
    chosen = np.linspace(0, len(store) - 1, min(args.count, len(store))).round().astype(int)
    output = args.output or args.dataset.with_suffix(".png")
    with atomic(output) as temporary:
        _contact_sheet(store, chosen).save(temporary, "PNG")
    command.log.info("%s: images %s", output, ", ".join(map(str, chosen)))


def _contact_sheet(store: ImageStore, chosen: np.ndarray) -> Image.Image:
    columns = math.ceil(math.sqrt(len(chosen)))
    rows = math.ceil(len(chosen) / columns)
    sheet = Image.new("RGB", (columns * THUMBNAIL, rows * THUMBNAIL), "white")
    for place, index in enumerate(chosen):
        picture = Image.fromarray(store.read(int(index)))
        # Enlarged pixels stay visible as such.
        enlarged = picture.width < THUMBNAIL
        filter = Image.Resampling.NEAREST if enlarged else Image.Resampling.LANCZOS
        row, column = divmod(place, columns)
        sheet.paste(
            picture.resize((THUMBNAIL, THUMBNAIL), filter), (column * THUMBNAIL, row * THUMBNAIL)
        )
    return sheet


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("dataset", type=Path, help="a packed data set (LMDB)")
    options.add_argument("--count", type=int, default=64, help="images on the contact sheet")
    options.add_argument(
        "--output", type=Path, help="the contact sheet (PNG); beside the data set if not given"
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
