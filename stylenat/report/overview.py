"""An experiment at a glance, as one self-contained page: what it is, its samples, its numbers.

The page is also the beginning of the report, which inserts it into its own; so every rule of its
style is about the inside of one element.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.io import atomic, described

STYLE = """
.overview { font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 90rem; margin: 1em auto;
  padding: 0 1em; }
.overview h1 { font-size: 1.6em; margin: .5em 0; font-weight: 700; }
.overview .sides { display: flex; flex-wrap: wrap; gap: 1em 3em; align-items: flex-start; }
.overview figure { flex: 3 1 26rem; margin: 0; }
.overview img { width: 100%; height: auto; margin: 0; }
.overview figcaption { color: #555; font-size: .9em; margin-top: .5em; }
.overview .numbers { flex: 2 1 20rem; overflow-x: auto; }
.overview table { border-collapse: collapse; width: 100%; margin: 0 0 1em; font-size: 1em; }
.overview th, .overview td { padding: .3em .5em; text-align: left; border-bottom: 1px solid #ddd; }
.overview th { border-bottom: 2px solid #222; vertical-align: bottom; }
.overview .number { text-align: right; font-variant-numeric: tabular-nums; }
.overview small { color: #555; display: inline-block; line-height: 1.25; }
.overview .number small { white-space: nowrap; }
"""

# What a metric's name, without its feature network, means to somebody who has not met it.
MEANINGS = {
    "fid": "distance between the distributions of images",
    "fd": "distance between the distributions of images",
    "kid": "the same, by a kernel",
    "precision": "share of the samples that look like images of the set",
    "recall": "share of the set that the samples cover",
    "density": "how many images of the set are like a sample",
    "coverage": "share of the set with a sample nearby",
    "copies": "share of the samples that repeat a training image",
}
# Of an attribute, whose name follows: how far its values' shares are apart, and how well a probe
# reads it off real images.
VARIATION, ACCURACY = "attribute_tv_", "attribute_accuracy_"


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
    metrics: pd.DataFrame,
    training: Training | None,
    datasets: Sequence[dict[str, Any]],
    picture: Path,
) -> None:
    """Write the page.

    ``metrics`` is the experiment's table of everything measured of its last snapshot, ``datasets``
    the metadata of its training images and, where there are any, of its held-out ones, ``picture``
    a PNG of reals and samples. Without ``training`` the weights are from elsewhere.
    """
    snapshot = metrics[metrics["kind"] == "snapshot"].iloc[0]
    made = _made(experiment, snapshot, training)
    content = picture.read_bytes()
    if not content.startswith(b"\x89PNG"):
        raise UserError(
            f"{picture} is not a PNG ({described(picture)}); delete it and run the step compare again."
        )
    data = base64.b64encode(content).decode()
    title = f"{experiment.name}: {_text(snapshot['method'])} at {experiment.model.image_size}²"
    with atomic(path) as temporary:
        temporary.write_text(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
            f'<body><div class="overview"><h1>{escape(title)}</h1>\n<p>{escape(made)}</p>\n'
            f'<div class="sides"><figure><img src="data:image/png;base64,{data}" alt="Images of the data set, and '
            'samples below them"><figcaption>Above: images of the data set'
            f"{', none of which was trained on' if len(datasets) > 1 else ''}. Below: samples of "
            "the generator. Of both the first, nothing is picked; without truncation."
            "</figcaption></figure>\n"
            f'<div class="numbers">{_table(metrics)}\n<p>{escape(_about(datasets))}</p></div></div>'
            "</div></body></html>\n"
        )


def _made(experiment: ExperimentConfig, snapshot: pd.Series, training: Training | None) -> str:
    parameters = "" if pd.isna(snapshot["params_m"]) else f"{snapshot['params_m']:.3g} M parameters"
    if training is None:
        return f"{parameters}, {snapshot['source']}; measured with commit {snapshot['commit']}."
    minutes = training.seconds / 60
    length = f"{minutes:.1f} minutes" if minutes < 100 else f"{minutes / 60:.1f} hours"
    return (
        f"{parameters}, trained for {training.iterations:,} iterations "
        f"({training.images_seen:,} images seen, batches of {experiment.training.batch_size}) in "
        f"{length}{f' on {training.device}' if training.device else ''}, seed "
        f"{experiment.training.seed}. Commit {snapshot['commit']}."
    )


def _about(datasets: Sequence[dict[str, Any]]) -> str:
    first, *held_out = datasets
    parts = [f"Data set {first['name']}: {first['count']:,} images, {first['source']}."]
    parts += [f"Held out: {it['count']:,} more, from the same source." for it in held_out]
    if first.get("creator"):
        parts.append(f"Made by {first['creator']}.")
    parts.append(f"Licence: {first['licence'] or 'not stated'}.")
    return " ".join(parts)


def _table(metrics: pd.DataFrame) -> str:
    """A row per metric: the samples against the training images and the held-out ones, beside what
    real images reach."""
    rows = metrics.to_dict("records")
    floors = {row["metric"]: row for row in rows if row["kind"] == "floor"}
    measured = {row["metric"]: row for row in rows if row["kind"] == "snapshot"}
    with_held_out = any(pd.notna(row.get("held_out")) for row in measured.values())
    heads = ["samples", *(["against held-out"] if with_held_out else []), "real"]
    body = []
    for metric, row in measured.items():
        value = _number(row["value"])
        if pd.notna(row["std"]):
            value += f" <small>± {row['std']:.2g}</small>"
        held_out = [_number(row["held_out"])] if with_held_out else []
        real = _number(floors[metric]["value"]) if metric in floors else ""
        cells = "".join(f'<td class="number">{cell}</td>' for cell in (value, *held_out, real))
        read = floors.get(metric.replace(VARIATION, ACCURACY), {}) if VARIATION in metric else {}
        body.append(f"<tr><td>{_label(row, read.get('value'))}</td>{cells}</tr>")
    head = "".join(f'<th class="number">{name}</th>' for name in heads)
    return (
        f"<table><thead><tr><th></th>{head}</tr></thead>\n<tbody>\n"
        + "\n".join(body)
        + f"\n</tbody></table>\n<p>{escape(_counts(measured, floors))}</p>"
    )


def _label(row: dict[str, Any], accuracy: float | None) -> str:
    """A metric's name, its better direction, what it means and what is remarkable; ``accuracy`` is
    that of an attribute's probe."""
    name = row["metric"].removesuffix(f"_{row['extractor']}")
    arrow = "↓" if row["better"] == "lower" else "↑"
    remarks = [MEANINGS.get(name, "")]
    if name.startswith(VARIATION):
        remarks.append("how far its shares are from the set's, 0 to 1")
    if accuracy is not None:
        remarks.append(f"read by a probe, right for {accuracy:.0%} of real images")
    remarks.append(_text(row.get("note")))
    texts = "".join(f"<br><small>{escape(text)}</small>" for text in remarks if text)
    # Long names may be broken.
    return f"<b>{escape(row['metric']).replace('_', '_<wbr>')}</b> {arrow}{texts}"


def _counts(measured: dict[str, dict[str, Any]], floors: dict[str, dict[str, Any]]) -> str:
    row = next(iter(measured.values()))
    sets = int(row["sets"])
    parts = [f"{int(row['n_generated']):,} samples"]
    if sets > 1:
        parts.append(f"mean and standard deviation of {sets} sets")
    note = f"{', '.join(parts)}; ↓ lower is better, ↑ higher."
    if floors:
        note += f" Real images are the floor: {_text(next(iter(floors.values()))['method'])}."
    return note


def _number(value: float | None) -> str:
    if value is None or pd.isna(value):
        return ""
    return f"{value:.1f}" if abs(value) >= 100 else f"{value:#.3g}"


def _text(value: Any) -> str:
    return "" if value is None or pd.isna(value) else str(value)
