"""Files that steps exchange, damaged: read, or refused in a sentence that names the file."""

import itertools
import json
import math
import struct
import zipfile
from dataclasses import asdict
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
import torch
from hypothesis import strategies as st

from stylenat.config import ExperimentConfig
from stylenat.data.check import verify
from stylenat.data.sources.files import Lmdb, Zip
from stylenat.data.writer import write_store
from stylenat.interop import generator_from, read_checkpoint
from stylenat.io import read_json, read_npz, write_json
from stylenat.metrics.extractors.base import read_state_dict
from stylenat.metrics.moments import Moments, Statistics
from stylenat.models import Generator, load_generator
from stylenat.models.weights import save_generator
from stylenat.records import Provenance
from stylenat.report.curves import read_training
from stylenat.report.measured import read_table
from stylenat.report.published import read_published
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import load_state, require_same, restore, save_state
from stylenat.training.distributed import World
from tests import tiny
from tests.fuzz import damages, fuzzed, outcome, places, replaced
from tests.records import STATISTICS

FOLDER = TemporaryDirectory(prefix="fuzz-")  # removed when Python ends
NUMBERS = itertools.count()


def written(content: bytes, suffix: str) -> Path:
    """A file of a name that no other had."""
    path = Path(FOLDER.name) / f"{next(NUMBERS)}{suffix}"
    path.write_bytes(content)
    return path


@cache
def trainer():
    return build_trainer(tiny.experiment(), World(0, 1, torch.device("cpu")))


def write_weights(path: Path) -> None:
    save_generator(path, Generator(tiny.experiment().model), Provenance(step=0))


def write_state(path: Path) -> None:
    save_state(path, trainer(), tiny.experiment(), None)


def write_checkpoint(path: Path) -> None:
    torch.save({"g_ema": Generator(tiny.experiment().model).state_dict()}, path)


def write_plain(path: Path) -> None:
    torch.save({"a": torch.ones(3), "b": torch.zeros(2, 2)}, path)


def write_statistics(path: Path) -> None:
    moments = Moments.zeros(4)
    moments.update(np.arange(20, dtype=np.float32).reshape(5, 4))
    Statistics(moments, STATISTICS).save(path)


def write_experiment(path: Path) -> None:
    write_json(path, tiny.experiment().to_dict())


def write_images(path: Path) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, 8, 8, 3), np.uint8)
    write_store(path, images, {"name": "dots", "filter": "none", "licence": "none"})


def read_state(path: Path) -> None:
    state = load_state(path)
    restore(trainer(), state)


def read_experiment(path: Path) -> None:
    ExperimentConfig.from_dict(read_json(path))


def read_generator(path: Path) -> None:
    checkpoint = read_checkpoint(path)
    for name in checkpoint.networks:
        if name.startswith("g"):
            generator_from(checkpoint, name, tiny.experiment().model)


# The suffix of each kind: what writes a whole one, and what reads it.
KINDS = {
    ".safetensors": (write_weights, load_generator),
    ".state": (write_state, read_state),
    ".pt": (write_checkpoint, read_generator),
    ".pth": (write_plain, read_state_dict),
    ".npz": (write_statistics, Statistics.load),
    ".json": (write_experiment, read_experiment),
    ".lmdb": (write_images, verify),
}


@cache
def whole(suffix: str) -> bytes:
    path = written(b"", suffix)
    KINDS[suffix][0](path)
    return path.read_bytes()


@cache
def boundaries(suffix: str) -> tuple[int, ...]:
    """Where one part of a file of this kind ends and the next begins."""
    content = whole(suffix)
    if suffix in (".safetensors", ".state"):
        (length,) = struct.unpack_from("<Q", content)
        return (0, 8, 8 + length, len(content))
    if suffix == ".json":
        return tuple(place for place, byte in enumerate(content) if byte in b'{}[],:"')
    if suffix == ".lmdb":
        return tuple(range(0, len(content) + 1, 4096))
    with zipfile.ZipFile(written(content, suffix)) as archive:
        starts = [member.header_offset for member in archive.infolist()]
        return (*starts, archive.start_dir, len(content) - 22, len(content))


def damaged(suffix: str) -> st.SearchStrategy[tuple[str, bytes]]:
    return damages(whole(suffix), boundaries(suffix)).map(lambda content: (suffix, content))


def check(file: tuple[str, bytes]) -> None:
    suffix, content = file
    path = written(content, suffix)
    found = outcome(KINDS[suffix][1], path)
    path.unlink()
    if isinstance(found, str) and suffix != ".json":  # what is wrong there has a key
        assert path.name in found


COUNTS = {
    ".safetensors": 150,
    ".state": 100,
    ".pt": 100,
    ".pth": 200,
    ".npz": 300,
    ".json": 200,
}


