"""Evaluate anybody's images against reals, or two sets of images against each other.

Each of them is a folder or zip of images, a packed data set, or a file of statistics with features. The
reals may also be mean and covariance that another program wrote, for a Fréchet distance.
"""

import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from stylenat import command
from stylenat.data.pack import PackSettings, pack
from stylenat.data.prepare import FILTERS
from stylenat.data.sources import open_source
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.io import Json, write_json
from stylenat.metrics import METRICS
from stylenat.metrics.base import Measurement
from stylenat.metrics.collect import collect
from stylenat.metrics.comparison import Difference, compare
from stylenat.metrics.extractors import NETWORKS
from stylenat.metrics.extractors.features import Extractor
from stylenat.metrics.extractors.features import extractor as network_of
from stylenat.metrics.foreign import is_foreign, read_gaussian
from stylenat.metrics.moments import COMPARABLE, Statistics, require_same
from stylenat.report.rows import LEVEL, p_value
from stylenat.runtime import select_device

WRITTEN = ("metric", "better", "value", "uncertainty", "uncertainty_of")


def run(
    *,
    reference: Path,
    images: Path,
    output: Path,
    against: Path | None = None,
    extractor: str = "inception",
    weights: Path | None = None,
    resolution: int | None = None,
    filter: str = "lanczos",
    metrics: Sequence[str] = ("frechet", "kid", "prdc"),
    device: str = "auto",
) -> None:
    network = None
    if weights is not None:
        network = network_of(extractor, weights, select_device(device))
    with tempfile.TemporaryDirectory(prefix="stylenat-") as folder:
        sets = [
            _statistics(path, network, extractor, resolution, filter, Path(folder) / str(number))
            for number, path in enumerate((reference, images, against))
            if path is not None
        ]
    reals, measured, *others = sets
    for other in (measured, *others):
        require_same(COMPARABLE, other.record, reals.record)
    rows: list[Json] = []
    for name in metrics:
        metric = METRICS[name]
        if others:
            for difference in compare(metric, reals, measured, others[0]):
                rows.append(asdict(difference))
                command.log.info("%s", _difference(difference))
        else:
            for one in metric.measure(reals)(measured):
                rows.append({key: getattr(one, key) for key in WRITTEN})
                command.log.info("%s", _value(one))
    counts = [statistics.moments.count for statistics in sets]
    record = {
        "reference": {"path": str(reference), "count": counts[0]},
        "images": {"path": str(images), "count": counts[1]},
        **({"against": {"path": str(against), "count": counts[2]}} if others else {}),
        "extractor": reals.record.extractor,
        "weights_sha256": reals.record.weights_sha256,
        "versions": reals.record.versions,
        "rows": rows,
    }
    write_json(output, record)


def _statistics(
    path: Path,
    network: Extractor | None,
    extractor: str,
    resolution: int | None,
    filter: str,
    temporary: Path,
) -> Statistics:
    """What ``path`` holds, packed for a moment if it is a folder or a zip of images."""
    if path.suffix == ".pkl" or (path.suffix == ".npz" and is_foreign(path)):
        gaussian = read_gaussian(path)
        command.log.warning(
            "%s is of another program: it is taken for features of %s, and does not say how images "
            "were resized, nor with which weights%s",
            path,
            extractor,
            "" if gaussian.count else ", nor how many there were",
        )
        return gaussian.statistics(path, extractor)
    if path.suffix == ".npz":
        return Statistics.load(path)
    if network is None:
        raise UserError(f"{path} holds images; give the feature network's file as --weights.")
    if path.suffix == ".lmdb":
        return collect(network, ImageStore(path), progress=command.progress)
    if resolution is None:
        raise UserError(
            f"{path} is no packed data set; give the side of its images in pixels as --resolution."
        )
    kind = "folder" if path.is_dir() else "zip"
    source = open_source({"kind": kind, "path": str(path)}, resolution)
    settings = PackSettings(path.stem, resolution, filter)
    packed = temporary.with_suffix(".lmdb")
    with command.progress(total=len(source.names), desc=path.name, unit="image") as bar:
        pack(source, settings, packed, advance=bar.update)
    return collect(network, ImageStore(packed), progress=command.progress)


def _value(one: Measurement) -> str:
    error = f" ± {one.uncertainty:.2g}" if one.uncertainty is not None else ""
    return f"{one.metric}: {one.value:.6g}{error} ({one.better} is better)"


def _difference(of: Difference) -> str:
    told = "" if of.p < LEVEL else "not "
    return (
        f"{of.metric}: {of.a:.6g} and {of.b:.6g}, difference {of.difference:+.4g} "
        f"({of.low:.4g} to {of.high:.4g}), p {p_value(of.p)}: {told}told apart "
        f"({of.better} is better)"
    )


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--reference", type=Path, required=True, help="the reals")
    options.add_argument("--images", type=Path, required=True, help="what is evaluated")
    options.add_argument("--against", type=Path, help="a second set, to be told apart from it")
    options.add_argument("--extractor", choices=NETWORKS, help="feature network")
    options.add_argument("--weights", type=Path, help="its weights; not needed for statistics")
    options.add_argument(
        "--resolution", type=int, help="side in pixels that folders and zips are brought to"
    )
    options.add_argument("--filter", choices=FILTERS, help="how larger images get there")
    options.add_argument(
        "--metrics",
        choices=METRICS,
        nargs="+",
        help="what is measured",
    )
    options.add_argument("--output", type=Path, required=True, help="the results (JSON)")
    command.add_device(options)
    command.main(options, run)


if __name__ == "__main__":
    main()
