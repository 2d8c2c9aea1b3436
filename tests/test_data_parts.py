"""Held-out shares of a data set, and class labels."""

import json
import zipfile

import numpy as np
import pytest
import yaml
from PIL import Image

from stylenat.data.pack import PackSettings, pack
from stylenat.data.sources import open_source
from stylenat.data.sources.files import Folder, Zip
from stylenat.data.sources.split import Split
from stylenat.data.store import ImageStore
from stylenat.errors import ConfigError, UserError
from stylenat.experiments import resolve
from stylenat.io import write_json
from stylenat.metrics.collect import chosen
from tests.project import ROOT, run

SIDE = 8


def write_images(folder, count=20, classes=("cat", "dog")):
    """Image n is of the colour n, in the folder of its class."""
    for number in range(count):
        path = folder / classes[number % len(classes)] / f"{number:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (SIDE, SIDE), (number, 0, 0)).save(path)
    return folder


def colours(store):
    return [int(store.read(index)[0, 0, 0]) for index in range(len(store))]


def packed(source, path, name="mine"):
    pack(source, PackSettings(name, SIDE, "none"), path)
    return ImageStore(path)


def test_the_parts_are_disjoint_and_together_the_whole(tmp_path):
    source = Folder(write_images(tmp_path / "images"))
    rest = packed(Split(source, 0.2, held_out=False), tmp_path / "rest.lmdb")
    test = packed(Split(source, 0.2, held_out=True), tmp_path / "test.lmdb")
    assert (len(rest), len(test)) == (16, 4)
    assert sorted(colours(rest) + colours(test)) == list(range(20))
    assert test.metadata.source.startswith("held out 0.2 of folder: ")
    assert rest.metadata.content_sha256 != test.metadata.content_sha256
    again = packed(Split(source, 0.2, held_out=True), tmp_path / "again.lmdb")
    assert again.metadata == test.metadata


def renamed(folder, other):
    """The same files under other names, which sort in another order."""
    other.mkdir()
    for path in folder.rglob("*.png"):
        (other / f"{7 * int(path.stem) % 20:03d}-new.png").write_bytes(path.read_bytes())
    return other


def held_out(folder, manifest, **facts):
    """The colours that the step `pack` holds out of a folder with this manifest."""
    source = {"kind": "folder", "path": str(folder)}
    write_json(manifest, {"source": source, "directory": "x", "files": [], **facts})
    arguments = (
        f"--name x --resolution {SIDE} --filter none --test-share 0.2 --held-out --workers 1"
    )
    output = manifest.with_suffix(".lmdb")
    done = run(
        *("python", "-m", "stylenat.steps.pack", *arguments.split()),
        *("--manifest", manifest, "--output", output),
    )
    assert done.returncode == 0, done.stderr
    return set(colours(ImageStore(output)))


def test_renaming_files_does_not_change_what_is_held_out(tmp_path):
    one, other = write_images(tmp_path / "one"), tmp_path / "other"
    other.mkdir()
    for path in one.rglob("*.png"):
        (other / f"{7 * int(path.stem) % 20:03d}.png").write_bytes(path.read_bytes())
    found = held_out(one, tmp_path / "a.json", split="content")
    assert len(found) == 4
    assert held_out(other, tmp_path / "b.json", split="content") == found
    # Data sets of before, whose manifests do not say it, stay as they were divided.
    assert held_out(one, tmp_path / "c.json") == set(
        colours(packed(Split(Folder(one), 0.2, True, by_place=True), tmp_path / "d.lmdb"))
    )
    assert held_out(other, tmp_path / "e.json") != held_out(one, tmp_path / "f.json")


def test_at_least_one_image_is_held_out(tmp_path):
    source = Folder(write_images(tmp_path, 3))
    assert len(Split(source, 0.01, held_out=True).names) == 1


@pytest.mark.parametrize("test", [0, 1, -0.1, "some", True, []])
def test_a_share_that_cannot_be(test):
    config = yaml.safe_load((ROOT / "config/config.yaml").read_text())
    config["datasets"]["photos32"]["test"] = test
    with pytest.raises(ConfigError, match=r"^datasets\.photos32\.test: "):
        resolve(config)


def test_both_parts_are_packed_from_one_download(tmp_path):
    datasets = {"photos32": {"test": 0.1}}
    (tmp_path / "share.yaml").write_text(json.dumps({"datasets": datasets}))
    targets = ["results/data/photos32.lmdb", "results/data/photos32.test.lmdb"]
    done = run("snakemake", "-n", "-p", "--configfile", tmp_path / "share.yaml", "--", *targets)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("stylenat.steps.download") == 1
    assert (
        "--test-share 0.1 --held-out" in done.stdout and "--test-share 0.1 --workers" in done.stdout
    )


def test_folders_as_classes(tmp_path):
    source = Folder(write_images(tmp_path / "images", 6), classes="folders")
    store = packed(source, tmp_path / "mine.lmdb")
    assert store.metadata.classes == ["cat", "dog"]
    found = [store.attributes(index) for index in range(6)]
    assert found == [{"class": "cat"}] * 3 + [{"class": "dog"}] * 3
    assert colours(store) == [0, 2, 4, 1, 3, 5]
    np.testing.assert_array_equal(chosen("class=dog", store), [3, 4, 5])
    with pytest.raises(UserError, match="has no class 'cow'; there are cat, dog"):
        chosen("class=cow", store)


def test_stylegans_list_in_an_archive(tmp_path):
    images = write_images(tmp_path / "images", 4, classes=("00000",))
    labels = [[f"00000/{number:03d}.png", number // 2] for number in range(4)]
    with zipfile.ZipFile(tmp_path / "mine.zip", "w") as archive:
        for file in sorted(images.rglob("*.png")):
            archive.write(file, file.relative_to(images))
        archive.writestr("dataset.json", json.dumps({"labels": labels}))
    entry = {"kind": "zip", "path": tmp_path / "mine.zip", "classes": "dataset.json"}
    store = packed(open_source(entry, SIDE), tmp_path / "mine.lmdb")
    assert [store.attributes(index)["class"] for index in range(4)] == ["0", "0", "1", "1"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "has no dataset.json with `labels`"),
        ("{}", "has no dataset.json with `labels`"),
        ('{"labels": null}', "has no class by `classes: dataset.json`"),
        ('{"labels": [["cat/000.png", 1]]}', "cat/002.png has no class"),
        ('{"labels": [1]}', "is not a list of pairs"),
        ("<html>", "is not a list of pairs"),
    ],
)
def test_labels_that_are_not_there(tmp_path, content, message):
    images = write_images(tmp_path, 3)
    if content is not None:
        (images / "dataset.json").write_text(content)
    with pytest.raises(UserError, match=message):
        Folder(images, classes="dataset.json")


def test_without_labels_a_data_set_is_as_before(tmp_path):
    store = packed(Folder(write_images(tmp_path / "images", 4)), tmp_path / "mine.lmdb")
    assert store.metadata.classes is None and store.attributes(0) is None
    with pytest.raises(UserError, match="it has no class labels"):
        chosen("class=cat", store)


def test_an_archive_without_labels_is_refused(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.png", b"")
    with pytest.raises(UserError, match="has no dataset.json"):
        Zip(tmp_path / "a.zip", classes="dataset.json")
