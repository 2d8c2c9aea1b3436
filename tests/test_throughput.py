"""Throughput records state their protocol and what really was done."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
import yaml

from stylenat.config import ModelConfig
from stylenat.errors import UserError
from stylenat.io import read_json, write_json
from stylenat.metrics import timing
from stylenat.metrics.flops import mapping_flops, synthesis_flops
from stylenat.metrics.memory import peak_memory
from stylenat.models import Generator, save_generator
from stylenat.models import generator as network
from stylenat.records import Provenance
from stylenat.steps import throughput
from tests.tiny import experiment

ROOT = Path(__file__).parents[1]
CPU = torch.device("cpu")


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


def run(output, batch_sizes, seconds, **options):
    throughput.run(
        batch_sizes=batch_sizes,
        seconds=seconds,
        output=output,
        device="cpu",
        **options,
    )
    return read_json(output)


@pytest.fixture
def weights(tmp_path, generator):
    path = tmp_path / "g.safetensors"
    save_generator(path, generator, Provenance(experiment={"name": "tiny"}, step=0, images_seen=0))
    return path


def test_upstreams_protocol_comes_first_then_the_sweep(tmp_path, weights, generator):
    records = run(tmp_path / "t.json", [4, 1], seconds=3600, weights=[weights])
    measured = [
        (r["protocol"], r["batch_size"], r["timed"], r["warmup"], r["rounds"]) for r in records
    ]
    assert measured == [
        ("upstream", 1, "z to image", 10, 500),
        *(("median", size, part, 50, 200) for size in (1, 4) for part in timing.PARTS),
    ]
    config = generator.config
    for record in records:
        assert record["images_per_second_q25"] <= record["images_per_second_median"]
        assert record["images_per_second_median"] <= record["images_per_second_q75"]
        assert record["parameters"] == sum(p.numel() for p in generator.parameters())
        mapping = 0 if record["timed"] == "w to image" else mapping_flops(config)
        assert record["flops"] == synthesis_flops(config) + mapping
        assert (record["experiment"], record["step"]) == ("tiny", 0)
        assert (record["dtype"], record["execution"]) == ("float32", "eager")
        assert record["device"].startswith("cpu")
        assert record["memory_mb"] > 4 * record["parameters"] / 1e6
        assert {"backend", "threads", "versions", "commit", "resolution"} <= set(record)
    sweep = {(r["batch_size"], r["timed"]): r["memory_mb"] for r in records[1:]}
    assert sweep[4, "z to image"] > sweep[1, "z to image"]


def test_a_spent_budget_cuts_rounds_and_the_record_says_so(tmp_path, weights):
    for record in run(tmp_path / "t.json", [1], seconds=1e-9, weights=[weights]):
        assert record["warmup"] == record["rounds"] == timing.LEAST_ROUNDS
        assert record["rounds_intended"] in (200, 500)
        assert record["seconds"] == 1e-9


def test_experiments_are_measured_untrained_in_one_run(tmp_path):
    small, large = experiment(), experiment()
    large = replace(large, name="large", model=replace(large.model, channel_max=16))
    paths = [tmp_path / "small.json", tmp_path / "large.json"]
    for path, it in zip(paths, (small, large), strict=True):
        write_json(path, it.to_dict())
    records = run(tmp_path / "t.json", [2], seconds=1e-9, experiments=paths)
    assert [(r["experiment"], r["protocol"]) for r in records] == [
        ("tiny", "upstream"), ("large", "upstream"), *[("tiny", "median")] * 3,
        *[("large", "median")] * 3,
    ]  # fmt: skip
    assert [r["interleaved"] for r in records] == [2] * 2 + [6] * 6
    counts = {r["experiment"]: (r["parameters"], r["flops"]) for r in records}
    assert counts["large"][0] > counts["tiny"][0] and counts["large"][1] > counts["tiny"][1]


def test_rounds_take_turns(monkeypatch):
    """Each round does everything once, so a machine that slows down is unfair to none."""
    order = []
    works = [lambda name=name: order.append(name) for name in "abc"]
    times = timing._rounds(works, rounds=4, seconds=60, device=CPU)
    assert times.shape == (4, 3) and order == list("abc" * 4)


def test_what_does_not_fit_is_left_out(monkeypatch, generator):
    measure = timing.throughput

    def limited(generators, protocol, batch_size, *rest):
        if batch_size > 2:
            raise torch.OutOfMemoryError
        return measure(generators, protocol, batch_size, *rest)

    monkeypatch.setattr(timing, "throughput", limited)
    sizes = [r[0][0].batch_size for r in timing.sweep([generator], [1, 2, 4, 8], 1e-9)]
    assert sizes == [1, 1, 2]


def test_what_was_measured_outlasts_a_failure(monkeypatch, tmp_path, weights, caplog):
    measure = timing.throughput

    def limited(generators, protocol, batch_size, *rest):
        if batch_size > 2:
            raise RuntimeError("more than an operation can index\nand a long trace")
        return measure(generators, protocol, batch_size, *rest)

    monkeypatch.setattr(timing, "throughput", limited)
    records = run(tmp_path / "t.json", [1, 2, 4, 8], 1e-9, weights=[weights])
    assert {r["batch_size"] for r in records} == {1, 2}
    assert caplog.messages[-1].endswith("left out: more than an operation can index")

    def killed(generators, protocol, batch_size, *rest):
        if batch_size > 1:
            raise KeyboardInterrupt
        return measure(generators, protocol, batch_size, *rest)

    monkeypatch.setattr(timing, "throughput", killed)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "u.json", [1, 2], 1e-9, weights=[weights])
    assert {r["batch_size"] for r in read_json(tmp_path / "u.json")} == {1}


def test_a_defect_is_not_a_batch_that_does_not_fit(monkeypatch, generator):
    def broken(*arguments):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(timing, "throughput", broken)
    with pytest.raises(RuntimeError, match="shapes do not match"):
        list(timing.sweep([generator], [1], 1e-9))


def test_upsampling_is_split_below_what_a_gpu_can_index(monkeypatch):
    sizes = []
    interpolate = F.interpolate

    def measured(*arguments, **options):
        result = interpolate(*arguments, **options)
        sizes.append(result.numel())
        return result

    monkeypatch.setattr(F, "interpolate", measured)
    for shape in ((128, 128, 128, 256), (32, 512, 512, 64), (127, 128, 128, 256)):
        sizes.clear()
        out = network.double(torch.empty(shape, device="meta"))
        batch, side, _, channels = shape
        assert out.shape == (batch, 2 * side, 2 * side, channels)
        assert sum(sizes) == out.numel() and max(sizes) < 2**31
        assert len(sizes) == (2 if out.numel() >= 2**31 else 1)
    x = torch.randn(5, 6, 4, 3)
    whole = network.double(x)
    monkeypatch.setattr(network, "MOST_NUMBERS", 2 * whole[0].numel())
    assert torch.equal(network.double(x), whole)


def test_the_largest_batch_is_found_by_doubling(monkeypatch, generator):
    def work(generator, part, batch_size):
        def compute():
            if batch_size > 20:
                raise torch.OutOfMemoryError

        return compute

    monkeypatch.setattr(timing, "_work", work)
    assert timing.largest_batch(generator, 3) == 12
    assert timing.largest_batch(generator, 16) == 16


def test_compiled_is_recorded(monkeypatch, generator):
    compiled = []

    def compile(work, **options):
        compiled.append(options)
        return work

    monkeypatch.setattr(timing.torch, "compile", compile)
    for (record,) in timing.throughput([generator], timing.UPSTREAM, 1, 1e-9, execution="compile"):
        assert record.execution == "compile"
    assert len(compiled) == 1


def test_tf32_needs_a_gpu(generator):
    with pytest.raises(UserError, match="TF32 needs a GPU"):
        timing.throughput([generator], timing.MEDIAN, 1, 1e-9, dtype="tf32")


def test_peak_memory_counts_tensors_that_live_at_once():
    x = torch.zeros(1000, 250)  # 1 MB, there before

    def one_after_the_other():
        y = x + 1
        del y
        z = (x.T + 1).T  # views are no memory
        return (z + 1).view(-1)

    assert peak_memory(lambda: x + 1, CPU) == 1_000_000
    assert peak_memory(lambda: [x + 1 for _ in range(3)], CPU) == 3_000_000
    assert peak_memory(one_after_the_other, CPU) == 2_000_000
    assert peak_memory(lambda: x.add_(1), CPU) == 0


@pytest.mark.parametrize(
    ("protocol", "seconds"), [(timing.UPSTREAM, 0.4), (timing.MEDIAN, 0.1)], ids=["mean", "median"]
)
def test_the_headline_is_the_protocols_own_summary(monkeypatch, generator, protocol, seconds):
    """Of rounds of 0.1, 0.1 and 1 s: the mean is 0.4 s, the median 0.1 s."""
    clock = iter([0, 0.1, 1, 1.1, 2, 3] * 2)
    monkeypatch.setattr(timing.time, "perf_counter", lambda: next(clock))
    protocol = replace(protocol, parts=("z to image",))
    [[record]] = timing.throughput([generator], protocol, batch_size=2, seconds=1e-9)
    assert record.images_per_second == pytest.approx(2 / seconds)
    assert record.images_per_second_q75 == pytest.approx(2 / 0.1)
