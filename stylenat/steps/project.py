"""Find the w whose picture is nearest to an image, and a w for each block (w+) that comes nearer.

The image has to have the generator's size and framing. What is near is decided by a feature network,
Inception if its weights are given and else lite0, and by a small term of the pixels' squares. Writes
w.npz, reconstruction.png (of w+) and before-after.png.
"""

import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from stylenat import command
from stylenat.data.prepare import Unusable, decode
from stylenat.errors import UserError
from stylenat.images import to_pixels
from stylenat.io import atomic, brief, sha256, write_npz
from stylenat.metrics.extractors import NETWORKS
from stylenat.metrics.extractors.lite0 import packaged_weights
from stylenat.metrics.perceptual import PerceptualDistance
from stylenat.models import Generator, load_generator, read_header
from stylenat.models.latents import MEAN_SEEDS, render, require_seed, styles
from stylenat.models.projection import NOISE, Spread, project
from stylenat.report import style
from stylenat.report.mosaic import draw_mosaic
from stylenat.runtime import select_device

PIXELS = 1.0  # weight of the mean square of the pixels' differences, white minus black being 1
NAMES = ("mean w", "w", "w+")
STEPS = 1000  # iterations for w, and again for w+

log = command.log


def run(
    *,
    weights: Path,
    image: Path,
    output: Path,
    device: str = "auto",
    inception: Path | None = None,
    steps: int = STEPS,
    seed: int = 0,
) -> None:
    if steps < 1:
        raise UserError(f"--steps is {steps}; give 1 or more.")
    require_seed(seed)
    model, _ = read_header(weights)
    target = read_image(image, model.image_size)
    selected = select_device(device)
    pixels = torch.from_numpy(target).to(selected).permute(2, 0, 1)[None].float()
    distance = distance_from(pixels, inception)
    log.info("distances are those of the feature network %s", distance.name)
    generator = load_generator(weights, selected)
    found = fit(generator, pixels, distance, steps, seed)
    pictures = np.stack([next(render(generator, w[None])) for w in found])
    psnrs = [psnr(picture, target) for picture in pictures]
    distances = [measured(distance, picture) for picture in pictures]
    for name, decibels, value in zip(NAMES, psnrs, distances, strict=True):
        log.info("%s: PSNR %.2f dB, %s distance %.4g", name, decibels, distance.name, value)
    record = {
        "image": image.name,
        "image_sha256": sha256(image),
        "generator_sha256": sha256(weights),
        "network": distance.name,
        "steps": steps,
        "seed": seed,
        # JSON has no infinity, which is the PSNR of equal pictures.
        "psnr": {n: p if math.isfinite(p) else None for n, p in zip(NAMES, psnrs, strict=True)},
        "distance": dict(zip(NAMES, distances, strict=True)),
    }
    _, w, w_plus = (it.cpu().numpy() for it in found)
    write_npz(output / "w.npz", {"w": w, "w_plus": w_plus}, record)
    with atomic(output / "reconstruction.png") as temporary:
        Image.fromarray(pictures[-1]).save(temporary, "PNG")
    notes = ["", *(f"{decibels:.1f} dB" for decibels in psnrs)]
    values = ", ".join(f"{n} {value:.3g}" for n, value in zip(NAMES, distances, strict=True))
    facts = {"network": distance.name, "steps": str(steps), "seed": str(seed)}
    with style.styled():
        shown = np.concatenate((target[None], pictures))[None]
        figure = draw_mosaic(
            shown, [""], ["image", *NAMES], [notes], footer=f"{distance.name} distance: {values}"
        )
        style.save(figure, [output / "before-after.png"], facts)
    log.info("%s: w.npz, reconstruction.png, before-after.png", output)


def fit(
    generator: Generator, image: Tensor, distance: PerceptualDistance, steps: int, seed: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The mean w (style_dim,), the w found from there, and the w+ (latents, style_dim) found from that,
    in ``steps`` iterations each; ``image`` is float32 (1, 3, S, S), 0…255."""

    def loss(output: Tensor) -> Tensor:
        pixels = to_pixels(output)
        total: Tensor = distance(pixels)[0] + PIXELS * ((pixels - image) / 255).square().mean()
        return total

    # Cloned, because tensors of inference mode cannot be optimised.
    spread = Spread.of(styles(generator, MEAN_SEEDS).clone())
    with command.progress(total=2 * steps, desc="projecting", unit="it") as bar:
        noise = NOISE * spread.distance
        w = project(generator, loss, spread.mean, noise, steps, seed, bar.update)
        start = w.expand(generator.config.latents, -1)
        w_plus = project(generator, loss, start, 0.0, steps, seed, bar.update)
    return spread.mean, w, w_plus


def read_image(path: Path, side: int) -> np.ndarray:
    """uint8 (side, side, 3); a file that is no such image is a :class:`UserError`."""
    try:
        image = decode(path.read_bytes())
    except OSError as error:
        raise UserError(
            f"{path} cannot be read ({error.strerror}); give the path of an image."
        ) from error
    except Unusable as error:
        raise UserError(
            f"{path} is no image to work with ({brief(error)}); give another one."
        ) from error
    if image.size != (side, side):
        raise UserError(
            f"{path} has {image.width} × {image.height} pixels, and the generator makes {side} × "
            f"{side}; crop it as the training images are, and resize it to that."
        )
    return np.array(image)  # a copy that torch may write to


def distance_from(image: Tensor, inception: Path | None) -> PerceptualDistance:
    """In Inception with these weights, or else in lite0 with those of its package."""
    name = "lite0" if inception is None else "inception"
    network = NETWORKS[name](packaged_weights() if inception is None else inception)
    return PerceptualDistance(name, network.to(image.device), image)


def psnr(picture: np.ndarray, target: np.ndarray) -> float:
    """Peak signal-to-noise ratio of uint8 images in dB, infinite where they are equal."""
    error = np.square(picture.astype(float) - target).mean()
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


@torch.no_grad()
def measured(distance: PerceptualDistance, picture: np.ndarray) -> float:
    """Of a uint8 (S, S, 3) picture."""
    pixels = torch.from_numpy(picture).permute(2, 0, 1)[None].float()
    return float(distance(pixels.to(distance.network.device)).item())


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    options.add_argument("--image", type=Path, required=True, help="of the generator's size")
    options.add_argument("--output", type=Path, required=True, help="the folder")
    options.add_argument("--inception", type=Path, help="weights of Inception (pth); else lite0")
    options.add_argument("--steps", type=int, help="iterations for w, and again for w+")
    options.add_argument("--seed", type=int, help="of the noise")
    command.main(options, run)


if __name__ == "__main__":
    main()
