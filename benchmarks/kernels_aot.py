"""The attention kernels compiled for GPUs that need not be here, and how fast they should be there.

For every kernel, GPU, precision and side of a map: registers, spills, shared memory and occupancy,
as ptxas and the GPU's limits have it; instructions of the inner loop per pair of query and key, from
the disassembly; and a time predicted by going through them clock by clock, beside the floor that
memory sets. How it is computed, and what it leaves out, is in docs/gpu-prediction.md. Triton brings
the compiler, so this runs anywhere; it takes some seconds for each kernel.
"""

import math
import os
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from benchmarks.attention import Case
from benchmarks.harness import Row, ffhq, markdown
from benchmarks.multiprocessor import Code, Instruction, Loop, Rates, clocks, parse
from stylenat import command, runtime
from stylenat.blocks.hydra import head_groups
from stylenat.errors import UserError
from stylenat.io import atomic, write_json

KERNELS = ("forward", "backward_queries", "backward_keys", "backward_bias")
# Precision: dtype, its name in Triton, how exact products of float32 numbers are.
PRECISIONS = {
    "float32": (torch.float32, "fp32", "highest"),
    "tf32": (torch.float32, "fp32", "high"),
    "bfloat16": (torch.bfloat16, "bf16", "high"),
}
BATCH = 8
# How many times as long as simulated an H200 takes, the same for all kernels within an eighth.
SLOWDOWN = 1.45
MAPS = {"q", "k", "v", "out", "grad", "dq", "dk", "dv"}
STATISTICS = {"bias", "lse", "delta", "partial"}


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
    rates: Rates
    registers: int = 65536


