"""Downloads of whole data sets from a host that misbehaves, and what is made of what came."""

import hashlib
import io
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tarfile
import threading
import time
import zipfile

import lmdb
import numpy as np
import pytest
from PIL import Image

from stylenat.data import transfer
from stylenat.data.download import acquire
from stylenat.data.extract import extract
from stylenat.data.pack import PackSettings, pack
from stylenat.data.prepare import prepare
from stylenat.data.sources import open_source
from stylenat.data.transfer import Remote, download_all
from stylenat.errors import UserError
from tests.server import Host


def picture(seed: int, side: int = 40) -> Image.Image:
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def png(image: Image.Image, **options) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", **options)
    return buffer.getvalue()


def md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


@pytest.fixture
def ffhq(host, tmp_path):
    """An official list of 60 images and the host that has them; returns the list's entries."""
    entries = {}
    for index in range(60):
        path = f"images1024x1024/{index // 10 * 10:05d}/{index:05d}.png"
        data = png(picture(index))
        host.files[f"/{path}"] = data
        entries[str(index)] = {
            "category": "training",
            "image": {
                "file_url": f"{host.url}/{path}",
                "file_path": path,
                "file_size": len(data),
                "file_md5": md5(data),
                "pixel_size": [40, 40],
                "pixel_md5": md5(picture(index).tobytes()),
            },
            "in_the_wild": {"face_landmarks": [[1.0, 2.0]] * 68, "file_size": 1},
        }
    publish(host, entries)
    return entries


def publish(host, entries):
    host.files["/list.json"] = json.dumps(entries).encode()


def get(host, folder):
    return acquire(
        "faces",
        [{"kind": "ffhq", "json": f"{host.url}/list.json"}],
        folder,
        folder / "downloads.lock",
    )


def test_ffhq_from_its_list_over_a_bad_line(host, ffhq, tmp_path):
    chance = random.Random(0)
    host.fault = lambda path: "break" if chance.random() < 0.3 else None
    entry, files = get(host, tmp_path)
    assert [record.path for record in files] == [
        image["image"]["file_path"] for image in ffhq.values()
    ]
    source = open_source(entry, 40, tmp_path, files)
    assert "BY-NC-SA" in source.licence
    for index in range(60):
        assert np.array_equal(prepare(source.read(index), 40, "none"), np.asarray(picture(index)))
    leftovers = [p.name for p in tmp_path.rglob("*.*") if p.suffix in (".part", ".unverified")]
    assert leftovers == []


def test_ffhq_encoded_again_is_accepted_with_a_note(host, ffhq, tmp_path, caplog):
    again = png(picture(7), compress_level=1)
    assert md5(again) != ffhq["7"]["image"]["file_md5"]
    host.files["/images1024x1024/00000/00007.png"] = again
    with caplog.at_level(logging.INFO):
        _, files = get(host, tmp_path)
    assert [index for index, record in enumerate(files) if record.note] == [7]
    assert "00007.png: encoded again" in caplog.text


def test_ffhq_a_wrong_image_is_named_and_the_others_are_kept(host, ffhq, tmp_path):
    host.files["/images1024x1024/00030/00033.png"] = png(picture(999))
    with pytest.raises(UserError, match=r"1 of 60 .*00033\.png is not the image it should be"):
        get(host, tmp_path)
    assert len(list(tmp_path.rglob("*.png"))) == 59
    host.asked.clear()
    host.files["/images1024x1024/00030/00033.png"] = png(picture(33))
    _, files = get(host, tmp_path)
    assert len(files) == 60
    assert host.asked == ["/images1024x1024/00030/00033.png"], "more than the missing one"


def test_ffhq_quota_page_is_recognised_and_the_rest_goes_on(host, ffhq, tmp_path):
    refused = [f"/images1024x1024/00000/{index:05d}.png" for index in (3, 4)]
    host.fault = dict.fromkeys(refused, "page").get
    with pytest.raises(UserError, match=r"2 of 60 .*quota exceeded, try again after \d{4}-"):
        get(host, tmp_path)
    assert len(list(tmp_path.rglob("*.png"))) == 58
    host.fault = {}.get
    host.asked.clear()
    get(host, tmp_path)
    assert len(host.asked) == 2


