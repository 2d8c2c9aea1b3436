"""What tests of neighbourhood attention share: inputs, outcomes, and random geometries."""

import zlib

import numpy as np
import torch
from hypothesis import strategies as st

from stylenat.blocks.hydra import HeadGroup
from stylenat.models.attention import neighborhood_attention


def normal(name: str, shape: tuple[int, ...]) -> torch.Tensor:
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return torch.from_numpy(generator.standard_normal(shape, dtype=np.float32).copy())


def example(shape, kernel_size, dtype=torch.float32):
    """q, k and v as views of what a linear layer puts out, a bias and the output's gradient."""
    batch, heads, height, width, head_dim = shape
    qkv = normal("qkv", (batch, height, width, 3, heads, head_dim)).to(dtype)
    rpb = normal("rpb", (heads, 2 * kernel_size - 1, 2 * kernel_size - 1))
    return *qkv.permute(3, 0, 4, 1, 2, 5), rpb, normal("grad", shape).to(dtype)


def outcome(q, k, v, rpb, grad, *arguments, **options):
    """Output and the gradients of q, k, v and, where there is one, rpb."""
    inputs = [x.detach().requires_grad_() for x in (q, k, v, rpb) if x is not None]
    out = neighborhood_attention(*inputs, *([None] if rpb is None else []), *arguments, **options)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)


def assert_equal(actual, expected, tolerance):
    for name, a, b in zip(("out", "dq", "dk", "dv", "drpb"), actual, expected, strict=False):
        torch.testing.assert_close(a, b, rtol=0, atol=tolerance, msg=lambda m, n=name: f"{n}: {m}")


def assert_close(actual, expected, tolerance):
    """As `assert_equal`, relative to the largest number of each (of zeros: absolute; a kernel of
    one pixel has no gradient of q and k), whatever dtype and device."""
    largest = [b.abs().max().item() or 1 for b in expected]
    assert_equal(
        [a.detach().cpu().double() / scale for a, scale in zip(actual, largest, strict=True)],
        [b.detach() / scale for b, scale in zip(expected, largest, strict=True)],
        tolerance,
    )


@st.composite
def geometries(draw, most: tuple[int, int, int] = (9, 4, 6)):
    """A shape (batch, heads, height, width, head_dim), a kernel size and a dilation. ``most`` are
    pixels by which sides exceed the shortest possible, the dilation, and batch times heads."""
    longer, most_dilation, maps = most
    kernel_size = draw(st.sampled_from((1, 3, 5, 7)))
    dilation = draw(st.integers(1, most_dilation if kernel_size < 7 else min(2, most_dilation)))
    sides = [kernel_size * dilation + draw(st.integers(0, longer)) for _ in range(2)]
    heads = draw(st.integers(1, min(3, maps)))
    batch = draw(st.integers(1, max(1, min(2, maps // heads))))
    return (batch, heads, *sides, draw(st.integers(1, 5))), kernel_size, dilation


# Uneven groups of different kernels and dilations, one of which fills the height: 5 x 2 = 10.
GROUPS = (HeadGroup(1, 3, 1), HeadGroup(2, 5, 2), HeadGroup(1, 3, 3))


def groups_outcome(attend, biased: bool = True, dtype: torch.dtype = torch.float64, device="cpu"):
    """Output and gradients of ``attend(qkv, tables)`` for `GROUPS`, on a slice of a larger tensor."""
    inputs = [normal("qkv", (1, 10, 11, 60)).to(dtype)[..., :48]]
    for group in GROUPS if biased else ():
        side = 2 * group.kernel_size - 1
        inputs.append(normal(f"rpb{side}", (group.heads, side, side)).to(dtype))
    inputs = [x.to(device).requires_grad_() for x in inputs]
    out = attend(inputs[0], inputs[1:] if biased else (None,) * len(GROUPS))
    grad = normal("grad", (1, 10, 11, 16)).to(device, dtype)
    return out.detach(), *torch.autograd.grad(out, inputs, grad)
