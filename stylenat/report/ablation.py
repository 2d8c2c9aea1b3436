"""An ablation: every variant's distance over several trainings, and its difference to the baseline.

Runs of one seed see the same images, noise and augmentation, so the differences are paired by seed.
The spread over trainings and the spread over sampling sets of one training are never mixed up.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import mean, median, stdev
from typing import Any

import pandas as pd
from matplotlib.figure import Figure
from scipy import stats

from stylenat.ablations import Family
from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.records import MetricRecord, Throughput
from stylenat.report.published import PublishedResult
from stylenat.report.rows import LEVEL, AblationRow, last_rows, p_value
from stylenat.report.style import BLUE, GREY, PAGE, VERMILLION, new_figure

Cells = dict[str, Any]  # of a row of the table, which checks them

SAME_SIZE = 0.001  # relative difference of parameter counts that needs no reason


@dataclass(frozen=True)
class Size:
    """Parameters of a generator, those of them that are no position bias, and FLOPs of an image."""

    parameters: int
    without_bias: int
    flops: int


@dataclass(frozen=True)
class Paired:
    """Mean difference of pairs, its interval, and the p-value of no difference."""

    difference: float
    low: float
    high: float
    p: float


def paired(values: dict[int, float], baseline: dict[int, float]) -> Paired | None:
    """Student's t-test of the differences by seed; None for fewer than two pairs."""
    seeds = sorted(values.keys() & baseline.keys())
    if len(seeds) < 2:
        return None
    test = stats.ttest_rel([values[s] for s in seeds], [baseline[s] for s in seeds])
    interval = test.confidence_interval(1 - LEVEL)
    difference = mean(values[seed] - baseline[seed] for seed in seeds)
    return Paired(difference, float(interval.low), float(interval.high), float(test.pvalue))


