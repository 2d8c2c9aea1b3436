"""What an evaluation is estimated to take, and that a dry run says it."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stylenat.config import ModelConfig
from stylenat.io import read_json
from stylenat.metrics import cost
from stylenat.metrics.cost import Reading, Sampling, describe, estimate
from stylenat.metrics.extractors import NETWORKS
from stylenat.metrics.flops import mapping_flops, synthesis_flops
from tests.project import CONFIG, ROOT, make_clone, snakemake

FFHQ = ModelConfig(**CONFIG["defaults"]["model"] | {"image_size": 256})


def test_one_evaluation_by_hand():
    found = estimate([Sampling(FFHQ, 50_000)], [Reading("inception", 50_000, 256, True)])
    # 50,000 / 160.7 a second, and 1.3 ms to store each.
    assert found.sampling_seconds == pytest.approx(311.1 + 65, rel=1e-3)
    assert found.reading_seconds == pytest.approx(50_000 * 11.42e9 / 10e12)
    assert found.kept_bytes == 50_000 * 2048 * 4 + 2048**2 * 8
    assert found.samples_bytes == pytest.approx(4.6e9)
    assert found.gpu_bytes == pytest.approx(26e9)
    assert found.metric_bytes == pytest.approx(2.46e9), "of as many reals"
    assert describe(found) == [
        (
            "evaluation, estimated for an H200: 0.12 GPU hours (0.1 to sample and store 50,000 images, by a "
            "measured rate; 0.016 to read 50,000 by feature networks, by an assumed rate: 0.0079 to 0.032)"
        ),
        (
            "  disk: 0.44 GB kept, and 4.6 GB for each set of samples until it is read; memory: 26 GB of "
            "the GPU, 2.5 GB for a metric"
        ),
    ]


def test_jobs_add_up_and_the_largest_sets_the_memory():
    one, two = Sampling(FFHQ, 1000), Sampling(FFHQ, 3000)
    single, both = estimate([one], []), estimate([one, two], [])
    assert both.sampling_seconds == pytest.approx(4 * single.sampling_seconds)
    assert both.samples_bytes == pytest.approx(3 * single.samples_bytes)
    moments = estimate([], [Reading("inception", 1000, 256, False), Reading("unknown", 9, 8, True)])
    assert (moments.kept_bytes, moments.metric_bytes, moments.read) == (2048**2 * 8, 0, 1000)
    large = estimate([], [Reading("inception", 1000, 1024, False)])
    assert large.reading_seconds == pytest.approx(1000 * 16 * 0.95e-3), "as fast as it is decoded"


def test_the_rates_are_those_that_were_measured():
    assert mapping_flops(FFHQ) + synthesis_flops(FFHQ) == pytest.approx(189.372e9, rel=1e-5)
    parts = read_json(ROOT / "benchmarks/results/nvidia-h200.json")["parts"]
    rows = next(part["tables"]["sampling"] for part in parts if part["name"] == "sampling")
    (row,) = (it for it in rows if (it["precision"], it["batch"]) == ("float32", 64))
    assert row["images_per_second"] * 189.372e9 == pytest.approx(cost.RATE, rel=1e-3)
    assert row["memory_mb"] * 1e6 == pytest.approx(cost.SAMPLING_MEMORY * 256**2 * 128, rel=1e-2)
    metrics = read_json(ROOT / "benchmarks/results/metrics.json")["rows"]
    most = max(it["memory_mb"] for it in metrics if it["program"] == "stylenat") * 1e6
    assert most == pytest.approx(cost.METRIC_MEMORY * 2 * 50_000 * 2048 * 4, rel=1e-2)


@pytest.mark.parametrize("name", sorted(NETWORKS.keys() - {"torchscript"}))
def test_feature_networks_have_the_size_that_is_counted(name, monkeypatch):
    monkeypatch.setattr(NETWORKS[name], "load_weights", lambda self, weights: self.eval())
    with torch.device("meta"):
        network = NETWORKS[name]("none")
        with FlopCounterMode(display=False) as counter:
            network.features(torch.empty(1, 3, 256, 256))
    assert counter.get_total_flops() == pytest.approx(cost.NETWORKS[name].flops, rel=0.02)
    assert network.dimension == cost.NETWORKS[name].dimension


def test_a_dry_run_says_it_once(tmp_path):
    clone = make_clone(tmp_path)
    target = "results/ffhq256_fid.csv"
    for arguments in (("--profile", "profiles/slurm", target), ("--quiet", "--", target)):
        done = snakemake("--dry-run", *arguments, cwd=clone)
        assert done.returncode == 0, done.stderr
        assert (done.stdout + done.stderr).count("evaluation, estimated") == 1
    assert "to sample and store 2,150,000 images" in done.stderr, "40 + 3 sets"
    done = snakemake("--dry-run", "--quiet", "--", "results/faces32_fd_lite0.csv", cwd=clone)
    assert "evaluation, estimated" not in done.stderr + done.stdout, "it needs no GPU"
