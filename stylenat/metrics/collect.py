"""Statistics of the images of a data set."""

from collections.abc import Callable

import numpy as np
from tqdm import tqdm

from stylenat import runtime
from stylenat.data.sources.classes import CLASS
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.metrics.attributes import encode
from stylenat.metrics.extractors.features import Extractor, features
from stylenat.metrics.moments import Moments, Statistics
from stylenat.metrics.subsets import choose, digest_order
from stylenat.metrics.thumbnails import SIDE
from stylenat.records import Dataset, MeasuredSet, StatisticsRecord

SUBSET_SEED = 0  # part of a protocol's meaning, so not an option


def collect(
    network: Extractor,
    store: ImageStore,
    subset: str = "all",
    keep: bool = True,
    progress: Callable[..., tqdm] = tqdm,
) -> Statistics:
    """Of the images of ``subset`` (all, a number, or class=NAME); with every image's features and
    thumbnail, if these are to be kept."""
    indices = chosen(subset, store)
    moments = Moments.zeros(network.dimension)
    kept = np.empty((len(indices), network.dimension), np.float32) if keep else None
    thumbnails = np.empty((len(indices), SIDE, SIDE, 3), np.uint8) if keep else None
    with progress(total=len(indices), desc=store.path.name, unit="img") as bar:
        for batch, small in features(network, store, indices):
            if kept is not None and thumbnails is not None:
                rows = slice(moments.count, moments.count + len(batch))
                kept[rows], thumbnails[rows] = batch, small
            moments.update(batch)
            bar.update(len(batch))
    record = _record(network, store.metadata, subset)
    head = network.head if keep else None
    return Statistics(moments, record, kept, head, thumbnails=thumbnails)


def label(statistics: Statistics, stores: list[ImageStore], subset: str) -> None:
    """Add the attributes of the images, in the order of their features, if any are known."""
    images = (store.attributes(int(index)) for store in stores for index in chosen(subset, store))
    if (encoded := encode(list(images))) is not None:
        statistics.labels, values = encoded
        statistics.record = statistics.record.model_copy(update={"attributes": values})


def chosen(subset: str, store: ImageStore) -> np.ndarray:
    """Ascending indices of a subset, or, for ``class=name``, of a class.

    A number of images is drawn from all of them in the order of their pixels' hashes, so which ones
    depends on neither their names nor their places. The paper's code draws 50,000 reals without a
    seed, and any draw is one of those that it may have made.
    """
    if not subset.startswith(f"{CLASS}="):
        drawn = choose(subset, len(store), SUBSET_SEED)
        whole = len(drawn) == len(store)
        return drawn if whole else np.sort(digest_order(store.digests)[drawn])
    wanted = subset.removeprefix(f"{CLASS}=")
    if wanted not in (classes := store.metadata.classes or []):
        there = f"there are {', '.join(classes)}" if classes else "it has no class labels"
        raise UserError(f"{store.path} has no class {wanted!r}; {there}.")
    classed = (store.attributes(index) for index in range(len(store)))
    return np.flatnonzero([(known or {}).get(CLASS) == wanted for known in classed])


def _record(network: Extractor, metadata: Dataset, subset: str) -> StatisticsRecord:
    return StatisticsRecord(
        kind="real" if metadata.generator_sha256 is None else "generated",
        dataset=metadata.part(MeasuredSet),
        generator_sha256=metadata.generator_sha256,
        seeds=metadata.seeds,
        subset=subset,
        seed=SUBSET_SEED,
        extractor=network.name,
        weights_sha256=network.weights_sha256,
        device=runtime.describe_device(network.device),
        dtype="float32",
        versions=runtime.versions(),
        commit=runtime.commit(),
    )
