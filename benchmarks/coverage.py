"""How often stated 90 % intervals cover the truth, in simulations where it is known.

    python -m benchmarks.coverage [--repetitions 200] [--cases "Fréchet" "kernel"]

Every repetition draws all images anew. That a metric depends on the number of images is no miss: the
truth is its expected value at these counts, for which the mean of all repetitions stands (with an error
of 7 % of one repetition's), or what the table says. Of p-values, covered are the repetitions without
any difference in which none is told apart at 10 %.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from PIL import Image
from scipy.stats import norm, t

from benchmarks.harness import Row, markdown, parser, record, write
from stylenat import command
from stylenat.metrics import METRICS, kid
from stylenat.metrics.base import Measurement
from stylenat.metrics.comparison import SPLITS, Difference, compare
from stylenat.metrics.fid_infinity import extrapolate
from stylenat.metrics.floor import floor
from stylenat.metrics.moments import Moments, Statistics
from stylenat.metrics.summary import standard_error
from stylenat.records import StatisticsRecord
from stylenat.report.ablation import holm, paired
from stylenat.runtime import select_device

SUBSETS = 20  # of the kernel distance, in place of 100, to save time
LEVEL = 0.9
NORMAL = float(norm.ppf((1 + LEVEL) / 2))
FEWEST, MOST = 0.85, 0.95  # that intervals of 90 % may cover

Random = np.random.Generator
Make = Callable[[Random], Statistics]


@dataclass(frozen=True)
class Stated:
    """A value, how far its interval reaches, and the truth if that is not the values' mean."""

    metric: str
    value: float
    reach: float
    truth: float | None = None


@dataclass(frozen=True)
class Case:
    """An interval, a simulation of what it is stated for, and one repetition."""

    interval: str
    simulation: str
    draw: Callable[[Random], Iterator[Stated]]
    truth: str = "expected value"


# ------------------------------------------------------------------------------- sets of images


def of(features: np.ndarray, **fields: object) -> Statistics:
    """Statistics with these features (n, d)."""
    features = features.astype(np.float32)
    record = StatisticsRecord.of("simulated", "simulated")
    return Statistics(Moments.of(features), record, features, **fields)


def normal(count: int, width: int = 8, shift: float = 0.0, scale: float = 1.0) -> Make:
    """Of normal features; all sets have one head, for the Inception Score."""
    head = np.random.default_rng(0).normal(size=(10, width)).astype(np.float32)
    return lambda random: of(random.normal(shift, scale, (count, width)), head=head)


def portraits(count: int, shares: Sequence[float]) -> Make:
    """With an attribute that has three values with these shares, which features tell mostly."""

    def make(random: Random) -> Statistics:
        codes = random.choice(3, count, p=shares)
        features = 2.5 * np.eye(3, 6)[codes] + random.normal(size=(count, 6))
        made = of(features, labels=codes[:, None].astype(np.int8))
        values = {"hairColor": ["a", "b", "c"]}
        made.record = made.record.model_copy(update={"attributes": values})
        return made

    return make


def pictures(count: int) -> Make:
    """With thumbnails of smooth random pictures, whose features are constant."""

    def make(random: Random) -> Statistics:
        small = random.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
        resized = [np.asarray(Image.fromarray(s).resize((32, 32), Image.BICUBIC)) for s in small]
        return of(random.normal(size=(count, 16)), thumbnails=np.stack(resized))

    return make


# ---------------------------------------------------------------------------------- intervals


def stated(sets: Sequence[Measurement]) -> Stated:
    """The mean over sets of samples, or over the draws of a floor."""
    value = float(np.mean([one.value for one in sets]))
    return Stated(sets[0].metric, value, NORMAL * (standard_error(sets) or 0.0))


def values(metric: str, real: Make, generated: Make, sets: int, random: Random) -> Iterator[Stated]:
    """Of sets of samples against the same reals."""
    measure = METRICS[metric].measure(real(random))
    results = [measure(generated(random)) for _ in range(sets)]
    yield from map(stated, zip(*results, strict=True))


def variation(real: Make, generated: Make, truth: float, random: Random) -> Iterator[Stated]:
    """Of attributes: their total variation, and the accuracy of the probe that reads them."""
    for one in values("attributes", real, generated, 1, random):
        known = truth if one.metric.startswith("attribute_tv") else None
        yield Stated(one.metric, one.value, one.reach, known)


def infinity(real: Make, generated: Make, truth: float, random: Random) -> Iterator[Stated]:
    """Less the bias of the reals that the note names."""
    reals, samples = real(random), generated(random)
    (one,) = METRICS["frechet_infinity"].measure(reals)(samples)
    bias = extrapolate(samples.features, reals.moments).slope / reals.moments.count
    yield Stated(one.metric, one.value - bias, stated((one,)).reach, truth)