def test_a_host_that_gives_nothing_is_given_up(host, ffhq, tmp_path, monkeypatch):
    monkeypatch.setattr(transfer, "_GIVE_UP", 5)
    host.fault = dict.fromkeys(list(host.files)[:60], "page").get
    with pytest.raises(UserError, match="given up there"):
        get(host, tmp_path)
    assert len(set(host.asked)) < 30


def test_ffhq_copy_in_a_folder_is_checked_by_its_pixels(host, ffhq, tmp_path):
    copy = tmp_path / "copy"
    for path in list(host.files)[:60]:
        target = copy / path.removeprefix("/images1024x1024/")
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(host.files[path])
    (copy / "00020/00021.png").write_bytes(png(picture(21), compress_level=1))
    (copy / "00020/00022.png").write_bytes(png(picture(999)))
    (tmp_path / "list.json").write_bytes(host.files["/list.json"])
    sources = [{"kind": "ffhq", "path": str(copy), "json": str(tmp_path / "list.json")}]
    entry, files = acquire("faces", sources, tmp_path / "download", tmp_path / "downloads.lock")
    source = open_source(entry, 40, tmp_path / "download", files)
    settings = PackSettings("faces", 40, "none")
    record = pack(source, settings, tmp_path / "x.lmdb", max_corrupt=1)
    assert record.count == 59
    (note,) = record.notes
    assert "00022.png: its pixels are not the official ones" in note
    (copy / "00000/00001.png").unlink()
    with pytest.raises(UserError, match="1 of 60 images are missing"):
        acquire("faces", sources, tmp_path / "download", tmp_path / "downloads.lock")


def test_ffhq_list_that_is_none_is_one_sentence(host, tmp_path):
    for content, reason in ((b"not json", "in JSON"), (b'{"0": {"image": {}}}', "file_url")):
        host.files["/list.json"] = content
        folder = tmp_path / reason.split()[0]
        with pytest.raises(UserError, match=reason):
            get(host, folder)


def test_a_list_cannot_name_files_outside(host, ffhq, tmp_path):
    ffhq["5"]["image"]["file_path"] = "../../../outside.png"
    publish(host, ffhq)
    _, files = get(host, tmp_path / "a" / "b" / "c")
    assert files[5].path == "outside.png"
    assert (tmp_path / "a/b/c/outside.png").exists()
    assert sorted(os.listdir(tmp_path)) == ["a"]


def test_killed_and_rerun_it_fetches_only_what_is_missing(host, ffhq, tmp_path):
    folder, manifest = tmp_path / "x.download", tmp_path / "x.json"
    sources = json.dumps([{"kind": "ffhq", "json": f"{host.url}/list.json"}])
    command = [sys.executable, "-m", "stylenat.steps.download", "--name", "x"]
    command += ["--sources", sources, "--directory", folder, "--manifest", manifest]
    gate = threading.Event()
    reached = threading.Event()
    original = Host.answer

    def answer(handler, *arguments, **options):
        if len(host.asked) > 30:  # the rest waits until the process is dead
            reached.set()
            gate.wait(120)
        original(handler, *arguments, **options)

    host.RequestHandlerClass = type("Gated", (Host,), {"answer": answer})
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL)
    assert reached.wait(120)
    deadline = time.monotonic() + 60
    while len(list(folder.rglob("*.png"))) < 15 and time.monotonic() < deadline:
        pass  # the fixture has silenced time.sleep
    process.send_signal(signal.SIGKILL)
    process.wait()
    here = {f"/{path.relative_to(folder)}" for path in folder.rglob("*.png")}
    assert 15 <= len(here) < 60
    assert not manifest.exists()
    with open(folder / "downloaded.jsonl", "a") as journal:
        journal.write('{"path": "torn')  # as a kill in the middle of a line leaves it
    gate.set()
    host.RequestHandlerClass = Host
    host.asked.clear()
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
    assert not here & set(host.asked), "a file that was there was fetched again"
    assert len(json.loads(manifest.read_text())["files"]) == 60
    host.asked.clear()
    subprocess.run(command, stderr=subprocess.DEVNULL, check=True)
    assert host.asked == []


