"""Records as steps write them: of measurements, with their table, and of statistics."""

from typing import TypeVar

import pandas as pd

from stylenat.records import MetricRecord, Record, StatisticsRecord, Throughput
from stylenat.report.speeds import throughput_table
from stylenat.report.tables import metric_table
from tests.tiny import experiment

R = TypeVar("R", bound=Record)

VERSIONS = {"python": "3.12.0", "torch": "2.6.0"}
A100 = "cuda:0 (NVIDIA A100-SXM4-80GB)"
CPU = "cpu (Some Processor, 2 threads)"

# The experiment that they are of.
FFHQ256 = experiment("ffhq256", "ffhq256", 256, seed=0, batch_size=16)

STATISTICS_JSON = {
    "kind": "generated",
    "dataset": {"name": "a", "content_sha256": "c0", "resolution": 32, "filter": "lanczos"},
    "generator_sha256": "9e",
    "subset": "all",
    "extractor": "lite0",
    "weights_sha256": "57",
}
STATISTICS = StatisticsRecord(**STATISTICS_JSON)


def fid(**changes) -> dict:
    """A snapshot's FID record under the published protocol."""
    record = {
        "experiment": "ffhq256", "dataset": "ffhq256", "resolution": 256, "kind": "snapshot",
        "step": 400, "images_seen": 6400, "generator_sha256": "9e", "checkpoint": None,
        "parameters": 48_921_000, "protocol": "fid50k", "metric": "fid", "better": "lower",
        "value": 2.31, "uncertainty": None, "uncertainty_of": None, "seeds": ["0-49999"],
        "n_generated": 50_000, "n_real": 50_000, "extractor": "inception", "weights_sha256": "67",
        "filter": "lanczos", "dataset_sha256": "da", "device": A100, "dtype": "float32",
        "versions": VERSIONS, "commit": "c0ffee",
    }  # fmt: skip
    record |= changes
    return {"values": [record["value"]]} | record


def floor(**changes) -> dict:
    record = fid(kind="floor", step=None, images_seen=None, value=0.8, n_generated=35_000)
    del record["parameters"], record["checkpoint"]
    record |= {"n_real": 35_000, "generator_sha256": None} | changes
    return record | {"values": [record["value"]]}


def lite0(**changes) -> dict:
    defaults = {
        "experiment": "galaxies32", "dataset": "galaxies32", "resolution": 32,
        "protocol": "fd_lite0", "metric": "fd_lite0", "extractor": "lite0", "filter": "none",
        "n_generated": 2048, "n_real": 852, "device": CPU, "parameters": 240_000,
    }  # fmt: skip
    return fid(**(defaults | changes))


def speed(**changes) -> dict:
    record = {
        "experiment": "ffhq256", "step": 0, "protocol": "median", "timed": "z to image", "batch_size": 64,
        "images_per_second": 50.0, "images_per_second_q25": 49.0, "images_per_second_q75": 51.0,
        "warmup": 50, "rounds": 200, "parameters": 48_921_000, "flops": 189_371_971_584, "device": A100,
        "dtype": "float32", "backend": "tiles", "execution": "eager", "memory_mb": 900.0,
        "versions": VERSIONS, "commit": "c0ffee", "threads": 1, "rounds_intended": 200, "seconds": 600.0,
        "interleaved": 1, "memory_of": "all", "resolution": 256, "images_per_second_median": 50.0,
    }  # fmt: skip
    return record | changes


def named(kind: type[R], *records: dict) -> dict[str, R]:
    """The records as a step reads them, by name."""
    return {
        f"{number}.json": kind.read(record, f"{number}.json", "measure again")
        for number, record in enumerate(records)
    }


def speeds(*records: dict, experiments, published) -> pd.DataFrame:
    """The throughput table of records."""
    return throughput_table(named(Throughput, *records), experiments, published)


def table(*records: dict, published, name: str | None = None) -> pd.DataFrame:
    """The table of records of the first one's experiment."""
    first = records[0]
    owner = experiment(first["experiment"], first["dataset"], first["resolution"])
    own = named(MetricRecord, *records)
    return metric_table(own, name or first["metric"], owner, published)
