"""Neighbourhood attention: golden numbers, and the fast backends against the reference."""

import json
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from stylenat.models.attention import (
    available_backends,
    default_backend,
    describe,
    gathers,
    hydra_attention,
    neighborhood_attention,
    small_maps,
    tiles,
    tiling,
    use_backend,
)
from tests.attention import GROUPS, assert_equal, geometries, groups_outcome, normal, outcome

GOLDEN = Path(__file__).parent / "golden"
CASES = {case["case"]: case for case in json.loads((GOLDEN / "na.json").read_text())}


@pytest.fixture
def small_tiles(monkeypatch):
    """Cut even the small maps of these tests into many tiles, kind by kind, and pieces."""
    monkeypatch.setattr(small_maps, "MOST_BYTES", 0)
    monkeypatch.setattr(tiling, "KIND_COST", 0)
    monkeypatch.setattr(tiles, "PIECE_BYTES", 1 << 14)
    tiling.tiling.cache_clear()
    yield
    tiling.tiling.cache_clear()


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("backend", ("reference", "gathers", "tiles"))
@pytest.mark.parametrize("case", CASES)
def test_golden(case, backend, dtype, small_tiles):
    c, golden = CASES[case], np.load(GOLDEN / "na.npz")
    shape = tuple(c[key] for key in ("batch", "heads", "height", "width", "head_dim"))
    table = (c["heads"], 2 * c["kernel"] - 1, 2 * c["kernel"] - 1)
    q, k, v, grad = (normal(f"na.{case}.{name}", shape) for name in ("q", "k", "v", "grad"))
    rpb = 0.5 * normal(f"na.{case}.rpb", table)
    inputs = (x.to(dtype) for x in (q, k, v, rpb, grad))
    actual = outcome(*inputs, c["kernel"], c["dilation"], backend=backend)
    names = ("out", "dq", "dk", "dv", "drpb")
    expected = [torch.from_numpy(golden[f"{case}.{name}"]).to(dtype) for name in names]
    assert_equal(actual, expected, 1e-5)


@settings(max_examples=120, deadline=None, derandomize=True)
@given(
    geometry=geometries(),
    with_bias=st.booleans(),
    kind_cost=st.sampled_from((0, 500, 20_000)),
    piece_bytes=st.sampled_from((1, 1 << 14, 8 << 20)),
    small=st.booleans(),
)
def test_tiles_equal_reference(geometry, with_bias, kind_cost, piece_bytes, small):
    (batch, heads, height, width, head_dim), kernel_size, dilation = geometry
    shape = (batch, height, width, 3, heads, head_dim)
    q, k, v = normal("qkv", shape).double().permute(3, 0, 4, 1, 2, 5)
    rpb = normal("rpb", (heads, 2 * kernel_size - 1, 2 * kernel_size - 1)).double()
    inputs = (q, k, v, rpb if with_bias else None, normal("grad", q.shape).double())
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(small_maps, "MOST_BYTES", 1 << 30 if small else 0)
        patch.setattr(tiling, "KIND_COST", kind_cost)
        patch.setattr(tiles, "PIECE_BYTES", piece_bytes)
        tiling.tiling.cache_clear()
        actual = outcome(*inputs, kernel_size, dilation, 0.7, backend="tiles")
        with torch.inference_mode():
            inferred = neighborhood_attention(*inputs[:4], kernel_size, dilation, 0.7, "tiles")
        tiling.tiling.cache_clear()
    expected = outcome(*inputs, kernel_size, dilation, 0.7, backend="reference")
    assert_equal(actual, expected, 1e-10)
    assert_equal([inferred], expected[:1], 1e-10)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(geometry=geometries(), with_bias=st.booleans(), key_cost=st.sampled_from((0, 16, 1000)))
def test_gathers_equal_reference(geometry, with_bias, key_cost):
    (batch, heads, height, width, head_dim), kernel_size, dilation = geometry
    shape = (batch, heads, height, width, head_dim)
    q, k, v, grad = (normal(name, shape).double() for name in ("q", "k", "v", "grad"))
    rpb = normal("rpb", (heads, 2 * kernel_size - 1, 2 * kernel_size - 1)).double()
    inputs = (q, k, v, rpb if with_bias else None, grad, kernel_size, dilation, 0.7)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(gathers, "KEY_COST", key_cost)  # runs of one query, or of a whole axis
        gathers.axes.cache_clear()
        actual = outcome(*inputs, backend="gathers")
        gathers.axes.cache_clear()
    assert_equal(actual, outcome(*inputs, backend="reference"), 1e-10)


