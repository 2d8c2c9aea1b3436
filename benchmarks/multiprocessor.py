"""How long a multiprocessor of a GPU takes for machine code: its warps, instruction by instruction.

The assembler writes into every instruction how many clocks the warp stalls after it, which of six
scoreboards it releases when its result has come (or its operands are read), and for which of them
it waits (Jia et al., Dissecting the NVIDIA Volta GPU Architecture via Microbenchmarking, arXiv
1804.06826, section 2.1; the layout has stayed). What is not in the code is how long units are busy
with an instruction, and when results of variable delay come; :class:`Rates` has these.
"""

import heapq
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

SCHEDULERS = 4  # of a multiprocessor; each begins an instruction in a clock
NONE = 7  # in place of a scoreboard's number
MEMORY, SHUFFLE = "memory", "shuffle"  # units that all schedulers share


@dataclass(frozen=True)
class Rates:
    """Clocks that a unit is busy with a warp's instruction, and clocks until its result is there.

    Rates: CUDA C++ Programming Guide, throughput of native arithmetic instructions. Latencies of
    caches and shared memory: Luo et al., Benchmarking and Dissecting the Nvidia Hopper GPU
    Architecture, arXiv 2402.13499.
    """

    products: int  # multiplications of bfloat16 that a scheduler's tensor core does in a clock
    float32: int = 1  # of an addition, product or both
    integer: int = 2
    special: int = 8  # exp2, reciprocals, conversions
    gather: int = 2  # of 32 numbers from a table in the first-level cache
    map: int = 600  # latency of the maps, most of them in the second-level cache, under load
    table: int = 40  # of the first-level cache
    shared: int = 30
    answer: int = 24  # of other units


class Instruction(NamedTuple):
    """Name with modifiers, and what the assembler decided."""

    name: str
    stall: int
    result: int  # number of the scoreboard, or NONE
    operands: int
    waits: tuple[int, ...]


@dataclass(frozen=True)
class Loop:
    """Instructions of a loop, first to last, and whether it uses the tensor cores."""

    first: int
    last: int
    products: bool

    @property
    def length(self) -> int:
        return self.last - self.first + 1


@dataclass(frozen=True)
class Code:
    """A kernel: instructions, and its branches (from, to)."""

    instructions: list[Instruction]
    branches: list[tuple[int, int]]

    @property
    def loops(self) -> list[Loop]:
        """The longest first."""
        found = []
        names = [instruction.name for instruction in self.instructions]
        end = len(names) - names[::-1].index("EXIT") if "EXIT" in names else len(names)
        for place, target in self.branches:
            # Behind the end may be a loop's way back, and waits that go on where they were left.
            waits = any(name.startswith("SYNCS") for name in names[end:place])
            if target < place and not waits:
                products = any("MMA" in name for name in names[target:place])
                found.append(Loop(target, place, products))
        return sorted(found, key=lambda loop: -loop.length)


def parse(text: str) -> Code:
    """What ``nvdisasm -c -hex`` writes: a line for each instruction, and one for its other half."""
    words: list[str] = []
    found: list[Instruction] = []
    labels: dict[str, int] = {}
    for line in text.splitlines():
        if label := re.match(r"\s*(\.L\w+):", line):
            labels[label[1]] = len(words)
        elif first := re.match(r"\s*/\*[0-9a-f]+\*/\s+(?:@!?U?P\w+\s+)?(\S.*?)\s*;", line):
            words.append(first[1])
        elif second := re.match(r"\s*/\* 0x([0-9a-f]{16}) \*/", line):
            found.append(_controlled(words[len(found)], int(second[1], 16) >> 41))
    branches = []
    for place, word in enumerate(words):
        target = re.match(r"BRA\b.*?(\.L\w+)", word)
        if target and target[1] in labels:
            branches.append((place, labels[target[1]]))
    return Code(found, branches)


def _controlled(word: str, bits: int) -> Instruction:
    waits = bits >> 11 & 63
    if awaited := re.match(r"DEPBAR\S* SB(\d)", word):
        waits |= 1 << int(awaited[1])
    return Instruction(
        word.split()[0], max(1, bits & 15), bits >> 5 & 7, bits >> 8 & 7,
        tuple(number for number in range(6) if waits >> number & 1),
    )  # fmt: skip


