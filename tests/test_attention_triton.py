"""The Triton kernels: on a GPU where there is one, else in Triton's interpreter (see conftest.py)."""

import os
import subprocess
import sys
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylenat.blocks.hydra import HeadGroup
from stylenat.models.attention import (
    available_backends,
    default_backend,
    hydra_attention,
    neighborhood_attention,
)
from tests.attention import (
    GROUPS,
    assert_close,
    assert_equal,
    example,
    geometries,
    groups_outcome,
    normal,
    outcome,
)

pytest.importorskip("triton", reason="Triton is not installed")
import triton
import triton.language as tl

from stylenat.models.attention import triton_ops, triton_tiles
from stylenat.models.attention.tables import head_table
from stylenat.models.blocks.hydra import HydraAttention

GPU = torch.cuda.is_available()
DEVICE = "cuda" if GPU else "cpu"
needs_gpu = pytest.mark.skipif(not GPU, reason="no GPU here")
# Largest error, relative to the largest number. Triton's interpreter gets bfloat16 wrong, and
# computes TF32 as float32.
TOLERANCES = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
TF32 = 3e-3


def check(q, k, v, rpb, grad, *arguments, tolerance=None):
    """Output and gradients against those of the reference in float64."""
    inputs = [None if x is None else x.to(DEVICE) for x in (q, k, v, rpb, grad)]
    exact = [None if x is None else x.double() for x in (q, k, v, rpb, grad)]
    actual = outcome(*inputs, *arguments, backend="triton")
    expected = outcome(*exact, *arguments, backend="reference")
    assert_close(actual, expected, tolerance or TOLERANCES[q.dtype])


@settings(max_examples=100 if GPU else 6, deadline=None, derandomize=True)
@given(geometry=geometries((9, 4, 6) if GPU else (2, 2, 2)), with_bias=st.booleans())
def test_random_geometries(geometry, with_bias):
    shape, kernel_size, dilation = geometry
    q, k, v, rpb, grad = example(shape, kernel_size)
    check(q, k, v, rpb if with_bias else None, grad, kernel_size, dilation, 0.7)


@pytest.mark.parametrize(
    "shape, kernel_size, dilation",
    [
        ((1, 1, 7, 18, 32), 7, 1),  # kernel x dilation = side; three tiles, the last of two columns
        ((1, 1, 18, 9, 4), 5, 1),  # a tile inside, and blocks that reach part of the bias's rows
        ((2, 1, 5, 6, 8), 3, 1),
        ((1, 1, 6, 6, 100), 5, 1),
        ((1, 1, 3, 3, 128), 3, 1),
    ],
)
def test_shapes(shape, kernel_size, dilation):
    check(*example(shape, kernel_size), kernel_size, dilation)


@pytest.mark.parametrize("scale", (3.0, 0.0, -0.7))
def test_any_scale(scale):
    """The kernels divide the bias by it."""
    check(*example((1, 1, 4, 5, 4), 3), 3, 1, scale)


@pytest.mark.parametrize(
    "dtype", (torch.float16, pytest.param(torch.bfloat16, marks=needs_gpu)), ids=str
)
def test_half_precision(dtype):
    check(*example((1, 2, 9, 7, 16), 3, dtype), 3, 2)


@needs_gpu
def test_tf32():
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("high")
    try:
        check(*example((2, 4, 64, 64, 32), 7), 7, 8, tolerance=TF32)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize(
    "arrange",
    (
        lambda x: x.permute(0, 1, 3, 2, 4).contiguous().permute(0, 1, 3, 2, 4),
        lambda x: torch.stack((x, x), -1).select(-1, 1),
        lambda x: x[:1, :, :, :1].expand_as(x),
    ),
    ids=("permuted", "strided channels", "expanded"),
)
def test_any_strides(arrange):
    shape = (1, 1, 6, 5, 4)
    q, k, v, grad = (arrange(normal(name, shape)) for name in ("q", "k", "v", "grad"))
    check(q, k, v, normal("rpb", (1, 5, 5)), grad, 3, 1)
    check(q, k.contiguous(), v, None, grad, 3, 1)


@pytest.mark.parametrize("biased", (True, False))
def test_all_groups_in_one_launch(biased, monkeypatch):
    launches = []
    forward = triton_ops.triton_kernels.forward
    run = type(forward).__getitem__
    monkeypatch.setattr(
        type(forward), "__getitem__", lambda self, grid: launches.append(self) or run(self, grid)
    )
    fused = partial(hydra_attention, groups=GROUPS, backend="triton")
    actual = groups_outcome(fused, biased, torch.float32, DEVICE)
    assert len(launches) == (4 if biased else 3)
    exact = partial(hydra_attention, groups=GROUPS, backend="reference")
    assert_close(actual, groups_outcome(exact, biased), TOLERANCES[torch.float32])


def test_no_copy_between_linear_layers():
    """The output is laid out for the layer after it, and the gradient for the one before."""
    qkv = normal("qkv", (1, 4, 5, 24)).to(DEVICE).requires_grad_()
    out = hydra_attention(qkv, (None,), (HeadGroup(2, 3, 1),), backend="triton")
    (grad,) = torch.autograd.grad(out, qkv, torch.ones_like(out))
    assert out.is_contiguous() and grad.is_contiguous()


def test_bias_gradient_over_few_rows_of_partial_sums(monkeypatch):
    """Every program has several pieces of work, of several images."""
    monkeypatch.setattr(triton_ops, "PARTIAL_SUMS", 2)
    check(*example((3, 2, 9, 10, 4), 3), 3, 1)


