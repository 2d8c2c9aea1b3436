"""The attention kernels compiled for GPUs that need not be here, and how fast they should be there.

For every kernel, GPU, precision and side of a map: registers, spills, shared memory and occupancy,
as ptxas and the GPU's limits have it; instructions of the inner loop per pair of query and key, from
the disassembly; and a time predicted from the instructions, beside the floor that memory sets. How
it is computed, and what it leaves out, is in docs/gpu-prediction.md. Triton brings the compiler, so
this runs anywhere; it takes some seconds for each kernel.
"""

import argparse
import math
import os
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.attention import Case
from benchmarks.harness import Row, ffhq, markdown
from stylenat import command, runtime
from stylenat.blocks.hydra import head_groups
from stylenat.errors import UserError
from stylenat.io import atomic, write_json

KERNELS = ("forward", "backward_queries", "backward_keys", "backward_bias")
# Precision: dtype, its name in Triton, what products of float32 numbers are.
PRECISIONS = {
    "float32": (torch.float32, "fp32", "tf32x3"),
    "tf32": (torch.float32, "fp32", "tf32"),
    "bfloat16": (torch.bfloat16, "bf16", "tf32"),
}
BATCH = 8
MAPS = {"q", "k", "v", "out", "grad", "dq", "dk", "dv"}
STATISTICS = {"bias", "lse", "delta", "partial"}
ISSUES = 4  # instructions of warps that a multiprocessor begins in a clock


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU: what limits occupancy, and what limits time."""

    name: str
    multiprocessors: int
    clock: float  # Hz, under load
    bandwidth: float  # bytes/s
    shared: int  # bytes of a multiprocessor
    threads: int  # of a multiprocessor
    programs: int
    registers: int = 65536


GPUS = {
    80: Gpu("A100", 108, 1.3e9, 1.94e12, 164 << 10, 2048, 32),
    89: Gpu("RTX 4090", 128, 2.4e9, 1.01e12, 100 << 10, 1536, 24),
    90: Gpu("H100", 132, 1.6e9, 3.35e12, 228 << 10, 2048, 32),
    100: Gpu("B200", 148, 1.8e9, 8.0e12, 228 << 10, 2048, 32),
}

# ------------------------------------------------------------------------------- geometry


def boxes(side: int, dilation: int, kernel_size: int, tile: int) -> Counter:
    """Of the tiles along an axis: lengths of the box of keys, and of the box of queries, counted."""
    found: Counter = Counter()
    for first_pixel in range(dilation):
        members = (side - first_pixel + dilation - 1) // dilation
        for first in range(0, members, tile):
            end = min(first + tile, members)
            windows = [
                min(max(q - kernel_size // 2, 0), members - kernel_size) for q in (first, end - 1)
            ]
            keys = windows[1] + kernel_size - windows[0]
            begin = 0 if first < kernel_size else first - kernel_size // 2
            until = members if end > members - kernel_size else end + kernel_size // 2
            found[keys, until - begin] += 1
    return found


def work(case: Case, tile: int, block: int) -> dict[str, int]:
    """Programs of a level's kernels, and how often they go through their loops in all.

    ``keys`` are blocks of keys that queries go through, ``queries`` those the other way round.
    """
    total = {"programs": 0, "keys": 0, "queries": 0}
    for group in case.groups:
        axis = boxes(case.side, group.dilation, group.kernel_size, tile)
        maps = case.batch * group.heads
        for (keys_y, queries_y), down in axis.items():
            for (keys_x, queries_x), across in axis.items():
                tiles = maps * down * across
                total["programs"] += tiles
                total["keys"] += tiles * -(-keys_y * keys_x // block)
                total["queries"] += tiles * -(-queries_y * queries_x // block)
    return total


# ---------------------------------------------------------------------------- compilation


def level(side: int, batch: int = BATCH) -> Case:
    """The neighbourhood attention of FFHQ-1024's blocks at this side."""
    model = ffhq(1024)
    groups = head_groups(model, model.resolutions.index(side))
    return Case(f"level {side}²", batch, side, model.width(side) // model.heads(side), groups)


def build(name: str, capability: int, case: Case, precision: str) -> tuple[Any, dict[str, Any]]:
    """The kernel, compiled as a launch for this case would specialise it, and its options."""
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from stylenat.models.attention import triton_kernels, triton_ops

    kernel = getattr(triton_kernels, name)
    dtype, short, products = PRECISIONS[precision]
    heads = sum(group.heads for group in case.groups)
    shape = (case.batch, case.side, case.side, 3, heads, case.head_dim)
    q = torch.empty(shape, dtype=dtype, device="meta").permute(3, 0, 4, 1, 2, 5)[0]
    options = triton_ops._options(q) | {"BIASED": True, "OFFSETS": 64, "PRECISION": products}
    dilations = [group.dilation for group in case.groups]
    values = dict(
        zip(
            ("heads", "tiles", "height", "width", "slots"),
            triton_ops._sizes(q, dilations),
            strict=True,
        )
    )
    for axis, stride in zip(("b", "h", "y", "x"), q.stride(), strict=False):
        values |= {f"stride_{axis}": stride, f"dstride_{axis}": stride}
    launch = {key: options[key] for key in ("num_warps", "num_stages")}
    constants = {key: value for key, value in options.items() if key in kernel.arg_names}
    signature, attributes = {}, {}
    for place, argument in enumerate(kernel.arg_names):
        if argument in constants:
            signature[argument] = "constexpr"
            continue
        if argument in MAPS:
            signature[argument] = f"*{short}"
        elif argument in STATISTICS:
            signature[argument] = "*fp32"
        else:
            signature[argument] = {"groups": "*i32", "scale": "fp32"}.get(argument, "i32")
        divisible = values.get(argument, 1) % 16 == 0 and argument in values
        if signature[argument].startswith("*") or divisible:
            attributes[place,] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, constants, attributes)
    target = GPUTarget("cuda", capability, 32)
    return triton.compile(source, target=target, options=launch), options


