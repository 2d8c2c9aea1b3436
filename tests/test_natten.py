"""NATTEN 0.17's interface: its recorded numbers, itself where installed, and brute force."""

import importlib
import inspect
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import stylenat.natten as ours
from stylenat.models.attention import available_backends, neighborhood_attention
from stylenat.natten import NeighborhoodAttention2D, na2d, na2d_av, na2d_qk
from stylenat.natten.functional import natten2dav, natten2dqk, natten2dqkrpb
from stylenat.neighbourhood import axis_windows
from tests.attention import assert_equal, example, geometries, normal

GOLDEN = Path(__file__).parent / "golden"
CASES = {case["case"]: case for case in json.loads((GOLDEN / "na.json").read_text())}


def unfused(q, k, v, rpb, kernel_size, dilation, scale):
    """Attention by the two operators, as models written for them call them."""
    logits = na2d_qk(scale * q, k, kernel_size, dilation, rpb=rpb)
    return na2d_av(logits.softmax(-1), v, kernel_size, dilation)


def fused(q, k, v, rpb, kernel_size, dilation, scale):
    q, k, v = (x.permute(0, 2, 3, 1, 4) for x in (q, k, v))
    out = na2d(q, k, v, kernel_size, dilation, rpb=rpb, scale=scale)
    return out.permute(0, 3, 1, 2, 4)


def outcome(attend, tensors, grad, *arguments):
    """Output and the gradients of all tensors that there are."""
    inputs = [x if x is None else x.detach().requires_grad_() for x in tensors]
    out = attend(*inputs, *arguments)
    there = [x for x in inputs if x is not None]
    return out.detach(), *torch.autograd.grad(out, there, grad)


# ------------------------------------------------------------------------------ NATTEN's numbers


@pytest.mark.parametrize("attend", (unfused, fused))
@pytest.mark.parametrize("case", CASES)
def test_golden(case, attend):
    c, golden = CASES[case], np.load(GOLDEN / "na.npz")
    shape = tuple(c[key] for key in ("batch", "heads", "height", "width", "head_dim"))
    table = (c["heads"], 2 * c["kernel"] - 1, 2 * c["kernel"] - 1)
    q, k, v, grad = (normal(f"na.{case}.{name}", shape) for name in ("q", "k", "v", "grad"))
    tensors = (q, k, v, 0.5 * normal(f"na.{case}.rpb", table))
    arguments = (c["kernel"], c["dilation"], c["head_dim"] ** -0.5)
    names = ("out", "dq", "dk", "dv", "drpb")
    expected = [torch.from_numpy(golden[f"{case}.{name}"]) for name in names]
    assert_equal(outcome(attend, tensors, grad, *arguments), expected, 1e-5)


@pytest.fixture
def natten():
    """NATTEN itself, in a version that has what is compared."""
    if "natten" not in available_backends():
        pytest.skip("NATTEN is not installed, or not for this PyTorch")
    module = importlib.import_module("natten")
    if module is ours or not hasattr(module.functional, "na2d_qk"):
        pytest.skip("this NATTEN has no unfused operators")
    return module


@pytest.mark.parametrize("biased", (True, False))
def test_operators_equal_nattens(natten, biased):
    theirs = natten.functional

    def attend(q, k, v, rpb, kernel_size, dilation, scale):
        options = {"kernel_size": kernel_size, "dilation": dilation}
        logits = theirs.na2d_qk(scale * q, k, rpb=rpb, **options)
        return theirs.na2d_av(logits.softmax(-1), v, **options)

    for shape, kernel_size, dilation in (((2, 3, 9, 11, 4), 3, 2), ((1, 2, 14, 15, 8), 7, 2)):
        *tensors, rpb, grad = example(shape, kernel_size)
        tensors.append(rpb if biased else None)
        arguments = (kernel_size, dilation, 0.7)
        expected = outcome(attend, tensors, grad, *arguments)
        assert_equal(outcome(unfused, tensors, grad, *arguments), expected, 1e-5)
        assert_equal(outcome(fused, tensors, grad, *arguments), expected, 1e-5)