@fuzzed(COUNTS[".safetensors"], file=st.deferred(lambda: damaged(".safetensors")))
def test_damaged_weights(file):
    check(file)


@fuzzed(COUNTS[".state"], file=st.deferred(lambda: damaged(".state")))
def test_damaged_states(file):
    check(file)


@fuzzed(COUNTS[".pt"], file=st.deferred(lambda: damaged(".pt")))
def test_damaged_checkpoints(file):
    check(file)


@fuzzed(COUNTS[".pth"], file=st.deferred(lambda: damaged(".pth")))
def test_damaged_weights_of_feature_networks(file):
    check(file)


@fuzzed(COUNTS[".npz"], file=st.deferred(lambda: damaged(".npz")))
def test_damaged_statistics(file):
    check(file)


@fuzzed(COUNTS[".json"], file=st.deferred(lambda: damaged(".json")))
def test_damaged_experiments(file):
    check(file)


# No flipped bytes here: LMDB follows the pointers in a file wherever they lead.
@fuzzed(100, length=st.integers(0, 20_000))
def test_truncated_data_sets(length):
    check((".lmdb", whole(".lmdb")[:length]))


@pytest.mark.parametrize("suffix", KINDS)
def test_an_empty_file_is_said_to_be_empty(suffix):
    path = written(b"", suffix)
    assert "it is empty" in outcome(KINDS[suffix][1], path)


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("metrics.csv", read_table),
        ("metrics.json", read_json),
        ("500.jsonl", lambda path: read_training([path])),
        ("published.csv", read_published),
        ("x.lmdb", lambda path: Lmdb(path, 8)),
        ("x.zip", Zip),
        ("x.npz", read_npz),
    ],
)
@pytest.mark.parametrize("content", [b"", b"\0\xff\xfe" * 50, b"a,b\n1"])
def test_files_of_the_other_steps_are_refused(name, read, content):
    path = written(content, f"-{name}")
    text = outcome(read, path)
    assert isinstance(text, str) and (path.name in text or "are empty" in text)


@pytest.mark.parametrize("suffix", KINDS)
def test_a_whole_file_is_read(suffix):
    assert not isinstance(outcome(KINDS[suffix][1], written(whole(suffix), suffix)), str)


# ---------------------------------------------------------------- what the headers say

MODEL = tuple(asdict(tiny.experiment().model))
META = ("step", "experiment", "data", "parent", "digest")
VALUES = (
    *(None, True, 0, -1, 1, 3, 16, 64, 2**31, 2**32, 2**63, 2**64, 10**18, 0.5, 1e308, -1e308),
    *(math.inf, math.nan, "", "auto", "a\nb", "\ud800", [], [[]], [None], [[3]], {}, {"a": 1}),
)


def with_header(suffix: str, entry: str, record: object) -> Path:
    """The whole file with another record in its header."""
    content = whole(suffix)
    (length,) = struct.unpack_from("<Q", content)
    header = json.loads(content[8 : 8 + length])
    header["__metadata__"] = {entry: json.dumps(record)}
    text = json.dumps(header).encode()
    return written(struct.pack("<Q", len(text)) + text + content[8 + length :], suffix)


def record_of(suffix: str, entry: str) -> dict:
    content = whole(suffix)
    (length,) = struct.unpack_from("<Q", content)
    return json.loads(json.loads(content[8 : 8 + length])["__metadata__"][entry])


@fuzzed(300, key=st.sampled_from([*MODEL, "provenance", None]), value=st.sampled_from(VALUES))
def test_weights_of_a_model_that_cannot_be(key, value):
    """Refused at once, whatever memory and time it would take to build."""
    record = record_of(".safetensors", "stylenat")
    if key is None:
        record = value
    elif key == "provenance":
        record[key] = value
    else:
        record["model"][key] = value
    path = with_header(".safetensors", "stylenat", record)
    outcome(load_generator, path)
    path.unlink()


@fuzzed(150, key=st.sampled_from([*META, None]), value=st.sampled_from(VALUES))
def test_states_of_other_records(key, value):
    record = record_of(".state", "meta")
    if key is None:
        record = value
    else:
        record[key] = value
    path = with_header(".state", "meta", record)
    outcome(lambda: require_same(load_state(path), tiny.experiment(), None))
    path.unlink()


EXPERIMENT = json.loads(json.dumps(tiny.experiment().to_dict()))


@fuzzed(600, place=st.sampled_from(list(places(EXPERIMENT))), value=st.sampled_from(VALUES))
def test_records_of_other_experiments(place, value):
    outcome(ExperimentConfig.from_dict, replaced(EXPERIMENT, place, value))