def test_partial_content_is_continued_not_repeated(host, tmp_path):
    content = np.random.default_rng(0).bytes(1_000_000)
    host.files["/a.bin"] = content
    (tmp_path / "a.bin.part").write_bytes(content[:900_000])
    remote = Remote(f"{host.url}/a.bin", "a.bin", sha256=hashlib.sha256(content).hexdigest())
    (record,) = download_all([remote], tmp_path)
    assert (tmp_path / "a.bin").read_bytes() == content
    assert host.ranges == ["bytes=900000-"]
    assert record.sha256 == remote.sha256


def test_what_is_not_there_and_what_is_wrong_say_so(host, tmp_path):
    host.files["/a.png"] = png(picture(0))
    with pytest.raises(UserError, match="404"):
        download_all([Remote(f"{host.url}/missing.png", "missing.png")], tmp_path)
    with pytest.raises(UserError, match="its sha256 is"):
        download_all([Remote(f"{host.url}/a.png", "a.png", sha256="0" * 64)], tmp_path)
    assert not list(tmp_path.glob("*.png*"))


def test_a_changed_expectation_is_checked_again(host, tmp_path):
    data = host.files["/a.png"] = png(picture(0))
    remote = Remote(f"{host.url}/a.png", "a.png")
    download_all([remote], tmp_path)
    download_all([Remote(remote.url, remote.path, md5=md5(data))], tmp_path)
    assert len(host.asked) == 1
    with pytest.raises(UserError, match="md5"):
        download_all([Remote(remote.url, remote.path, md5="0" * 32)], tmp_path)


def test_a_full_disk_is_noticed_before_the_download(host, tmp_path):
    with pytest.raises(UserError, match="GB free"):
        download_all([Remote(f"{host.url}/a.png", "a.png", size=1 << 60)], tmp_path)
    assert host.asked == []


def from_urls(host, tmp_path, *names):
    urls = [{"url": f"{host.url}/{name}"} for name in names]
    entry, files = acquire(
        "x", [{"kind": "urls", "urls": urls}], tmp_path / "download", tmp_path / "downloads.lock"
    )
    return open_source(entry, 40, tmp_path / "download", files)


def test_urls_of_images_keep_the_lists_order(host, tmp_path):
    for name, seed in (("z.png", 0), ("a.png", 1), ("b/a.png", 2)):
        host.files[f"/{name}"] = png(picture(seed))
    source = from_urls(host, tmp_path, "z.png", "a.png", "b/a.png")
    for index in range(3):
        assert np.array_equal(prepare(source.read(index), 40, "none"), np.asarray(picture(index)))


def test_urls_of_archives(host, tmp_path):
    zipped, tarred, base = io.BytesIO(), io.BytesIO(), tmp_path / "church_lmdb"
    with zipfile.ZipFile(zipped, "w") as archive:
        archive.writestr("photos/a.png", png(picture(0)))
    with tarfile.open(fileobj=tarred, mode="w:gz") as archive:
        add(archive, "photos/b.png", png(picture(1)))
    with lmdb.open(str(base)) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"key", png(picture(2)))
    lsun = io.BytesIO()
    with zipfile.ZipFile(lsun, "w") as archive:
        archive.write(base / "data.mdb", "church_outdoor_train_lmdb/data.mdb")
        archive.write(base / "lock.mdb", "church_outdoor_train_lmdb/lock.mdb")
    host.files |= {
        "/a.zip": zipped.getvalue(),
        "/b.tar.gz": tarred.getvalue(),
        "/church_lmdb.zip": lsun.getvalue(),
    }
    source = from_urls(host, tmp_path, "a.zip", "b.tar.gz", "church_lmdb.zip")
    assert source.names == ["photos/a.png", "photos/b.png", "key"]
    for index in range(3):
        assert np.array_equal(prepare(source.read(index), 40, "none"), np.asarray(picture(index)))
    assert not (tmp_path / "download/extracted/000000-a.zip").exists(), "extracted for nothing"