def test_the_layer_equals_nattens(natten):
    arguments = {"kernel_size": 5, "dilation": 2, "rel_pos_bias": True, "qk_scale": 0.3}
    layers, outcomes = [], []
    for module in (natten, ours):
        torch.manual_seed(0)
        layers.append(module.NeighborhoodAttention2D(24, 3, **arguments))
    assert_equal_states(*(layer.state_dict() for layer in layers))  # initialised alike, too
    x, grad = normal("x", (2, 10, 11, 24)), normal("grad", (2, 10, 11, 24))
    for layer in layers:
        y = layer(x)
        outcomes.append((y, *torch.autograd.grad(y, list(layer.parameters()), grad)))
    for a, b in zip(*outcomes, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-5 * b.abs().max().item())


def assert_equal_states(a, b):
    assert a.keys() == b.keys()
    assert all(torch.equal(a[key], b[key]) for key in a)


# ------------------------------------------------------------------------------ brute force


def brute_force(q, k, v, rpb, kernel_size, dilation, scale):
    """Logits and output in float64, query by query."""
    *_, height, width, _ = q.shape
    rows = list(zip(*axis_windows(height, kernel_size, dilation), strict=True))
    columns = list(zip(*axis_windows(width, kernel_size, dilation), strict=True))
    logits = q.new_empty(*q.shape[:4], kernel_size**2)
    out = torch.empty_like(q)
    for y, (keys_y, offsets_y) in enumerate(rows):
        for x, (keys_x, offsets_x) in enumerate(columns):
            pairs = [(i, j) for i in range(kernel_size) for j in range(kernel_size)]
            for place, (i, j) in enumerate(pairs):
                logit = scale * (q[:, :, y, x] * k[:, :, keys_y[i], keys_x[j]]).sum(-1)
                if rpb is not None:
                    entry = (offsets_y[i] + kernel_size - 1, offsets_x[j] + kernel_size - 1)
                    logit = logit + rpb[:, entry[0], entry[1]]
                logits[:, :, y, x, place] = logit
            weights = logits[:, :, y, x].softmax(-1)
            values = torch.stack([v[:, :, keys_y[i], keys_x[j]] for i, j in pairs], -2)
            out[:, :, y, x] = (weights[..., None] * values).sum(-2)
    return logits, out


@settings(max_examples=8, deadline=None, derandomize=True)
@given(geometry=geometries((3, 3, 2)), with_bias=st.booleans())
def test_random_geometries(geometry, with_bias):
    shape, kernel_size, dilation = geometry
    q, k, v, rpb, _ = (x.double() for x in example(shape, kernel_size))
    rpb = rpb if with_bias else None
    arguments = (kernel_size, dilation, 0.7)
    logits, out = brute_force(q, k, v, rpb, *arguments)
    found = na2d_qk(0.7 * q, k, kernel_size, dilation, rpb=rpb)
    torch.testing.assert_close(found, logits, rtol=0, atol=1e-10)
    torch.testing.assert_close(unfused(q, k, v, rpb, *arguments), out, rtol=0, atol=1e-10)
    torch.testing.assert_close(fused(q, k, v, rpb, *arguments), out, rtol=0, atol=1e-10)


@pytest.mark.parametrize("dilation", (1, 2))
def test_derivatives_of_the_operators(dilation):
    """Of the first and of the second order: each operator's gradients are the others."""
    shape = (1, 2, 6, 7, 2)
    q, k, rpb = (normal(n, s).double() for n, s in (("q", shape), ("k", shape), ("r", (2, 5, 5))))
    weights = normal("weights", (*shape[:4], 9)).double()
    tensors = [x.requires_grad_() for x in (q, k, rpb, weights)]

    def logits(q, k, rpb):
        return na2d_qk(q, k, 3, dilation, rpb=rpb)

    def sums(weights, k):
        return na2d_av(weights, k, 3, dilation)

    for function, inputs in ((logits, tensors[:3]), (sums, (weights, k))):
        assert torch.autograd.gradcheck(function, inputs, fast_mode=True)
        assert torch.autograd.gradgradcheck(function, inputs, fast_mode=True)


def test_gradients_equal_those_of_the_fused_operator():
    """In float64, bias included: of the composition of the two, where the sum has many terms."""
    *tensors, grad = (x.double() for x in example((2, 2, 15, 17, 4), 5))
    arguments = (5, 3, 0.7)
    actual, expected = (outcome(it, tensors, grad, *arguments) for it in (unfused, fused))
    assert_equal(actual, expected, 1e-10)