@pytest.mark.parametrize("shape, kernel_size, dilation", [((2, 2, 40, 33, 8), 7, 2)])
def test_tiles_equal_reference_where_the_cost_rule_cuts(shape, kernel_size, dilation):
    parts, _ = tiling.tiling(4, *shape[2:4], kernel_size, dilation, torch.device("cpu"))
    assert all(len(part.kinds) > 1 for part in parts)
    q, k, v, grad = (normal(name, shape).double() for name in ("q", "k", "v", "grad"))
    inputs = (q, k, v, normal("rpb", (2, 13, 13)).double(), grad, kernel_size, dilation)
    assert_equal(outcome(*inputs, backend="tiles"), outcome(*inputs, backend="reference"), 1e-10)


@pytest.mark.parametrize(
    "arrange",
    (
        lambda x: x,
        lambda x: x.permute(0, 1, 3, 2, 4).contiguous().permute(0, 1, 3, 2, 4),
        lambda x: torch.stack((x, x), -1).select(-1, 1),
        lambda x: x[:1, :, :, :1].expand_as(x),
    ),
    ids=("contiguous", "permuted", "strided channels", "expanded"),
)
def test_tiles_take_any_strides(arrange, small_tiles):
    shape = (2, 2, 9, 11, 4)
    q, k, v, grad = (arrange(normal(name, shape).double()) for name in ("q", "k", "v", "grad"))
    rpb = normal("rpb", (2, 5, 5)).double()
    actual = outcome(q, k, v, rpb, grad, 3, 2, backend="tiles")
    expected = outcome(q, k, v, rpb, grad, 3, 2, backend="reference")
    assert_equal(actual, expected, 1e-10)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_half_types_lose_no_more_than_the_rounding_of_results(dtype, small_tiles):
    shape = (2, 2, 22, 23, 8)
    q, k, v, grad = (normal(name, shape).to(dtype) for name in ("q", "k", "v", "grad"))
    rpb = normal("rpb", (2, 13, 13))
    actual = outcome(q, k, v, rpb, grad, 7, 2, backend="tiles")
    exact = (x.double() for x in (q, k, v, rpb, grad))
    for found, expected in zip(actual, outcome(*exact, 7, 2, backend="reference"), strict=True):
        error = (found - expected).abs().max() / expected.abs().max()
        assert error <= torch.finfo(dtype).eps


@pytest.mark.parametrize("backend", ("reference", "gathers", "tiles"))
@pytest.mark.parametrize("with_bias", (True, False))
def test_gradcheck(backend, with_bias, small_tiles):
    shape = (1, 2, 7, 6, 2)
    inputs = [normal(name, shape).double().requires_grad_() for name in ("q", "k", "v")]
    if with_bias:
        inputs.append(normal("rpb", (2, 5, 5)).double().requires_grad_())

    def attention(q, k, v, rpb=None):
        return neighborhood_attention(q, k, v, rpb, 3, 2, backend=backend)

    assert torch.autograd.gradcheck(attention, inputs)


class LargestTensor(TorchDispatchMode):
    """Records the largest storage, in bytes, that any operation returned."""

    nbytes = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        for x in tree_leaves(result):
            if isinstance(x, torch.Tensor):
                self.nbytes = max(self.nbytes, x.untyped_storage().nbytes())
        return result


def test_scratch_stays_below_the_size_of_a_piece(monkeypatch):
    monkeypatch.setattr(small_maps, "MOST_BYTES", 0)
    monkeypatch.setattr(tiles, "PIECE_BYTES", 1 << 18)
    q, k, v = (normal(name, (4, 2, 48, 48, 8)).requires_grad_() for name in ("q", "k", "v"))
    rpb = normal("rpb", (2, 13, 13)).requires_grad_()
    for dilation in (1, 3, 6):
        with LargestTensor() as largest:
            neighborhood_attention(q, k, v, rpb, 7, dilation, backend="tiles").sum().backward()
        assert largest.nbytes <= max(q.nbytes, 1 << 18)


def test_frozen_bias_gets_no_gradient(small_tiles):
    q, k, v = (normal(name, (1, 1, 8, 8, 4)).requires_grad_() for name in ("q", "k", "v"))
    rpb = normal("rpb", (1, 5, 5))
    neighborhood_attention(q, k, v, rpb, 3, 1, backend="tiles").sum().backward()
    assert rpb.grad is None
    assert all(torch.isfinite(x.grad).all() for x in (q, k, v))


