"""Compute the statistics of a feature network's features over real or generated images."""

import argparse
from functools import reduce
from pathlib import Path

from stylenat import command
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.metrics.collect import collect, label
from stylenat.metrics.extractors import NETWORKS
from stylenat.metrics.extractors.features import extractor
from stylenat.metrics.moments import Statistics


def run(args: argparse.Namespace) -> None:
    if len(args.images) > 1 and args.subset != "all":
        raise UserError(f"--subset {args.subset} needs a single file in --images.")
    network = extractor(args.extractor, args.weights, args.device)
    stores = [ImageStore(path) for path in args.images]
    parts = [
        collect(network, store, args.subset, args.features, command.progress) for store in stores
    ]
    statistics = reduce(Statistics.merge, parts)
    if args.features:
        label(statistics, stores, args.subset)
    statistics.save(args.output)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument(
        "--images", type=Path, nargs="+", required=True, help="image set (LMDB), or its parts"
    )
    options.add_argument(
        "--subset",
        default="all",
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
