"""An experiment at a glance, as one self-contained page: what it is, its samples, its numbers.

The page is also the beginning of the report, which inserts it into its own; so every rule of its
style is about the inside of one element.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import pandas as pd

from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.io import described
from stylenat.records import Dataset
from stylenat.report.markup import text, write_html
from stylenat.report.page import metric_rows
from stylenat.report.rows import MetricRow

STYLE = """
.overview { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 90rem; margin: 1em auto;
  padding: 0 1em; }
.overview h1 { font-size: 1.6em; margin: .5em 0; font-weight: 700; }
.overview .sides { display: flex; flex-wrap: wrap; gap: 1em 3em; align-items: flex-start; }
.overview figure { flex: 1 1 40rem; max-width: 46rem; margin: 0; }
.overview img { width: 100%; height: auto; margin: 0; }
.overview figcaption { color: #555; font-size: .9em; margin-top: .5em; }
.overview .numbers { flex: 3 1 46rem; min-width: 0; }
"""


@dataclass(frozen=True)
class Training:
    """What a training's own records say about it."""

    iterations: int
    images_seen: int
    seconds: float  # of the iterations alone
    device: str | None  # records from before it was noted do not say


def training_of(records: pd.DataFrame, batch_size: int) -> Training:
    """Sum up the records of :func:`stylenat.report.curves.read_training`."""
    images = records["images_seen"].diff().fillna(records["images_seen"])
    last = records.iloc[-1]
    device = None
    if "device" in records and pd.notna(last["device"]):
        many = f"{int(last['processes'])} × " if last["processes"] > 1 else ""
        precision = f" in {last['precision']}" if pd.notna(last.get("precision")) else ""
        device = f"{many}{last['device']}{precision}"
    return Training(
        iterations=int(last["images_seen"]) // batch_size,
        images_seen=int(last["images_seen"]),
        seconds=float((images / records["images_per_second"]).sum()),
        device=device,
    )


def write_overview(
    path: str | Path,
    experiment: ExperimentConfig,
    metrics: Sequence[MetricRow],
    training: Training | None,
    datasets: Sequence[Dataset],
    picture: Path,
) -> None:
    """Write the page.

    ``metrics`` are the rows of the experiment's table of everything measured of its last snapshot, ``datasets``
    the metadata of its training images and, where there are any, of its held-out ones, ``picture``
    a PNG of reals and samples. Without ``training`` the weights are from elsewhere.
    """
    snapshot = next((row for row in metrics if row.kind == "snapshot"), None)
    if snapshot is None:
        raise UserError(f"{experiment.name}: the table of metrics holds no snapshot; measure one.")
    made = _made(experiment, snapshot, training)
    content = picture.read_bytes()
    if not content.startswith(b"\x89PNG"):
        raise UserError(
            f"{picture} is not a PNG ({described(picture)}); delete it and run the step compare again."
        )
    data = base64.b64encode(content).decode()
    title = f"{experiment.name}: {text(snapshot.method)} at {experiment.model.image_size}²"
    body = (
        f'<div class="overview"><h1>{escape(title)}</h1>\n<p>{escape(made)}</p>\n'
        f'<div class="sides"><figure><img src="data:image/png;base64,{data}" alt="Images of the data set, and '
        'samples below them"><figcaption>Above: images of the data set'
        f"{', none of which was trained on' if len(datasets) > 1 else ''}. Below: samples of "
        "the generator. Of both the first, nothing is picked; without truncation."
        "</figcaption></figure>\n"
        f'<div class="numbers results">{metric_rows(metrics)}<p>{escape(_about(datasets))}</p></div></div>'
        "</div>"
    )
    write_html(path, title, body, STYLE)


def _made(experiment: ExperimentConfig, snapshot: MetricRow, training: Training | None) -> str:
    parameters = "" if snapshot.params_m is None else f"{snapshot.params_m:.3g} M parameters"
    if training is None:
        return f"{parameters}, {snapshot.source}; measured with commit {snapshot.commit}."
    minutes = training.seconds / 60
    length = f"{minutes:.1f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
    return (
        f"{parameters}, trained for {training.iterations:,} iterations "
        f"({training.images_seen:,} images seen, batches of {experiment.training.batch_size}) in "
        f"{length}{f' on {training.device}' if training.device else ''}, seed "
        f"{experiment.training.seed}. Commit {snapshot.commit}."
    )


def _about(datasets: Sequence[Dataset]) -> str:
    first, *held_out = datasets
    parts = [f"Data set {first.name}: {first.count:,} images, {first.source}."]
    parts += [f"Held out: {it.count:,} more, from the same source." for it in held_out]
    if first.creator:
        parts.append(f"Made by {first.creator}.")
    parts.append(f"Licence: {first.licence or 'not stated'}.")
    return " ".join(parts)
