"""What is read off compiled kernels, and what is predicted from it; compiling takes a while."""

import json
from dataclasses import replace
from itertools import product

import pytest

from benchmarks import kernels_aot as aot
from benchmarks.attention import Case
from benchmarks.harness import ROOT
from benchmarks.multiprocessor import (
    MEMORY,
    NONE,
    Code,
    Instruction,
    Loop,
    Rates,
    clocks,
    cost,
    parse,
)
from stylenat.blocks.hydra import HeadGroup
from stylenat.errors import UserError
from tests.project import run

# The other half of an instruction holds from bit 41: 4 bits of stall, yield, numbers of two
# scoreboards, and 6 bits of those that it waits for.
SASS = """
        .section .text.kernel
        /*0000*/                   MOV R1, c[0x0][0x28] ;               /* 0x0000000000000000 */
                                                                        /* 0x000fc80000000000 */
.L_x_1:
        /*0010*/                   LDG.E.128 R2, [R4] ;                 /* 0x0000000000000000 */
                                                                        /* 0x000ea20000000000 */
.L_x_2:
        /*0020*/                   HMMA.16816.F32.BF16 R8, R2, R4, R8 ; /* 0x0000000000000000 */
                                                                        /* 0x004fe20000000000 */
        /*0030*/               @P0 BRA `(.L_x_2) ;                      /* 0x0000000000000000 */
                                                                        /* 0x000fea0000000000 */
        /*0040*/              @!P1 BRA `(.L_x_4) ;                      /* 0x0000000000000000 */
                                                                        /* 0x000fea0000000000 */
.L_x_3:
        /*0050*/                   FADD R3, R3, R5 ;                    /* 0x0000000000000000 */
                                                                        /* 0x000fe20000000000 */
        /*0060*/              @!P1 BRA `(.L_x_3) ;                      /* 0x0000000000000000 */
                                                                        /* 0x000fea0000000000 */
        /*0070*/               @P2 BRA `(.L_x_1) ;                      /* 0x0000000000000000 */
                                                                        /* 0x000fea0000000000 */
        /*0080*/                   EXIT ;                               /* 0x0000000000000000 */
                                                                        /* 0x000fea0000000000 */
.L_x_4:
        /*0090*/                   SYNCS.PHASECHK.TRYWAIT P1, [R6] ;    /* 0x0000000000000000 */
                                                                        /* 0x000fea0000000000 */
        /*00a0*/              @!P1 BRA `(.L_x_2) ;                      /* 0x0000000000000000 */
                                                                        /* 0x000fea0000000000 */
.L_x_5:
        /*00b0*/                   BRA `(.L_x_5) ;                      /* 0x0000000000000000 */
                                                                        /* 0x000fc00000000000 */
"""
RATES = Rates(512)
ADD = Instruction("FADD", 1, NONE, NONE, ())


def test_loops_and_branches_of_a_disassembly():
    code = parse(SASS)
    assert len(code.instructions) == 12
    assert code.loops == [Loop(1, 7, True), Loop(2, 3, True), Loop(5, 6, False)]
    assert (4, 9) in code.branches


def test_the_way_back_of_a_loop_may_be_behind_the_end():
    code = parse(SASS.replace("SYNCS.PHASECHK.TRYWAIT P1, [R6] ;", "NOP ;"))
    assert Loop(2, 10, True) in code.loops


def test_what_the_assembler_decided():
    first, load, product, *_ = parse(SASS).instructions
    assert first == Instruction("MOV", 4, NONE, NONE, ())
    assert (load.name, load.result, load.operands) == ("LDG.E.128", 2, NONE)
    assert product.waits == (2,)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("LDG.E.128", (MEMORY, 4, RATES.map)),
        ("LDG.E", (MEMORY, RATES.gather, RATES.table)),
        ("LDSM.16.M88.4", (MEMORY, 4, RATES.shared)),
        ("IADD3", ("integer", 2, RATES.answer)),
        # 2048, 2 x 1024 and 16 x 32 x 16 products, 512 a clock.
        ("HMMA.16816.F32.BF16", ("tensor", 4, 4 + RATES.answer)),
        ("HMMA.1688.F32.TF32", ("tensor", 4, 4 + RATES.answer)),
        ("HGMMA.64x32x16.F32.BF16", ("tensor", 16, 16 + RATES.answer)),
    ],
)
def test_what_an_instruction_needs(name, expected):
    assert cost(name, RATES) == expected


