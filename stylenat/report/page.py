"""A result table as one self-contained page, for the report: a row for each thing that was measured,
what the rows have in common above them once, and all of the CSV file behind a toggle."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import pandas as pd

from stylenat.report import markup
from stylenat.report.markup import chart, facts, mark, rounded, small, text
from stylenat.report.rows import (
    LEVEL,
    AblationRow,
    MetricRow,
    SpeedRow,
    by_step,
    last_rows,
    margin,
    p_value,
)

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
        body = _speeds(SpeedRow.of(frame))
    elif "ablation" in frame:
        body = _variants(AblationRow.of(frame))
    else:
        body = _metrics(MetricRow.of(frame))
    stated = "".join(f"<p>{escape(sentence)}.</p>" for sentence in sentences)
    markup.write_html(
        path,
        title,
        f'<div class="results"><h1>{escape(title)}</h1>\n{stated}{body}{markup.everything(frame)}</div>',
        "body { margin: 1em; } .results h1 { font-size: 1.3em; margin: 0 0 .6em; }",
    )


# ----------------------------------------------------------------------------------- metrics


def metric_rows(rows: Sequence[MetricRow]) -> str:
    """The last snapshot by protocol and metric, beside held-out reals, floor and published value, with
    what was measured of earlier ones; and what the signs mean."""
    floors = {_key(row): row for row in rows if row.kind == "floor"}
    heads = {
        "": WORDS, "value": NUMBER, "to held-out": NUMBER, "real images": NUMBER, "published": NUMBER,
        "samples, reals": NUMBER, "over the iterations": NUMBER,
    }  # fmt: skip
    groups: dict[tuple[str, str], list[MetricRow]] = {}
    for row in rows:
        if row.kind == "snapshot":
            groups.setdefault(_key(row), []).append(row)
    cells = [_metric_row(by_step(series), floors) for series in groups.values()]
    note = INTERVALS
    if floors:
        of = dict.fromkeys(text(row.method) for row in floors.values())
        note += f" Real images are the floor, what a perfect generator would get: {', '.join(of)}."
    return f"{markup.table(heads, cells)}<p>{escape(note)}</p>\n"


def _metrics(rows: list[MetricRow]) -> str:
    snapshots = [row for row in rows if row.kind == "snapshot"]
    step = max((row.step for row in snapshots if row.step is not None), default=None)
    last = [row for row in snapshots if row.step == step]
    return facts(last, FACTS) + metric_rows(rows) + _literature(rows)


def _metric_row(series: list[MetricRow], floors: dict[tuple[str, str], MetricRow]) -> list[str]:
    *earlier, row = series
    value, reach = row.value, _margin(row)

    def beside(other: float | None, its_margin: float | None, same: bool, shown: str) -> str:
        told = mark(value - other, reach, its_margin) if other is not None and same else ""
        return f"{shown} {told}".strip()

    held_out_reach = margin(row.held_out_uncertainty, row.held_out_std)
    floor = floors.get(_key(row))
    real, real_reach, same_counts = None, None, False
    if floor is not None:
        real, real_reach = floor.value, _margin(floor)
        same_counts = (floor.n_generated, floor.n_real) == (row.n_generated, row.n_real)
    sets = f" × {row.sets}" if row.sets is not None and row.sets > 1 else ""
    return [
        _label(row, floors),
        f"<b>{rounded(value, reach)}</b>",
        beside(
            row.held_out,
            held_out_reach,
            row.n_real_held_out == row.n_real,
            rounded(row.held_out, held_out_reach),
        ),
        beside(real, real_reach, same_counts, rounded(real, real_reach)),
        beside(row.published, 0.0, True, text(row.published)),
        f"{text(row.n_generated)}{sets}, {text(row.n_real)}",
        chart([(it.step, it.value, _margin(it)) for it in series if it.step is not None])
        + small(*_history(earlier, row)),
    ]


def _history(earlier: list[MetricRow], row: MetricRow) -> list[str]:
    """The snapshot before the last, and the best one if it is another."""
    lines = []
    for place, one in enumerate(earlier):
        best = text(one.selection).startswith("best")
        if best or place == len(earlier) - 1:
            told = mark(row.value - one.value, _margin(row), _margin(one))
            name = "best by this number" if best else "before"
            lines.append(f"{name}, {text(one.step)}: {rounded(one.value, _margin(one))} {told}")
    return lines


def _label(row: MetricRow, floors: dict[tuple[str, str], MetricRow]) -> str:
    """A metric's name, its better direction, its protocol, what it means and what is remarkable."""
    name = row.metric.removesuffix(f"_{row.extractor}")
    arrow = "↓" if row.better == "lower" else "↑"
    remarks = ["" if row.protocol == row.metric else f"protocol {row.protocol}"]
    remarks.append(MEANINGS.get(name, ""))
    if name.startswith(VARIATION):
        remarks.append("how far its shares are from the set's, 0 to 1")
        read = floors.get((row.protocol, row.metric.replace(VARIATION, ACCURACY)))
        if read:
            remarks.append(f"read by a probe, right for {read.value:.0%} of real images")
    remarks.append(text(row.note))
    # Long names may be broken.
    return f"<b>{escape(row.metric).replace('_', '_<wbr>')}</b> {arrow}{small(*remarks)}"


