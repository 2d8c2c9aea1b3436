"""What the metrics of small sets see: held-out reals, changed a little, against the reference.

    python -m benchmarks.sensitivity [--dataset faces32] [--images 2048]

Needs the packed data set, its test split and the weights of lite0, which `make demo` leaves in
results/. The first row is the floor at this number of images; the others say how far a change
that a person may overlook moves each metric.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from benchmarks.harness import Row, markdown, parser, record, write
from stylenat import command
from stylenat.data.store import ImageStore
from stylenat.metrics import METRICS
from stylenat.metrics.extractors.features import Extractor, extractor, features
from stylenat.metrics.moments import Moments, Statistics
from stylenat.records import StatisticsRecord
from stylenat.runtime import select_device

NETWORK = "lite0"
MEASURED = ("frechet", "prdc")
BATCH = 64


def blur(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    """Gaussian blur, ``sigma`` in pixels, of images (n, S, S, 3)."""
    return lambda images: gaussian_filter(images, (0, sigma, sigma, 0), mode="nearest")


def noise(sigma: float) -> Callable[[np.ndarray], np.ndarray]:
    """White noise of ``sigma`` grey levels, the same at every call."""

    def add(images: np.ndarray) -> np.ndarray:
        drawn = np.random.default_rng(0).standard_normal(images.shape, np.float32)
        return images + sigma * drawn

    return add


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "none": lambda images: images,
    "mirrored": lambda images: images[:, :, ::-1],
    "blur, σ 0.5 pixels": blur(0.5),
    "blur, σ 1 pixel": blur(1.0),
    "noise, σ 1 grey level": noise(1.0),
    "noise, σ 2 grey levels": noise(2.0),
    "noise, σ 5 grey levels": noise(5.0),
}


def main() -> None:
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--dataset", default="faces32", help="with a test split")
    options.add_argument("--images", type=int, default=2048, help="of the test split")
    options.add_argument("--results", type=Path, default=Path("results"), help="of the workflow")
    command.main(options, run)


def run(*, device: str, output: Path, dataset: str, images: int, results: Path) -> None:
    selected = select_device(device)
    network = extractor(NETWORK, results / f"weights/{NETWORK}.pth", selected)
    reference = ImageStore(results / f"data/{dataset}.lmdb")
    held_out = ImageStore(results / f"data/{dataset}.test.lmdb")
    indices = range(min(images, len(held_out)))
    pixels = np.stack([held_out.read(index) for index in indices]).astype(np.float32)
    found = features(network, reference, range(len(reference)))
    real = _statistics(np.concatenate([vectors for vectors, _ in found]))
    measures = [METRICS[name].measure(real) for name in MEASURED]
    rows: list[Row] = []
    for name, change in CHANGES.items():
        changed = _statistics(_features(network, change(pixels)))
        found = [one for measure in measures for one in measure(changed)]
        rows.append({"change": name, **{one.metric: one.value for one in found}})
        command.log.info("%s", rows[-1])
    facts = record(selected, dataset=dataset, images=len(pixels), reference=real.moments.count)
    lines = [[name, *(f"{value:.3g}" for value in rest)] for name, *rest in map(dict.values, rows)]
    write(output, "sensitivity", facts, rows, markdown(tuple(rows[0]), lines))


def _features(network: Extractor, images: np.ndarray) -> np.ndarray:
    """Of images (n, S, S, 3), rounded to whole grey levels."""
    pixels = torch.from_numpy(images.round().clip(0, 255).astype(np.uint8)).permute(0, 3, 1, 2)
    with torch.inference_mode():
        return np.concatenate([network(batch) for batch in pixels.split(BATCH)])


def _statistics(vectors: np.ndarray) -> Statistics:
    record = StatisticsRecord.of("sensitivity", NETWORK)
    return Statistics(Moments.of(vectors), record, vectors)


if __name__ == "__main__":
    main()