def test_a_scheduler_begins_an_instruction_in_a_clock():
    assert clocks([ADD] * 100, 1, 4, RATES) == 100
    assert clocks([ADD] * 100, 3, 4, RATES) == pytest.approx(100, rel=0.1)
    # Half as many integers, of as many units; eight warps are two for each scheduler.
    assert clocks([ADD._replace(name="IADD3")] * 100, 1, 4, RATES) == 200
    assert clocks([ADD] * 100, 1, 8, RATES) == 200


def test_other_programs_hide_the_latency_of_loads():
    load = Instruction("LDG.E.128", 1, 0, NONE, ())
    trace = [load, ADD._replace(waits=(0,))]
    alone = clocks(trace, 1, 4, RATES)
    assert RATES.map < alone < RATES.map + 50
    assert clocks(trace, 4, 4, RATES) == pytest.approx(alone / 4, rel=0.1)


def test_the_warps_of_a_program_wait_for_each_other():
    """A barrier makes those on other schedulers wait for the two that share one."""
    trace = [ADD] * 50 + [ADD._replace(name="BAR.SYNC")] + [ADD] * 50
    assert clocks(trace, 1, 5, RATES) > clocks(trace, 1, 4, RATES) + 90


def test_what_ptxas_says():
    text = """ptxas info    : Function properties for forward
    0 bytes stack frame, 24 bytes spill stores, 40 bytes spill loads
ptxas info    : Used 168 registers, used 1 barriers, 4096 bytes smem"""
    assert aot.usage(text) == (168, 64)


@pytest.mark.parametrize(
    ("registers", "warps", "shared", "expected"),
    [
        (32, 4, 0, 64),  # by threads
        (128, 4, 0, 16),  # by registers: 4 of 16384 each
        (129, 4, 0, 12),  # they are dealt out in steps of eight a thread
        (32, 4, 100 << 10, 8),  # by shared memory
        (32, 1, 0, 32),  # by the number of programs
    ],
)
def test_occupancy(registers, warps, shared, expected):
    assert aot.occupancy(aot.GPUS[90], registers, warps, shared) == expected


