"""The one-file data set: round trip, identity, faults, forks."""

import hashlib
import multiprocessing
import os
import pickle

import lmdb
import numpy as np
import pytest
from PIL import Image

from stylenat.data import codec
from stylenat.data.store import ImageStore
from stylenat.data.writer import StoreWriter, partial_path, write_store
from stylenat.errors import UserError

RECORD = {"name": "x", "filter": "none", "source": "test", "licence": "none", "notes": []}


def images(count: int, side: int, seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, 256, (side, side, 3), dtype=np.uint8) for _ in range(count)]


@pytest.mark.parametrize(("side", "name"), [(32, codec.RAW), (96, codec.WEBP)])
def test_pixels_and_metadata_come_back(tmp_path, side, name):
    pixels = images(7, side)
    record = write_store(tmp_path / "x.lmdb", iter(pixels), RECORD)
    store = ImageStore(tmp_path / "x.lmdb")
    assert len(store) == 7
    assert store.metadata == record
    assert store.metadata.codec == name
    assert store.metadata.resolution == side
    assert all(np.array_equal(store.read(i), image) for i, image in enumerate(pixels))
    assert os.listdir(tmp_path) == ["x.lmdb"]


def test_content_hash_is_over_pixels_in_order(tmp_path):
    pixels = images(3, 16)
    record = write_store(tmp_path / "a.lmdb", pixels, RECORD)
    digests = b"".join(hashlib.sha256(image.tobytes()).digest() for image in pixels)
    assert record.content_sha256 == hashlib.sha256(digests).hexdigest()
    other = write_store(tmp_path / "b.lmdb", pixels[::-1], RECORD)
    assert other.content_sha256 != record.content_sha256


def test_the_same_images_give_the_same_bytes_however_often_interrupted(tmp_path, monkeypatch):
    monkeypatch.setattr("stylenat.data.writer._TRANSACTION", 200_000)
    pixels = images(40, 96)
    whole, pieces = tmp_path / "whole.lmdb", tmp_path / "pieces.lmdb"
    write_store(whole, pixels, RECORD)
    for end in (17, 18, 31, 40):
        with StoreWriter(pieces, resume=True) as writer:
            values = [(v, codec.decode(v, codec.WEBP, 96)) for v, _ in writer.written()]
            assert end == 17 or values, "nothing survived the interruption"
            for value, found in values:
                writer.confirm(codec.checksum(value, None), codec.pixel_digest(found))
            for image in pixels[len(writer) : end]:
                writer.append(codec.encode(Image.fromarray(image), codec.WEBP))
            if end == 40:
                writer.finish(RECORD | {"resolution": 96, "codec": codec.WEBP})
    assert pieces.read_bytes() == whole.read_bytes()


def test_failed_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.lmdb"
    write_store(path, images(2, 16), RECORD)
    before = path.read_bytes()

    def broken():
        yield from images(1, 16)
        raise RuntimeError("generator failed")

    with pytest.raises(RuntimeError):
        write_store(path, broken(), RECORD)
    with pytest.raises(UserError, match="no image"):
        write_store(path, [], RECORD)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["x.lmdb"]


def test_a_write_that_reads_back_differently_is_not_renamed(tmp_path):
    path = tmp_path / "x.lmdb"
    pixels = images(3, 64)
    with StoreWriter(path) as writer:
        for image in pixels:
            writer.append(codec.encode(Image.fromarray(image), codec.RAW))
        writer._flush()
    writer = StoreWriter(path, resume=True)
    for image in pixels:
        encoded = codec.encode(Image.fromarray(image), codec.RAW)
        writer.confirm(encoded.checksum, encoded.digest)
    data = bytearray(partial_path(path).read_bytes())
    data[data.index(pixels[1].tobytes())] ^= 1
    partial_path(path).write_bytes(data)
    with pytest.raises(UserError, match="reads back differently"):
        writer.finish(RECORD | {"resolution": 64, "codec": codec.RAW})
    assert not path.exists()


def test_every_truncation_is_one_sentence_and_no_bus_error(tmp_path):
    path = tmp_path / "x.lmdb"
    write_store(path, images(20, 96), RECORD)
    data = path.read_bytes()
    cut = tmp_path / "cut.lmdb"
    for size in (0, 1, 100, 4096, 8192, 12288, len(data) // 2, len(data) - 4096, len(data) - 1):
        cut.write_bytes(data[:size])
        with pytest.raises(UserError, match=r"cut\.lmdb is (truncated|not an LMDB)") as caught:
            ImageStore(cut).read(19)
        assert "\n" not in str(caught.value)


def test_foreign_files_are_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        len(ImageStore(tmp_path / "missing.lmdb"))
    text = tmp_path / "text.lmdb"
    text.write_text("no LMDB " * 4000)
    with pytest.raises(UserError, match="not an LMDB"):
        len(ImageStore(text))
    with (
        lmdb.open(str(tmp_path / "lsun.lmdb"), subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(b"key", b"value")
    with pytest.raises(UserError, match="not a packed data set"):
        len(ImageStore(tmp_path / "lsun.lmdb"))


def test_a_damaged_image_is_named(tmp_path):
    path = tmp_path / "x.lmdb"
    write_store(path, images(5, 96), RECORD)
    value = ImageStore(path).encoded(3)
    path.write_bytes(path.read_bytes().replace(value[:64], bytes(64)))
    with pytest.raises(UserError, match="image 3 cannot be read"):
        ImageStore(path).read(3)
    with pytest.raises(IndexError):
        ImageStore(path).read(5)


def _sum(store: ImageStore) -> int:
    return sum(int(store.read(index).sum()) for index in range(len(store)))


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_while_the_parent_holds_it_open(tmp_path, method):
    pixels = images(12, 96)
    write_store(tmp_path / "x.lmdb", pixels, RECORD)
    store = ImageStore(tmp_path / "x.lmdb")
    expected = _sum(store)
    workers = 8 if method == "fork" else 2
    with multiprocessing.get_context(method).Pool(workers) as pool:
        assert pool.map(_sum, [store] * workers, chunksize=1) == [expected] * workers
    assert _sum(store) == expected
    assert os.listdir(tmp_path) == ["x.lmdb"], "a lock file was written"


def test_two_readers_of_one_file_in_one_process(tmp_path):
    path = tmp_path / "x.lmdb"
    write_store(path, images(2, 16), RECORD)
    first, second = ImageStore(path), pickle.loads(pickle.dumps(ImageStore(path)))
    assert np.array_equal(first.read(1), second.read(1))
    write_store(path, images(3, 16, seed=1), RECORD)  # replaced while both are open
    assert (len(first), len(ImageStore(path))) == (2, 3)