def floors(
    metric: str, real: Make, held_out: Make | None, samples: int, random: Random
) -> Iterator[Stated]:
    """What real images alone give."""
    found = floor(METRICS[metric], real(random), held_out and held_out(random), samples)
    yield from map(stated, zip(*found.draws, strict=True))


def differences(metric: str, sets: tuple[Make, Make, Make], random: Random) -> Iterator[Stated]:
    """Of two sets' values against the same reals, and the p-values where these are of one distribution."""
    for one in compare(METRICS[metric], *(make(random) for make in sets)):
        yield _difference(one)
        if sets[1] is sets[2]:
            yield Stated(f"{one.metric}, p", float(one.p < 1 - LEVEL), 0.5, 0.0)


def _difference(one: Difference) -> Stated:
    return Stated(one.metric, one.difference, t.ppf((1 + LEVEL) / 2, SPLITS) * one.error)


def in_pairs(metric: str, real: Make, one: Make, random: Random) -> Iterator[Stated]:
    """Of two networks that make similar images of the same seeds."""
    reals, first = real(random), one(random)
    second = of(first.features + random.normal(0.05, 0.3, first.features.shape))
    for made in (first, second):
        made.record = made.record.model_copy(update={"seeds": "0-199"})
    yield from map(_difference, compare(METRICS[metric], reals, first, second))


def trainings(seeds: int, random: Random) -> Iterator[Stated]:
    """Of an ablation: the seeds' part is common to a variant and the baseline."""
    common = random.normal(0, 50, seeds)
    baseline, variant = (common + random.normal(at, 20, seeds) for at in (600, 630))
    pair = paired(dict(enumerate(variant)), dict(enumerate(baseline)))
    level = t.ppf((1 + LEVEL) / 2, seeds - 1) / t.ppf(0.975, seeds - 1)
    yield Stated("difference", pair.difference, level * (pair.high - pair.low) / 2, 30.0)


def family(seeds: int, variants: int, random: Random) -> Iterator[Stated]:
    """By p-values with Holm's correction, of variants that are all the same."""
    baseline, *others = random.normal(600, 20, (variants + 1, seeds))
    pairs = [paired(dict(enumerate(other)), dict(enumerate(baseline))) for other in others]
    corrected = holm([pair.p for pair in pairs])
    yield Stated("any of them, p", float(min(corrected) < 1 - LEVEL), 0.5, 0.0)


# ---------------------------------------------------------------------------------------- cases


