"""Metadata in image files: only the orientation matters here, and nothing else in it may do harm."""

import struct

from PIL import ExifTags, Image

_PNG = b"\x89PNG\r\n\x1a\n"
# Texts and colour profiles: never used here, and refused by Pillow where they are long.
_UNUSED = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")

_JPEG = b"\xff\xd8"
_SCAN = 0xDA  # where pixels begin
_APPLICATIONS = range(0xE0, 0xF0)
_EXIF_OR_XMP = 0xE1
# What else decides how pixels are decoded, and the size of its content.
_OF_COLOURS = {0xE0: (b"JFIF\0", 14), 0xEE: (b"Adobe", 12)}

_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}


def essential(data: bytes) -> bytes:
    """A PNG without its texts and colour profile; a JPEG without what programs add to it, but for its
    orientation and what decides its colours; anything else as it is."""
    if data.startswith(_PNG):
        return _essential_png(data)
    return _essential_jpeg(data) if data.startswith(_JPEG) else data


def _essential_png(data: bytes) -> bytes:
    kept, position = [_PNG], len(_PNG)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length  # length, type, content, checksum
        if data[position + 4 : position + 8] not in _UNUSED:
            kept.append(data[position:end])
        position = end
    return b"".join([*kept, data[position:]])


def _essential_jpeg(data: bytes) -> bytes:
    kept, position = [_JPEG], len(_JPEG)
    while position + 4 <= len(data) and data[position] == 0xFF:
        marker = data[position + 1]
        if marker == _SCAN or not 0xC0 <= marker <= 0xFE:
            break
        (length,) = struct.unpack_from(">H", data, position + 2)
        end = position + 2 + length  # the marker, then the length and what it counts
        start, least = _OF_COLOURS.get(marker, (None, 0))
        content = data[position + 4 : end]
        of_colours = start is not None and content.startswith(start) and len(content) >= least
        if marker not in _APPLICATIONS or marker == _EXIF_OR_XMP or of_colours:
            kept.append(data[position:end])
        position = end
    return b"".join([*kept, data[position:]])


def upright(image: Image.Image) -> Image.Image:
    """The image turned as its EXIF block says; as it is where that says nothing that makes sense."""
    try:
        orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # noqa: BLE001 - whatever a block of wrong types provokes in the reader
        return image
    if not isinstance(orientation, int):
        return image
    for turn in _TURNS.get(orientation, ()):
        image = image.transpose(turn)
    return image
