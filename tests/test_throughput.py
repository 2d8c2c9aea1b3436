"""Throughput records state their protocol and what really was done."""

from argparse import Namespace
from pathlib import Path

import pytest
import torch
import yaml

from stylenat.config import ModelConfig
from stylenat.evaluation import timing
from stylenat.models import Generator, save_generator
from stylenat.records import read_json
from stylenat.steps import throughput

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def generator():
    values = yaml.safe_load((ROOT / "config" / "config.yaml").read_text())["defaults"]["model"]
    values |= {
        "image_size": 8,
        "style_dim": 8,
        "mapping_layers": 1,
        "channel_max": 16,
        "min_heads": 2,
    }
    return Generator(ModelConfig(**values)).eval()


def run(tmp_path, generator, batch_sizes, seconds):
    weights = tmp_path / "g.safetensors"
    save_generator(
        weights, generator, {"experiment": {"name": "tiny"}, "step": 0, "images_seen": 0}
    )
    output = tmp_path / "throughput.json"
    throughput.run(
        Namespace(
            weights=weights,
            batch_sizes=batch_sizes,
            seconds=seconds,
            output=output,
            device=torch.device("cpu"),
        )
    )
    return read_json(output)


def test_upstreams_protocol_comes_first_then_the_sweep(tmp_path, generator):
    records = run(tmp_path, generator, [4, 1], seconds=60)
    measured = [(r["protocol"], r["batch_size"], r["warmup"], r["rounds"]) for r in records]
    assert measured == [("upstream", 1, 10, 500), ("median", 1, 50, 200), ("median", 4, 50, 200)]
    for record in records:
        assert record["images_per_second_q25"] <= record["images_per_second_median"]
        assert record["images_per_second_median"] <= record["images_per_second_q75"]
        assert record["parameters"] == sum(p.numel() for p in generator.parameters())
        assert (record["experiment"], record["dtype"]) == ("tiny", "float32")
        assert record["device"].startswith("cpu")
        assert record["memory_mb"] > 1
        assert {"backend", "threads", "versions", "commit", "resolution"} <= set(record)


def test_a_spent_budget_cuts_rounds_and_the_record_says_so(tmp_path, generator):
    for record in run(tmp_path, generator, [1], seconds=1e-9):
        assert record["warmup"] == record["rounds"] == timing.LEAST_ROUNDS
        assert record["rounds_intended"] in (200, 500)
        assert record["seconds"] == 1e-9


@pytest.mark.parametrize(
    ("protocol", "seconds"), [(timing.UPSTREAM, 0.4), (timing.MEDIAN, 0.1)], ids=["mean", "median"]
)
def test_the_headline_is_the_protocols_own_summary(monkeypatch, generator, protocol, seconds):
    """Of rounds of 0.1, 0.1 and 1 s: the mean is 0.4 s, the median 0.1 s."""
    clock = iter([0, 0.1, 1, 1.1, 2, 3] * 2)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    record = timing.throughput(generator, protocol, batch_size=2, seconds=1e-9)
    assert record["images_per_second"] == pytest.approx(2 / seconds)
    assert record["images_per_second_q75"] == pytest.approx(2 / 0.1)