def _literature(rows: list[MetricRow]) -> str:
    """Published values, against ours where it may be compared with them."""
    ours = [row for row in rows if row.published is not None][-1:]
    cells = []
    for row in rows:
        if row.kind == "published":
            told = mark(ours[0].value - row.value, _margin(ours[0]), 0.0) if ours else ""
            shown = f"{text(row.value)} {told}".strip()
            cells.append(
                [
                    *_words(row.method),
                    shown,
                    rounded(row.params_m),
                    *_words(row.verdict, row.source),
                ]
            )
    heads = {"": WORDS, "fid": NUMBER, "million parameters": NUMBER, "how": WORDS, "source": WORDS}
    return _published(heads, cells)


def _published(heads: dict[str, str], rows: list[list[str]]) -> str:
    return (
        markup.toggle(f"Published: {len(rows)} values", markup.table(heads, rows)) if rows else ""
    )


def _margin(row: MetricRow) -> float | None:
    return margin(row.uncertainty, row.std)


def _key(row: MetricRow) -> tuple[str, str]:
    return row.protocol, row.metric


def _words(*cells: str | None) -> list[str]:
    return [escape(text(cell)) for cell in cells]


# -------------------------------------------------------------------------------- throughput


def _speeds(rows: list[SpeedRow]) -> str:
    measured = [row for row in rows if row.kind == "measured"]
    names = list(dict.fromkeys(row.experiment for row in measured))
    first = names[0] if len(names) > 1 else None
    bases = {_setting(row): row for row in measured if row.experiment == first}
    heads = {
        "": WORDS, "batch": NUMBER, "images a second": NUMBER, f"against {first}": NUMBER, "MB": NUMBER,
        "million parameters": NUMBER, "GFLOPs an image": NUMBER, "comparable": WORDS,
    }  # fmt: skip
    one_network = len({row.params_m for row in measured}) == 1
    cells = [
        [
            _name(row, first),
            text(row.batch_size),
            f"<b>{rounded(row.images_per_second)}</b>{small(_quartiles(row))}",
            _against(row, bases.get(_setting(row))),
            rounded(row.memory_mb),
            "" if one_network else rounded(row.params_m),
            rounded(row.gflops),
            "" if "no published" in row.comparable else escape(row.comparable),
        ]
        for row in measured
    ]
    note = "Images a second: the median of the rounds, and their quartiles."
    if first:
        note += f" ≠: told apart from {first}, as the quartiles do not overlap; ≈: not."
    published = [
        [
            escape(row.method), rounded(row.images_per_second), text(row.batch_size),
            *_words(row.device, row.dtype, row.comparable, row.source),
        ]
        for row in rows if row.kind == "published"
    ]  # fmt: skip
    heads_published = {
        "": WORDS, "images a second": NUMBER, "batch": NUMBER, "device": WORDS, "computed in": WORDS,
        "comparable": WORDS, "source": WORDS,
    }  # fmt: skip
    return (
        facts(measured, FACTS)
        + f"{markup.table(heads, cells)}<p>{escape(note)}</p>\n{_published(heads_published, published)}"
    )