def test_one_entry_of_the_bias_moves_the_pairs_at_its_offset_alone():
    """rpb[head, Δy + kernel_size - 1, Δx + kernel_size - 1], Δ = key - query in steps."""
    q = torch.zeros(1, 2, 6, 8, 1)
    rpb = torch.zeros(2, 5, 5)
    rpb[1, 1, 4] = 1  # Δy = -1, Δx = 2
    logits = na2d_qk(q, q, 3, 2, rpb=rpb).unflatten(-1, (3, 3))
    (_, offsets_y), (_, offsets_x) = (axis_windows(side, 3, 2) for side in (6, 8))
    there = (torch.tensor(offsets_y) == -1)[:, None, :, None]
    there = there & (torch.tensor(offsets_x) == 2)[None, :, None, :]
    assert there.any() and not logits[:, 0].any()
    assert torch.equal(logits[0, 1].bool(), there)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_half_types_lose_no_more_than_the_rounding_of_results(dtype):
    q, k, _, rpb, _ = example((1, 2, 9, 8, 16), 7, dtype)
    rpb = rpb.to(dtype).float()
    logits = na2d_qk(q, k, 7, 1, rpb=rpb)
    assert logits.dtype == dtype
    exact = na2d_qk(q.double(), k.double(), 7, 1, rpb=rpb.double())
    # The product is rounded, then its sum with the bias.
    assert (logits - exact).abs().max() <= torch.finfo(dtype).eps * exact.abs().max()
    weights = exact.softmax(-1).to(dtype)
    out = na2d_av(weights, k, 7, 1)
    assert out.dtype == dtype
    exact = na2d_av(weights.double(), k.double(), 7, 1)
    assert (out - exact).abs().max() <= torch.finfo(dtype).eps * exact.abs().max()


def test_training_after_inference_mode():
    """Index tables made in inference mode may not be saved for a backward pass."""
    from stylenat.natten.products import _windows

    _windows.cache_clear()
    q = normal("q", (1, 1, 5, 6, 2))
    with torch.inference_mode():
        inferred = unfused(q, q, q, torch.zeros(1, 5, 5), 3, 1, 1.0)
    rpb = torch.zeros(1, 5, 5, requires_grad=True)
    trained = unfused(q.requires_grad_(), q, q, rpb, 3, 1, 1.0)
    trained.sum().backward()
    assert torch.equal(inferred, trained)


def test_old_names():
    q, k, v, rpb, _ = example((1, 2, 6, 7, 4), 3)
    assert torch.equal(natten2dqkrpb(q, k, rpb, 3, 2), na2d_qk(q, k, 3, 2, rpb=rpb))
    assert torch.equal(natten2dqkrpb(q, k, None, 3, 2), natten2dqk(q, k, 3, 2))
    weights = natten2dqk(q, k, 3, 2).softmax(-1)
    assert torch.equal(natten2dav(weights, v, 3, 2), na2d_av(weights, v, 3, 2))


def test_pairs_and_positions_of_arguments():
    """As NATTEN 0.17.5 has them, so that calls by position mean the same."""
    q, k, v, rpb, _ = example((1, 2, 6, 7, 4), 3)
    expected = na2d_qk(q, k, 3, 2, rpb=rpb)
    assert torch.equal(na2d_qk(q, k, (3, 3), (2, 2), None, False, rpb), expected)
    weights = expected.softmax(-1)
    out = na2d_av(weights, v, (3, 3), [2, 2], None, (False, False))
    assert torch.equal(out, na2d_av(weights, v, 3, 2))
    q, k, v = (x.permute(0, 2, 3, 1, 4) for x in (q, k, v))
    together = na2d(q, k, v, (3, 3), (2, 2), False, rpb, 1.0)
    torch.testing.assert_close(together.permute(0, 3, 1, 2, 4), out, rtol=0, atol=1e-6)
    # A scale of 0 and a dilation of None mean the default ones there.
    assert torch.equal(na2d(q, k, v, 3, None, None), na2d(q, k, v, 3, 1))
    assert torch.equal(na2d(q, k, v, 3, scale=0), na2d(q, k, v, 3, scale=4**-0.5))


# ------------------------------------------------------------------------------ the layer


def layer(**options):
    torch.manual_seed(1)
    arguments = {"kernel_size": 3, "dilation": 2, "rel_pos_bias": True} | options
    return NeighborhoodAttention2D(24, 3, **arguments)