@pytest.mark.parametrize(
    ("side", "dilation", "kernel"), [(16, 1, 7), (17, 2, 7), (33, 4, 5), (21, 3, 7)]
)
def test_boxes_are_those_of_the_definition(side, dilation, kernel):
    """Every query's window, one after the other."""
    expected = []
    for first in range(dilation):
        members = len(range(first, side, dilation))
        window = [min(max(q - kernel // 2, 0), members - kernel) for q in range(members)]
        for start in range(0, members, 8):
            tile = range(start, min(start + 8, members))
            keys = {key for q in tile for key in range(window[q], window[q] + kernel)}
            queries = [
                q for q in range(members) if any(0 <= key - window[q] < kernel for key in tile)
            ]
            expected.append((len(keys), queries[-1] - queries[0] + 1))
    assert sorted(aot.boxes(side, dilation, kernel, 8).elements()) == sorted(expected)


def test_a_launch_goes_through_every_box():
    case = Case("x", 3, 16, 32, (HeadGroup(2, 7, 1), HeadGroup(1, 7, 2)))
    amount = aot.work(case, 8, 32)
    assert amount["programs"] == 3 * (2 * 4 + 1 * 4)
    # Boxes of 11 keys along an axis at dilation 1, of all 8 members at dilation 2.
    assert amount["keys"] == 3 * (2 * 4 * -(-121 // 32) + 4 * 2)
    # 200 additions and a loop of 100, on as many multiprocessors as there are programs.
    code = Code([ADD] * 301, [(109, 10), (300, 300)])
    options = {"TILE": 8, "BLOCK": 32, "num_warps": 4}
    gpu = replace(aot.GPUS[90], multiprocessors=amount["programs"], clock=1.0)
    time = aot.seconds("forward", code, 4, case, options, gpu)
    rounds = amount["keys"] / amount["programs"]
    assert time == pytest.approx(aot.SLOWDOWN * (200 + 100 * rounds))


@pytest.mark.parametrize(("side", "dilation", "kernel"), [(18, 1, 5), (24, 2, 7), (7, 1, 7)])
def test_a_block_goes_through_the_offsets_of_its_pairs(side, dilation, kernel):
    """Rows of the table, from the first to the last that a pair of a query and a key has; where the
    map's border moves windows, the kernel may take some more."""
    rounds = []
    for pixel_y, pixel_x in product(range(dilation), repeat=2):
        windows = [
            [min(max(q - kernel // 2, 0), members - kernel) for q in range(members)]
            for members in (len(range(pixel, side, dilation)) for pixel in (pixel_y, pixel_x))
        ]
        starts = (range(0, len(window), 8) for window in windows)
        for tile in product(*starts):
            ranges = [
                window[first : first + 8] for window, first in zip(windows, tile, strict=True)
            ]
            box = list(product(*(range(w[0], w[-1] + kernel) for w in ranges)))
            for start in range(0, len(box), 32):
                rows = [
                    key_y - tile[0] - number
                    for key_y, _ in box[start : start + 32]
                    for number, window in enumerate(ranges[0])
                    if 0 <= key_y - window < kernel
                ]
                entries = (max(rows) - min(rows) + 1) * (2 * kernel - 1)
                rounds.append(-(-entries // 64))
    case = Case("x", 1, side, 32, (HeadGroup(2, kernel, dilation),))
    mean = sum(rounds) / len(rounds)
    assert mean <= aot.offset_rounds(case, 8, 32, 64) + 1e-9 <= 1.1 * mean


def test_the_published_level_has_the_prototypes_amount_of_work():
    case = aot.level(256)
    assert (case.head_dim, sum(group.heads for group in case.groups)) == (32, 4)
    assert aot.work(case, 8, 32)["programs"] == 32768


def test_without_the_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(aot, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="ptxas is missing: .* run pip install triton"):
        aot._tool("ptxas")


def test_kernels_are_no_worse_than_the_table_says(tmp_path):
    """Registers, spills and instructions of two kernels, compiled as they were for the table."""
    triton = pytest.importorskip("triton", reason="Triton is not installed")
    record = json.loads((ROOT / "benchmarks/results/kernels_aot.json").read_text())
    if triton.__version__ != record["versions"]["triton"]:
        pytest.skip("the table was made with another compiler")
    done = run(
        *("python", "-m", "benchmarks.kernels_aot", "--output", str(tmp_path)),
        *("--capabilities", "90", "--precisions", "bfloat16", "--sides", "256"),
        *("--kernels", "forward", "backward_keys"),
    )
    assert done.returncode == 0, done.stderr
    for row in json.loads((tmp_path / "kernels_aot.json").read_text())["rows"]:
        described = {key: row[key] for key in ("gpu", "precision", "side", "kernel")}
        (expected,) = (r for r in record["rows"] if described.items() <= r.items())
        for key in ("registers", "spilled", "per_pair"):
            assert row[key] <= 1.1 * expected[key], (described, key)
        assert row["instructions"] > row["loop"] > 100 and 0 < row["of_floor"] <= 1
    text = (tmp_path / "kernels_aot.md").read_text()
    assert "| forward | sm_90 (H100) | bfloat16 | 256 |" in text