def _setting(row: SpeedRow) -> tuple[str | None, str, int | None]:
    """What two rows share that are compared with each other."""
    return row.timed, row.protocol, row.batch_size


def _name(row: SpeedRow, first: str | None) -> str:
    protocol, timed = f"protocol {row.protocol}", text(row.timed)
    if first is None:
        return f"<b>{escape(timed)}</b>{small(protocol)}"
    return f"<b>{escape(text(row.experiment))}</b>{small(timed, protocol)}"


def _quartiles(row: SpeedRow) -> str:
    low, high = row.images_per_second_q25, row.images_per_second_q75
    return "" if low is None else f"{rounded(low)} to {rounded(high)}"


def _against(row: SpeedRow, base: SpeedRow | None) -> str:
    """How many times as fast as the first experiment, and whether the rounds tell."""
    if base is None or base.experiment == row.experiment:
        return ""
    low, high = row.images_per_second_q25, row.images_per_second_q75
    base_low, base_high = base.images_per_second_q25, base.images_per_second_q75
    told = ""
    if not (low is None or high is None or base_low is None or base_high is None):
        told = markup.NOT_APART if low <= base_high and base_low <= high else markup.APART
    return f"× {row.images_per_second / base.images_per_second:.2f} {told}".strip()


# ---------------------------------------------------------------------------------- ablation


def _variants(rows: list[AblationRow]) -> str:
    measured = [row for row in rows if row.kind == "measured"]
    last = last_rows(rows)
    published = {row.variant: row.published for row in rows if row.kind == "published"}
    heads = {
        "": WORDS, "value": NUMBER, "difference to the baseline": NUMBER, "p": NUMBER, "trainings": NUMBER,
        "published": NUMBER, "parameters": NUMBER, "over the iterations": NUMBER,
    }  # fmt: skip
    cells = []
    for row in last:
        series = {
            it.step: it.value
            for it in sorted(measured, key=lambda it: it.step or 0)
            if it.variant == row.variant
        }
        points = [(s, v, None) for s, v in series.items() if s is not None and v is not None]
        parameters = "" if row.parameters is None else f"{row.parameters:,.0f}"
        cells.append(
            [
                f"<b>{escape(row.variant)}</b>",
                f"<b>{rounded(row.value, row.std)}</b>",
                _difference(row),
                "" if row.p_holm is None else p_value(row.p_holm).removeprefix("= "),
                text(row.n),
                text(published.get(row.variant)),
                f"{parameters}{small(*_size(row))}",
                chart(points),
            ]
        )
    note = (
        "Value ± standard deviation over trainings. Difference ± 95 % interval, paired by seed; "
        f"≠: told apart (p < {LEVEL}, with Holm's correction for the number of variants); ≈: not."
    )
    for row in rows:
        if row.kind == "floor":
            note += f" Real images, the floor: {rounded(row.value)}."
    return f"{facts(last, ABLATION_FACTS)}{markup.table(heads, cells)}<p>{escape(note)}</p>\n"


def _size(row: AblationRow) -> list[str]:
    speeds = {
        "GFLOPs an image": row.gflops,
        "samples a second": row.sampling_images_per_second,
        "images a second in training": row.training_images_per_second,
    }
    known = [f"{rounded(value)} {name}" for name, value in speeds.items() if value is not None]
    return [text(row.size_note), *known]


def _difference(row: AblationRow) -> str:
    if row.difference is None or row.low is None or row.high is None or row.p_holm is None:
        return ""
    sign = "+" if row.difference > 0 else ""
    told = markup.APART if row.p_holm < LEVEL else markup.NOT_APART
    return f"{sign}{rounded(row.difference, (row.high - row.low) / 2)} {told}"