def test_a_url_that_gives_something_else_than_the_first_time(host, tmp_path):
    host.files["/a.png"] = png(picture(0))
    from_urls(host, tmp_path, "a.png")
    host.files["/a.png"] = png(picture(1))
    shutil.rmtree(tmp_path / "download")
    with pytest.raises(
        UserError, match=r"sha256 is .*first download, in .*downloads\.lock; delete"
    ):
        from_urls(host, tmp_path, "a.png")


def test_urls_of_something_else(host, tmp_path):
    host.files["/a.txt"] = b"no image"
    with pytest.raises(UserError, match="neither an image nor an archive"):
        from_urls(host, tmp_path, "a.txt")


def add(archive, name, data, **attributes):
    member = tarfile.TarInfo(name)
    member.size = len(data)
    for key, value in attributes.items():
        setattr(member, key, value)
    archive.addfile(member, io.BytesIO(data))


HOSTILE = ("../../x.png", "/absolute/y.png", "a/../../../z.png", "..\\w.png", "fine/v.png")


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_members_stay_inside_whatever_they_are_called(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    if kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            for name in HOSTILE:
                archive.writestr(name, name)
    else:
        with tarfile.open(path, "w") as archive:
            for name in HOSTILE:
                add(archive, name, name.encode())
            add(archive, "link.png", b"", type=tarfile.SYMTYPE, linkname="/etc/passwd")
            add(archive, "device.png", b"", type=tarfile.CHRTYPE)
    folder = tmp_path / "deep" / "folder"
    extract(path, folder)
    found = sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())
    assert found == ["a/z.png", "absolute/y.png", "fine/v.png", "w.png", "x.png"]
    assert sorted(os.listdir(tmp_path)) == ["deep", f"x.{kind}"]
    assert os.listdir(tmp_path / "deep") == ["folder"]


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_bombs_are_refused_before_they_fill_the_disk(tmp_path, kind):
    path, zeros = tmp_path / f"x.{kind}", bytes(60 << 20)
    if kind == "zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("a.png", zeros)
    else:
        with tarfile.open(path, "w:gz") as archive:
            add(archive, "a.png", zeros)
    with pytest.raises(UserError, match="looks like a bomb"):
        extract(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    assert sum(p.stat().st_size for p in tmp_path.rglob("*")) < 40 << 20


def test_a_damaged_archive_is_not_half_extracted(tmp_path):
    path = tmp_path / "x.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for index in range(5):
            add(archive, f"{index}.png", png(picture(index)))
    path.write_bytes(path.read_bytes()[:-4000])
    with pytest.raises(UserError, match="cannot be extracted"):
        extract(path, tmp_path / "folder")
    assert not (tmp_path / "folder").exists()


def test_parquet_without_pyarrow_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(UserError, match="needs pyarrow"):
        open_source({"kind": "parquet", "path": str(tmp_path)}, 40)


def test_parquet_as_on_the_hub(tmp_path):
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    for shard in range(2):
        images = [{"bytes": png(picture(10 * shard + i)), "path": f"{i}.png"} for i in range(7)]
        table = pyarrow.table({"label": list(range(7)), "image": images})
        parquet.write_table(table, tmp_path / f"train-{shard}.parquet", row_group_size=3)
    source = open_source({"kind": "parquet", "path": str(tmp_path)}, 40)
    assert len(source.names) == 14
    for index, seed in ((13, 16), (0, 0), (7, 10), (3, 3)):
        assert np.array_equal(prepare(source.read(index), 40, "none"), np.asarray(picture(seed)))
    (tmp_path / "train-0.parquet").write_bytes(b"PAR1")
    with pytest.raises(UserError, match="not a whole Parquet"):
        open_source({"kind": "parquet", "path": str(tmp_path)}, 40)
