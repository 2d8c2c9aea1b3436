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
from stylenat.report.rows import LEVEL, p_value
from stylenat.report.style import BLUE, GREY, PAGE, VERMILLION, new_figure

Record = dict[str, Any]

SAME_SIZE = 0.001  # relative difference of parameter counts that needs no reason

COLUMNS = [
    *("ablation", "variant", "step", "kind", "protocol", "metric", "against", "value", "std", "n"),
    *("values", "std_of_sets", "difference", "low", "high", "p", "p_holm", "verdict"),
    *("parameters", "size_note", "gflops", "sampling_images_per_second"),
    *("training_images_per_second", "published", "trust", "n_generated", "n_real", "device"),
    *("commit", "source"),
]


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
    metrics: list[Record],
    training: dict[str, list[Record]],
    throughput: list[Record],
    experiments: list[ExperimentConfig],
    sizes: list[Size],
    published: pd.DataFrame,
) -> pd.DataFrame:
    """A row for every variant and snapshot, the floor, and published values of the same steps.

    ``training`` holds the records of every run by its name, ``experiments`` and ``sizes`` the first
    of every variant. Distances are those to held-out reals where there are any, else to the reference.
    """
    runs = {run: (variant, seed) for variant, by in family.runs.items() for seed, run in by.items()}
    values: dict[tuple[str, int], dict[int, Record]] = {}
    for record in metrics:
        if record["kind"] == "snapshot":
            variant, seed = runs[record["experiment"]]
            values.setdefault((variant, record["step"]), {})[seed] = record
    by_variant = dict(zip(family.runs, sizes, strict=True))
    last = max(step for _, step in values)
    rows = []
    for step in sorted({step for _, step in values}):
        pairs = {
            variant: paired(
                _distances(values[variant, step]), _distances(values[family.baseline, step])
            )
            for variant in family.runs
            if variant != family.baseline and (variant, step) in values
        }
        tested = [variant for variant, pair in pairs.items() if pair]
        corrected = dict(zip(tested, holm([pairs[v].p for v in tested]), strict=True))
        for variant, by_seed in family.runs.items():
            if (variant, step) not in values:
                continue
            row = _row(family, variant, step, values[variant, step])
            row |= _compared(family, variant, pairs.get(variant), corrected.get(variant), row["n"])
            if step == last:
                row |= _cost(by_variant, family.baseline, variant, by_seed, training, throughput)
            rows.append(row)
    rows += [_floor(family, record) for record in metrics if record["kind"] == "floor"]
    literature = published[published["dataset_name"] == experiments[0].dataset]
    for row in literature[literature["ablation"].isin(list(family.runs))].to_dict("records"):
        rows.append(
            {
                "ablation": family.name,
                "variant": row["ablation"],
                "kind": "published",
                "metric": "fid",
                "published": row["fid"],
                "trust": row["trust"],
                "source": row["source"],
            }
        )
    return pd.DataFrame(rows).reindex(columns=COLUMNS).astype({"step": "Int64", "n": "Int64"})


def verdicts(frame: pd.DataFrame) -> list[str]:
    """One sentence about every variant after the last iteration."""
    measured = frame[frame["kind"] == "measured"]
    last = measured[measured["step"] == measured["step"].max()]
    return last["verdict"].dropna().tolist()


def draw_ablation(frame: pd.DataFrame) -> Figure:
    """Every run after the last iteration as a dot, means as bars; published values hollow, where
    the protocol is theirs."""
    measured = frame[frame["kind"] == "measured"]
    measured = measured[measured["step"] == measured["step"].max()].iloc[::-1]
    first = measured.iloc[0]
    figure = new_figure(PAGE * 0.75, 0.9 + 0.3 * len(measured))
    ax = figure.subplots()
    places = {variant: place for place, variant in enumerate(measured["variant"])}
    for row in measured.to_dict("records"):
        place = places[row["variant"]]
        dots = [float(value) for value in row["values"].split("; ")]
        ax.plot(dots, [place] * len(dots), "o", color=BLUE, markersize=4, alpha=0.7)
        ax.plot([row["value"]] * 2, [place - 0.3, place + 0.3], color=VERMILLION)
    baseline = measured[measured["difference"].isna()]
    if len(baseline) == 1:
        ax.axvline(baseline.iloc[0]["value"], color=GREY, linestyle="--", linewidth=0.8)
    if first["metric"] == "fid":
        for row in frame[frame["kind"] == "published"].to_dict("records"):
            ax.plot(row["published"], places[row["variant"]], "D", color=GREY, fillstyle="none")
    ax.set_yticks(list(places.values()), list(places))
    ax.set(
        title=first["ablation"],
        xlabel=f"{first['protocol']} to {first['against']} images after {first['step']:,} iterations, "
        "lower is better",
        ylim=(-0.6, len(places) - 0.4),
    )
    return figure


def _distances(records: dict[int, Record]) -> dict[int, float]:
    return {seed: _distance(record) for seed, record in records.items()}


def _distance(record: Record) -> float:
    held_out = record.get("held_out")
    return record["value"] if held_out is None else held_out


def _row(family: Family, variant: str, step: int, records: dict[int, Record]) -> Record:
    values = list(_distances(records).values())
    first = next(iter(records.values()))
    against = "held-out" if first.get("held_out") is not None else "training"
    sets = [
        record["held_out_values" if against == "held-out" else "values"]
        for record in records.values()
    ]
    spreads = [stdev(several) for several in sets if len(several) > 1]
    return {
        "ablation": family.name,
        "variant": variant,
        "step": step,
        "kind": "measured",
        **{key: first[key] for key in ("protocol", "metric", "n_generated", "device", "commit")},
        "n_real": first["n_real_held_out" if against == "held-out" else "n_real"],
        "against": against,
        "value": mean(values),
        "std": stdev(values) if len(values) > 1 else None,
        "n": len(values),
        "values": "; ".join(f"{value:.6g}" for value in values),
        "std_of_sets": mean(spreads) if spreads else None,
        "source": "measured here",
    }


def _compared(
    family: Family, variant: str, pair: Paired | None, corrected: float | None, n: int
) -> Record:
    if pair is None or corrected is None:
        return {}
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
    training: dict[str, list[Record]],
    throughput: list[Record],
) -> Record:
    own = sizes[variant]
    relative = own.parameters / sizes[baseline].parameters - 1
    note = None
    if abs(relative) > SAME_SIZE:
        same = own.without_bias == sizes[baseline].without_bias
        note = f"{relative:+.1%}: {'position biases alone' if same else 'another network'}"
    first = next(iter(runs.values()))
    speeds = [
        record["images_per_second"]
        for record in throughput
        if record["experiment"] == first and record["timed"] == "z to image"
    ]
    rates = [record["images_per_second"] for run in runs.values() for record in training[run]]
    return {
        "parameters": own.parameters,
        "size_note": note,
        "gflops": own.flops / 1e9,
        "sampling_images_per_second": max(speeds, default=None),
        "training_images_per_second": median(rates),
    }


def _floor(family: Family, record: Record) -> Record:
    return {
        "ablation": family.name,
        "variant": "floor",
        "kind": "floor",
        **{key: record[key] for key in ("protocol", "metric", "value", "n_generated", "n_real")},
        "source": "real images alone",
    }


def require_runs(family: Family, records: Iterable[Record]) -> None:
    """Raise a :class:`UserError` for a record of a run that the family does not have."""
    for record in records:
        if record["kind"] == "snapshot" and record["experiment"] not in family.experiments:
            raise UserError(
                f"experiment is {record['experiment']!r} in a record, which is not a run of "
                f"{family.name}; pass the records of its runs."
            )