def holm(p_values: list[float]) -> list[float]:
    """Holm's correction of p-values for their number (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    corrected, largest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        largest = max(largest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = largest
    return corrected


def ablation_table(
    family: Family,
    metrics: list[MetricRecord],
    training: dict[str, list[float]],
    throughput: list[Throughput],
    experiments: list[ExperimentConfig],
    sizes: list[Size],
    published: list[PublishedResult],
) -> pd.DataFrame:
    """A row for every variant and snapshot, the floor, and published values of the same steps.

    ``training`` holds the images a second of every run by its name, ``experiments`` and ``sizes`` the
    first of every variant.
    """
    places = {
        run: (variant, seed) for variant, by in family.runs.items() for seed, run in by.items()
    }
    measured: dict[tuple[str, int], dict[int, MetricRecord]] = {}
    for record in metrics:
        if record.kind == "snapshot":
            variant, seed = places[record.experiment]
            measured.setdefault((variant, record.step or 0), {})[seed] = record
    by_variant = dict(zip(family.runs, sizes, strict=True))
    last = max(step for _, step in measured)
    rows = []
    for step in sorted({step for _, step in measured}):
        here = {v: measured[v, step] for v in family.runs if (v, step) in measured}
        pairs = {
            variant: pair
            for variant, runs in here.items()
            if variant != family.baseline
            and (pair := paired(_distances(runs), _distances(measured[family.baseline, step])))
        }
        corrected = dict(zip(pairs, holm([pair.p for pair in pairs.values()]), strict=True))
        for variant, runs in here.items():
            row = _row(family, variant, step, runs)
            if variant in pairs:
                row |= _compared(family, variant, pairs[variant], corrected[variant], len(runs))
            if step == last:
                by_seed = family.runs[variant]
                row |= _cost(by_variant, family.baseline, variant, by_seed, training, throughput)
            rows.append(AblationRow(**row))
    rows += [_floor(family, record) for record in metrics if record.kind == "floor"]
    rows += [
        AblationRow(
            ablation=family.name,
            variant=row.ablation,
            kind="published",
            metric="fid",
            published=row.fid,
            trust=row.trust,
            source=row.source,
        )
        for row in published
        if row.dataset_name == experiments[0].dataset and row.ablation in family.runs
    ]
    return AblationRow.frame(rows)


def verdicts(frame: pd.DataFrame) -> list[str]:
    """One sentence about every variant after the last iteration."""
    return [row.verdict for row in last_rows(AblationRow.of(frame)) if row.verdict is not None]


def draw_ablation(frame: pd.DataFrame) -> Figure:
    """Every run after the last iteration as a dot, means as bars; published values hollow, where
    the protocol is theirs."""
    rows = AblationRow.of(frame)
    measured = last_rows(rows)[::-1]
    first = measured[0]
    figure = new_figure(PAGE * 0.75, 0.9 + 0.3 * len(measured))
    ax = figure.subplots()
    places = {row.variant: place for place, row in enumerate(measured)}
    for row in measured:
        place = places[row.variant]
        dots = [float(value) for value in (row.values or "").split("; ")]
        ax.plot(dots, [place] * len(dots), "o", color=BLUE, markersize=4, alpha=0.7)
        if row.value is not None:
            ax.plot([row.value] * 2, [place - 0.3, place + 0.3], color=VERMILLION)
    baseline = [row.value for row in measured if row.difference is None]
    if len(baseline) == 1 and baseline[0] is not None:
        ax.axvline(baseline[0], color=GREY, linestyle="--", linewidth=0.8)
    if first.metric == "fid":
        for row in rows:
            if row.kind == "published" and row.published is not None:
                ax.plot(row.published, places[row.variant], "D", color=GREY, fillstyle="none")
    ax.set_yticks(list(places.values()), list(places))
    ax.set(
        title=first.ablation,
        xlabel=f"{first.protocol} to {first.against} images after {first.step:,} iterations, "
        "lower is better",
        ylim=(-0.6, len(places) - 0.4),
    )
    return figure


def _distances(records: dict[int, MetricRecord]) -> dict[int, float]:
    """By seed; to held-out reals where there are any, else to the reference."""
    return {
        seed: record.value if record.held_out is None else record.held_out
        for seed, record in records.items()
    }


def _row(family: Family, variant: str, step: int, records: dict[int, MetricRecord]) -> Cells:
    values = list(_distances(records).values())
    first = next(iter(records.values()))
    held_out = first.held_out is not None
    sets = [
        (record.held_out_values or []) if held_out else record.values for record in records.values()
    ]
    spreads = [stdev(several) for several in sets if len(several) > 1]
    return {
        "ablation": family.name,
        "variant": variant,
        "step": step,
        "kind": "measured",
        **{
            key: getattr(first, key)
            for key in ("protocol", "metric", "n_generated", "device", "commit")
        },
        "n_real": first.n_real_held_out if held_out else first.n_real,
        "against": "held-out" if held_out else "training",
        "value": mean(values),
        "std": stdev(values) if len(values) > 1 else None,
        "n": len(values),
        "values": "; ".join(f"{value:.6g}" for value in values),
        "std_of_sets": mean(spreads) if spreads else None,
        "source": "measured here",
    }


def _compared(family: Family, variant: str, pair: Paired, corrected: float, n: int) -> Cells:
    half = (pair.high - pair.low) / 2
    apart = "told apart" if corrected < LEVEL else "not told apart"
    return {
        "difference": pair.difference,
        "low": pair.low,
        "high": pair.high,
        "p": pair.p,
        "p_holm": corrected,
        "verdict": f"{variant} against {family.baseline}: {pair.difference:+.4g} ± {half:.3g} over {n} "
        f"seeds, p {p_value(corrected)}: {apart}",
    }


def _cost(
    sizes: dict[str, Size],
    baseline: str,
    variant: str,
    runs: dict[int, str],
    training: dict[str, list[float]],
    throughput: list[Throughput],
) -> Cells:
    own = sizes[variant]
    relative = own.parameters / sizes[baseline].parameters - 1
    note = None
    if abs(relative) > SAME_SIZE:
        same = own.without_bias == sizes[baseline].without_bias
        note = f"{relative:+.1%}: {'position biases alone' if same else 'another network'}"
    first = next(iter(runs.values()))
    speeds = [
        record.images_per_second
        for record in throughput
        if record.experiment == first and record.timed == "z to image"
    ]
    rates = [rate for run in runs.values() for rate in training[run]]
    return {
        "parameters": own.parameters,
        "size_note": note,
        "gflops": own.flops / 1e9,
        "sampling_images_per_second": max(speeds, default=None),
        "training_images_per_second": median(rates),
    }


def _floor(family: Family, record: MetricRecord) -> AblationRow:
    return AblationRow(
        ablation=family.name,
        variant="floor",
        kind="floor",
        protocol=record.protocol,
        metric=record.metric,
        value=record.value,
        n_generated=record.n_generated,
        n_real=record.n_real,
        source="real images alone",
    )


def require_runs(family: Family, records: Iterable[MetricRecord]) -> None:
    """Raise a :class:`UserError` for a record of a run that the family does not have."""
    for record in records:
        if record.kind == "snapshot" and record.experiment not in family.experiments:
            raise UserError(
                f"experiment is {record.experiment!r} in a record, which is not a run of "
                f"{family.name}; pass the records of its runs."
            )
