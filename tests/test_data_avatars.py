"""Avatars: the same faces wherever they are drawn, what is known of them, and what is refused."""

import shutil
import sys

import lmdb
import numpy as np
import pytest

from stylenat.data.check import verify
from stylenat.data.pack import PackSettings, pack
from stylenat.data.sources import open_source
from stylenat.data.store import ImageStore, attributes_key
from stylenat.data.writer import write_store
from stylenat.errors import UserError
from tests.packing import killed_twice

FACES = {
    "kind": "avatars",
    "style": "toon-head",
    "count": 40,
    "first_seed": 0,
    "backgrounds": ["b6e3f4", "c0aede", "d1d4f9", "ffd5dc", "ffdfbf"],
}
SIDE = 32


def pack_faces(output, workers=1, **changes):
    source = open_source(FACES | changes, SIDE)
    return pack(source, PackSettings("faces", SIDE, "none"), output, workers)


@pytest.fixture(scope="module")
def packed(tmp_path_factory):
    """40 faces, packed in this process."""
    path = tmp_path_factory.mktemp("packed") / "x.lmdb"
    pack_faces(path)
    return path


def test_the_same_seeds_are_the_same_faces_everywhere(packed):
    store = ImageStore(packed)
    assert store.metadata.content_sha256.startswith("b83e543af9378edc7f62671267b546bc")
    assert store.attributes(7) == {
        "backgroundColor": "#ffd5dc",
        "bodyVariant": "body",
        "clothesColor": "#eab308",
        "clothesVariant": "openJacket",
        "eyebrowsVariant": "neutral",
        "eyesVariant": "happy",
        "hairColor": "#a55728",
        "hairVariant": "sideComed",
        "headVariant": "head",
        "mouthVariant": "smile",
        "rearHairVariant": "neckHigh",
        "skinColor": "#5c3829",
        "strokeColor": "#000000",
    }


def test_images_are_a_function_of_their_seed_alone():
    first, later = (open_source(FACES | {"first_seed": seed}, SIDE) for seed in (0, 5))
    assert later.names[0] == first.names[5] == "seed 5"
    assert later.read(0).tobytes() == first.read(5).tobytes() != first.read(4).tobytes()
    assert later.attributes(0) == first.attributes(5) != first.attributes(4)


def test_any_number_of_workers_gives_the_same_bytes(tmp_path, monkeypatch):
    monkeypatch.setattr("stylenat.data.writer._TRANSACTION", 20_000)
    for workers in (1, 2, 5):
        pack_faces(tmp_path / f"{workers}.lmdb", workers)
    assert len({(tmp_path / f"{workers}.lmdb").read_bytes() for workers in (1, 2, 5)}) == 1


def test_killed_twice_it_goes_on_to_the_same_bytes(tmp_path):
    source = FACES | {"count": 300}
    path = killed_twice(source, SIDE, tmp_path, transaction=20_000, growth=200_000)
    store, again = ImageStore(path), open_source(source, SIDE)
    assert all(store.attributes(index) == again.attributes(index) for index in range(300))


def test_attributes_say_what_is_in_the_pixels(packed):
    store = ImageStore(packed)
    colours = set()
    for index in range(len(store)):
        stated = store.attributes(index)["backgroundColor"]
        assert "#" + bytes(store.read(index)[0, 0]).hex() == stated
        colours.add(stated.removeprefix("#"))
    assert colours == set(FACES["backgrounds"])


def test_a_component_that_is_not_in_an_image_has_no_attribute(packed):
    store = ImageStore(packed)
    bearded = ["beardVariant" in store.attributes(index) for index in range(len(store))]
    assert any(bearded) and not all(bearded)
    assert all("hairColor" in store.attributes(index) for index in range(len(store)))


def test_attributes_outlive_packing_again(packed, tmp_path):
    source = open_source({"kind": "lmdb", "path": packed}, SIDE)
    pack(source, PackSettings("again", SIDE, "none"), tmp_path / "x.lmdb")
    first, second = ImageStore(packed), ImageStore(tmp_path / "x.lmdb")
    for key in ("content_sha256", "licence", "creator"):
        assert getattr(second.metadata, key) == getattr(first.metadata, key)
    assert second.attributes(3) == first.attributes(3) is not None


def test_images_without_attributes_have_none(tmp_path):
    write_store(tmp_path / "x.lmdb", [np.zeros((SIDE, SIDE, 3), np.uint8)] * 2, {"name": "x"})
    assert ImageStore(tmp_path / "x.lmdb").attributes(1) is None
    with lmdb.open(str(tmp_path / "x.lmdb"), subdir=False, lock=False) as environment:
        assert environment.stat()["entries"] == 3


def test_damaged_attributes_are_noticed(packed, tmp_path):
    path = shutil.copy(packed, tmp_path / "x.lmdb")
    with (
        lmdb.open(str(path), subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(attributes_key(3), b"{")
    with pytest.raises(UserError, match=r"1 of 40 images cannot be read \(3\)"):
        verify(path)


def test_the_style_names_its_creator_and_licence(packed):
    record = ImageStore(packed).metadata
    assert record.creator == "Johan Melin (https://www.johanmelin.com)"
    assert record.licence == "CC BY 4.0 (https://creativecommons.org/licenses/by/4.0/)"
    other = open_source(FACES | {"style": "bottts"}, SIDE)
    assert other.licence.startswith("Free for personal and commercial use")


def test_everything_that_decides_the_pixels_is_part_of_the_identity():
    described = open_source(FACES, SIDE).describe()
    for part in (
        "toon-head (SHA-256 ",
        "seeds 0-39",
        "b6e3f4 c0aede",
        "dicebear-core 1",
        "dicebear-styles 1",
        "resvg-py 0",
    ):
        assert part in described
    for change in ({"style": "personas"}, {"first_seed": 1}, {"backgrounds": ["b6e3f4"]}):
        assert open_source(FACES | change, SIDE).describe() != described


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"style": "toonhead"}, "has no 'toonhead'; did you mean toon-head"),
        ({"style": "../toon-head"}, "has no '../toon-head'; "),
        ({"style": "q"}, "has no 'q'; there are adventurer, "),
        ({"count": 0}, "0 avatars is empty; count must be 1 or more"),
        ({"first_seed": -1}, "first_seed of avatars is -1; it must be 0 or more"),
        ({"backgrounds": []}, "at least one background"),
        ({"backgrounds": ["b6e3f4", "#c0aede"]}, "'#c0aede' of avatars is not a colour"),
    ],
    ids=str,
)
def test_what_cannot_be_drawn_is_one_sentence(change, message):
    with pytest.raises(UserError) as caught:
        open_source(FACES | change, SIDE)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("module", ["dicebear", "dicebear_styles", "resvg_py"])
def test_a_missing_package_is_one_sentence(monkeypatch, module):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=r"pip install 'stylenat\[demo\]'\.$"):
        open_source(FACES, SIDE)
