"""Image files: pixels that decode are packed, and the rest is left out with a reason."""

import io
import struct
import zlib

import numpy as np
from hypothesis import strategies as st
from PIL import Image

from stylenat.data.prepare import Unusable, decode
from tests.fuzz import damages, fuzzed

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
TAGS = (
    *(0x0100, 0x0101, 0x0102, 0x0103, 0x010E, 0x0111, 0x0112, 0x0117, 0x011A, 0x011B, 0x0128),
    *(0x0201, 0x0202, 0x0213, 0x829A, 0x8769, 0x8825, 0x9000, 0x927C, 0xA005, 0xB001, 0xB002),
)


def encoded(kind: str, **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


PLAIN = {kind: encoded(kind) for kind in ("JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP", "PPM")}
KINDS = ("JPEG", "PNG", "WEBP")  # those with a block of EXIF that is no part of their structure


@st.composite
def blocks(draw: st.DrawFn) -> bytes:
    """A block of EXIF in either byte order with entries of any type, perhaps cut off."""
    order = draw(st.sampled_from("<>"))
    entries = draw(
        st.lists(
            st.tuples(
                # Half of them are those that Pillow reads by itself.
                st.one_of(st.sampled_from((0x0112, 0x011A)), st.sampled_from(TAGS)),
                st.integers(0, 13),
                st.one_of(st.just(1), st.sampled_from((0, 2, 3, 4, 8, 100, 2**31, 2**32 - 1))),
                st.one_of(
                    st.integers(0, 120).map(lambda n: struct.pack(f"{order}I", n)),
                    st.binary(min_size=4, max_size=4),
                ),
            ),
            max_size=6,
        )
    )
    if draw(st.booleans()):  # a unit of the resolution, without which that is not looked at
        entries.append((0x0128, 3, 1, struct.pack(f"{order}HH", 2, 0)))
    directory = struct.pack(f"{order}H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack(f"{order}HHI", tag, kind, count) + value
    header = (b"II*\0" if order == "<" else b"MM\0*") + struct.pack(f"{order}I", 8)
    tail = struct.pack(f"{order}I", draw(st.sampled_from((0, 8, 26, 2**32 - 1))))
    block = b"Exif\0\0" + header + directory + tail + draw(st.binary(max_size=64))
    return block[: draw(st.integers(6, len(block)))] if draw(st.booleans()) else block


def with_block(kind: str, block: bytes, behind: bool) -> bytes:
    """An image with this block; in a JPEG behind the header of JFIF or in its place."""
    if kind != "JPEG":
        return encoded(kind, exif=block)
    plain = PLAIN["JPEG"]
    segment = b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block
    (length,) = struct.unpack_from(">H", plain, 4)
    return plain[: 4 + length if behind else 2] + segment + plain[4 + length :]


@fuzzed(1500, kind=st.sampled_from(("JPEG", *KINDS)), block=blocks(), behind=st.booleans())
def test_any_block_of_exif_leaves_the_pixels(kind, block, behind):
    found = np.asarray(decode(with_block(kind, block, behind)))
    plain = np.asarray(decode(PLAIN[kind]))
    turned = [np.rot90(it, k) for it in (plain, plain[:, ::-1]) for k in range(4)]
    assert any(np.array_equal(found, it) for it in turned)


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


CHUNKS = (
    *(b"tEXt", b"zTXt", b"iTXt", b"iCCP", b"eXIf", b"gAMA", b"cHRM", b"pHYs", b"tIME", b"sRGB"),
    *(b"tRNS", b"bKGD", b"acTL", b"fcTL", b"fdAT", b"IHDR", b"PLTE", b"IDAT", b"IEND", b"abCd"),
    *(b"ABCD", b"\0\0\0\0"),
)
soup = st.lists(
    st.tuples(
        st.sampled_from(CHUNKS),
        st.one_of(
            st.binary(max_size=40),
            st.binary(max_size=40).map(lambda data: b"key\0\0" + zlib.compress(data)),
            st.binary(max_size=12).map(lambda data: data + bytes(26)),
        ),
    ),
    min_size=1,
    max_size=5,
)


@fuzzed(600, chunks=soup, behind=st.sampled_from((8, 33, -12)))
def test_chunk_soup_is_an_image_or_has_a_reason(chunks, behind):
    plain = PLAIN["PNG"]
    try:
        decode(plain[:behind] + b"".join(chunk(*it) for it in chunks) + plain[behind:])
    except Unusable as reason:
        assert str(reason)


NAMES = tuple(PLAIN)


@fuzzed(800, data=st.sampled_from(NAMES).flatmap(lambda kind: damages(PLAIN[kind])))
def test_a_damaged_image_is_an_image_or_has_a_reason(data):
    try:
        assert decode(data).mode == "RGB"
    except Unusable as reason:
        assert str(reason)