def cost(name: str, rates: Rates) -> tuple[str | None, int, int]:
    """The unit that an instruction needs, for how many clocks, and when its result is there."""
    base, *modifiers = name.split(".")
    width = 4 if "128" in modifiers else 2 if "64" in modifiers else 1
    if base == "LDG":
        # One number a thread: from a table. Several: of a map.
        return (MEMORY, rates.gather, rates.table) if width == 1 else (MEMORY, width, rates.map)
    if base in ("LDS", "LDSM", "STS", "STSM", "STG", "LDL", "STL"):
        return MEMORY, 4 if base.endswith("SM") and "4" in modifiers else width, rates.shared
    if base == "SHFL":
        return SHUFFLE, 1, rates.answer
    if base in ("MUFU", "I2F", "F2I", "F2F", "POPC", "FLO"):
        return "special", rates.special, rates.answer
    if base in ("HMMA", "HGMMA"):
        busy = _products(base, modifiers) // rates.products
        return "tensor", busy, busy + rates.answer
    if base in ("FADD", "FMUL", "FFMA"):
        return "float32", rates.float32, 0
    if base == "IMAD":
        return "float32", rates.integer, rates.answer
    if base in ("BRA", "BAR", "EXIT", "WARPGROUP", "NOP", "BSSY", "BSYNC", "DEPBAR"):
        return None, 0, 0
    if base in ("LDC", "ULDC", "S2R", "S2UR", "CS2R", "R2UR", "MEMBAR", "FENCE"):
        return None, 0, rates.shared
    return "uniform" if base.startswith("U") else "integer", rates.integer, rates.answer


def _products(base: str, modifiers: list[str]) -> int:
    """Multiplications of one warp, those of TF32 twice, for they take twice as long."""
    shape = modifiers[0]
    if base == "HGMMA":
        _, columns, depth = (int(size) for size in shape.split("x"))
    else:
        columns, depth = 8, int(shape.removeprefix("16").removeprefix("8"))
    return 16 * columns * depth * (2 if "TF32" in modifiers else 1)


def clocks(
    code: Sequence[Instruction], programs: int, warps: int, rates: Rates, passes: int = 4
) -> float:
    """Clocks of a multiprocessor for one program, where it has ``programs`` at a time.

    A program that has ended, all its ``warps`` with it, is followed by the next, until there have
    been ``passes`` times as many as fit at a time, the first of which are not counted.
    """
    steps = [(*cost(i.name, rates), i) for i in code]
    unit_free: dict[tuple[int, str], int] = {}
    free = [0] * SCHEDULERS
    boards = [[0] * 6 for _ in range(programs * warps)]
    products = [0] * (programs * warps)  # when the last asynchronous product has its result
    place = [0] * (programs * warps)
    arrived: list[list[tuple[int, int]]] = [[] for _ in range(programs)]
    ends: list[int] = []
    # One program after the other begins, so that they are not all at the same place.
    ready = [(len(code) // programs * (w // warps), w) for w in range(programs * warps)]
    heapq.heapify(ready)

    def release(warp: int, board: int, when: int) -> None:
        boards[warp][board] = max(boards[warp][board], when)

    def proceed(warp: int, now: int) -> None:
        """Put the warp back for when its next instruction has what it waits for."""
        following = code[place[warp]]
        if following.waits:
            now = max(now, *(boards[warp][number] for number in following.waits))
        if following.name.startswith("WARPGROUP.DEPBAR"):
            now = max(now, products[warp])
        heapq.heappush(ready, (now, warp))

    while len(ends) < passes * programs:
        now, warp = heapq.heappop(ready)
        unit, busy, delay, instruction = steps[place[warp]]
        scheduler = warp % SCHEDULERS
        key = (0 if unit in (MEMORY, SHUFFLE) else scheduler, unit or "")
        start = max(now, free[scheduler], unit_free.get(key, 0))
        if start > now and ready and ready[0][0] < start:
            heapq.heappush(ready, (start, warp))
            continue
        free[scheduler] = start + 1
        if unit:
            unit_free[key] = start + busy
        if instruction.result != NONE:
            release(warp, instruction.result, start + busy + delay)
        if instruction.operands != NONE:
            release(warp, instruction.operands, start + busy + rates.answer // 2)
        if instruction.name.startswith("HGMMA"):
            products[warp] = start + delay
        place[warp] += 1
        program = warp // warps
        ended = place[warp] == len(code)
        if not ended and not instruction.name.startswith("BAR"):
            proceed(warp, start + instruction.stall)
            continue
        arrived[program].append((start + instruction.stall, warp))
        if len(arrived[program]) < warps:
            continue
        together, arrived[program] = arrived[program], []
        now = max(when for when, _ in together)
        if ended:
            ends.append(now)
        for _, other in together:
            if ended:
                place[other], boards[other], products[other] = 0, [0] * 6, 0
            proceed(other, now)
    return (ends[-1] - ends[programs - 1]) / (len(ends) - programs)
