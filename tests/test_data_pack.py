"""Packing: what becomes of every kind of image, and the same bytes whatever happens on the way."""

import hashlib
import io
import logging
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from stylenat.data.pack import PackSettings, pack
from stylenat.data.prepare import Unusable, prepare
from stylenat.data.sources import open_source
from stylenat.data.store import ImageStore
from stylenat.data.writer import partial_path
from stylenat.errors import UserError
from tests.packing import killed_twice

SIDE = 32


def gradient(width: int = SIDE, height: int = SIDE) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    values = np.stack([x * 255 // width, y * 255 // height, (x + y) * 127 // height], 2)
    return values.astype(np.uint8)


def encode(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def rotated() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6  # stored lying on its left side
    image = Image.fromarray(gradient()).transpose(Image.Transpose.ROTATE_90)
    return encode(image, exif=exif)


def png16(colour: bool) -> bytes:
    """A 16-bit PNG whose high bytes are the gradient's; Pillow cannot write the RGB one."""
    high = gradient() if colour else gradient()[..., :1]
    rows = np.stack([high, np.full_like(high, 200)], -1).reshape(SIDE, -1)
    data = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    header = struct.pack(">IIBBBBB", SIDE, SIDE, 16, 2 if colour else 0, 0, 0, 0)
    chunks = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunks


def half_transparent() -> bytes:
    alpha = np.full((SIDE, SIDE, 1), 255, np.uint8)
    alpha[:, SIDE // 2 :] = 0
    return encode(Image.fromarray(np.concatenate([gradient(), alpha], 2)))


def half_white() -> np.ndarray:
    pixels = gradient()
    pixels[:, SIDE // 2 :] = 255
    return pixels


def palette(**options) -> bytes:
    return encode(Image.fromarray(gradient() // 64 * 64).quantize(256), **options)


GREY = np.repeat(gradient()[..., :1], 3, axis=2)

USABLE = {
    "plain.png": (encode(Image.fromarray(gradient())), gradient()),
    "exif.png": (rotated(), gradient()),
    "grey.png": (encode(Image.fromarray(GREY[..., 0])), GREY),
    "grey16.png": (png16(colour=False), GREY),
    "rgb16.png": (png16(colour=True), gradient()),
    "palette.png": (palette(), gradient() // 64 * 64),
    "one_bit.png": (
        encode(Image.fromarray(GREY[..., 0] > 127)),
        np.where(GREY > 127, 255, 0).astype(np.uint8),
    ),
    "opaque.png": (encode(Image.fromarray(gradient()).convert("RGBA")), gradient()),
    "alpha.png": (half_transparent(), half_white()),
    "cmyk.tif": (
        encode(Image.fromarray(255 - gradient()).convert("CMYK"), "TIFF"),
        255 - gradient(),
    ),
    "wide.png": (encode(Image.fromarray(gradient(60))), gradient(60)[:, 14:46]),
    "tall.png": (encode(Image.fromarray(gradient(32, 41))), gradient(32, 41)[4:36]),
    "profile.png": (encode(Image.fromarray(gradient()), icc_profile=b"not sRGB"), gradient()),
    "frames.gif": (
        encode(
            Image.fromarray(GREY[..., 0]),
            "GIF",
            save_all=True,
            append_images=[Image.new("L", (32, 32))],
        ),
        GREY,
    ),
}

UNUSABLE = {
    "truncated.png": (encode(Image.fromarray(gradient(300, 300)))[:-2000], "truncated"),
    "truncated.jpg": (encode(Image.fromarray(gradient(300, 300)), "JPEG")[:-2000], "truncated"),
    "cut_header.png": (encode(Image.fromarray(gradient()))[:20], "cannot be decoded|not an image"),
    "empty.png": (b"", "not an image"),
    "html.png": (b"<html>quota exceeded</html>", "not an image"),
    "vector.png": (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "not an image"),
    "tiny.png": (encode(Image.fromarray(gradient(31, 40))), "too small: 31"),
    "float.tif": (encode(Image.fromarray(GREY[..., 0].astype(np.float32)), "TIFF"), "32 bits"),
}


@pytest.mark.parametrize("name", USABLE)
def test_odd_images_are_packed_as_stated(name):
    data, expected = USABLE[name]
    assert np.array_equal(prepare(data, SIDE, "none"), expected)


@pytest.mark.parametrize("name", UNUSABLE)
def test_unusable_images_are_left_out_as_stated(name):
    data, reason = UNUSABLE[name]
    with pytest.raises(Unusable, match=reason) as caught:
        prepare(data, SIDE, "lanczos")
    assert "0x" not in str(caught.value), "an address would make the file differ from run to run"


def test_bombs_are_left_out(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(Unusable, match="too many pixels"):
        prepare(USABLE["plain.png"][0], SIDE, "none")


def test_filters_are_pillows_own():
    image = Image.fromarray(gradient(200, 120))
    middle = image.crop((40, 0, 160, 120))
    for name, filter in (("lanczos", Image.Resampling.LANCZOS), ("box", Image.Resampling.BOX)):
        expected = np.asarray(middle.resize((SIDE, SIDE), filter))
        assert np.array_equal(prepare(encode(image), SIDE, name), expected)
    with pytest.raises(Unusable, match="filter is none"):
        prepare(encode(image), SIDE, "none")


def test_pixel_md5_is_of_the_image_before_it_is_resized():
    pixels = gradient(64, 64)
    right = hashlib.md5(pixels.tobytes()).hexdigest()
    assert prepare(encode(Image.fromarray(pixels)), SIDE, "box", right).size == (SIDE, SIDE)
    with pytest.raises(Unusable, match="not the official"):
        prepare(encode(Image.fromarray(pixels)), SIDE, "box", "0" * 32)


@pytest.fixture
def folder(tmp_path):
    """Every odd image there is, and enough plain ones for several transactions."""
    path = tmp_path / "images"
    path.mkdir()
    for name, (data, _) in (USABLE | UNUSABLE).items():
        (path / name).write_bytes(data)
    random = np.random.default_rng(0)
    for index in range(60):
        pixels = random.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path / f"{index:03d}.png")
    return path


def run_pack(folder, output, filter="lanczos", workers=1, max_corrupt=8, **options):
    source = open_source({"kind": "folder", "path": str(folder)}, SIDE)
    settings = PackSettings("odd", SIDE, filter)
    return pack(source, settings, output, workers, max_corrupt, **options)


def test_a_folder_of_everything(folder, tmp_path, caplog):
    with caplog.at_level(logging.WARNING):
        record = run_pack(folder, tmp_path / "x.lmdb")
    assert record.count == 60 + len(USABLE)
    assert len(record.notes) == len(UNUSABLE)
    for name in UNUSABLE:
        assert any(name in note for note in record.notes)
        assert name in caplog.text
    names = sorted(name for name in os.listdir(folder) if name not in UNUSABLE)
    store = ImageStore(tmp_path / "x.lmdb")
    for index, name in enumerate(names):
        if name in USABLE:
            assert np.array_equal(store.read(index), USABLE[name][1]), name
    assert sorted(os.listdir(tmp_path)) == ["images", "x.lmdb"]


def test_past_the_limit_it_fails_and_raising_the_limit_goes_on(folder, tmp_path):
    output = tmp_path / "x.lmdb"
    with pytest.raises(
        UserError, match="2 images cannot be used, and max_corrupt is 1: cut_header"
    ):
        run_pack(folder, output, max_corrupt=1)
    assert not output.exists()
    run_pack(folder, output)
    run_pack(folder, tmp_path / "straight.lmdb")
    assert output.read_bytes() == (tmp_path / "straight.lmdb").read_bytes()


def test_any_number_of_workers_gives_the_same_bytes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("stylenat.data.writer._TRANSACTION", 20_000)
    for workers in (1, 2, 5):
        run_pack(folder, tmp_path / f"{workers}.lmdb", workers=workers)
    contents = {(tmp_path / f"{workers}.lmdb").read_bytes() for workers in (1, 2, 5)}
    assert len(contents) == 1


def test_interrupted_anywhere_it_goes_on_to_the_same_bytes(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("stylenat.data.writer._TRANSACTION", 20_000)
    output = tmp_path / "x.lmdb"
    done = []

    def interrupt_after(count):
        def advance(step):
            done.append(step)
            if len(done) > count:
                raise KeyboardInterrupt

        return advance

    for count in (10, 25, 20, 15):
        done.clear()
        with pytest.raises(KeyboardInterrupt):
            run_pack(folder, output, advance=interrupt_after(count))
        assert partial_path(output).exists() and not output.exists()
    assert done[0] > 30, "nothing was kept"
    run_pack(folder, output)
    run_pack(folder, tmp_path / "straight.lmdb")
    assert output.read_bytes() == (tmp_path / "straight.lmdb").read_bytes()


def test_killed_twice_it_goes_on_to_the_same_bytes(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    tile = random.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    for index in range(450):
        Image.fromarray(np.roll(tile, index, axis=(0, 1))).save(
            folder / f"{index:04d}.png", compress_level=0
        )
    source = {"kind": "folder", "path": str(folder)}
    killed_twice(source, 256, tmp_path, transaction=2_000_000, growth=4 << 20)


def test_other_settings_do_not_continue_a_partial_file(folder, tmp_path, monkeypatch, caplog):
    monkeypatch.setattr("stylenat.data.writer._TRANSACTION", 20_000)
    output = tmp_path / "x.lmdb"
    with pytest.raises(UserError):
        run_pack(folder, output, max_corrupt=3)
    assert partial_path(output).exists()
    run_pack(folder, output, filter="box")
    assert "starting again" in caplog.text
    run_pack(folder, tmp_path / "straight.lmdb", filter="box")
    assert output.read_bytes() == (tmp_path / "straight.lmdb").read_bytes()


def test_the_filter_is_part_of_a_data_sets_identity(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    Image.fromarray(gradient(100, 100)).save(folder / "a.png")
    lanczos, box = (run_pack(folder, tmp_path / f"{f}.lmdb", f) for f in ("lanczos", "box"))
    assert (lanczos.filter, box.filter) == ("lanczos", "box")
    assert lanczos.content_sha256 != box.content_sha256