def _tool(name: str) -> str:
    """A program that comes with Triton; a UserError if it is not there."""
    found = find_spec("triton")
    path = Path(found.origin).parent / "backends/nvidia/bin" / name if found else Path(name)
    if not path.exists():
        raise UserError(
            f"{path} is missing: kernels are compiled by what Triton's package for Linux brings; "
            "run pip install triton."
        )
    return str(path)


def resources(ptx: str, capability: int) -> tuple[int, int]:
    """Registers of a thread, and bytes that it spills (stores and loads), as ptxas says."""
    ptxas = _tool("ptxas-blackwell" if capability >= 100 else "ptxas")
    arch = f"sm_{capability}{'a' if capability >= 90 else ''}"
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "kernel.ptx"
        file.write_text(ptx)
        words = (ptxas, "-v", f"--gpu-name={arch}", str(file), "-o", str(file.with_suffix(".o")))
        text = subprocess.run(words, capture_output=True, text=True, check=True).stderr
    return usage(text)


def usage(text: str) -> tuple[int, int]:
    """Registers and spilled bytes in ptxas's words."""
    registers = re.search(r"Used (\d+) registers", text)
    spills = re.findall(r"(\d+) bytes spill (?:stores|loads)", text)
    return int(registers[1]), sum(map(int, spills))


