"""What an evaluation takes on a GPU, estimated before it runs: hours, disk and memory (no torch here).

Sampling was measured on an NVIDIA H200 (benchmarks/results/nvidia-h200.json: FFHQ-256, float32, batches of
64), storing and decoding images on a CPU core (stylenat/data/codec.py), the memory of metrics as well
(benchmarks/results/metrics.json). Feature networks were measured on no GPU: their rate is assumed.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from stylenat.config import ModelConfig
from stylenat.metrics.flops import mapping_flops, synthesis_flops

RATE = 160.7 * 189.372e9  # FLOPs a second of sampling: images a second, of so many FLOPs each
SAMPLING_MEMORY = 26.0e9 / (256**2 * 128)  # bytes for a batch, by pixels and channels at the end
FEATURE_RATE = 10e12  # FLOPs a second: a fifth of what that GPU reached in products of matrices
FACTOR = 2  # that the assumed rate may be wrong by
STORING, DECODING = 1.3e-3 / 256**2, 0.95e-3 / 256**2  # seconds a pixel
STORED = 92e3 / 256**2  # bytes a pixel
# The most of any metric, in bytes for each byte of the features of both sets.
METRIC_MEMORY = 2.46e9 / (2 * 50_000 * 2048 * 4)


class Network(NamedTuple):
    """FLOPs for an image (a multiply-add is 2), and the length of its features."""

    flops: float
    dimension: int


NETWORKS = {
    "inception": Network(11.42e9, 2048),
    "inception_tf1": Network(11.42e9, 2048),
    "lite0": Network(0.0397e9, 112),
    "lite0early": Network(0.0034e9, 144),
    "dinov2": Network(162.0e9, 1024),
    "vgg16": Network(30.93e9, 4096),
    "clip": Network(162.0e9, 768),
}


class Sampling(NamedTuple):
    """So many images of a generator."""

    model: ModelConfig
    images: int


class Reading(NamedTuple):
    """So many images through a feature network, with or without every image's features kept."""

    network: str
    images: int
    side: int  # in pixels
    kept: bool


@dataclass(frozen=True)
class Cost:
    """Sums over all jobs, and the most that one of them takes."""

    sampled: int  # images
    sampling_seconds: float
    read: int  # images
    reading_seconds: float
    kept_bytes: float
    samples_bytes: float  # of the largest set of samples, which is deleted once it is read
    gpu_bytes: float
    metric_bytes: float


def estimate(sampling: Iterable[Sampling], reading: Iterable[Reading]) -> Cost:
    """The cost of these jobs; feature networks that are not in :data:`NETWORKS` are left out."""
    sampling = list(sampling)
    reading = [one for one in reading if one.network in NETWORKS]
    dimensions = [NETWORKS[one.network].dimension for one in reading]
    pixels = [one.model.image_size**2 for one in sampling]
    features = [one.kept * 4 * one.images * d for one, d in zip(reading, dimensions, strict=True)]
    return Cost(
        sampled=sum(one.images for one in sampling),
        sampling_seconds=sum(
            one.images
            * ((mapping_flops(one.model) + synthesis_flops(one.model)) / RATE + STORING * p)
            for one, p in zip(sampling, pixels, strict=True)
        ),
        read=sum(one.images for one in reading),
        # Images are decoded while the network computes.
        reading_seconds=sum(
            one.images * max(NETWORKS[one.network].flops / FEATURE_RATE, DECODING * one.side**2)
            for one in reading
        ),
        kept_bytes=sum(features) + sum(8 * d**2 for d in dimensions),
        samples_bytes=max(
            (one.images * STORED * p for one, p in zip(sampling, pixels, strict=True)), default=0
        ),
        gpu_bytes=max(
            (
                SAMPLING_MEMORY * p * one.model.width(one.model.image_size)
                for one, p in zip(sampling, pixels, strict=True)
            ),
            default=0,
        ),
        metric_bytes=2 * METRIC_MEMORY * max(features, default=0),
    )


def describe(cost: Cost) -> list[str]:
    """A few lines for people."""
    hours, read = cost.sampling_seconds / 3600, cost.reading_seconds / 3600
    return [
        (
            f"evaluation, estimated for an H200: {hours + read:.2g} GPU hours ({hours:.2g} to sample and store "
            f"{cost.sampled:,} images, by a measured rate; {read:.2g} to read {cost.read:,} by feature networks, "
            f"by an assumed rate: {read / FACTOR:.2g} to {FACTOR * read:.2g})"
        ),
        (
            f"  disk: {_gb(cost.kept_bytes)} kept, and {_gb(cost.samples_bytes)} for each set of samples until it "
            f"is read; memory: {_gb(cost.gpu_bytes)} of the GPU, {_gb(cost.metric_bytes)} for a metric"
        ),
    ]


def _gb(count: float) -> str:
    return f"{count / 1e9:.2g} GB"
