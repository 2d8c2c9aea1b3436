"""A result table as one self-contained page, for the report: a row for each thing that was measured,
what the rows have in common above them once, and all of the CSV file behind a toggle."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from stylenat.report import markup
from stylenat.report.markup import chart, facts, mark, rounded, small, text
from stylenat.report.rows import LEVEL, margin, p_value

Row = dict[str, Any]

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
    "copies_pixels": "the same, by pixels in place of features",
}
# Of an attribute, whose name follows: how far its values' shares are apart, and how well a probe
# reads it off real images.
VARIATION, ACCURACY = "attribute_tv_", "attribute_accuracy_"

FACTS = {
    "dataset": "data set",
    "resolution": "side",
    "filter": "filter",
    "method": "network",
    "params_m": "million parameters",
    "step": "iterations",
    "images_seen": "images seen",
    "extractor": "features",
    "device": "device",
    "threads": "threads",
    "dtype": "computed in",
    "precision": "trained in",
    "backend": "attention",
    "execution": "execution",
    "comparable": "comparable",
    "commit": "commit",
    "dataset_licence": "licence of the images",
    "dataset_creator": "made by",
}
ABLATION_FACTS = {
    "protocol": "protocol",
    "against": "compared with images",
    "n_generated": "samples",
    "n_real": "reals",
    **FACTS,
}
INTERVALS = (
    "± is twice the standard error or, where that is not known, twice the standard deviation over the "
    "sampling sets: about a 95 % interval. ≠: told apart from the value by both "
    "intervals; ≈: not; unmarked: other counts of images, or an interval that is not known. "
    "↓ lower is better, ↑ higher."
)
NUMBER, WORDS = "number", ""


def write_page(
    path: str | Path, frame: pd.DataFrame, title: str, sentences: Sequence[str] = ()
) -> None:
    """The table ``frame``, of metrics, of throughput or of an ablation, below ``sentences``."""
    if "images_per_second" in frame:
        body = _speeds(frame)
    elif "ablation" in frame:
        body = _variants(frame)
    else:
        body = _metrics(frame)
    stated = "".join(f"<p>{escape(sentence)}.</p>" for sentence in sentences)
    markup.write_html(
        path,
        title,
        f'<div class="results"><h1>{escape(title)}</h1>\n{stated}{body}{markup.everything(frame)}</div>',
        "body { margin: 1em; } .results h1 { font-size: 1.3em; margin: 0 0 .6em; }",
    )


# ----------------------------------------------------------------------------------- metrics


def metric_rows(frame: pd.DataFrame) -> str:
    """The last snapshot by protocol and metric, beside held-out reals, floor and published value, with
    what was measured of earlier ones; and what the signs mean."""
    snapshots = frame[frame["kind"] == "snapshot"]
    floors = {_key(row): row for row in _rows(frame, "floor")}
    heads = {
        "": WORDS, "value": NUMBER, "to held-out": NUMBER, "real images": NUMBER, "published": NUMBER,
        "samples, reals": NUMBER, "over the iterations": NUMBER,
    }  # fmt: skip
    rows = []
    for key, group in snapshots.groupby(["protocol", "metric"], sort=False):
        series = group.sort_values("step", kind="stable").to_dict("records")
        rows.append(_metric_row(series, floors.get(key, {}), floors))
    note = INTERVALS
    if floors:
        of = dict.fromkeys(row["method"] for row in floors.values())
        note += f" Real images are the floor, what a perfect generator would get: {', '.join(of)}."
    return f"{markup.table(heads, rows)}<p>{escape(note)}</p>\n"


def _metrics(frame: pd.DataFrame) -> str:
    snapshots = frame[frame["kind"] == "snapshot"]
    last = snapshots[snapshots["step"] == snapshots["step"].max()]
    return facts(last, FACTS) + metric_rows(frame) + _literature(frame)


def _metric_row(series: list[Row], floor: Row, floors: dict[tuple[str, str], Row]) -> list[str]:
    *earlier, row = series
    value, reach = row["value"], _margin(row)

    def beside(other: float | None, its_margin: float | None, same: bool, shown: str) -> str:
        told = mark(value - other, reach, its_margin) if pd.notna(other) and same else ""
        return f"{shown} {told}".strip()

    held_out = row.get("held_out")
    held_out_reach = margin(row.get("held_out_uncertainty"), row.get("held_out_std"))
    same_reals = row.get("n_real_held_out") == row["n_real"]
    sizes = [floor.get(name) == row[name] for name in ("n_generated", "n_real")]
    sets = f"{int(row['n_generated']):,}" + (f" × {int(row['sets'])}" if row["sets"] > 1 else "")
    return [
        _label(row, floors),
        f"<b>{rounded(value, reach)}</b>",
        beside(held_out, held_out_reach, same_reals, rounded(held_out, held_out_reach)),
        beside(
            floor.get("value"),
            _margin(floor),
            all(sizes),
            rounded(floor.get("value"), _margin(floor)),
        ),
        beside(row["published"], 0.0, True, text(row["published"])),
        f"{sets}, {int(row['n_real']):,}",
        chart([(int(it["step"]), it["value"], _margin(it)) for it in series])
        + small(*_history(earlier, row)),
    ]


def _history(earlier: list[Row], row: Row) -> list[str]:
    """The snapshot before the last, and the best one if it is another."""
    lines = []
    for place, one in enumerate(earlier):
        best = text(one.get("selection")).startswith("best")
        if best or place == len(earlier) - 1:
            told = mark(row["value"] - one["value"], _margin(row), _margin(one))
            name = "best by this number" if best else "before"
            lines.append(
                f"{name}, {int(one['step']):,}: {rounded(one['value'], _margin(one))} {told}"
            )
    return lines


def _label(row: Row, floors: dict[tuple[str, str], Row]) -> str:
    """A metric's name, its better direction, its protocol, what it means and what is remarkable."""
    name = row["metric"].removesuffix(f"_{row['extractor']}")
    arrow = "↓" if row["better"] == "lower" else "↑"
    remarks = ["" if row["protocol"] == row["metric"] else f"protocol {row['protocol']}"]
    remarks.append(MEANINGS.get(name, ""))
    if name.startswith(VARIATION):
        remarks.append("how far its shares are from the set's, 0 to 1")
        read = floors.get((row["protocol"], row["metric"].replace(VARIATION, ACCURACY)))
        if read:
            remarks.append(f"read by a probe, right for {read['value']:.0%} of real images")
    remarks.append(text(row.get("note")))
    # Long names may be broken.
    return f"<b>{escape(row['metric']).replace('_', '_<wbr>')}</b> {arrow}{small(*remarks)}"


