"""What networks compute otherwise on CPUs, and what it gains in sampling.

Times as fast as without, on one and on two threads of an AMD EPYC (Zen 5, AVX-512), PyTorch 2.13:

=========================  ==============  =================
way                        demo, 8 images  FFHQ-256, 1 image
=========================  ==============  =================
linear layers by oneDNN    1.03, 0.99      1.56, 1.56
norms by their definition  1.30, 1.19      1.09, 1.09
=========================  ==============  =================

``python -m benchmarks.cpu`` measures them (benchmarks/results/cpu.md). The MLP by rows gains no time
(0.98 to 1.01 at commit b83f57b) but memory: at 256² with 8 images it takes 4.4 GB in place of 7.3.
"""

from collections.abc import Callable
from functools import wraps
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from stylenat.torch_types import Function

# oneDNN's linear layer, in builds of PyTorch that have it; what its compiler uses, too.
ONEDNN: Callable[..., Tensor] | None = getattr(torch.ops.mkldnn, "_linear_pointwise", None)

NUMBERS_AT_ONCE = 1 << 18  # of a map that is worked through by rows


class PixelLinear(nn.Linear):
    """Linear layer on every pixel of a map: (B, H, W, inputs) → (B, H, W, outputs).

    Outside training, on a CPU, by oneDNN: in float32 PyTorch has linear layers done by its BLAS,
    MKL, which uses half of some processors' vector width. Training keeps the roundings that the
    reference's numbers were recorded with: the first steps of Adam, which follow signs, enlarge
    others.
    """

    __call__: Callable[..., Tensor]

    def forward(self, x: Tensor) -> Tensor:
        if self.training or not _served(x):
            return super().forward(x)
        return OneDNNLinear.apply(x, self.weight, self.bias)


def _eager(x: Tensor) -> bool:
    """Whether x is on a CPU, and the operations on it neither compiled nor traced."""
    tracing = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return x.device.type == "cpu" and not (tracing or torch.compiler.is_compiling())


def _served(x: Tensor) -> bool:
    """Whether oneDNN's layer takes x as it is."""
    float32 = x.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")
    return ONEDNN is not None and float32 and _eager(x)


class OneDNNLinear(Function):
    """x (…, inputs), weight (outputs, inputs), bias (outputs,) or None → (…, outputs), float32.
    Differentiable once."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        assert ONEDNN is not None
        return ONEDNN(x, weight, bias, "none", [], "")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        of_x, of_weight, of_bias = ctx.needs_input_grad
        assert ONEDNN is not None
        dx = ONEDNN(grad, weight.T, None, "none", [], "") if of_x else None
        rows = grad.flatten(0, -2)
        dweight = rows.T @ x.flatten(0, -2) if of_weight else None
        return dx, dweight, rows.sum(0) if of_bias else None


def by_rows(forward: Callable[[Any, Tensor], Tensor]) -> Callable[[Any, Tensor], Tensor]:
    """A module's ``forward(x)`` on maps (B, H, W, C) that sees one pixel at a time: some rows at a
    time where a CPU records no gradients, so that what it makes on the way is small."""

    @wraps(forward)
    def on_rows(self: Any, x: Tensor) -> Tensor:
        if torch.is_grad_enabled() or not _eager(x):
            return forward(self, x)
        y = torch.empty_like(x)
        rows = max(1, NUMBERS_AT_ONCE // x[:, 0].numel())
        for source, target in zip(x.split(rows, 1), y.split(rows, 1), strict=True):
            target.copy_(forward(self, source))
        return y

    return on_rows


def normalise(
    x: Tensor, gamma: Tensor, beta: Tensor, epsilon: float
) -> tuple[Tensor, Tensor, Tensor]:
    """Instance norm by its definition, the squares being those of x - mean; ``var_mean`` takes
    longer on CPUs.

    x (B, H, W, C), gamma and beta (B, 1, 1, C) → the normalised x, the means, and the factors to
    unit variance (B, 1, 1, C).
    """
    mean = x.mean((1, 2), keepdim=True)
    centred = x - mean
    scale = torch.rsqrt(centred.square().mean((1, 2), keepdim=True) + epsilon)
    return torch.addcmul(beta, centred.mul_(scale), gamma), mean, scale
