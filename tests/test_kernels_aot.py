"""What is read off compiled kernels, and what is predicted from it; compiling takes a while."""

import json

import pytest

from benchmarks import kernels_aot as aot
from benchmarks.attention import Case
from stylenat.blocks.hydra import HeadGroup
from stylenat.errors import UserError
from tests.project import run

SASS = """
        .section .text.kernel
        /*0000*/                   MOV R1, c[0x0][0x28] ;
.L_x_1:
        /*0010*/                   LDG.E R2, [R4] ;
.L_x_2:
        /*0020*/                   HMMA.16816.F32 R8, R2, R4, R8 ;
        /*0030*/               @P0 BRA `(.L_x_2) ;
.L_x_3:
        /*0040*/                   IADD3 R3, R3, 1, RZ ;
        /*0050*/                   FADD R3, R3, R5 ;
        /*0060*/              @!P1 BRA `(.L_x_3) ;
        /*0070*/               @P2 BRA `(.L_x_1) ;
        /*0080*/                   EXIT ;
.L_x_4:
        /*0090*/                   BRA `(.L_x_4) ;
"""


def test_loops_of_a_disassembly():
    total, found = aot.loops(SASS)
    assert total == 10
    assert found == [aot.Loop(1, 7, True), aot.Loop(4, 6, False), aot.Loop(2, 3, True)]


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
    loops = [aot.Loop(10, 109, True)]
    options = {"TILE": 8, "BLOCK": 32, "num_warps": 4}
    issued = aot.instructions("forward", 300, loops, case, options)
    assert issued == 4 * (100 * amount["keys"] + 200 * amount["programs"])


def test_the_published_level_has_the_prototypes_amount_of_work():
    case = aot.level(256)
    assert (case.head_dim, sum(group.heads for group in case.groups)) == (32, 4)
    assert aot.work(case, 8, 32)["programs"] == 32768


def test_without_the_compiler_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr(aot, "find_spec", lambda name: None)
    with pytest.raises(UserError, match="ptxas is missing: .* run pip install triton"):
        aot._tool("ptxas")


@pytest.mark.slow
def test_a_kernel_is_compiled_and_described(tmp_path):
    pytest.importorskip("triton", reason="Triton is not installed")
    done = run(
        *("python", "-m", "benchmarks.kernels_aot", "--output", str(tmp_path)),
        *("--capabilities", "90", "--precisions", "bfloat16", "--sides", "256"),
        *("--kernels", "forward"),
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "kernels_aot.json").read_text())["rows"]
    assert 0 < row["registers"] <= 255 and row["instructions"] > row["loop"] > 100
    assert 0 < row["of_floor"] <= 1
    assert (
        "| forward | sm_90 (H100) | bfloat16 | 256 |" in (tmp_path / "kernels_aot.md").read_text()
    )
