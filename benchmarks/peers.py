"""Distances and scores of twenty kinds of feature sets: exact, ours, and by other programs.

    python -m benchmarks.peers [--python /path/to/an/environment/bin/python]

The other programs (pytorch-fid, clean-fid, torch-fidelity, prdc) are run by the given interpreter;
their dependency torchvision may be missing there. Exact are: Fréchet distances by 40-digit arithmetic
(mpmath), kernel distances in extended precision, the scores from all pairs' differences in float64.
All Fréchet distances are of the features; kernel distances are of whole sets, not of subsets.
"""

import json
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import mpmath
import numpy as np
from scipy.spatial.distance import cdist

from benchmarks.harness import Row, markdown, parser, record, write
from stylenat import command, library
from stylenat.errors import UserError
from stylenat.metrics.kid import unbiased_mmd
from stylenat.runtime import select_device

WORKER = Path(__file__).with_name("peer_values.py")
COUNT, DIMENSION = 500, 16
SHARES = ("precision", "recall", "density", "coverage")
METRICS = ("frechet", "kernel", *SHARES)
PROGRAMS = ("stylenat", "pytorch-fid", "clean-fid", "torch-fidelity", "prdc")

Pair = tuple[np.ndarray, np.ndarray]


def normal(random: np.random.Generator, count: int = COUNT, width: int = DIMENSION) -> np.ndarray:
    return random.standard_normal((count, width))


def clusters(random: np.random.Generator, modes: int, width: float) -> np.ndarray:
    """Normal round some of four centres that are about 50 apart."""
    centres = 10 * normal(np.random.default_rng(7), 4)
    return centres[random.integers(0, modes, COUNT)] + width * normal(random)


def steep(random: np.random.Generator, scale: float) -> np.ndarray:
    return normal(random) * np.sqrt(scale * np.geomspace(15, 1e-6, DIMENSION))


