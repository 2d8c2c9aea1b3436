"""What share of known copies the metric `copies` finds, by features and by pixels.

    python -m benchmarks.copies [--dataset faces32] [--images 500]

Training images, altered in ways that leave them the same to a person; and held-out ones, which are
no copies. Needs what `make demo` leaves in results/.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from benchmarks.harness import Row, markdown, parser, record, write
from benchmarks.sensitivity import noise
from stylenat import command
from stylenat.data.store import ImageStore
from stylenat.metrics import METRICS
from stylenat.metrics.extractors.features import extractor, thumbnails
from stylenat.metrics.moments import Moments, Statistics
from stylenat.metrics.thumbnails import through_jpeg
from stylenat.runtime import select_device

NETWORK = "lite0"
BATCH = 64


def moved(images: np.ndarray) -> np.ndarray:
    """Images (n, S, S, 3) a pixel to the right and down, the first row and column repeated."""
    return np.pad(images, ((0, 0), (1, 0), (1, 0), (0, 0)), mode="edge")[:, :-1, :-1]


CHANGES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "unaltered": lambda images: images,
    "mirrored": lambda images: images[:, :, ::-1],
    "shifted by a pixel, right and down": moved,
    "JPEG of quality 95": lambda images: through_jpeg(images, 95),
    "JPEG of quality 75": lambda images: through_jpeg(images, 75),
    "mirrored, shifted, JPEG of quality 75": lambda x: through_jpeg(moved(x[:, :, ::-1]), 75),
    "noise, σ 5 grey levels": lambda images: noise(5.0)(images).round().clip(0, 255),
}


def main() -> None:
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--dataset", default="faces32", help="with a test split")
    options.add_argument("--images", type=int, default=500, help="that are altered")
    options.add_argument("--results", type=Path, default=Path("results"), help="of the workflow")
    command.main(options, run)


def run(*, device: str, output: Path, dataset: str, images: int, results: Path) -> None:
    selected = select_device(device)
    network = extractor(NETWORK, results / f"weights/{NETWORK}.pth", selected)
    data = results / "data"
    reference = Statistics.load(data / f"{dataset}.{NETWORK}.all.features.npz")
    measure = METRICS["copies"].measure(reference)
    known, new = (
        np.stack([store.read(index) for index in range(min(images, len(store)))])
        for store in (
            ImageStore(data / f"{dataset}.lmdb"),
            ImageStore(data / f"{dataset}.test.lmdb"),
        )
    )
    sets = {name: change(known) for name, change in CHANGES.items()} | {"held-out images": new}
    rows: list[Row] = []
    for name, changed in sets.items():
        pixels = torch.from_numpy(changed.astype(np.uint8)).permute(0, 3, 1, 2)
        vectors = np.concatenate([network(batch) for batch in pixels.split(BATCH)])
        small = thumbnails(pixels)
        altered = Statistics(Moments.of(vectors), reference.record, vectors, thumbnails=small)
        found = {one.metric: one.value for one in measure(altered)}
        rows.append({"images": name, **found})
        command.log.info("%s", rows[-1])
    facts = record(selected, dataset=dataset, images=images, reference=reference.moments.count)
    lines = [[name, *(f"{value:.1%}" for value in rest)] for name, *rest in map(dict.values, rows)]
    write(output, "copies", facts, rows, markdown(tuple(rows[0]), lines))


if __name__ == "__main__":
    main()
