"""Attention by level against the floor and the other formulations: :mod:`benchmarks.attention`."""

from benchmarks.attention import DIRECTIONS, DTYPES, UNFUSED, cases, measure
from benchmarks.gpu_check.check import Check
from benchmarks.harness import Machine, measure_machine
from stylenat.models.attention import default_backend
from stylenat.precision import products

MEMORY = 16.0  # GB that a formulation may take
# Names as in the benchmark, precision of products, share of the floor that is wanted.
TARGETS = {"forward": 0.6, "forward + backward": 0.5}


def run(check: Check) -> None:
    dtypes = ("float32",) if check.dry else ("bfloat16", "float32")
    for dtype in dtypes:
        machine = measure_machine(check.device, DTYPES[dtype], 64 if check.dry else 4096)
        check.row(
            "the machine", dtype=dtype, gb_s=machine.bandwidth / 1e9, tflops=machine.rate / 1e12
        )
        _levels(check, machine, dtype)


def _levels(check: Check, machine: Machine, dtype: str) -> None:
    seconds = 0 if check.dry else 0.1
    first = default_backend(check.device, DTYPES[dtype])
    shares, slower = {}, []
    # The largest of FFHQ-256 and of FFHQ-1024 before the others, should time be short.
    order = sorted(cases(check.device, 16 if check.dry else 1024), key=_order)
    with products("float32" if not check.gpu else "tf32", check.device):
        for case in order:
            for direction in DIRECTIONS:
                if check.left() < 0:
                    continue
                rows = measure(case, direction, machine, check.device, dtype, MEMORY, seconds)
                times = {row["formulation"]: row for row in rows}
                for row in rows:
                    check.row(
                        f"{dtype}, {direction}",
                        case=case.name,
                        formulation=row["formulation"],
                        ms=row["ms"],
                        floor_ms=row["floor_ms"],
                        of_floor=row["of_floor"],
                        faster_than_unfused=row["speedup"] or "",
                    )
                if first in times:
                    shares[case.name, direction] = times[first]["of_floor"]
                    fastest = min(times, key=lambda name: times[name]["ms"])
                    if fastest != first:
                        slower.append(f"{case.name} {direction} ({fastest})")
    for direction, target in TARGETS.items():
        share = shares.get(("level 256²", direction))
        check.verdict(
            f"Does attention at 256² reach {target} of the floor, {dtype}, {direction}?",
            None if share is None or not check.gpu else share >= target,
            "It was not measured." if share is None else f"{share:.2f}, by {first}.",
        )
    check.verdict(
        f"Is {first} the fastest of all formulations, {dtype}?",
        not slower if shares and check.gpu else None,
        f"Of {len(shares)}, all but: {', '.join(slower) or 'none'}; to {UNFUSED} see the table.",
    )


def _order(case) -> tuple[bool, bool, int]:
    return not case.name.startswith("level"), case.side not in (256, 1024), -case.side