GPUS = {
    80: Gpu("A100", 108, 1.41e9, 1.94e12, 164 << 10, 2048, 32, Rates(256, float32=2)),
    89: Gpu("RTX 4090", 128, 2.4e9, 1.01e12, 100 << 10, 1536, 24, Rates(128)),
    90: Gpu("H100", 132, 1.98e9, 3.35e12, 228 << 10, 2048, 32, Rates(512)),
    100: Gpu("B200", 148, 1.8e9, 8.0e12, 228 << 10, 2048, 32, Rates(1024)),
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


def offset_rounds(case: Case, tile: int, block: int, offsets: int) -> float:
    """How often a piece of the bias gradient goes through its loop over offsets, in the mean."""
    rounds, pieces = 0, 0
    for group in case.groups:
        kernel = group.kernel_size
        widths = Counter(
            keys for keys, _ in boxes(case.side, group.dilation, kernel, tile).elements()
        )
        for first_pixel in range(group.dilation):
            members = (case.side - first_pixel + group.dilation - 1) // group.dilation
            for first in range(0, members, tile):
                last = min(first + tile, members) - 1
                top, bottom = (
                    min(max(q - kernel // 2, 0), members - kernel) + end
                    for q, end in ((first, 0), (last, kernel))
                )
                for width, across in widths.items():
                    for start in range(0, (bottom - top) * width, block):
                        end = min(start + block, (bottom - top) * width)
                        lowest = max(top + start // width, bottom - kernel) - last
                        highest = min(top + (end - 1) // width, top + kernel - 1) - first
                        rows = highest - lowest + 1
                        rounds += group.heads * across * -(-rows * (2 * kernel - 1) // offsets)
                        pieces += group.heads * across
    return rounds / pieces


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
    torch.set_float32_matmul_precision(products)
    options = triton_ops._options(q, name, capability // 10)
    options |= {"BIASED": True, "OFFSETS": 64}
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
    launch = {key: options[key] for key in ("num_warps", "num_stages", "maxnreg")}
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


def disassembled(cubin: bytes) -> Code:
    """The machine code."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        words = (_tool("nvdisasm"), "-c", "-hex", file.name)
        return parse(subprocess.run(words, capture_output=True, text=True, check=True).stdout)


def occupancy(gpu: Gpu, registers: int, warps: int, shared: int) -> int:
    """Warps that a multiprocessor holds at once."""
    by_registers = gpu.registers // (-(-registers * 32 // 256) * 256 * warps)
    by_shared = gpu.shared // (shared + 1024)  # of which the system takes 1 KB
    by_threads = gpu.threads // (32 * warps)
    return warps * min(by_registers, by_shared, by_threads, gpu.programs)


# ------------------------------------------------------------------------------ prediction


def seconds(name: str, code: Code, warps: int, case: Case, options: dict, gpu: Gpu) -> float:
    """Of one launch, were memory as fast as it should be; ``warps`` fit a multiprocessor at once."""
    amount = work(case, options["TILE"], options["BLOCK"])
    if name == "backward_bias":
        programs, kinds = pieces(code, case, options, amount["keys"])
    else:
        programs, loop = amount["programs"], code.loops[0]
        rounds = amount["queries" if name == "backward_keys" else "keys"] / programs
        before, body = (
            code.instructions[: loop.first],
            code.instructions[loop.first : loop.last + 1],
        )
        # The last instruction is a branch to itself, behind the end.
        after = code.instructions[loop.last + 1 : -1]
        kinds = repeated(before, body, after, rounds, programs)
    # Where there are few programs, every multiprocessor has some of them.
    at_once = min(warps // options["num_warps"], -(-programs // gpu.multiprocessors))
    total = sum(
        number * clocks(trace, at_once, options["num_warps"], gpu.rates) for trace, number in kinds
    )
    return SLOWDOWN * total / min(programs, gpu.multiprocessors) / gpu.clock


def pieces(
    code: Code, case: Case, options: dict, blocks: int
) -> tuple[int, list[tuple[list[Instruction], float]]]:
    """Programs of the bias gradient, and what they go through how often: pieces of work in which
    there are keys, ``blocks`` in all images, and those in which there are none."""
    from stylenat.models.attention.triton_ops import PARTIAL_SUMS

    tile, block = options["TILE"], options["BLOCK"]
    heads = sum(group.heads for group in case.groups)
    tiles = max(
        g.dilation**2 * math.prod(-(-case.side // (g.dilation * tile)) for _ in "yx")
        for g in case.groups
    )
    sizes = [min(tile + g.kernel_size - 1, -(-case.side // g.dilation)) ** 2 for g in case.groups]
    number = -(-max(sizes) // block) * tiles
    at_once = -(-case.batch // min(case.batch, -(-PARTIAL_SUMS // number)))
    parts = -(-case.batch // at_once)
    full = blocks / case.batch * parts
    whole, *inner = code.loops
    over_images = next(loop for loop in inner if loop.products)
    over_offsets = next(loop for loop in inner if not loop.products)
    lines = code.instructions
    end = lines[over_offsets.last + 1 : whole.last + 1]
    before = lines[whole.first : over_images.first]
    before += lines[over_images.first : over_images.last + 1] * at_once
    before += lines[over_images.last + 1 : over_offsets.first]
    body = lines[over_offsets.first : over_offsets.last + 1]
    rounds = offset_rounds(case, tile, block, options["OFFSETS"])
    skip = next(
        place
        for place, target in code.branches
        if whole.first <= place and over_offsets.last < target <= whole.last
    )
    empty = lines[whole.first : skip + 1] + end
    programs = heads * min(number * parts, PARTIAL_SUMS)
    idle = heads * number * parts - full
    return programs, [*repeated(before, body, end, rounds, full), (empty, idle)]


def repeated(
    before: list[Instruction],
    body: list[Instruction],
    after: list[Instruction],
    rounds: float,
    number: float,
) -> list[tuple[list[Instruction], float]]:
    """What is gone through how often, where a loop's ``rounds`` are the mean of ``number``: some
    have the whole number below, the others that above."""
    low = math.floor(rounds)
    shares = ((low, 1 - rounds + low), (low + 1, rounds - low))
    return [(before + body * times + after, number * share) for times, share in shares if share > 0]


def floor_bytes(name: str, case: Case, itemsize: int) -> int:
    """What a kernel has to move at least: maps, and the numbers that queries have one of."""
    heads = sum(group.heads for group in case.groups)
    pixels = case.batch * case.side**2
    maps = {"forward": 4, "backward_queries": 6, "backward_keys": 6, "backward_bias": 4}[name]
    numbers = {"forward": 1, "backward_queries": 2, "backward_keys": 2, "backward_bias": 2}[name]
    return pixels * (maps * case.channels * itemsize + 4 * numbers * heads)


def main_loop(name: str, code: Code) -> Loop:
    """The one over blocks of keys or queries; of the bias gradient, that over images."""
    if name != "backward_bias":
        return code.loops[0]
    return min((loop for loop in code.loops if loop.products), key=lambda loop: loop.length)


def measure(name: str, capability: int, side: int, precision: str) -> Row:
    """One line of the table."""
    gpu, case = GPUS[capability], level(side)
    compiled, options = build(name, capability, case, precision)
    registers, spilled = resources(compiled.asm["ptx"], capability)
    code = disassembled(compiled.asm["cubin"])
    shared = compiled.metadata.shared
    warps = occupancy(gpu, registers, options["num_warps"], shared)
    body = main_loop(name, code)
    # Of a thread, in a round.
    pairs = options["TILE"] ** 2 * options["BLOCK"] / (32 * options["num_warps"])
    floor = floor_bytes(name, case, PRECISIONS[precision][0].itemsize) / gpu.bandwidth
    time = max(floor, seconds(name, code, warps, case, options, gpu))
    return {
        "gpu": f"sm_{capability} ({gpu.name})",
        "precision": precision,
        "side": side,
        "head_dim": case.head_dim,
        "kernel": name,
        "registers": registers,
        "spilled": spilled,
        "shared": shared,
        "warps": warps,
        "instructions": len(code.instructions),
        "loop": body.length,
        "per_pair": body.length / pairs,
        "us": time * 1e6,
        "floor_us": floor * 1e6,
        "of_floor": floor / time,
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


def run(
    *,
    output: Path,
    capabilities: Sequence[int],
    precisions: Sequence[str],
    sides: Sequence[int],
    kernels: Sequence[str],
) -> None:
    for tool in ("ptxas", "nvdisasm"):
        _tool(tool)
    rows = []
    for capability in capabilities:
        for precision in precisions:
            for side in sides:
                for name in kernels:
                    rows.append(measure(name, capability, side, precision))
                    command.log.info("%s", rows[-1])
                    _write(output, rows)


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