def test_tiles_refuse_a_second_derivative():
    q = normal("q", (1, 1, 4, 4, 2)).requires_grad_()
    out = neighborhood_attention(q, q, q, None, 3, 1, backend="tiles")
    (grad,) = torch.autograd.grad(out.square().sum(), q, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_training_after_inference_mode():
    """Index tables made in inference mode may not be saved for a backward pass."""
    tiling.tiling.cache_clear()
    q = normal("q", (1, 1, 5, 6, 2))
    for backend in ("reference", "gathers", "tiles"):
        with torch.inference_mode():
            neighborhood_attention(q, q, q, torch.zeros(1, 5, 5), 3, 1, backend=backend)
        rpb = torch.zeros(1, 5, 5, requires_grad=True)
        neighborhood_attention(q, q, q, rpb, 3, 1, backend=backend).sum().backward()


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
@pytest.mark.parametrize("backend", ("reference", "gathers", "tiles"))
def test_dtype_is_kept(backend, dtype):
    q = normal("q", (1, 2, 6, 7, 4)).to(dtype).requires_grad_()
    out = neighborhood_attention(q, q, q, None, 3, 2, backend=backend)
    assert out.dtype == dtype
    assert out.shape == q.shape


@pytest.mark.parametrize(
    "shape, rpb_shape, kernel_size, dilation, message",
    [
        ((1, 2, 13, 20, 4), None, 7, 2, "kernel size 7 x dilation 2 = 14 exceeds the height 13"),
        ((1, 2, 20, 13, 4), None, 7, 2, "kernel size 7 x dilation 2 = 14 exceeds the width 13"),
        ((1, 2, 8, 8, 4), None, 4, 1, "kernel size must be odd and positive, but is 4"),
        ((1, 2, 8, 8, 4), None, -1, 1, "kernel size must be odd and positive, but is -1"),
        ((1, 2, 8, 8, 4), None, 3, 0, "dilation must be at least 1, but is 0"),
        ((1, 2, 8, 8, 4), (2, 3, 3), 3, 1, r"= \(2, 5, 5\), but is \(2, 3, 3\)"),
        ((2, 8, 8, 4), None, 3, 1, r"but are \(2, 8, 8, 4\)"),
    ],
)
def test_bad_arguments(shape, rpb_shape, kernel_size, dilation, message):
    q = torch.zeros(shape)
    rpb = None if rpb_shape is None else torch.zeros(rpb_shape)
    with pytest.raises(ValueError, match=message):
        neighborhood_attention(q, q, q, rpb, kernel_size, dilation)


@pytest.mark.parametrize("biased", (True, False))
@pytest.mark.parametrize("backend", ("reference", "gathers", "tiles"))
def test_groups_are_attention_of_their_heads(backend, biased, small_tiles):
    def group_by_group(qkv, tables):
        parts = qkv.unflatten(-1, (3, 4, 4)).permute(3, 0, 4, 1, 2, 5).split((1, 2, 1), 2)
        outputs = [
            neighborhood_attention(*part, rpb, g.kernel_size, g.dilation, backend="reference")
            for part, rpb, g in zip(parts, tables, GROUPS, strict=True)
        ]
        return torch.cat(outputs, 1).permute(0, 2, 3, 1, 4).flatten(3)

    together = partial(hydra_attention, groups=GROUPS, backend=backend)
    actual, expected = groups_outcome(together, biased), groups_outcome(group_by_group, biased)
    assert_equal(actual, expected, 1e-10)


def test_unknown_backend():
    q = torch.zeros(1, 1, 4, 4, 2)
    with pytest.raises(ValueError, match="'nonsense' is not available here; choose one of"):
        neighborhood_attention(q, q, q, None, 3, 1, backend="nonsense")
    with (
        pytest.raises(ValueError, match="'nonsense' is not available here"),
        use_backend("nonsense"),
    ):
        pass


def test_use_backend():
    q = normal("q", (1, 1, 6, 6, 2))
    with use_backend("reference"):
        assert default_backend("cpu") == default_backend("cuda", torch.float64) == "reference"
        chosen = neighborhood_attention(q, q, q, None, 3, 1)
    assert default_backend("cpu") == "tiles"
    assert torch.equal(chosen, neighborhood_attention(q, q, q, None, 3, 1, backend="reference"))


def test_default_backend():
    assert default_backend("cpu") == "tiles"
    assert {"reference", "tiles"} <= set(available_backends())
    assert describe("cpu").startswith("neighbourhood attention on cpu: tiles")
    q = normal("q", (1, 1, 6, 6, 2))
    chosen = neighborhood_attention(q, q, q, None, 3, 1)
    assert torch.equal(chosen, neighborhood_attention(q, q, q, None, 3, 1, backend="tiles"))
