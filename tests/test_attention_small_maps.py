"""Neighbourhood attention on small maps, all tiles at once, against the reference in float64."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from stylenat.blocks.hydra import HeadGroup
from stylenat.models.attention import hydra_attention, small_maps
from tests.attention import assert_equal, normal

GROUPS = (HeadGroup(1, 3, 1), HeadGroup(2, 5, 2), HeadGroup(1, 3, 3))


def results(backend, groups, sides, dtype=torch.float64, biased=True, batch=2):
    """Output, gradient of qkv, gradients of the tables."""
    heads = sum(group.heads for group in groups)
    shape = (batch, *sides, 3 * heads * 4)
    spans = [2 * group.kernel_size - 1 for group in groups]
    inputs = [normal("qkv", (*shape[:3], 100)).to(dtype)[..., : shape[3]]]
    if biased:
        inputs += [
            normal(f"rpb{s}", (g.heads, s, s)).to(dtype) for g, s in zip(groups, spans, strict=True)
        ]
    inputs = [x.requires_grad_() for x in inputs]
    tables = inputs[1:] or (None,) * len(groups)
    out = hydra_attention(inputs[0], tables, groups, backend)
    return out.detach(), *torch.autograd.grad(out, inputs, normal("grad", out.shape).to(dtype))


def cuts(groups, sides, batch=2):
    shape = (3, batch, sum(group.heads for group in groups), *sides, 4)
    return [small_maps.cut(shape, 8, range(g.heads), g.kernel_size, g.dilation) for g in groups]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    kernel_size=st.sampled_from((1, 3, 5, 7)),
    dilation=st.integers(1, 3),
    longer=st.tuples(st.integers(0, 5), st.integers(0, 5)),
    key_cost=st.sampled_from((0, 16, 1000)),
    biased=st.booleans(),
)
def test_equal_reference(kernel_size, dilation, longer, key_cost, biased):
    groups = (HeadGroup(2, kernel_size, dilation),)
    sides = tuple((kernel_size + more) * dilation for more in longer)
    with pytest.MonkeyPatch.context() as patch:  # tiles of every size, down to a single query
        patch.setattr(small_maps, "KEY_COST", key_cost)
        assert None not in cuts(groups, sides)
        actual = results("tiles", groups, sides, biased=biased)
    assert_equal(actual, results("reference", groups, sides, biased=biased), 1e-10)


@pytest.mark.parametrize("biased", (True, False))
def test_groups(biased):
    assert None not in cuts(GROUPS, (12, 18))
    actual = results("tiles", GROUPS, (12, 18), biased=biased)
    assert_equal(actual, results("reference", GROUPS, (12, 18), biased=biased), 1e-10)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16))
def test_half_types_lose_no_more_than_the_rounding_of_results(dtype):
    actual = results("tiles", GROUPS, (12, 18), dtype)
    expected = results("reference", GROUPS, (12, 18), torch.float64)
    for found, exact in zip(actual, expected, strict=True):
        assert found.dtype == dtype
        assert (found - exact).abs().max() <= 8 * torch.finfo(dtype).eps * exact.abs().max()


def test_gradcheck():
    inputs = [normal("qkv", (1, 4, 6, 12)).double(), normal("rpb", (2, 5, 5)).double()]
    inputs = [x.requires_grad_() for x in inputs]
    groups = (HeadGroup(2, 3, 1),)
    assert None not in cuts(groups, (4, 6), batch=1)
    assert torch.autograd.gradcheck(lambda x, t: hydra_attention(x, [t], groups, "tiles"), inputs)


def test_training_after_inference_mode():
    """Indices made in inference mode may be used for a backward pass."""
    groups = (HeadGroup(1, 3, 1),)
    small_maps._indices.cache_clear()
    with torch.inference_mode():
        inferred = hydra_attention(normal("qkv", (1, 6, 8, 12)), [torch.zeros(1, 5, 5)], groups)
    qkv = normal("qkv", (1, 6, 8, 12)).requires_grad_()
    trained = hydra_attention(qkv, [torch.zeros(1, 5, 5)], groups)
    trained.sum().backward()
    assert torch.equal(trained, inferred)


@pytest.mark.parametrize(
    "side, kernel_size, dilation, queries, keys",
    [(8, 7, 1, 8, 8), (16, 5, 1, 4, 8), (16, 5, 2, 8, 8), (32, 5, 1, 4, 8), (32, 7, 1, 4, 10)],
)
def test_the_cost_rule_cuts_as_measured(side, kernel_size, dilation, queries, keys):
    cut = small_maps.cut((3, 8, 2, side, side, 16), 4, range(2), kernel_size, dilation)
    assert cut.rows == cut.columns == (queries, keys)


def test_uneven_or_large_maps_are_left_to_kinds_of_tiles():
    assert small_maps.cut((3, 1, 1, 16, 15, 4), 4, range(1), 3, 2) is None
    assert small_maps.cut((3, 4, 4, 256, 256, 32), 4, range(4), 7, 1) is None