def test_state_dict_keys_and_shapes():
    shapes = {key: tuple(value.shape) for key, value in layer().state_dict().items()}
    assert shapes == {
        "rpb": (3, 5, 5),
        "qkv.weight": (72, 24),
        "qkv.bias": (72,),
        "proj.weight": (24, 24),
        "proj.bias": (24,),
    }
    bare = layer(rel_pos_bias=False, qkv_bias=False)
    assert bare.rpb is None
    assert set(bare.state_dict()) == {"qkv.weight", "proj.weight", "proj.bias"}
    with pytest.raises(RuntimeError, match="rpb"):
        bare.load_state_dict(layer().state_dict())


def test_arguments_are_in_nattens_order():
    names = list(inspect.signature(NeighborhoodAttention2D).parameters)
    assert names == [
        *("dim", "num_heads", "kernel_size", "dilation", "is_causal", "rel_pos_bias"),
        *("qkv_bias", "qk_scale", "attn_drop", "proj_drop"),
    ]


def test_attributes_that_models_read():
    it = layer(kernel_size=(5, 5), attn_drop=0.1)
    assert (it.num_heads, it.head_dim, it.scale) == (3, 8, 8**-0.5)
    assert (it.kernel_size, it.dilation, it.is_causal) == ((5, 5), (2, 2), (False, False))
    assert layer(qk_scale=0.3).scale == 0.3
    assert it.rpb.abs().max() < 0.2 and 0.01 < it.rpb.std() < 0.03


@pytest.mark.parametrize("scale", (None, 0.3))
@pytest.mark.parametrize("biased", (True, False))
def test_the_layer_is_attention_between_two_linear_layers(biased, scale):
    it = layer(rel_pos_bias=biased, qk_scale=scale).double()
    x = normal("x", (2, 7, 8, 24)).double()
    qkv = x @ it.qkv.weight.T + it.qkv.bias
    q, k, v = qkv.reshape(2, 7, 8, 3, 3, 8).permute(3, 0, 4, 1, 2, 5)
    out = neighborhood_attention(q, k, v, it.rpb, 3, 2, scale, "reference")
    expected = out.permute(0, 2, 3, 1, 4).reshape(2, 7, 8, 24) @ it.proj.weight.T + it.proj.bias
    torch.testing.assert_close(it(x), expected, rtol=0, atol=1e-12)


def test_dropout_of_the_weights():
    it, x = layer(attn_drop=0.4), normal("x", (1, 6, 7, 24))
    torch.manual_seed(3)
    first, second = it(x), it(x)
    torch.manual_seed(3)
    assert torch.equal(it(x), first) and not torch.equal(first, second)
    # What is dropped are weights: the rest are scaled up, so the mean over masks is the output
    # without dropout.
    mean = torch.stack([it(x).detach() for _ in range(400)])
    error = (mean.mean(0) - layer()(x)).abs()
    assert (error <= 6 * mean.std(0) / 20 + 1e-6).all()


def test_dropout_is_none_in_evaluation_and_at_zero():
    x = normal("x", (1, 6, 7, 24))
    expected = layer()(x)
    assert torch.equal(layer(attn_drop=0.4, proj_drop=0.4).eval()(x), expected)
    assert torch.equal(layer(attn_drop=0.0).train()(x), expected)
    # The way by the two operators, with a rate that drops nothing.
    torch.testing.assert_close(layer(attn_drop=1e-9).train()(x), expected, rtol=0, atol=1e-6)
    assert not torch.equal(layer(proj_drop=0.4)(x), expected)


@pytest.mark.parametrize("attn_drop", (0.0, 1e-9))
def test_autocast(attn_drop):
    """Linear layers give bfloat16, softmax float32, the bias is a parameter in float32."""
    it, x = layer(attn_drop=attn_drop), normal("x", (1, 6, 7, 24))
    with torch.autocast("cpu", torch.bfloat16):
        y = it(x)
    assert y.dtype == torch.bfloat16
    assert (y - it(x)).abs().max() <= 2e-2 * it(x).abs().max()
    y.float().square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in it.parameters())


def test_dropout_reaches_every_parameter():
    it = layer(attn_drop=0.4)
    it(normal("x", (1, 6, 7, 24))).square().sum().backward()
    assert all(parameter.grad.abs().sum() > 0 for parameter in it.parameters())