def _literature(frame: pd.DataFrame) -> str:
    """Published values, against ours where it may be compared with them."""
    ours = frame[frame["published"].notna()].tail(1).to_dict("records")
    rows = []
    for row in _rows(frame, "published"):
        told = mark(ours[0]["value"] - row["value"], _margin(ours[0]), 0.0) if ours else ""
        shown = f"{text(row['value'])} {told}".strip()
        rows.append(
            [
                escape(row["method"]),
                shown,
                rounded(row["params_m"]),
                *_words(row, "verdict", "source"),
            ]
        )
    heads = {"": WORDS, "fid": NUMBER, "million parameters": NUMBER, "how": WORDS, "source": WORDS}
    return _published(heads, rows)


def _published(heads: dict[str, str], rows: list[list[str]]) -> str:
    return (
        markup.toggle(f"Published: {len(rows)} values", markup.table(heads, rows)) if rows else ""
    )


def _margin(row: Row) -> float | None:
    return margin(row.get("uncertainty"), row.get("std"))


def _key(row: Row) -> tuple[str, str]:
    return row["protocol"], row["metric"]


def _words(row: Row, *columns: str) -> list[str]:
    return [escape(text(row[column])) for column in columns]


def _rows(frame: pd.DataFrame, kind: str) -> list[Row]:
    return frame[frame["kind"] == kind].to_dict("records")


# -------------------------------------------------------------------------------- throughput


