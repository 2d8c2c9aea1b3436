"""Metadata in image files: only the orientation matters here, and nothing else in it may do harm."""

import struct

from PIL import ExifTags, Image

_PNG = b"\x89PNG\r\n\x1a\n"
# Texts and colour profiles: never used here, and refused by Pillow where they are long.
_UNUSED = (b"tEXt", b"zTXt", b"iTXt", b"iCCP")

_TURNS = {
    2: (Image.Transpose.FLIP_LEFT_RIGHT,),
    3: (Image.Transpose.ROTATE_180,),
    4: (Image.Transpose.FLIP_TOP_BOTTOM,),
    5: (Image.Transpose.TRANSPOSE,),
    6: (Image.Transpose.ROTATE_270,),
    7: (Image.Transpose.TRANSVERSE,),
    8: (Image.Transpose.ROTATE_90,),
}


def without_texts(data: bytes) -> bytes:
    """A PNG without its texts and colour profile; anything else as it is."""
    if not data.startswith(_PNG):
        return data
    kept, position = [_PNG], len(_PNG)
    while position + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, position)
        end = position + 12 + length  # length, type, content, checksum
        if data[position + 4 : position + 8] not in _UNUSED:
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