def all_cases() -> list[Case]:
    """All of them; counts are small so that 200 repetitions take minutes."""
    real, near, far = normal(240), normal(200, shift=0.15), normal(200, shift=0.3)
    three, same = (real, near, far), (real, far, far)
    found = [
        Case("Fréchet distance", text, partial(values, "frechet", *sets, 1))
        for text, *sets in (
            ("500 and 400 images, 8 features, mean 0.3 apart", normal(400), normal(500, shift=0.3)),
            (
                "400 and 300, 24 features, another spread",
                normal(300, 24, 0.2, 1.3),
                normal(400, 24),
            ),
            ("400 and 400, 16 features, twice the floor", normal(400, 16), normal(400, 16, 0.15)),
        )
    ]
    found += [
        Case(
            "Fréchet distance, three sets of samples",
            f"200 samples, {count:,} reals, 8 features",
            partial(values, "frechet", normal(count), far, 3),
        )
        for count in (200, 2000)
    ]
    found += [
        Case(
            "Fréchet distance for infinitely many samples",
            f"{count} samples, 1,000 reals, {width} features",
            partial(
                infinity,
                normal(1000, width),
                normal(count, width, 0.3, 1.2),
                width * (0.09 + 0.04),
            ),
            "exact, but for the bias that the note names",
        )
        for count, width in ((400, 8), (288, 24))
    ]
    found += [
        Case("kernel distance", text, partial(values, "kid", *sets))
        for text, *sets in (
            ("200 samples, 240 reals, 8 features, mean 0.3 apart", real, far, 1),
            ("the same, mean 0.15 apart", real, near, 1),
            ("three sets, mean 0.3 apart", real, far, 3),
            ("equal distributions, 32 features", normal(240, 32), normal(200, 32), 1),
        )
    ]
    found += [
        Case("precision … coverage", text, partial(values, "prdc", *sets))
        for text, *sets in (
            ("200 samples, 240 reals, 8 features", real, far, 1),
            ("400 and 400, 16 features", normal(400, 16), normal(400, 16, 0.2), 1),
            ("three sets of 200, 240 reals", real, far, 3),
        )
    ]
    found += [
        Case(
            "Inception Score",
            f"{count} images, 10 classes",
            partial(values, "inception_score", real, normal(count), 1),
        )
        for count in (400, 1000)
    ]
    found += [
        Case(
            "copies by features",
            "800 samples, 300 reals, 16 features",
            partial(values, "copies", normal(300, 16), normal(800, 16), 1),
        ),
        Case(
            "copies by pixels",
            "400 samples, 200 reals, random pictures",
            partial(values, "copies", pictures(200), pictures(400), 1),
        ),
        Case(
            "attributes",
            "300 samples, 400 reals, shares 0.2 apart",
            partial(
                variation, portraits(400, (0.5, 0.3, 0.2)), portraits(300, (0.3, 0.4, 0.3)), 0.2
            ),
            "exact; of the accuracy, expected value",
        ),
    ]
    for metric in ("frechet", "kid", "prdc", "copies"):
        found += [
            Case(
                f"floor: {metric}",
                "halves of 480 reals, 200 samples",
                partial(floors, metric, normal(480), None, 200),
            ),
            Case(
                f"floor: {metric}",
                "300 held-out reals, 240 in the reference, 100 samples",
                partial(floors, metric, real, normal(300), 100),
            ),
            Case(
                f"floor: {metric}",
                "100 held-out reals, 240 in the reference, 100 samples",
                partial(floors, metric, real, normal(100), 100),
            ),
        ]
    found += [
        Case(f"difference: {metric}", "two equal distributions", partial(differences, metric, same))
        for metric in ("frechet", "kid", "inception_score", "prdc")
    ]
    found += [
        Case(f"difference: {metric}", "two distributions", partial(differences, metric, three))
        for metric in ("frechet", "kid")
    ]
    found += [
        Case(
            f"difference: {metric}", "sets of the same seeds", partial(in_pairs, metric, real, far)
        )
        for metric in ("frechet", "kid", "prdc")
    ]
    found += [
        Case("ablation: difference", f"{seeds} seeds", partial(trainings, seeds), "exact")
        for seeds in (3, 5)
    ]
    found.append(
        Case("ablation: p-values", "3 seeds, 6 equal variants", partial(family, 3, 6), "exact")
    )
    return found


# -------------------------------------------------------------------------------- measuring


def main() -> None:
    options = parser(__doc__.partition("\n")[0])
    options.add_argument("--repetitions", type=int, default=200)
    options.add_argument(
        "--cases", nargs="+", default=[""], help="what the intervals' names begin with"
    )
    command.main(options, run)


def run(*, device: str, output: Path, repetitions: int, cases: Sequence[str]) -> None:
    selected = select_device(device)
    kid.SUBSETS = SUBSETS
    facts = record(selected, repetitions=repetitions, kernel_subsets=SUBSETS)
    rows: list[Row] = []
    for case in all_cases():
        if case.interval.startswith(tuple(cases)):
            rows += measure(case, repetitions)
            command.log.info("%s", rows[-1])
    lines = [
        (
            f"{row['interval']}: `{row['metric']}`",
            row["simulation"],
            row["truth"],
            f"{row['covered']:.1%}{'' if FEWEST <= row['covered'] <= MOST else ' (!)'}",
        )
        for row in rows
    ]
    heads = ("interval", "simulation", "truth", "covered")
    text = f"{repetitions} repetitions each.\n\n"
    write(output, "coverage", facts, rows, text + markdown(heads, lines))


def measure(case: Case, repetitions: int) -> list[Row]:
    """What share of the repetitions' intervals covers the truth, of every metric of the case."""
    found: dict[str, list[Stated]] = {}
    for number in range(repetitions):
        seeds = (number, *case.interval.encode(), *case.simulation.encode())
        for one in case.draw(np.random.default_rng(seeds)):
            found.setdefault(one.metric, []).append(one)
    rows = []
    for metric, several in found.items():
        numbers = np.array([one.value for one in several])
        known = [one.truth for one in several if one.truth is not None]
        truth = known[0] if known else numbers.mean()
        reaches = np.array([one.reach for one in several])
        rows.append(
            {
                "interval": case.interval,
                "metric": metric,
                "simulation": case.simulation,
                "truth": case.truth,
                "covered": float((np.abs(numbers - truth) <= reaches).mean()),
                "mean": float(numbers.mean()),
                "std": float(numbers.std(ddof=1)),
                "error": float(np.sqrt(np.mean(np.square(reaches))) / NORMAL),
                "repetitions": repetitions,
            }
        )
    return rows


if __name__ == "__main__":
    main()
