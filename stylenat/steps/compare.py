"""One PNG to judge a generator by: real images above, samples below; nothing is picked."""

from pathlib import Path

import numpy as np

from stylenat import command
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.models import load_generator
from stylenat.models.latents import generate
from stylenat.report import style
from stylenat.report.mosaic import draw_mosaic
from stylenat.runtime import select_device

ROWS, COLUMNS = 4, 8  # of the reals, and of the samples


def run(*, weights: Path, data: Path, output: Path, device: str = "auto") -> None:
    store = ImageStore(data)
    count = ROWS * COLUMNS
    if len(store) < count:
        raise UserError(f"{data} holds {len(store)} images; the picture needs {count}.")
    generator = load_generator(weights, select_device(device))
    made = command.pictures(generate(generator, range(count)), [count])
    real = np.stack([store.read(index) for index in range(count)])
    if real.shape != made.shape:
        raise UserError(
            f"{data} holds images of {real.shape[1]}², {weights} makes {made.shape[1]}²; "
            "give the data set it was trained on."
        )
    with style.styled():
        figure = draw_mosaic(
            np.concatenate((real, made)).reshape(2 * ROWS, COLUMNS, *real.shape[1:]),
            ["real", *[""] * (ROWS - 1), "sampled", *[""] * (ROWS - 1)],
            [""] * COLUMNS,
            sources=(ROWS, 0),
        )
        facts = {
            "reals": f"{store.metadata.name} 0-{count - 1}",
            "seeds": f"0-{count - 1}",
            "truncation": "None",
        }
        style.save(figure, [output], facts)
    command.log.info("%s: %s", output, facts)


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    command.add_files(options, data="the reals (LMDB)", output="the PNG")
    command.main(options, run)


if __name__ == "__main__":
    main()
