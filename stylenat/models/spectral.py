"""Spectral norm of many layers at once, and of several passes of a network in one.

A pass is a forward of the layers that begins with a power iteration. Passes that follow one another
with the same weights differ in σ alone, so they can share a batch: its parts, after the layer, are
multiplied by 1/σ of their passes.
"""

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.utils import spectral_norm

from stylenat.precision import products
from stylenat.torch_types import Function


class Normalised(nn.Module):
    """For types: a layer as :func:`with_norm` leaves it. Its output is to be multiplied by
    ``scale`` (passes,), which :func:`normalise` sets."""

    weight: Tensor
    weight_orig: nn.Parameter
    weight_u: Tensor
    weight_v: Tensor
    scale: Tensor


def with_norm(layer: nn.Module) -> nn.Module:
    """With parameters and buffers as :func:`torch.nn.utils.spectral_norm` makes them."""
    spectral_norm(layer)
    layer._forward_pre_hooks.clear()
    return layer


def normalise(layers: Sequence[Normalised], passes: int, which: slice = slice(None)) -> None:
    """Begin as many passes: set ``weight`` of each layer, divided by σ of the first pass, and
    ``scale``, that σ divided by those of ``which`` of the passes.

    In training, each pass begins with a power iteration.
    """
    ordered = sorted(layers, key=lambda layer: layer.weight_orig.shape)
    (scales, first, left, right), normalised = _iterate(ordered, passes)
    weights = [layer.weight_orig for layer in ordered]
    wanted = scales[which], first, left[which], right[which]
    scales, *normalised = DivideByNorms.apply(*wanted, *normalised, *weights)
    for layer, weight, scale in zip(ordered, normalised, scales.unbind(1), strict=True):
        trained = layer.weight_orig.requires_grad
        layer.weight = weight if trained else weight.detach()
        layer.scale = scale if trained else scale.detach()


@torch.no_grad()
def _iterate(layers: Sequence[Normalised], passes: int) -> tuple[tuple[Tensor, ...], list[Tensor]]:
    """For every pass and layer σ₁/σ, where σ = |W v|; 1/σ₁; the left and right vectors u = W v / σ
    and v, filled up with zeros. And the weights divided by σ₁.

    Layers of one shape follow each other. Products do not use TF32.
    """
    matrices = [layer.weight_orig.flatten(1) for layer in layers]
    rows, columns = (max(matrix.shape[axis] for matrix in matrices) for axis in (0, 1))
    left = matrices[0].new_zeros(1 + passes, len(layers), rows)
    right = matrices[0].new_zeros(passes, len(layers), columns)
    norms = matrices[0].new_empty(passes, len(layers), 1)

    def parts(vectors: Tensor, axis: int) -> list[Tensor]:
        return [vectors[n, : matrix.shape[axis]] for n, matrix in enumerate(matrices)]

    u, v = [layer.weight_u for layer in layers], [layer.weight_v for layer in layers]
    torch._foreach_copy_(parts(left[0], 0), u)
    stacks = []
    for (height, width), same in groupby(enumerate(matrices), lambda item: item[1].shape):
        numbers, alike = zip(*same, strict=True)
        which = slice(numbers[0], numbers[-1] + 1)
        stack = alike[0][None] if len(alike) == 1 else torch.stack(alike)
        stacks.append((stack, (which, slice(height)), (which, slice(width))))
    training = layers[0].training
    with products("float32", left.device):
        for number in range(passes):
            before, after, across = left[number], left[number + 1], right[number]
            if training:
                for stack, high, wide in stacks:
                    torch.bmm(stack.mT, before[high][..., None], out=across[wide][..., None])
                across /= torch.linalg.vector_norm(across, dim=1, keepdim=True)
            else:
                torch._foreach_copy_(parts(across, 1), v)
            for stack, high, wide in stacks:
                torch.bmm(stack, across[wide][..., None], out=after[high][..., None])
            torch.linalg.vector_norm(after, dim=1, keepdim=True, out=norms[number])
            after /= norms[number]
    if training:
        torch._foreach_copy_([*u, *v], [*parts(left[-1], 0), *parts(right[-1], 1)])
    first = norms[0].reciprocal()
    divided = [matrix for stack, high, _ in stacks for matrix in stack * first[high[0], :, None]]
    normalised = [x.view_as(layer.weight_orig) for x, layer in zip(divided, layers, strict=True)]
    return ((norms[0] / norms).squeeze(2), first, left[1:], right), normalised


class DivideByNorms(Function):
    """Of what :func:`_iterate` returns and the weights, σ₁/σ and the weights divided by σ₁.

    The gradient is that for fixed u and v (Miyato et al. 2018, equation 10), where σ's is u vᵀ, of
    layers whose outputs are multiplied by σ₁/σ: the derivatives with respect to σ₁ itself cancel.
    Differentiable once.
    """

    @staticmethod
    def forward(
        ctx: Any, scales: Tensor, first: Tensor, left: Tensor, right: Tensor, *weights: Tensor
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(scales, first, left, right)
        return scales, *weights[: len(first)]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_scales: Tensor, *grads: Tensor) -> tuple[Tensor | None, ...]:
        scales, first, left, right = ctx.saved_tensors
        left = left * (grad_scales * scales * scales)[..., None]
        gradients: list[Tensor | None] = []
        with products("float32", left.device):
            for number, grad in enumerate(grads):
                if not ctx.needs_input_grad[4 + len(grads) + number]:
                    gradients.append(None)
                    continue
                matrix = grad.flatten(1)
                u, v = left[:, number, : len(matrix)], right[:, number, : matrix.shape[1]]
                along = torch.addmm(matrix, u.T, v, alpha=-1)
                gradients.append(along.mul_(first[number]).view_as(grad))
        return *(None,) * (4 + len(grads)), *gradients
