"""Sources of images: what they find, in which order, and what they refuse."""

import io
import json
import os
import pickle
import re
import zipfile

import lmdb
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.distance import pdist

from stylenat.data.download import acquire
from stylenat.data.listing import changed_folder
from stylenat.data.prepare import prepare
from stylenat.data.sources import open_source
from stylenat.data.sources.samples import HUBBLE, Galaxies, sample_file
from stylenat.data.store import ImageStore
from stylenat.data.writer import write_store
from stylenat.errors import UserError
from tests.project import make_clone, snakemake


def picture(seed: int, side: int = 48) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def encoded(image: Image.Image, format: str = "PNG", **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def pixels(source, index: int) -> np.ndarray:
    return prepare(pickle.loads(pickle.dumps(source)).read(index), 48, "lanczos")


def test_galaxies_are_852_centred_crops():
    source = open_source({"kind": "galaxies"}, 32)
    assert sample_file(HUBBLE[0]).name == "hubble_deep_field.jpg"
    assert HUBBLE[1].startswith("3a19c5dd8a927a93")
    assert len(source.names) == len(set(source.names)) == 852
    crops = np.stack([prepare(source.read(i), 32, "none") for i in range(852)])
    assert crops.shape == (852, 32, 32, 3)
    assert pdist(source.centres, "chebyshev").min() >= 6
    brightness = crops.mean(axis=(0, 3))
    assert np.unravel_index(brightness.argmax(), (32, 32)) == (16, 16)
    peaks = crops[:, 15:18, 15:18].mean(axis=(1, 2, 3))
    assert peaks[:100].mean() > 2 * peaks[-100:].mean(), "not brightest first"


def test_a_changed_sample_image_is_refused(monkeypatch):
    monkeypatch.setattr("stylenat.data.sources.samples.HUBBLE", (HUBBLE[0], "0" * 64))
    with pytest.raises(UserError, match="not the expected image"):
        Galaxies()


def test_photos_are_2000_seeded_crops():
    first, second = (open_source({"kind": "photos"}, 32) for _ in range(2))
    assert len(first.names) == 2000
    sides = [first.read(index).size for index in range(300)]
    assert all(width == height >= 32 for width, height in sides)
    assert len(set(sides)) > 100
    assert first.read(7).tobytes() == second.read(7).tobytes()


def test_folder_is_nested_mixed_and_sorted(tmp_path):
    (tmp_path / "b" / "c").mkdir(parents=True)
    picture(0).save(tmp_path / "b" / "c" / "z.webp", lossless=True)
    picture(1).save(tmp_path / "b" / "a.PNG", "PNG")
    picture(2).save(tmp_path / "Z.bmp")
    picture(3).save(tmp_path / ".hidden.png")
    (tmp_path / "notes.txt").write_text("not an image")
    os.symlink(tmp_path, tmp_path / "b" / "loop")
    source = open_source({"kind": "folder", "path": str(tmp_path)}, 48)
    assert source.names == ["Z.bmp", "b/a.PNG", "b/c/z.webp"]
    for index, seed in enumerate((2, 1, 0)):
        assert np.array_equal(pixels(source, index), np.asarray(picture(seed)))


def test_folder_says_what_it_is_instead(tmp_path):
    with pytest.raises(UserError, match="holds no images"):
        open_source({"kind": "folder", "path": tmp_path}, 48)
    (tmp_path / "data.mdb").touch()
    with pytest.raises(UserError, match="kind: lmdb"):
        open_source({"kind": "folder", "path": tmp_path}, 48)
    with pytest.raises(UserError, match="is not a folder"):
        open_source({"kind": "folder", "path": tmp_path / "missing"}, 48)


def test_zip_is_read_in_place(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for index, name in enumerate(("b.png", "a/c.png", "../../escape.png", "readme.txt")):
            archive.writestr(name, encoded(picture(index)))
    source = open_source({"kind": "zip", "path": path}, 48)
    assert source.names == ["../../escape.png", "a/c.png", "b.png"]
    assert np.array_equal(pixels(source, 2), np.asarray(picture(0)))
    assert np.array_equal(pixels(source, 0), np.asarray(picture(2)))
    assert os.listdir(tmp_path) == ["x.zip"], "something was extracted"


def test_zip_bomb_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", encoded(picture(0)))
        archive.writestr("b.png", bytes(50 << 20))
    with pytest.raises(UserError, match="b.png expands more than"):
        open_source({"kind": "zip", "path": tmp_path / "x.zip"}, 48)


def test_broken_zip_is_one_sentence(tmp_path):
    path = tmp_path / "x.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.png", encoded(picture(0)))
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(UserError, match="not a whole zip"):
        open_source({"kind": "zip", "path": path}, 48)
    with pytest.raises(UserError, match="does not exist"):
        open_source({"kind": "zip", "path": tmp_path / "missing.zip"}, 48)


def write_lmdb(path, items: dict[bytes, bytes], subdir: bool) -> None:
    with (
        lmdb.open(str(path), subdir=subdir, map_size=1 << 24) as environment,
        environment.begin(write=True) as transaction,
    ):
        for key, value in items.items():
            transaction.put(key, value)


def test_lsun_lmdb_of_jpeg_and_webp(tmp_path):
    items = {
        b"0a": encoded(picture(0), "JPEG", quality=95),
        b"1b": encoded(picture(1), "WEBP", lossless=True),
    }
    write_lmdb(tmp_path / "church_lmdb", items, subdir=True)
    source = open_source({"kind": "lmdb", "path": tmp_path / "church_lmdb"}, 48)
    assert source.names == ["0a", "1b"]
    assert source.read(0) == items[b"0a"]
    assert np.array_equal(pixels(source, 1), np.asarray(picture(1)))


@pytest.mark.parametrize(("wanted", "read"), [(32, 48), (48, 48), (64, 128), (256, 128)])
def test_reference_layout_reads_the_fitting_resolution(tmp_path, wanted, read):
    items = {b"length": b"3"}
    for side in (48, 128):
        for index in range(3):
            items[b"%d-%05d" % (side, index)] = encoded(picture(index, side))
    write_lmdb(tmp_path / "x.lmdb", items, subdir=False)
    source = open_source({"kind": "lmdb", "path": tmp_path / "x.lmdb"}, wanted)
    assert source.names == [f"{read}-{index:05d}" for index in range(3)]
    assert source.read(2) == items[b"%d-00002" % read]


def test_our_own_file_is_a_source_too(tmp_path):
    record = {"name": "x", "licence": "CC0"}
    write_store(tmp_path / "x.lmdb", [np.asarray(picture(i)) for i in range(3)], record)
    source = open_source({"kind": "lmdb", "path": tmp_path / "x.lmdb"}, 48)
    assert source.licence == "CC0"
    assert len(source.names) == 3
    assert np.array_equal(pixels(source, 2), np.asarray(picture(2)))


def test_the_first_source_that_is_there_is_used(tmp_path):
    (tmp_path / "images").mkdir()
    picture(0).save(tmp_path / "images" / "a.png")
    sources = [
        {"kind": "zip", "path": str(tmp_path / "missing.zip")},
        {"kind": "folder", "path": str(tmp_path / "images")},
        {"kind": "galaxies"},
    ]
    assert acquire("x", sources, tmp_path / "download", tmp_path / "lock") == (sources[1], [])
    with pytest.raises(UserError, match=r"no source of data set x .*missing\.zip does not exist"):
        acquire("x", sources[:1], tmp_path / "download", tmp_path / "lock")


def test_a_folder_that_changed_since_it_was_packed_is_said_and_nothing_runs_again(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (tmp_path / "clone").mkdir()
    for index in range(3):
        Image.new("RGB", (32, 32), (index, 0, 0)).save(images / f"{index}.png")
    clone = make_clone(tmp_path / "clone")
    mine = {
        "resolution": 32,
        "filter": "none",
        "sources": [{"kind": "folder", "path": "../images"}],
    }
    (clone / "mine.yaml").write_text(json.dumps({"datasets": {"mine": mine}}))

    def pack(*options):
        target = ("--configfile", "mine.yaml", *options, "--", "results/data/mine.lmdb")
        done = snakemake("--cores", "1", *target, cwd=clone)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr, len(ImageStore(clone / "results/data/mine.lmdb"))

    text, count = pack()
    assert count == 3 and "has changed" not in text
    assert "has changed" not in pack()[0]
    Image.new("RGB", (32, 32), "white").save(images / "3.png")
    text, count = pack()
    assert "datasets.mine: ../images has changed since it was packed" in text and count == 3
    assert "Nothing to be done" in text
    _, count = pack(*re.search("(--forcerun) (.*)", text).groups())
    assert count == 4 and "has changed" not in pack()[0]


@pytest.mark.parametrize("content", ["", "[]", "3", "{}", '{"source": {"kind": "folder"}}'])
def test_a_manifest_that_is_damaged_or_older_says_nothing_about_its_folder(tmp_path, content):
    (tmp_path / "mine.download.json").write_text(content)
    assert changed_folder(tmp_path / "mine.download.json") is None
    assert changed_folder(tmp_path / "none.download.json") is None
