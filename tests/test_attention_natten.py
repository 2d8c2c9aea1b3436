"""NATTEN's operators where they are installed, and how we call them by a stand-in where not."""

import sys
from functools import partial
from types import ModuleType

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from stylenat.models import attention
from stylenat.models.attention import (
    available_backends,
    hydra_attention,
    neighborhood_attention,
    reference,
)
from tests.attention import (
    GROUPS,
    assert_close,
    example,
    geometries,
    groups_outcome,
    normal,
    outcome,
)

BACKEND = "stylenat.models.attention.natten_ops"
missing = pytest.mark.skipif("natten" not in available_backends(), reason="NATTEN is not installed")


@missing
@settings(max_examples=50, deadline=None, derandomize=True)
@given(geometry=geometries(), with_bias=st.booleans())
def test_random_geometries(geometry, with_bias):
    shape, kernel_size, dilation = geometry
    assume(kernel_size > 1)  # which NATTEN refuses
    if attention._module("natten").FUSED:
        pytest.skip("this version serves GPUs without a bias only")
    q, k, v, rpb, grad = example(shape, kernel_size)
    arguments = (rpb if with_bias else None, grad)
    exact = [None if x is None else x.double() for x in (q, k, v, *arguments)]
    assert_close(
        outcome(q, k, v, *arguments, kernel_size, dilation, 0.7, backend="natten"),
        outcome(*exact, kernel_size, dilation, 0.7, backend="reference"),
        1e-5,
    )


@missing
@pytest.mark.parametrize("biased", (True, False))
def test_installed_version_equals_reference(biased):
    device = "cuda" if torch.cuda.is_available() else "cpu"
    outcome = partial(groups_outcome, biased=biased)
    exact = outcome(partial(hydra_attention, groups=GROUPS, backend="reference"))
    natten = partial(hydra_attention, groups=GROUPS, backend="natten")
    if attention._module("natten").FUSED and (biased or device == "cpu"):
        pytest.skip("this version serves GPUs without a bias only")
    assert_close(outcome(natten, dtype=torch.float32, device=device), exact, 1e-5)


def forget(monkeypatch):
    """Have the backend imported anew within a test."""
    monkeypatch.delitem(sys.modules, BACKEND, raising=False)
    monkeypatch.delattr(attention, "natten_ops", raising=False)


@pytest.fixture
def fused(monkeypatch):
    """A stand-in for NATTEN from 0.20 on: one operator, heads last, no bias."""

    def na2d(query, key, value, kernel_size, *, dilation, scale):
        q, k, v = (x.permute(0, 3, 1, 2, 4) for x in (query, key, value))
        out = reference.attend(q, k, v, None, kernel_size, dilation, scale)
        return out.permute(0, 2, 3, 1, 4)

    natten = ModuleType("natten")
    natten.__version__ = "0.21.7"
    natten.na2d = na2d
    natten.functional = ModuleType("natten.functional")
    monkeypatch.setitem(sys.modules, "natten", natten)
    forget(monkeypatch)
    attention._available_backends.cache_clear()
    yield
    attention._available_backends.cache_clear()
    sys.modules.pop(BACKEND, None)
    del attention.natten_ops


def test_fused_operator_gets_its_layout(fused):
    natten_ops = attention._module("natten")
    q, k, v = (normal(name, (2, 3, 7, 8, 4)).double() for name in ("q", "k", "v"))
    out = natten_ops.attend(q, k, v, None, 3, 2, 0.7)
    expected = neighborhood_attention(q, k, v, None, 3, 2, 0.7, backend="reference")
    torch.testing.assert_close(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "dtype, rpb, message",
    [
        (torch.float32, torch.zeros(1, 5, 5), "has no relative position bias in version 0.21.7"),
        (torch.float32, None, "runs on GPUs only in version 0.21.7, not on cpu"),
    ],
)
def test_what_the_fused_operator_cannot_serve(fused, dtype, rpb, message):
    q = torch.zeros(1, 1, 4, 4, 2, dtype=dtype)
    with pytest.raises(ValueError, match=f"attention backend 'natten' {message}"):
        neighborhood_attention(q, q, q, rpb, 3, 1, backend="natten")


@pytest.mark.parametrize("fault", ("import torch.none", "assert False, 'not compiled with CUDA'"))
def test_a_broken_installation_is_none(fault, monkeypatch, tmp_path):
    """Versions built for another PyTorch fail on import."""
    (tmp_path / "natten.py").write_text(fault)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "natten", raising=False)
    forget(monkeypatch)
    assert not attention._available("natten")