# ------------------------------------------------------------------------------ refusals

ATTENTION = torch.zeros(1, 2, 6, 8, 9)
MAP = torch.zeros(1, 2, 6, 8, 4)


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: layer(is_causal=True), "has no causal attention; leave is_causal at False"),
        (lambda: layer(is_causal=(False, True)), "has no causal attention"),
        (lambda: layer(kernel_size=(3, 5)), r"one kernel_size for both axes, but it is \(3, 5\)"),
        (lambda: layer(dilation=(2, 1)), r"one dilation for both axes, but it is \(2, 1\)"),
        (lambda: layer(kernel_size=(3,)), r"one kernel_size for both axes, but it is \(3,\)"),
        (lambda: layer(kernel_size=4), "kernel size must be odd and positive, but is 4"),
        (lambda: layer(dilation=0), "dilation must be at least 1, but is 0"),
        (lambda: NeighborhoodAttention2D(10, 3, 3), "dim 10 is no multiple of num_heads 3"),
        (lambda: layer()(torch.zeros(2, 7, 24)), r"\(batch, height, width, 24\), but is \(2, 7"),
        (lambda: layer()(torch.zeros(2, 7, 7, 8)), r"\(batch, height, width, 24\), but is \(2, 7"),
        (lambda: layer()(torch.zeros(1, 5, 7, 24)), "kernel size 3 x dilation 2 = 6 exceeds the h"),
        (lambda: na2d_qk(MAP, MAP, 5, 2), "kernel size 5 x dilation 2 = 10 exceeds the height 6"),
        (lambda: na2d_qk(MAP, MAP, 4), "kernel size must be odd and positive, but is 4"),
        (lambda: na2d_qk(MAP, MAP[:, :1], 3), "must share one shape"),
        (lambda: na2d_qk(MAP, MAP, 3, rpb=torch.zeros(2, 3, 3)), r"= \(2, 5, 5\), but is \(2, 3,"),
        (lambda: na2d_qk(MAP, MAP, 3, 1, MAP), "has no additional keys and values"),
        (lambda: na2d_av(ATTENTION, MAP, 3, 1, MAP), "has no additional keys and values"),
        (lambda: na2d_av(ATTENTION, MAP, 5), r"\) = \(1, 2, 6, 8, 25\), but is \(1, 2, 6, 8, 9\)"),
        (lambda: na2d_av(ATTENTION, MAP, 3, is_causal=True), "has no causal attention"),
        (lambda: na2d(MAP, MAP, MAP, 3, is_causal=True), "has no causal attention"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(ValueError, match=message) as caught:
        call()
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------ under its name


def run(code: str) -> None:
    """In a process of its own, because what is imported there stays imported."""
    command = (sys.executable, "-c", code)
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


def test_installed_under_nattens_name():
    run("""
import stylenat.natten as ours
ours.install()
ours.install()
import natten
from natten import NeighborhoodAttention2D
from natten.functional import na2d_av, na2d_qk, natten2dav, natten2dqkrpb
from natten.context import is_fna_enabled
assert natten is ours and na2d_qk is ours.na2d_qk and hasattr(natten, "context")
assert natten.has_fused_na() and natten.use_fused_na(True, kv_parallel=True) is None
# What stands there is no backend of ours: NATTEN's operators would be our own.
from stylenat.models.attention import available_backends
assert "natten" not in available_backends()
""")


def test_assigned_under_nattens_name():
    run("""
import sys
import stylenat.natten
sys.modules["natten"] = stylenat.natten
import torch
from natten import NeighborhoodAttention2D
from natten.functional import na2d
assert NeighborhoodAttention2D(8, 2, 3)(torch.zeros(1, 4, 4, 8)).shape == (1, 4, 4, 8)
assert na2d(*[torch.zeros(1, 4, 4, 2, 4)] * 3, 3).shape == (1, 4, 4, 2, 4)
""")


def test_not_installed_beside_natten_itself():
    run("""
import sys
from types import ModuleType
sys.modules["natten"] = natten = ModuleType("natten")
natten.__version__ = "0.21.0"
import stylenat.natten
try:
    stylenat.natten.install()
except RuntimeError as error:
    assert "NATTEN 0.21.0 is imported already; call stylenat.natten.install() before" in str(error)
else:
    raise AssertionError("installed")
assert sys.modules["natten"] is natten
""")
