"""Compute the statistics of a feature network's features over real or generated images."""

import argparse
from functools import reduce
from pathlib import Path
from typing import Any

import numpy as np

from stylenat import command, runtime
from stylenat.data.sources.classes import CLASS
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.metrics.attributes import encode
from stylenat.metrics.extractors import NETWORKS
from stylenat.metrics.extractors.features import Extractor, extractor, features
from stylenat.metrics.moments import Moments, Statistics
from stylenat.metrics.subsets import choose

SUBSET_SEED = 0  # part of a protocol's meaning, so not an option


def run(args: argparse.Namespace) -> None:
    if len(args.images) > 1 and args.subset != "all":
        raise UserError(f"--subset {args.subset} needs a single file in --images.")
    network = extractor(args.extractor, args.weights, args.device)
    stores = [ImageStore(path) for path in args.images]
    statistics = reduce(Statistics.merge, [_statistics(network, store, args) for store in stores])
    if args.features:
        _label(statistics, stores, args.subset)
    statistics.save(args.output)


def _indices(subset: str, store: ImageStore) -> np.ndarray:
    """Ascending indices of a subset, or, for ``class=name``, of a class."""
    if not subset.startswith(f"{CLASS}="):
        return choose(subset, len(store), SUBSET_SEED)
    wanted = subset.removeprefix(f"{CLASS}=")
    if wanted not in (classes := store.metadata.get("classes", [])):
        there = f"there are {', '.join(classes)}" if classes else "it has no class labels"
        raise UserError(f"{store.path} has no class {wanted!r}; {there}.")
    classed = (store.attributes(index) for index in range(len(store)))
    return np.flatnonzero([attributes[CLASS] == wanted for attributes in classed])


def _label(statistics: Statistics, stores: list[ImageStore], subset: str) -> None:
    """Add the attributes of the images, in the order of their features, if any are known."""
    images = (store.attributes(int(index)) for store in stores for index in _indices(subset, store))
    if (encoded := encode(list(images))) is not None:
        statistics.labels, statistics.record["attributes"] = encoded


def _statistics(network: Extractor, store: ImageStore, args: argparse.Namespace) -> Statistics:
    indices = _indices(args.subset, store)
    moments = Moments.zeros(network.dimension)
    kept = np.empty((len(indices), network.dimension), np.float32) if args.features else None
    with command.progress(total=len(indices), desc=store.path.name, unit="img") as bar:
        for batch in features(network, store, indices):
            if kept is not None:
                kept[moments.count : moments.count + len(batch)] = batch
            moments.update(batch)
            bar.update(len(batch))
    head = network.head if args.features else None
    return Statistics(moments, _record(network, store.metadata, args), kept, head)


def _record(
    network: Extractor, metadata: dict[str, Any], args: argparse.Namespace
) -> dict[str, Any]:
    generator = metadata.get("generator_sha256")
    return {
        "kind": "real" if generator is None else "generated",
        "dataset": {
            key: metadata[key] for key in ("name", "content_sha256", "resolution", "filter")
        }
        # Not every image set states these.
        | {key: metadata.get(key) for key in ("licence", "creator")},
        "generator_sha256": generator,
        "seeds": metadata.get("seeds"),
        "subset": args.subset,
        "seed": SUBSET_SEED,
        "extractor": network.name,
        "weights_sha256": network.weights_sha256,
        "device": runtime.describe_device(args.device),
        "dtype": "float32",
        "versions": runtime.versions(),
        "commit": runtime.commit(),
    }


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
