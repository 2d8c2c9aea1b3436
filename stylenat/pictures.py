"""Several samples side by side in one PNG."""

import math
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylenat.records import atomic

LEGIBLE = 128  # pixels; smaller images are enlarged towards it
MARGIN = 2  # pixels between images and around them
BACKGROUND = 255


def tile(pictures: np.ndarray) -> np.ndarray:
    """uint8 (n, S, S, 3) → uint8 (H, W, 3): rows of ⌈√n⌉ images, in reading order."""
    factor = max(1, LEGIBLE // pictures.shape[1])
    pictures = pictures.repeat(factor, axis=1).repeat(factor, axis=2)
    count, side = pictures.shape[:2]
    columns = math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    pitch = side + MARGIN
    grid = np.full((MARGIN + rows * pitch, MARGIN + columns * pitch, 3), BACKGROUND, np.uint8)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, columns)
        y, x = MARGIN + row * pitch, MARGIN + column * pitch
        grid[y : y + side, x : x + side] = picture
    return grid


def save_grid(path: Path, pictures: np.ndarray, seeds: str, truncation: float | None) -> None:
    """Write the :func:`tile` of uint8 (n, S, S, 3); the PNG's text says what was sampled."""
    text = PngInfo()
    text.add_text("seeds", seeds)
    text.add_text("truncation", str(truncation))
    with atomic(path) as temporary:
        Image.fromarray(tile(pictures)).save(temporary, "PNG", pnginfo=text)
