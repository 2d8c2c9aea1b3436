"""Verifying and inspecting data sets; identity in statistics; workers that die."""

import json
import logging
import os
import signal

import numpy as np
import pytest
from PIL import Image

from stylenat.data.ordered import ordered_map
from stylenat.data.pack import PackSettings, pack
from stylenat.data.sources import open_source
from stylenat.data.store import ImageStore
from stylenat.data.writer import write_store
from stylenat.errors import UserError
from stylenat.metrics.moments import COMPARABLE, require_same
from stylenat.records import MeasuredSet
from stylenat.steps import inspect, verify
from tests.records import STATISTICS


@pytest.fixture
def path(tmp_path):
    random = np.random.default_rng(0)
    images = (random.integers(0, 256, (96, 96, 3), dtype=np.uint8) for _ in range(9))
    write_store(tmp_path / "x.lmdb", images, {"name": "x", "filter": "box"})
    return tmp_path / "x.lmdb"


@pytest.mark.parametrize("workers", [1, 2])
def test_a_whole_data_set_is_reported(path, caplog, workers):
    with caplog.at_level(logging.INFO):
        verify.run(dataset=path, workers=workers)
    assert "is whole: 9 images of 96², filter box" in caplog.text


def test_damaged_images_are_counted_and_named(path):
    data = path.read_bytes()
    for index in (2, 5):
        value = ImageStore(path).encoded(index)
        data = data.replace(value[:64], bytes(64))
    path.write_bytes(data)
    with pytest.raises(UserError, match=r"2 of 9 images cannot be read \(2, 5\)"):
        verify.run(dataset=path, workers=1)


def test_other_pixels_than_recorded_are_noticed(tmp_path):
    path = tmp_path / "x.lmdb"
    write_store(path, [np.full((16, 16, 3), 7, np.uint8)] * 2, {"name": "x"})
    data = bytearray(path.read_bytes())
    data[data.index(bytes([7]) * 768)] = 8
    path.write_bytes(data)
    with pytest.raises(UserError, match="other pixels than its content hash"):
        verify.run(dataset=path, workers=1)


def test_inspect_prints_the_record_and_draws_a_sheet(path, tmp_path, capsys):
    inspect.run(dataset=path, count=4)
    assert json.loads(capsys.readouterr().out) == ImageStore(path).metadata.to_dict()
    with Image.open(tmp_path / "x.png") as sheet:
        assert sheet.size == (198, 198)  # two by two, with margins of 2
        last = sheet.crop((100, 100, 196, 196))
    assert np.array_equal(last, ImageStore(path).read(8))


def test_statistics_of_differently_filtered_sets_are_not_comparable(tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    random = np.random.default_rng(0)
    Image.fromarray(random.integers(0, 256, (80, 80, 3), dtype=np.uint8)).save(folder / "a.png")
    source = open_source({"kind": "folder", "path": str(folder)}, 32)
    records = []
    for filter in ("lanczos", "box"):
        dataset = pack(source, PackSettings("x", 32, filter), tmp_path / f"{filter}.lmdb")
        records.append(STATISTICS.model_copy(update={"dataset": dataset.part(MeasuredSet)}))
    require_same(COMPARABLE, records[0], records[0])
    with pytest.raises(UserError, match=r"dataset\.filter is 'lanczos' .* 'box'"):
        require_same(COMPARABLE, *records)


def _die(item: int) -> int:
    if item == 20:
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_a_worker_killed_by_the_system_is_one_sentence():
    with pytest.raises(UserError, match="worker process was killed"):
        list(ordered_map(_die, range(40), 2))


def test_order_is_kept_and_items_are_not_drawn_far_ahead():
    drawn = []

    def items():
        for item in range(200):
            drawn.append(item)
            yield item

    results = ordered_map(abs, items(), workers=2, chunk=3, ahead=2)
    assert [next(results) for _ in range(10)] == list(range(10))
    assert len(drawn) <= 10 + 3 * 2 * 2 + 3
    assert list(results) == list(range(10, 200))