def test_frozen_bias_gets_no_gradient():
    q, k, v, rpb, _ = (x.to(DEVICE) for x in example((1, 1, 4, 4, 4), 3))
    q.requires_grad_()
    neighborhood_attention(q, k, v, rpb, 3, 1, backend="triton").sum().backward()
    assert rpb.grad is None and k.grad is None
    assert torch.isfinite(q.grad).all()


def test_training_after_inference_mode():
    q = normal("q", (1, 1, 3, 3, 2)).to(DEVICE)
    with torch.inference_mode():
        neighborhood_attention(q, q, q, None, 3, 1, backend="triton")
    q.requires_grad_()
    neighborhood_attention(q, q, q, None, 3, 1, backend="triton").sum().backward()


def test_no_second_derivative():
    q = normal("q", (1, 1, 3, 3, 2)).to(DEVICE).requires_grad_()
    out = neighborhood_attention(q, q, q, None, 3, 1, backend="triton")
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        grad.sum().backward()


@pytest.mark.parametrize(
    "dtype, head_dim, message",
    [
        (torch.float64, 4, "computes in float32, bfloat16 and float16, not in torch.float64"),
        (torch.float32, 129, "takes heads of at most 128 channels, not 129"),
        (torch.float32, 1, "takes maps of at most 1024 pixels a side, not 1025"),
    ],
)
def test_refusals(dtype, head_dim, message):
    width = 1025 if "maps" in message else 3
    q = torch.zeros(1, 1, 3, width, head_dim, dtype=dtype, device=DEVICE)
    with pytest.raises(ValueError, match=f"attention backend 'triton' {message}"):
        neighborhood_attention(q, q, q, None, 3, 1, backend="triton")


def test_default_on_gpus():
    assert "triton" in available_backends()
    assert default_backend("cuda") == default_backend("cuda", torch.bfloat16) == "triton"
    assert default_backend("cuda", torch.float64) == "tiles"
    assert default_backend("cpu") == "tiles"


def test_operators_are_registered_completely():
    q, k, v, rpb, grad = (x.to(DEVICE) for x in example((1, 1, 3, 4, 2), 3))
    geometry = ([1], [3], [1])
    arguments = (head_table(*geometry).to(DEVICE), *geometry, 0.7)
    inputs = [x.clone().requires_grad_() for x in (q, k, v)]
    bias = rpb.flatten()
    torch.library.opcheck(triton_ops._attention, (inputs, bias.requires_grad_(), *arguments))
    with torch.no_grad():
        out, lse = triton_ops._attention(inputs, bias, *arguments)
    saved = (lse, [q, k, v], bias.detach(), *arguments)
    torch.library.opcheck(triton_ops._gradients, (grad, out, *saved))
    _, delta = triton_ops._gradients(grad, out, *saved)
    torch.library.opcheck(triton_ops._bias_gradient, (grad, delta, *saved))


@triton.jit
def number_box(rows, columns, width, SIZE: tl.constexpr):
    index = tl.arange(0, SIZE)
    y, x = triton_tiles.pixels(index, 0, 0, width)
    tl.store(rows + index, y)
    tl.store(columns + index, x)


@pytest.mark.parametrize("side", [1, 3, 101, 102, 107, 108, 331, 1000, 1023, 1024])
def test_pixels_of_boxes_of_any_side(side):
    """To the end of the box, and within the block that it ends in."""
    size = triton.next_power_of_2(side * side)
    found = torch.empty(2, size, dtype=torch.int32, device=DEVICE)
    number_box[(1,)](*found, side, size)
    index = torch.arange(side * side, dtype=torch.int32, device=DEVICE)
    assert torch.equal(found[0, : side * side], index // side)
    assert torch.equal(found[1, : side * side], index % side)


def test_the_table_of_heads_is_a_buffer():
    """It moves with the layer, is in no checkpoint, and is not made while a graph is recorded."""
    layer = HydraAttention(8, GROUPS, bias=False)
    heads = [(g.kernel_size, g.dilation) for g in GROUPS for _ in range(g.heads)]
    assert [tuple(line) for line in layer.table[:, :2].tolist()] == heads
    sizes = torch.tensor([(2 * k - 1) ** 2 for k, _ in heads])
    assert torch.equal(layer.table[:, 2], sizes.cumsum(0).int() - sizes.int())
    assert "table" not in layer.state_dict()
    assert layer.to("meta").table.device.type == "meta"


def test_compiled_without_a_break():
    def attend(qkv, tables):
        return hydra_attention(2 * qkv, tables, GROUPS, backend="triton").relu()

    compiled = torch.compile(attend, fullgraph=True, backend="inductor" if GPU else "aot_eager")
    outcomes = [groups_outcome(f, True, torch.float32, DEVICE) for f in (compiled, attend)]
    assert_equal(*outcomes, 1e-5)


@needs_gpu
def test_results_are_reproducible():
    inputs = [x.to(DEVICE) for x in example((8, 4, 64, 64, 32), 7)]
    first, second = (outcome(*inputs, 7, 2, backend="triton") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@needs_gpu
def test_cuda_graph():
    q, k, v, rpb, _ = (x.to(DEVICE) for x in example((2, 4, 32, 32, 32), 7))
    attend = partial(neighborhood_attention, q, k, v, rpb, 7, 4, backend="triton")
    expected = attend()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        out = attend()
    out.zero_()
    graph.replay()
    assert torch.equal(out, expected)


def test_kernels_compile_for_gpus():
    """All kernels to machine code for an A100 and an H100, which takes no GPU, in a process of its
    own because in this one they are interpreted."""
    command = (sys.executable, "-m", "tests.compile_attention")
    environment = {**os.environ, "TRITON_INTERPRET": "0"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