def disassembled(cubin: bytes) -> str:
    """The machine code as text."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        words = (_tool("nvdisasm"), "-c", file.name)
        return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@dataclass(frozen=True)
class Loop:
    """Instructions of a loop, first to last, and whether it uses the tensor cores."""

    first: int
    last: int
    products: bool

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def loops(text: str) -> tuple[int, list[Loop]]:
    """How many instructions a disassembly has, and its loops, the longest first."""
    instructions: list[str] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L\w+):", line):
            labels[label[1]] = len(instructions)
        elif instruction := re.match(r"\s*/\*[0-9a-f]+\*/\s+(.*?);", line):
            instructions.append(instruction[1])
    found = []
    for place, instruction in enumerate(instructions):
        branch = re.search(r"\bBRA\b.*?(\.L\w+)", instruction)
        first = labels.get(branch[1]) if branch else None
        # The last instruction of all is a branch to itself.
        if first is not None and first < place:
            products = any(re.search(r"MMA\b", i) for i in instructions[first:place])
            found.append(Loop(first, place, products))
    return len(instructions), sorted(found, key=lambda loop: -loop.length)


def occupancy(gpu: Gpu, registers: int, warps: int, shared: int) -> int:
    """Warps that a multiprocessor holds at once."""
    by_registers = gpu.registers // (-(-registers * 32 // 256) * 256 * warps)
    by_shared = gpu.shared // (shared + 1024)  # of which the system takes 1 KB
    by_threads = gpu.threads // (32 * warps)
    return warps * min(by_registers, by_shared, by_threads, gpu.programs)


# ------------------------------------------------------------------------------ prediction


def instructions(name: str, total: int, found: list[Loop], case: Case, options: dict) -> float:
    """Instructions that all warps of one launch issue, each counted for its warp."""
    tile, block, warps = options["TILE"], options["BLOCK"], options["num_warps"]
    amount = work(case, tile, block)
    if name != "backward_bias":
        body = found[0].length
        times = amount["queries" if name == "backward_keys" else "keys"]
        return warps * (times * body + amount["programs"] * (total - body))
    from stylenat.models.attention.triton_ops import PARTIAL_SUMS

    inner = [x for x in found if not any(x.first < y.first and y.last < x.last for y in found)]
    images = max((x for x in inner if x.products), key=lambda x: x.length, default=found[-1])
    offsets = max((x for x in inner if not x.products), key=lambda x: x.length, default=found[-1])
    tiles = max(
        g.dilation**2 * math.prod(-(-case.side // (g.dilation * tile)) for _ in "yx")
        for g in case.groups
    )
    sizes = [min(tile + g.kernel_size - 1, -(-case.side // g.dilation)) ** 2 for g in case.groups]
    pieces = -(-max(sizes) // block) * tiles
    at_once = -(-case.batch // min(case.batch, -(-PARTIAL_SUMS // pieces)))
    rounds = -(-case.batch // at_once)
    kernel = max(group.kernel_size for group in case.groups)
    each = total - images.length - offsets.length + at_once * images.length
    each += -(-((2 * kernel - 1) ** 2) // options["OFFSETS"]) * offsets.length
    return warps * amount["keys"] / case.batch * rounds * each


def floor_bytes(name: str, case: Case, itemsize: int) -> int:
    """What a kernel has to move at least: maps, and the numbers that queries have one of."""
    heads = sum(group.heads for group in case.groups)
    pixels = case.batch * case.side**2
    maps = {"forward": 4, "backward_queries": 6, "backward_keys": 6, "backward_bias": 4}[name]
    numbers = {"forward": 1, "backward_queries": 2, "backward_keys": 2, "backward_bias": 2}[name]
    return pixels * (maps * case.channels * itemsize + 4 * numbers * heads)


def measure(name: str, capability: int, side: int, precision: str) -> Row:
    """One line of the table."""
    gpu, case = GPUS[capability], level(side)
    compiled, options = build(name, capability, case, precision)
    registers, spilled = resources(compiled.asm["ptx"], capability)
    total, found = loops(disassembled(compiled.asm["cubin"]))
    warps, shared = options["num_warps"], compiled.metadata.shared
    issued = instructions(name, total, found, case, options)
    inner = [loop for loop in found if loop.products] or found
    # Of a bias gradient, the loop over images; else the only one.
    body = min(inner, key=lambda loop: loop.length) if name == "backward_bias" else found[0]
    pairs = options["TILE"] ** 2 * options["BLOCK"] / (32 * warps)  # of a thread, in a round
    microseconds = issued / ISSUES / gpu.multiprocessors / gpu.clock * 1e6
    floor = floor_bytes(name, case, PRECISIONS[precision][0].itemsize) / gpu.bandwidth * 1e6
    return {
        "gpu": f"sm_{capability} ({gpu.name})",
        "precision": precision,
        "side": side,
        "head_dim": case.head_dim,
        "kernel": name,
        "registers": registers,
        "spilled": spilled,
        "shared": shared,
        "warps": occupancy(gpu, registers, warps, shared),
        "instructions": total,
        "loop": body.length,
        "per_pair": body.length / pairs,
        "us": max(microseconds, floor),
        "floor_us": floor,
        "of_floor": floor / max(microseconds, floor),
    }


def table(rows: list[Row]) -> str:
    """A line for each kernel."""
    header = ["kernel", "GPU", "precision", "side", "head_dim", "registers", "spilled, B"]
    header += ["shared, B", "warps", "loop", "instructions / pair", "µs", "floor, µs", "of floor"]
    lines = [
        [
            *(str(row[k]) for k in ("kernel", "gpu", "precision", "side", "head_dim")),
            *(str(row[k]) for k in ("registers", "spilled", "shared", "warps", "loop")),
            f"{row['per_pair']:.1f}",
            f"{row['us']:.4g}",
            f"{row['floor_us']:.4g}",
            f"{row['of_floor']:.2f}",
        ]
        for row in rows
    ]
    return markdown(header, lines)


def run(args: argparse.Namespace) -> None:
    for tool in ("ptxas", "nvdisasm"):
        _tool(tool)
    rows = []
    for capability in args.capabilities:
        for precision in args.precisions:
            for side in args.sides:
                for name in args.kernels:
                    rows.append(measure(name, capability, side, precision))
                    command.log.info("%s", rows[-1])
                    _write(args.output, rows)


def _write(folder: Path, rows: list[Row]) -> None:
    import triton

    record = {"versions": runtime.versions() | {"triton": triton.__version__}}
    record |= {"commit": runtime.commit(), "batch": BATCH, "rows": rows}
    write_json(folder / "kernels_aot.json", record)
    about = f"Triton {triton.__version__}, commit {record['commit']}, {BATCH} images. Times are "
    about += "predicted, not measured: docs/gpu-prediction.md says how.\n\n"
    with atomic(folder / "kernels_aot.md") as temporary:
        temporary.write_text(f"# kernels_aot\n\n{about}{table(rows)}")


def main() -> None:
    os.environ["TRITON_INTERPRET"] = "0"  # before Triton is imported: kernels are compiled here
    options = command.parser(__doc__)
    options.add_argument(
        "--output", type=Path, default=Path("benchmarks/results"), help="folder of the results"
    )
    options.add_argument(
        "--capabilities", type=int, nargs="+", choices=GPUS, default=list(GPUS), help="of GPUs"
    )
    options.add_argument("--precisions", nargs="+", choices=PRECISIONS, default=list(PRECISIONS))
    options.add_argument("--sides", type=int, nargs="+", default=[256, 512, 1024], help="of maps")
    options.add_argument("--kernels", nargs="+", choices=KERNELS, default=list(KERNELS))
    command.main(options, run)


if __name__ == "__main__":
    main()
