"""Convolutions with fixed filters: PyTorch's values and derivatives of any order, but no gradient
for the filter."""

import pytest
import torch
import torch.nn.functional as F

from stylenat.models.layers import fixed_conv, fixed_conv_transpose
from tests.weights import normal

# Stride, padding, side: with and without rows that the filter does not reach.
CASES = [(1, 2, 6), (2, 1, 8), (2, 0, 9), (2, 0, 8)]
PAIRS = {
    "conv": (fixed_conv, F.conv2d),
    "transposed": (fixed_conv_transpose, F.conv_transpose2d),
}


@pytest.fixture(params=PAIRS)
def pair(request):
    return PAIRS[request.param]


@pytest.mark.parametrize("stride, padding, side", CASES)
def test_values_and_both_derivatives_are_those_of_pytorch(pair, stride, padding, side):
    weight = normal("w", (3, 1, 4, 4))

    def derivatives(convolve) -> list[torch.Tensor]:
        x = normal("x", (2, 3, side, side)).requires_grad_()
        y = convolve(x, weight, stride=stride, padding=padding, groups=3)
        (dx,) = torch.autograd.grad(y.pow(3).sum(), x, create_graph=True)
        (ddx,) = torch.autograd.grad(dx.square().sum(), x)
        return [y, dx, ddx]

    ours, theirs = pair
    for a, b in zip(derivatives(ours), derivatives(theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("stride, padding, side", CASES)
def test_derivatives_pass_finite_differences(pair, stride, padding, side):
    weight = normal("w", (2, 1, 4, 4)).double()
    x = normal("x", (1, 2, side, side)).double().requires_grad_()

    def convolve(x: torch.Tensor) -> torch.Tensor:
        return pair[0](x, weight, stride, padding, 2)

    assert torch.autograd.gradcheck(convolve, x)
    assert torch.autograd.gradgradcheck(convolve, x)
