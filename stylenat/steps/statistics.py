"""Compute the statistics of a feature network's features over real or generated images."""

from collections.abc import Sequence
from functools import reduce
from pathlib import Path

from stylenat import command
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.metrics.collect import collect, label
from stylenat.metrics.extractors import NETWORKS
from stylenat.metrics.extractors.features import extractor as network_of
from stylenat.metrics.moments import Statistics
from stylenat.runtime import select_device


def run(
    *,
    images: Sequence[Path],
    extractor: str,
    weights: Path,
    output: Path,
    subset: str = "all",
    features: bool = False,
    device: str = "auto",
) -> None:
    if len(images) > 1 and subset != "all":
        raise UserError(f"--subset {subset} needs a single file in --images.")
    network = network_of(extractor, weights, select_device(device))
    stores = [ImageStore(path) for path in images]
    parts = [collect(network, store, subset, features, command.progress) for store in stores]
    statistics = reduce(Statistics.merge, parts)
    if features:
        label(statistics, stores, subset)
    statistics.save(output)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument(
        "--images", type=Path, nargs="+", required=True, help="image set (LMDB), or its parts"
    )
    options.add_argument(
        "--subset",
        help="all, a number (a seeded draw of so many) or class=NAME",
    )
    options.add_argument("--extractor", choices=NETWORKS, required=True, help="feature network")
    options.add_argument("--weights", type=Path, required=True, help="its weights")
    options.add_argument(
        "--features",
        action="store_true",
        help="keep every image's features, and attributes if there are any: all metrics but the "
        "Fréchet distance need them",
    )
    options.add_argument("--output", type=Path, required=True, help="statistics (npz)")
    command.add_device(options)
    command.main(options, run)


if __name__ == "__main__":
    main()