def _speeds(frame: pd.DataFrame) -> str:
    measured = frame[frame["kind"] == "measured"]
    first = measured["experiment"].iloc[0] if measured["experiment"].nunique() > 1 else None
    settings = ["timed", "protocol", "batch_size"]
    bases = {
        tuple(row[name] for name in settings): row
        for row in measured[measured["experiment"] == first].to_dict("records")
    }
    heads = {
        "": WORDS, "batch": NUMBER, "images a second": NUMBER, f"against {first}": NUMBER, "MB": NUMBER,
        "million parameters": NUMBER, "GFLOPs an image": NUMBER, "comparable": WORDS,
    }  # fmt: skip
    one_network = measured["params_m"].nunique() == 1
    rows = [
        [
            _name(row, first),
            text(row["batch_size"]),
            f"<b>{rounded(row['images_per_second'])}</b>{small(_quartiles(row))}",
            _against(row, bases.get(tuple(row[name] for name in settings))),
            rounded(row["memory_mb"]),
            "" if one_network else rounded(row["params_m"]),
            rounded(row["gflops"]),
            "" if "no published" in row["comparable"] else escape(row["comparable"]),
        ]
        for row in measured.to_dict("records")
    ]
    note = "Images a second: the median of the rounds, and their quartiles."
    if first:
        note += f" ≠: told apart from {first}, as the quartiles do not overlap; ≈: not."
    published = [
        [
            escape(row["method"]), rounded(row["images_per_second"]), text(row["batch_size"]),
            *_words(row, "device", "dtype", "comparable", "source"),
        ]
        for row in _rows(frame, "published")
    ]  # fmt: skip
    heads_published = {
        "": WORDS, "images a second": NUMBER, "batch": NUMBER, "device": WORDS, "computed in": WORDS,
        "comparable": WORDS, "source": WORDS,
    }  # fmt: skip
    return (
        facts(measured, FACTS)
        + f"{markup.table(heads, rows)}<p>{escape(note)}</p>\n{_published(heads_published, published)}"
    )


def _name(row: Row, first: str | None) -> str:
    protocol = f"protocol {row['protocol']}"
    if first is None:
        return f"<b>{escape(row['timed'])}</b>{small(protocol)}"
    return f"<b>{escape(row['experiment'])}</b>{small(row['timed'], protocol)}"


def _quartiles(row: Row) -> str:
    low, high = row["images_per_second_q25"], row["images_per_second_q75"]
    return "" if pd.isna(low) else f"{rounded(low)} to {rounded(high)}"


def _against(row: Row, base: Row | None) -> str:
    """How many times as fast as the first experiment, and whether the rounds tell."""
    if base is None or base["experiment"] == row["experiment"]:
        return ""
    low, high = "images_per_second_q25", "images_per_second_q75"
    told = ""
    if not any(pd.isna(one[name]) for one in (row, base) for name in (low, high)):
        overlap = row[low] <= base[high] and base[low] <= row[high]
        told = markup.NOT_APART if overlap else markup.APART
    return f"× {row['images_per_second'] / base['images_per_second']:.2f} {told}".strip()


# ---------------------------------------------------------------------------------- ablation


def _variants(frame: pd.DataFrame) -> str:
    measured = frame[frame["kind"] == "measured"]
    last = measured[measured["step"] == measured["step"].max()]
    published = {row["variant"]: row for row in _rows(frame, "published")}
    heads = {
        "": WORDS, "value": NUMBER, "difference to the baseline": NUMBER, "p": NUMBER, "trainings": NUMBER,
        "published": NUMBER, "parameters": NUMBER, "over the iterations": NUMBER,
    }  # fmt: skip
    rows = []
    for row in last.to_dict("records"):
        series = measured[measured["variant"] == row["variant"]].sort_values("step")
        points = [(int(it["step"]), it["value"], None) for it in series.to_dict("records")]
        known = published.get(row["variant"], {})
        rows.append(
            [
                f"<b>{escape(row['variant'])}</b>",
                f"<b>{rounded(row['value'], row['std'])}</b>",
                _difference(row),
                "" if pd.isna(row["p_holm"]) else p_value(row["p_holm"]).removeprefix("= "),
                text(row["n"]),
                text(known.get("published")),
                f"{row['parameters']:,.0f}{small(*_size(row))}",
                chart(points),
            ]
        )
    note = (
        "Value ± standard deviation over trainings. Difference ± 95 % interval, paired by seed; "
        f"≠: told apart (p < {LEVEL}, with Holm's correction for the number of variants); ≈: not."
    )
    for floor in _rows(frame, "floor"):
        note += f" Real images, the floor: {rounded(floor['value'])}."
    return f"{facts(last, ABLATION_FACTS)}{markup.table(heads, rows)}<p>{escape(note)}</p>\n"


def _size(row: Row) -> list[str]:
    speeds = {
        "GFLOPs an image": row["gflops"],
        "samples a second": row["sampling_images_per_second"],
        "images a second in training": row["training_images_per_second"],
    }
    known = [f"{rounded(value)} {name}" for name, value in speeds.items() if pd.notna(value)]
    return [text(row["size_note"]), *known]


def _difference(row: Row) -> str:
    if pd.isna(row["difference"]):
        return ""
    half = (row["high"] - row["low"]) / 2
    sign = "+" if row["difference"] > 0 else ""
    told = markup.APART if row["p_holm"] < LEVEL else markup.NOT_APART
    return f"{sign}{rounded(row['difference'], half)} {told}"
