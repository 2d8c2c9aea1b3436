"""From whatever a source gives to a square RGB image of the wanted size.

==========================  ======================================================================
input                       outcome
==========================  ======================================================================
EXIF orientation            applied: the image is packed upright; one that makes no sense is noted
other metadata              ignored, whatever is wrong with it
greyscale, 1 bit            the value in all three channels
16 bit per channel          the high byte of each value
palette                     looked up
alpha                       opaque: dropped; otherwise composited onto white
CMYK, YCCK                  converted as Pillow does, without colour management
ICC profile                 ignored, as by every published result
animation, several pages    the first
not square                  the largest centred square
32-bit integer or float     left out: they do not say what white is
smaller than the data set   left out: enlarging would invent pixels
other than the size wanted  left out where the filter is ``none``
over 89 million pixels      left out (Pillow's limit against decompression bombs)
truncated, corrupt, empty   left out: half an image is never packed
==========================  ======================================================================

"Left out" means listed by name and counted against ``max_corrupt``.
"""

import hashlib
import io
import warnings
from collections.abc import Callable

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from stylenat.data.metadata import upright, without_unused
from stylenat.io import brief

# Half an image is worse than none; some libraries switch this on for the whole process.
ImageFile.LOAD_TRUNCATED_IMAGES = False


FILTERS = {
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
    "none": None,
}

# Formats that are decoded in this process; Pillow would run PostScript, given the chance.
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF", "PPM", "JPEG2000")


class Unusable(Exception):
    """This image is left out; the message says why, in a few words that name no address."""


Note = Callable[[str], None]


def prepare(
    data: bytes | Image.Image,
    resolution: int,
    filter: str,
    expected_md5: str | None = None,
    note: Note = lambda text: None,
) -> Image.Image:
    """Decode, turn upright, convert to RGB, crop, resize: a square RGB image.

    ``filter`` is a key of :data:`FILTERS`. Raises :class:`Unusable` as the table above says, and
    where the decoded pixels should have an ``expected_md5`` and have another. ``note`` is told what
    is odd about an image that is used all the same.
    """
    image = decode(data, note) if isinstance(data, bytes) else data
    if expected_md5 and pixel_md5(image) != expected_md5:
        raise Unusable("its pixels are not the official ones")
    return _resize(_square(image), resolution, filter)


def decode(data: bytes, note: Note = lambda text: None) -> Image.Image:
    """The image in RGB, upright, as the table above says; else :class:`Unusable`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            # It warns of everything odd in an EXIF block.
            warnings.filterwarnings("ignore", module=r"PIL\.TiffImagePlugin")
            pixels, turning = without_unused(data)
            with Image.open(io.BytesIO(pixels), formats=_FORMATS) as image:
                image.load()
                image.info.update(turning.items())
                return _to_rgb(upright(image, note))
    except UnidentifiedImageError:
        raise Unusable("not an image, or of a format that is not read") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise Unusable("too many pixels") from None
    except Unusable:
        raise
    except Exception as error:  # whatever a damaged file provokes in a decoder
        raise Unusable(f"cannot be decoded: {brief(error)}") from error


def pixel_md5(image: Image.Image) -> str:
    """MD5 of the RGB bytes of an image, as FFHQ's list gives it."""
    return hashlib.md5(image.tobytes(), usedforsecurity=False).hexdigest()


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB" and "transparency" not in image.info:
        return image
    if image.mode.startswith("I;16"):
        return Image.fromarray((np.asarray(image) >> 8).astype(np.uint8)).convert("RGB")
    if image.mode in ("I", "F"):
        raise Unusable("32 bits per channel")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        white = Image.new("RGBA", layer.size, "white")
        return Image.alpha_composite(white, layer).convert("RGB")
    return image.convert("RGB")


def _square(image: Image.Image) -> Image.Image:
    width, height = image.size
    if width == height:
        return image
    side = min(width, height)
    left, top = (width - side) // 2, (height - side) // 2
    return image.crop((left, top, left + side, top + side))


def _resize(image: Image.Image, resolution: int, filter: str) -> Image.Image:
    side = image.width
    if side == resolution:
        return image
    if side < resolution:
        raise Unusable(f"too small: {side} pixels across")
    if filter == "none":
        raise Unusable(f"{side} pixels across, and the filter is none")
    return image.resize((resolution, resolution), FILTERS[filter])
