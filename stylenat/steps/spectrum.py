"""Draw the power spectrum of samples beside that of real images, with a band over images."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from stylenat import command
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.metrics.spectrum import power_spectrum
from stylenat.models import load_generator
from stylenat.models.latents import generate
from stylenat.report import style
from stylenat.report.spectrum import draw_spectrum
from stylenat.runtime import select_device


def run(
    *, weights: Path, data: Path, figures: Sequence[Path], device: str = "auto", images: int = 256
) -> None:
    store = ImageStore(data)
    generator = load_generator(weights, select_device(device))
    size = generator.config.image_size
    if store.metadata.resolution != size:
        raise UserError(
            f"{data} holds images of {store.metadata.resolution}², {weights} makes "
            f"{size}²; give the data set it was trained on."
        )
    count = min(images, len(store))
    made = command.progress(generate(generator, range(count)), total=count, unit="img")
    samples = np.stack([power_spectrum(pixels) for pixels in made])
    reals = np.stack([power_spectrum(store.read(index)) for index in range(count)])
    with style.styled():
        style.save(draw_spectrum(reals, samples), figures)
    ratio = np.median(samples, 0)[-1] / np.median(reals, 0)[-1]
    command.log.info(
        "%d images: at the highest frequency, samples have %.3g × the power", count, ratio
    )


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    options.add_argument("--data", type=Path, required=True, help="the reals (LMDB)")
    options.add_argument("--images", type=int, help="of each, at most")
    command.add_files(options, many=True, figures=style.FORMATS)
    command.main(options, run)


if __name__ == "__main__":
    main()
