"""What cameras and programs write beside pixels does no harm; what lies beside images is said."""

import errno
import io
import logging
import os
import struct
import zipfile
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from stylenat.data.metadata import without_unused
from stylenat.data.pack import PackSettings, pack
from stylenat.data.prepare import decode
from stylenat.data.sources.files import Folder, Zip
from stylenat.errors import UserError
from stylenat.io import described, read_json, read_npz

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)


def encoded(kind="PNG", **options) -> bytes:
    file = io.BytesIO()
    Image.fromarray(PIXELS).save(file, kind, **options)
    return file.getvalue()


# ------------------------------------------------------------------------------------ EXIF


def exif(entries) -> bytes:
    """A little-endian block of one directory: (tag, type, count, the four bytes of its value)."""
    directory = struct.pack("<H", len(entries))
    for tag, kind, count, value in entries:
        directory += struct.pack("<HHI", tag, kind, count) + value
    return b"Exif\0\0II*\0\x08\0\0\0" + directory + struct.pack("<I", 0) + bytes(64)


def short(value):
    return struct.pack("<HH", value, 0)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_as_pillow_does(orientation):
    from PIL import ImageOps

    data = encoded("JPEG", quality=100, exif=exif([(0x0112, 3, 1, short(orientation))]))
    with Image.open(io.BytesIO(data)) as image:
        expected = ImageOps.exif_transpose(image)
        np.testing.assert_array_equal(decode(data), expected)


@pytest.mark.parametrize(
    "entries",
    [
        # Text as resolution beside an exposure time over a negative number
        [(0x011A, 2, 4, b"abc\0"), (0x829A, 5, 1, struct.pack("<I", 40))],
        [(0x0117, 12, 1, struct.pack("<I", 40))],  # a strip's length as a double
        [(0x9000, 8, 2, struct.pack("<hh", -2, 0))],  # a version as numbers
        [(0x0112, 2, 4, b"six\0")],  # the orientation as text …
        [(0x0112, 5, 1, struct.pack("<I", 60))],  # … as 0/0 …
        [(0x0112, 3, 1, short(99))],  # … as none there is
    ],
)
def test_blocks_that_make_no_sense_leave_the_pixels_as_they_are(entries):
    plain = encoded("JPEG", quality=100)
    found = decode(encoded("JPEG", quality=100, exif=exif(entries)))
    np.testing.assert_array_equal(found, decode(plain))


def test_orientations_that_make_no_sense_are_noted_once(tmp_path, caplog):
    senseless = [(2, 4, b"six\0"), (5, 1, struct.pack("<I", 60)), (3, 1, short(99))]
    for number, entry in enumerate([*senseless, (3, 1, short(6)), None]):
        block = exif([(0x0112, *entry)]) if entry else b""
        (tmp_path / f"{number}.jpg").write_bytes(encoded("JPEG", exif=block))
    pack(Folder(tmp_path), PackSettings("x", 4, "lanczos"), tmp_path / "x.lmdb", workers=2)
    assert caplog.text.count("orientation") == 1
    assert "x: 3 images have an orientation that makes no sense" in caplog.text


entry = st.tuples(
    st.sampled_from([0x0112, 0x011A, 0x0117, 0x8769, 0x829A, 0x9000, 0x8825]),
    st.integers(0, 14),
    st.sampled_from([0, 1, 2, 3, 2**31]),
    st.binary(min_size=4, max_size=4),
)


@settings(max_examples=150, deadline=None)
@given(st.lists(entry, max_size=5), st.sampled_from(["JPEG", "PNG"]))
def test_any_block_leaves_an_image(entries, kind):
    assert sorted(decode(encoded(kind, exif=exif(entries))).size) == [4, 6]


def test_a_resolution_of_one_byte_does_no_harm():
    """Pillow works the resolution out while it opens a JPEG."""
    entries = [(0x0112, 3, 1, short(6)), (0x011A, 7, 1, b"\1\0\0\0")]
    plain = decode(encoded("JPEG", quality=100))
    found = decode(encoded("JPEG", quality=100, exif=exif(entries)))
    np.testing.assert_array_equal(found, np.rot90(plain, -1))


def test_odd_blocks_are_no_warnings(recwarn):
    decode(encoded("JPEG", exif=exif([(0x0112, 3, 2, short(1)), (0x829A, 5, 9, bytes(4))])))
    assert not recwarn.list


# ------------------------------------------------------------------------------------ JPEG


def segment(marker: int, content: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(content) + 2) + content


def test_colours_are_decoded_as_before():
    """Three channels without a transform, and four inverted ones, are marked by Adobe's segment."""
    for mode, options in (("RGB", {"keep_rgb": True}), ("RGB", {}), ("CMYK", {}), ("L", {})):
        file = io.BytesIO()
        Image.fromarray(PIXELS).convert(mode).save(file, "JPEG", quality=100, **options)
        data = file.getvalue()
        found = without_unused(data[:2] + segment(0xE2, b"ICC_PROFILE\0\1\1x") + data[2:])
        assert found == (data, {})
    assert without_unused(data[:50])[0] == data[:50], "truncated ones are as they are"


