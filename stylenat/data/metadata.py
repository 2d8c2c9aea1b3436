"""Metadata in image files: only the orientation matters here, and nothing else in it may do harm."""

import struct
from collections.abc import Callable

from PIL import ExifTags, Image

_PNG = b"\x89PNG\r\n\x1a\n"
# Texts and colour profiles: never used here, and refused by Pillow where they are long.
_UNUSED = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")

_JPEG = b"\xff\xd8\xff"
_EXIF, _XMP = b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0"
# EXIF and XMP, profiles, other pictures, Photoshop's.
_SEGMENTS = range(0xE1, 0xEE)
# What names the colour space; with less than this behind its name, it is none.
_OF_COLOURS = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}
_ALONE = (0x01, *range(0xD0, 0xD9))  # markers without a length
_SCAN, _END = 0xDA, 0xD9

SENSELESS = "an orientation that makes no sense, and are packed as they are stored"

_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}


def without_unused(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    """An encoded image without metadata that nothing here uses, for Pillow would refuse the whole
    file for some of it; and what may say how the image is turned, as Pillow's ``info`` has it.

    Bytes between the parts of a file, and files that are neither PNG nor JPEG, are left as they are.
    """
    if data.startswith(_PNG):
        return _without_chunks(data), {}
    if data.startswith(_JPEG):
        return _without_segments(data)
    return data, {}


def _without_chunks(data: bytes) -> bytes:
    kept, position = [_PNG], len(_PNG)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length  # length, type, content, checksum
        if data[position + 4 : position + 8] not in _UNUSED:
            kept.append(data[position:end])
        position = end
    return b"".join([*kept, data[position:]])


def _without_segments(data: bytes) -> tuple[bytes, dict[str, bytes]]:
    kept, done, position = [], 0, 2
    turning = {"exif": b"", "xmp": b""}
    while 0 <= (start := data.find(b"\xff", position)) <= len(data) - 4:
        marker = data[start + 1]
        if marker in (_SCAN, _END):
            break
        if marker in (0x00, 0xFF):  # filling
            position = start + 1
        elif marker in _ALONE:
            position = start + 2
        else:
            (length,) = struct.unpack_from(">H", data, start + 2)
            position = start + 2 + length  # the length counts itself
            if length < 2 or position > len(data):
                break
            content = data[start + 4 : position]
            if marker in _SEGMENTS or _is_broken(marker, content):
                if content.startswith(_EXIF):
                    turning["exif"] += content[len(_EXIF) if turning["exif"] else 0 :]
                elif content.startswith(_XMP):
                    turning["xmp"] = content[len(_XMP) :]
                kept.append(data[done:start])
                done = position
    return b"".join([*kept, data[done:]]), {key: value for key, value in turning.items() if value}


def _is_broken(marker: int, content: bytes) -> bool:
    name, least = _OF_COLOURS.get(marker, (b"", 0))
    return not content.startswith(name) or len(content) < least


def upright(image: Image.Image, note: Callable[[str], None]) -> Image.Image:
    """The image turned as its metadata say; as it is where that says nothing that makes sense, which
    ``note`` is told."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - whatever a block of wrong types provokes in the reader
        orientation = None
    if not (isinstance(orientation, int) and 1 <= orientation <= 8):
        note(SENSELESS)
        return image
    for turn in _TURNS.get(orientation, ()):
        image = image.transpose(turn)
    return image
