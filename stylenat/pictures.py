"""Several samples in one file: side by side as PNG, one after the other as GIF or MP4."""

import math
import subprocess
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from stylenat.errors import UserError
from stylenat.io import atomic, brief

LEGIBLE = 128  # pixels; smaller images are enlarged towards it
LARGEST = 256  # pixels; larger images are shrunk to it: the file of one image is that of `sample`
MARGIN = 2  # pixels between images and around them
BACKGROUND = 255


def fit(pictures: np.ndarray) -> np.ndarray:
    """uint8 (…, S, S, 3) → (…, C, C, 3) of a legible side: every pixel repeated a whole number of
    times, or whole blocks of pixels averaged."""
    *shape, side, _, _ = pictures.shape
    if side > LARGEST:
        factor = side // LARGEST
        blocks = pictures.reshape(*shape, LARGEST, factor, LARGEST, factor, 3)
        means: np.ndarray = blocks.mean((-4, -2))
        return (means + 0.5).astype(np.uint8)
    factor = max(1, LEGIBLE // side)
    return pictures.repeat(factor, axis=-3).repeat(factor, axis=-2)


def tile(pictures: np.ndarray, columns: int | None = None) -> np.ndarray:
    """uint8 (n, S, S, 3) → uint8 (H, W, 3): rows of ``columns`` (⌈√n⌉) images, in reading order."""
    pictures = fit(pictures)
    count, side = pictures.shape[:2]
    columns = columns or math.ceil(math.sqrt(count))
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


def save_animation(
    path: Path, frames: Sequence[np.ndarray], milliseconds: int, comment: str
) -> None:
    """Write uint8 (H, W, 3) frames: as MP4 (H.264; even sides) where ``path`` ends so, else as a GIF
    that loops for ever, 256 colours a frame."""
    if path.suffix == ".mp4":
        return _save_video(path, frames, milliseconds, comment)
    # Dithering would put noise on flat regions that flickers from frame to frame.
    first, *others = (Image.fromarray(f).quantize(dither=Image.Dither.NONE) for f in frames)
    with atomic(path) as temporary:
        first.save(
            temporary,
            "GIF",
            save_all=True,
            append_images=others,
            duration=milliseconds,
            loop=0,
            comment=comment.encode(),
        )


def _save_video(path: Path, frames: Sequence[np.ndarray], milliseconds: int, comment: str) -> None:
    height, width, _ = frames[0].shape
    command = [encoder(), "-y", "-v", "error", "-f", "rawvideo", "-pix_fmt", "rgb24"]
    command += ["-s", f"{width}x{height}", "-r", f"1000/{milliseconds}", "-i", "-"]
    # What every player takes, with a loss that is hardly seen.
    command += ["-c:v", "libx264", "-pix_fmt", "yuv420p", "-crf", "15"]
    command += ["-metadata", f"comment={comment}", "-f", "mp4"]
    with atomic(path) as temporary:
        pixels = np.stack(frames).tobytes()
        done = subprocess.run(
            [*command, temporary], input=pixels, stderr=subprocess.PIPE, check=False
        )
        if done.returncode:
            raise OSError(brief(OSError(done.stderr.decode(errors="replace"))))


def encoder() -> str:
    """The ffmpeg of the package imageio-ffmpeg; a :class:`UserError` without it."""
    try:
        import imageio_ffmpeg

        return str(imageio_ffmpeg.get_ffmpeg_exe())
    except (ImportError, RuntimeError) as error:  # the latter where a wheel has no program
        raise UserError(
            "MP4 needs the package imageio-ffmpeg; install it with pip install imageio-ffmpeg, or "
            "write a GIF."
        ) from error
