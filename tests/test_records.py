"""Records read what they wrote, key by key, and say what a file lacks."""

import json

import lmdb
import numpy as np
import pytest
from pydantic import ValidationError

from stylenat.data.store import META_KEY, ImageStore
from stylenat.data.writer import write_store
from stylenat.errors import UserError
from stylenat.records import (
    FileRecord,
    Manifest,
    MetricRecord,
    Origin,
    Provenance,
    Subject,
    Summary,
)


def test_what_was_not_given_is_not_written_and_null_is():
    assert Provenance(step=3, data=None).to_dict() == {"step": 3, "data": None}
    record = Provenance.read({"commit": "c", "step": None, "later": [1]}, "x", "")
    assert list(record.to_dict().items()) == [("step", None), ("commit", "c"), ("later", [1])]
    assert record.model_copy(update={"parameters": 5}).to_dict()["parameters"] == 5
    with pytest.raises(ValidationError, match="frozen"):
        record.step = 4


def test_parts_are_joined_in_the_order_of_the_file():
    subject = Subject(experiment="e", dataset="d", resolution=8, kind="floor", protocol="p")
    summary = Summary(metric="fid", better="lower", value=1.0, values=[1.0])
    origin = Origin(
        n_generated=2, n_real=3, extractor="x", weights_sha256="w", filter=None, dataset_sha256="s"
    )
    record = MetricRecord.joined(origin, summary, subject)
    assert [*record.to_dict()] == [*subject.to_dict(), *summary.to_dict(), *origin.to_dict()]
    assert MetricRecord.read(json.loads(json.dumps(record.to_dict())), "x", "") == record


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"source": {}, "directory": "d"}, "its files: is missing"),
        ({"source": {}, "directory": "d", "files": [{}]}, r"its files\[0\].path: is missing"),
        ({"source": [], "directory": "d", "files": []}, r"its source: \[\] is not of type object"),
        (3, "its record: 3 is not of type object"),
    ],
)
def test_a_missing_or_wrong_key_is_one_sentence(values, message):
    with pytest.raises(UserError, match=f"^x.json: {message}; run it again.$"):
        Manifest.read(values, "x.json", "run it again")


def test_manifests_of_before_there_was_a_listing_are_read():
    files = [{"path": "a", "bytes": 3}]
    record = Manifest.read({"source": {"kind": "zip"}, "directory": "d", "files": files}, "x", "")
    assert record.listing is None and record.files == [FileRecord(path="a", bytes=3)]


@pytest.mark.parametrize(
    ("content", "message"),
    [(b'{"name": "x"}', "its resolution: is missing"), (b'{"name', "its record: Invalid JSON")],
)
def test_a_data_set_with_a_damaged_record_is_refused(tmp_path, content, message):
    path = tmp_path / "x.lmdb"
    write_store(path, [np.zeros((8, 8, 3), np.uint8)], {"name": "x"})
    with (
        lmdb.open(str(path), subdir=False, lock=False) as environment,
        environment.begin(write=True) as transaction,
    ):
        transaction.put(META_KEY, content)
    with pytest.raises(UserError, match=f"{message}.*; delete the file and pack"):
        len(ImageStore(path))
