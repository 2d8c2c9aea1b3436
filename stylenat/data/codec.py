"""How pixels are stored: losslessly, and as fast to read as can be.

Measured on one core for photographs, encode / decode in ms and KB per image:

========  ====================  ====================  ==================
side      WebP lossless         PNG, level 1          raw
========  ====================  ====================  ==================
64        0.10 / 0.08,     7    0.26 / 0.08,    10    0.00 / 0.00,    12
256       1.3  / 0.95,    92    4.1  / 1.5,    116    0.02 / 0.02,   192
1024      29   / 15,     958    53   / 23,    1254    1    / 1,     3072
========  ====================  ====================  ==================

So WebP, except where a raw image is no bigger than a few disk pages.
"""

import hashlib
import io
import json
import zlib
from typing import NamedTuple

import numpy as np
from PIL import Image

RAW = "raw"
WEBP = "webp-lossless"
_RAW_UP_TO = 64  # side in pixels


def choose(resolution: int) -> str:
    """The codec for square images of this side."""
    return RAW if resolution <= _RAW_UP_TO else WEBP


class Encoded(NamedTuple):
    """An image as it is stored, with what proves it later."""

    value: bytes
    attributes: bytes | None  # JSON
    checksum: int  # of the two
    digest: bytes  # pixel_digest of the image


def encode(image: Image.Image, codec: str, attributes: dict[str, str] | None = None) -> Encoded:
    """An RGB image and its attributes in their stored form; lossless and deterministic."""
    pixels = image.tobytes()
    value = pixels if codec == RAW else _webp(image)
    text = None if attributes is None else json.dumps(attributes).encode()
    return Encoded(value, text, checksum(value, text), pixel_digest(pixels))


def checksum(value: bytes, attributes: bytes | None) -> int:
    """CRC-32 of an image's stored bytes, followed by those of its attributes."""
    return zlib.crc32(attributes or b"", zlib.crc32(value))


def _webp(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    # The lowest effort: more makes files 5 % smaller and takes four times as long.
    image.save(buffer, "WEBP", lossless=True, quality=0, method=0)
    return buffer.getvalue()


def decode(value: bytes, codec: str, resolution: int) -> np.ndarray:
    """Pixels of a stored image: read-only uint8 (resolution, resolution, 3), RGB.

    Raises ``ValueError`` or ``OSError`` where the bytes are not such an image.
    """
    if codec == RAW:
        return np.frombuffer(value, np.uint8).reshape(resolution, resolution, 3)
    with Image.open(io.BytesIO(value), formats=("WEBP",)) as image:
        pixels = np.asarray(image)
    if pixels.shape != (resolution, resolution, 3):
        raise ValueError(f"shape {pixels.shape} instead of {(resolution, resolution, 3)}")
    return pixels


def pixel_digest(pixels: bytes | np.ndarray) -> bytes:
    """SHA-256 of one image's uint8 pixels, rows top to bottom, RGB interleaved."""
    return hashlib.sha256(pixels if isinstance(pixels, bytes) else pixels.data).digest()


class ContentHash:
    """Identity of a sequence of images, whatever the codec: SHA-256 over the concatenation of
    their :func:`pixel_digest`. Hashing digests lets workers do the expensive part."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256()

    def update(self, digest: bytes) -> None:
        """Append one image's digest."""
        self._hash.update(digest)

    def hexdigest(self) -> str:
        """64 hexadecimal digits."""
        return self._hash.hexdigest()