applications = st.tuples(
    st.sampled_from([0xE0, 0xE1, 0xE2, 0xE8, 0xED, 0xEE, 0xEF]),
    st.sampled_from(
        [b"", b"JFIF\0", b"Exif\0\0", b"http://ns.adobe.com/xap/1.0/\0", b"ICC_PROFILE\0", b"MPF\0",
         b"Photoshop 3.0\0", b"FPXR\0", b"Adobe"]
    ),
    st.binary(max_size=40),
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(st.lists(applications, max_size=4))
def test_any_segments_leave_an_image(segments):
    plain = encoded("JPEG", quality=100)
    added = b"".join(segment(marker, start + rest) for marker, start, rest in segments)
    assert sorted(decode(plain[:2] + added + plain[2:]).size) == [4, 6]


# ------------------------------------------------------------------------------------- PNG


def chunk(kind: bytes, content: bytes) -> bytes:
    checksum = zlib.crc32(kind + content)
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"workflow\0\0" + zlib.compress(bytes(2 << 20))),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + zlib.compress(bytes(2 << 20))),
        chunk(b"tEXt", b"workflow\0" + b"x" * (2 << 20)),
        chunk(b"iCCP", b"profile\0\0" + zlib.compress(bytes(2 << 20))),
    ],
)
def test_long_texts_and_profiles_are_left_out(extra):
    plain = encoded()
    data = plain[:33] + extra + plain[33:]  # behind the header
    assert without_unused(data) == (plain, {})
    np.testing.assert_array_equal(decode(data), PIXELS)


def test_other_files_are_left_as_they_are():
    for data in (encoded("JPEG"), b"", b"\x89PNG\r\n\x1a\n", encoded()[:40]):
        assert without_unused(data) == (data, {})


# --------------------------------------------------------------------------------- folders


def test_what_is_hidden_or_no_image_is_left_out_and_said(tmp_path, caplog):
    for name in (
        *("a.png", "sub/b.JPE", ".hidden.png", ".ipynb_checkpoints/a-checkpoint.png"),
        *(".Trash-0/files/a.png", "__MACOSX/._a.png", "@eaDir/a.png/THUMB.png"),
        *("notes.txt", "c.heic", "d.avif", "LICENSE"),
    ):
        path = tmp_path / "images" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded())
    os.symlink("a.png", tmp_path / "images/again.png")
    os.symlink("gone.png", tmp_path / "images/dangling.png")
    os.symlink("..", tmp_path / "images/sub/up")
    with caplog.at_level(logging.INFO):
        source = Folder(tmp_path / "images")
    assert source.names == ["a.png", "sub/b.JPE"]
    assert "9 files are not read as images" in caplog.text
    assert "5 hidden (.Trash-0/files/a.png)" in caplog.text and "1 .heic (c.heic)" in caplog.text
    assert "1 no suffix (LICENSE)" in caplog.text
    assert "dangling.png is a link to " in caplog.text
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a.png", "__MACOSX/a.png", "notes.txt"):
            archive.writestr(name, encoded())
    caplog.clear()
    with caplog.at_level(logging.INFO):
        assert Zip(tmp_path / "a.zip").names == ["a.png"]
    assert "2 files are not read as images: 1 hidden (__MACOSX/a.png), 1 .txt" in caplog.text


def test_a_folder_that_cannot_be_read_is_named(tmp_path, monkeypatch):
    (tmp_path / "closed").mkdir()
    scandir = os.scandir

    def refusing(path):  # root may read everything
        if str(path).endswith("closed"):
            raise PermissionError(errno.EACCES, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    with pytest.raises(UserError, match="closed cannot be read"):
        Folder(tmp_path)


def test_images_that_are_there_twice_are_counted(tmp_path, caplog):
    for name in ("a", "b", "c"):
        Image.fromarray(PIXELS[:4] + (name == "c")).save(tmp_path / f"{name}.png")
    record = pack(Folder(tmp_path), PackSettings("x", 4, "none"), tmp_path / "x.lmdb")
    assert record.duplicates == 1
    assert "x: 1 images have the same pixels as another" in caplog.text


# ---------------------------------------------------------------------- what a file really is


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"", "it is empty"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>404", "HTML page"),
        (b"\x1f\x8b\x08\0", "compressed by gzip"),
        (b'{"error": "quota"}', "it is JSON"),
        (struct.pack("<Q", 2) + b"{}", "a safetensors file"),
        (b"hello", "it is text"),
        (bytes(600), "truncated or of another kind"),
    ],
)
def test_a_file_that_is_not_what_its_name_says(tmp_path, content, kind):
    from stylenat.data.store import ImageStore
    from stylenat.interop import read_checkpoint
    from stylenat.models import load_generator
    from stylenat.training.checkpoint import load_state

    path = tmp_path / "file"
    path.write_bytes(content)
    assert kind in described(path)
    readers = [read_npz, load_state, load_generator, read_checkpoint, lambda p: len(ImageStore(p))]
    if kind != "it is JSON":
        readers.append(read_json)
    for reader in readers:
        with pytest.raises(UserError, match=kind) as caught:
            reader(path)
        assert "do not trust" not in str(caught.value)