def repeated(features: np.ndarray, times: int) -> np.ndarray:
    return np.repeat(features[: COUNT // times], times, axis=0)


def twins(features: np.ndarray) -> np.ndarray:
    return np.concatenate([features[:-10], features[:10]])


def mixed(random: np.random.Generator) -> np.ndarray:
    return normal(random) @ (normal(np.random.default_rng(8), DIMENSION) / 4)


# fmt: off
SETS: dict[str, Callable[[np.random.Generator], Pair]] = {
    "equal distributions": lambda r: (normal(r), normal(r)),
    "another mean": lambda r: (normal(r), normal(r) + 0.3),
    "half the spread": lambda r: (normal(r), 0.5 * normal(r)),
    "twice the spread": lambda r: (normal(r), 2 * normal(r)),
    "correlated": lambda r: (mixed(r), mixed(r) + 0.1),
    "non-negative, as Inception's": lambda r: (np.maximum(normal(r), 0), np.maximum(normal(r) - 0.2, 0)),
    "heavy tails": lambda r: (r.standard_t(3, (COUNT, DIMENSION)), r.standard_t(4, (COUNT, DIMENSION))),
    "a mode missing": lambda r: (clusters(r, 4, 1.0), clusters(r, 3, 1.0)),
    "narrow clusters far apart": lambda r: (clusters(r, 4, 1e-3), clusters(r, 4, 1e-3)),
    "unequal counts": lambda r: (normal(r), normal(r, 150) + 0.1),
    "fewer images than features": lambda r: (normal(r, 12), normal(r, 12) + 0.3),
    "steep spectrum": lambda r: (steep(r, 1.0), steep(r, 1.1)),
    "constant features": lambda r: tuple(normal(r) * (np.arange(DIMENSION) < 10) + s for s in (0, 0.1)),
    "far from the origin": lambda r: (normal(r) + 1e4, normal(r) + 1e4 + 0.3),
    "narrow, far from the origin": lambda r: (1e-2 * normal(r) + 100, 1e-2 * normal(r) + 100),
    "large values": lambda r: (1e4 * normal(r), 1e4 * normal(r) + 3e3),
    "small values": lambda r: (1e-4 * normal(r), 1e-4 * normal(r) + 3e-5),
    "identical sets": lambda r: (x := normal(r), x),
    "everything five times": lambda r: (repeated(normal(r), 5), repeated(normal(r), 5)),
    "2 % twins, and copies": lambda r: (x := twins(normal(r)), np.concatenate([x[:50], normal(r)[50:]])),
}
# fmt: on


def make(name: str) -> Pair:
    """The features of a kind, reals and generated ones, float32 (n, 16) and (m, 16)."""
    real, generated = SETS[name](np.random.default_rng(list(SETS).index(name)))
    return real.astype(np.float32), generated.astype(np.float32)


def ours(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """What this project makes of features."""
    return {
        "frechet": library.fid(real, generated),
        "kernel": unbiased_mmd(generated, real),
        **library.prdc(real, generated),
    }


def exact(real: np.ndarray, generated: np.ndarray) -> dict[str, float]:
    """The same straight from the definitions."""
    x, y = real.astype(np.longdouble), generated.astype(np.longdouble)
    pairs = cdist(real.astype(float), generated.astype(float))
    narrow, wide = (_radii(real, k) for k in (3, 5))
    return {
        "frechet": _frechet(x, y),
        "kernel": float(_within(x) + _within(y) - 2 * _kernel(x, y).mean()),
        "precision": float((pairs <= narrow[:, None]).any(0).mean()),
        "recall": float((pairs <= _radii(generated, 3)).any(1).mean()),
        "density": float((pairs < wide[:, None]).sum(0).mean() / 5),
        "coverage": float((pairs.min(1) < wide).mean()),
    }


def _radii(x: np.ndarray, k: int) -> np.ndarray:
    return np.sort(cdist(x.astype(float), x.astype(float)), axis=1)[:, k]


def _kernel(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    return (x @ y.T / x.shape[1] + 1) ** 3


def _within(x: np.ndarray) -> np.longdouble:
    kernel = _kernel(x, x)
    return (kernel.sum() - np.trace(kernel)) / (len(x) * (len(x) - 1))


def _frechet(x: np.ndarray, y: np.ndarray) -> float:
    with mpmath.workdps(40):
        (mean, sigma), (other_mean, other_sigma) = map(_gaussian, (x, y))
        values, vectors = mpmath.eigsy(sigma)
        root = vectors * mpmath.diag([mpmath.sqrt(max(v, 0)) for v in values])
        cross = mpmath.eigsy(root.T * other_sigma * root, eigvals_only=True)
        total = sum((a - b) ** 2 for a, b in zip(mean, other_mean, strict=True))
        total += sum(sigma[i, i] + other_sigma[i, i] for i in range(len(mean)))
        return max(float(total - 2 * sum(mpmath.sqrt(max(v, 0)) for v in cross)), 0.0)


def _gaussian(x: np.ndarray) -> tuple[list[mpmath.mpf], mpmath.matrix]:
    """Mean and covariance; extended precision is enough for sums about the mean."""
    mean = x.mean(0)
    centred = x - mean
    sigma = centred.T @ centred / (len(x) - 1)
    number = np.vectorize(lambda value: mpmath.mpf(str(value)), "O")
    return list(number(mean)), mpmath.matrix(number(sigma).tolist())


def main() -> None:
    options = parser(__doc__.partition("\n")[0])
    options.add_argument(
        "--python", default=sys.executable, help="of the environment with the other programs"
    )
    command.main(options, run)


def run(*, device: str, output: Path, python: str) -> None:
    selected = select_device(device)
    sets = {name: make(name) for name in SETS}
    theirs = _theirs(python, sets)
    values = {"stylenat": {name: ours(*pair) for name, pair in sets.items()}, **theirs["values"]}
    rows: list[Row] = []
    for name, pair in sets.items():
        for metric, truth in exact(*pair).items():
            row = {"set": name, "metric": metric, "exact": truth}
            for program in PROGRAMS:
                of_set = values.get(program, {}).get(name, {})
                row[program] = of_set.get(metric, of_set.get("failed"))
            rows.append(row)
    facts = record(selected, programs=theirs["versions"], count=COUNT, dimension=DIMENSION)
    write(output, "peers", facts, rows, _tables(rows, theirs["versions"]))


def _theirs(python: str, sets: dict[str, Pair]) -> dict:
    with tempfile.TemporaryDirectory(prefix="stylenat-") as folder:
        source, target = Path(folder) / "sets.npz", Path(folder) / "values.json"
        parts = ("real", "generated")
        named = {
            f"{s}.{part}": x
            for s, pair in sets.items()
            for part, x in zip(parts, pair, strict=True)
        }
        np.savez(source, **named)
        command_line = [python, WORKER, source, target]
        done = subprocess.run(command_line, check=False, capture_output=True, text=True)
        if done.returncode:
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
            raise UserError(f"{python} could not run the other programs: {reason}")
        return json.loads(target.read_text())


def _tables(rows: list[Row], versions: dict[str, str]) -> str:
    stated = ", ".join(f"{name} {version}" for name, version in versions.items())
    text = (
        f"The exact value, and each program's minus it ({stated}). {COUNT} vectors of {DIMENSION} features "
        "in a set, unless its name says otherwise.\n"
    )
    for metric in METRICS:
        found = [row for row in rows if row["metric"] == metric]
        programs = [p for p in PROGRAMS if any(isinstance(row[p], float) for row in found)]
        lines = [
            [row["set"], f"{row['exact']:.6g}", *(_difference(row, p) for p in programs)]
            for row in found
        ]
        text += f"\n## {metric}\n\n{markdown(('set', 'exact', *programs), lines)}"
    return text


def _difference(row: Row, program: str) -> str:
    value = row[program]
    if not isinstance(value, float):
        return value or "–"
    difference = value - row["exact"]
    # Shares are a number of images over all of them, which some programs divide in float32.
    same = abs(difference) < 1e-6 if row["metric"] in SHARES else difference == 0
    return "0" if same else f"{difference:+.0e}"


if __name__ == "__main__":
    main()
