"""Neighbourhood attention on a GPU: the kernels of `triton_kernels` as PyTorch operators.

All head groups of a level share one launch; inputs are read in the layout of the linear layer
before them, and the output is written in that of the one after it. The backward pass saves inputs,
output and one number per query and head, and recomputes the attention weights; it has no derivative
of its own. No kernel adds atomically, so results are reproducible bit for bit.

Products of float32 follow `torch.set_float32_matmul_precision`: TF32 unless it is "highest". The
softmax and all sums are float32 whatever the inputs.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stylenat.models.attention import triton_kernels
from stylenat.models.attention.tables import head_table

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
MAX_HEAD_DIM = 128
MAX_SIDE = 1024  # for which the kernels' integer arithmetic is exact, see `triton_tiles.pixels`

# Side of a tile of queries or keys, and how many pixels of its box are taken at a time: small enough
# for several programs to share a multiprocessor, which hides the latency of loads better here, where
# loops are short, than prefetching would.
TILE = 8
BLOCK = 32
# Rows of partial sums of the bias gradient per head: enough programs to fill a large GPU.
PARTIAL_SUMS = 512


def limitation(q: Tensor, biased: bool) -> str | None:
    """What keeps this backend from serving these inputs; None if nothing does."""
    if q.dtype not in DTYPES:
        return f"computes in float32, bfloat16 and float16, not in {q.dtype}"
    if q.shape[-1] > MAX_HEAD_DIM:
        return f"takes heads of at most {MAX_HEAD_DIM} channels, not {q.shape[-1]}"
    if max(q.shape[2:4]) > MAX_SIDE:
        return f"takes maps of at most {MAX_SIDE} pixels a side, not {max(q.shape[2:4])}"
    return None


def attend(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rpb: Tensor | None,
    kernel_size: int,
    dilation: int,
    scale: float,
) -> Tensor:
    """Shapes and meaning as in `neighborhood_attention`, which checks them."""
    if scale <= 0:  # the kernels divide the bias by it, and add -inf to what they multiply by it
        q, scale = q * scale, 1.0
    bias = None if rpb is None else rpb.flatten()
    geometry = [q.shape[1]], [kernel_size], [dilation]
    table = head_table(*geometry).to(q.device)
    out: Tensor = _attention([q, k, v], bias, table, *geometry, scale)[0]
    return out


def attend_groups(
    qkv: Tensor,
    rpbs: Sequence[Tensor] | Sequence[None],
    heads: list[int],
    kernel_sizes: list[int],
    dilations: list[int],
    scale: float,
    table: Tensor | None = None,
) -> Tensor:
    """All groups of `hydra_attention` at once, of a qkv (3, batch, heads, height, width, D).

    ``table`` is what `head_table` gives of them, on the device, so that nothing is copied there.
    """
    tables = [rpb.flatten() for rpb in rpbs if rpb is not None]
    bias = torch.cat(tables) if tables else None
    if table is None:
        table = head_table(heads, kernel_sizes, dilations).to(qkv.device)
    out: Tensor = _attention([qkv], bias, table, heads, kernel_sizes, dilations, scale)[0]
    return out


# In the operators, `inputs` is [q, k, v] or, for their gradients to be one tensor as well, all three
# stacked; `bias` holds the groups' tables one after the other, `groups` is their `head_table`.


@torch.library.custom_op("stylenat::neighborhood_attention", mutates_args=())
def _attention(
    inputs: list[Tensor],
    bias: Tensor | None,
    groups: Tensor,
    heads: list[int],
    kernel_sizes: list[int],
    dilations: list[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The output, and of every query log2 of its softmax's denominator."""
    q, k, v = _queries_keys_values(inputs)
    out, lse = _empty_outputs(inputs, bias, groups, heads, kernel_sizes, dilations, scale)
    with torch.cuda.device_of(q):
        triton_kernels.forward[(q.shape[0] * q.shape[1] * _tiles(q, dilations),)](
            q, k, v, _over(bias, scale), groups, out, lse,
            *_sizes(q, dilations), *q.stride()[:4], scale,
            BIASED=bias is not None, **_options(q),
        )  # fmt: skip
    return out, lse


@torch.library.custom_op("stylenat::neighborhood_attention_backward", mutates_args=())
def _gradients(
    grad: Tensor,
    out: Tensor,
    lse: Tensor,
    inputs: list[Tensor],
    bias: Tensor | None,
    groups: Tensor,
    heads: list[int],
    kernel_sizes: list[int],
    dilations: list[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The gradients of q, k and v, stacked, and of every query grad·out."""
    q, k, v = _queries_keys_values(inputs)
    grad, out = _pixel_by_pixel(grad), _pixel_by_pixel(out)
    dqkv, delta = _empty_gradients(
        grad, out, lse, inputs, bias, groups, heads, kernel_sizes, dilations, scale
    )
    dq, dk, dv = dqkv.unbind()
    bias = _over(bias, scale)
    grid = (q.shape[0] * q.shape[1] * _tiles(q, dilations),)
    sizes = (*_sizes(q, dilations), *q.stride()[:4], *dq.stride()[:4], scale)
    with torch.cuda.device_of(q):
        triton_kernels.backward_queries[grid](
            q, k, v, bias, groups, out, lse, grad, dq, delta, *sizes,
            BIASED=bias is not None, **_options(q, "backward_queries"),
        )  # fmt: skip
        triton_kernels.backward_keys[grid](
            q, k, v, bias, groups, lse, delta, grad, dk, dv, *sizes,
            BIASED=bias is not None, **_options(q, "backward_keys"),
        )  # fmt: skip
    return dqkv, delta


@torch.library.custom_op("stylenat::neighborhood_attention_backward_bias", mutates_args=())
def _bias_gradient(
    grad: Tensor,
    delta: Tensor,
    lse: Tensor,
    inputs: list[Tensor],
    bias: Tensor,
    groups: Tensor,
    heads: list[int],
    kernel_sizes: list[int],
    dilations: list[int],
    scale: float,
) -> Tensor:
    """The gradient of bias."""
    q, k, v = _queries_keys_values(inputs)
    batch, all_heads, height, width, _ = q.shape
    options = _options(q, "backward_bias")
    # The largest box of keys that a tile has, in blocks.
    blocks = max(
        math.prod(min(TILE + kernel_size - 1, -(-side // dilation)) for side in (height, width))
        for kernel_size, dilation in zip(kernel_sizes, dilations, strict=True)
    )
    blocks = -(-blocks // options["BLOCK"])
    pieces = blocks * _tiles(q, dilations)
    # As many images are summed at once as leaves work for all programs.
    images = -(-batch // min(batch, -(-PARTIAL_SUMS // pieces)))
    work = pieces * -(-batch // images)
    partial = bias.new_zeros(min(work, PARTIAL_SUMS), len(bias), dtype=torch.float32)
    with torch.cuda.device_of(q):
        triton_kernels.backward_bias[(all_heads * len(partial),)](
            q, k, v, _over(bias, scale), groups, lse, delta, _pixel_by_pixel(grad), partial,
            batch, images, *_sizes(q, dilations), *q.stride()[:4],
            blocks, work, len(bias), scale, OFFSETS=64, **options,
        )  # fmt: skip
    return partial.sum(0).to(bias.dtype)


@_attention.register_fake
def _empty_outputs(
    inputs: list[Tensor],
    bias: Tensor | None,
    groups: Tensor,
    heads: list[int],
    kernel_sizes: list[int],
    dilations: list[int],
    scale: float,
) -> tuple[Tensor, Tensor]:
    batch, all_heads, height, width, channels = inputs[0].shape[-5:]
    out = inputs[0].new_empty(batch, height, width, all_heads, channels).permute(0, 3, 1, 2, 4)
    slots = max(d * d * -(-height // d) * -(-width // d) for d in dilations)
    return out, inputs[0].new_empty(batch, all_heads, slots, dtype=torch.float32)


@_gradients.register_fake
def _empty_gradients(
    grad: Tensor, out: Tensor, lse: Tensor, inputs: list[Tensor], *_: Any
) -> tuple[Tensor, Tensor]:
    batch, all_heads, height, width, channels = inputs[0].shape[-5:]
    dqkv = inputs[0].new_empty(batch, height, width, 3, all_heads, channels)
    return dqkv.permute(3, 0, 4, 1, 2, 5), torch.empty_like(lse)


@_bias_gradient.register_fake
def _empty_bias_gradient(
    grad: Tensor, delta: Tensor, lse: Tensor, inputs: list[Tensor], bias: Tensor, *_: Any
) -> Tensor:
    return torch.empty_like(bias)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    tensors, bias, groups, *ctx.arguments = inputs
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(bias, groups, *output, *tensors)


def _backward(ctx: Any, grad: Tensor, _: Tensor | None) -> tuple[Any, ...]:
    bias, groups, out, lse, *inputs = ctx.saved_tensors
    dqkv, delta = _gradients(grad, out, lse, inputs, bias, groups, *ctx.arguments)
    dbias = None
    if ctx.needs_input_grad[1]:
        dbias = _bias_gradient(grad, delta, lse, inputs, bias, groups, *ctx.arguments)
    return [dqkv] if len(inputs) == 1 else list(dqkv.unbind()), dbias, *[None] * 5


_attention.register_autograd(_backward, setup_context=_save)


def _queries_keys_values(inputs: list[Tensor]) -> tuple[Tensor, ...]:
    """q, k and v of the same strides, channels contiguous; copies only where they are not so."""
    tensors = inputs[0].unbind() if len(inputs) == 1 else inputs
    strides = {x.stride() for x in tensors}
    if len(strides) > 1 or tensors[0].stride(-1) != 1:
        tensors = [_pixel_by_pixel(x) for x in tensors]
    return tuple(tensors)


def _pixel_by_pixel(x: Tensor) -> Tensor:
    """With heads and channels of a pixel together, as linear layers need it."""
    return x.permute(0, 2, 3, 1, 4).contiguous().permute(0, 3, 1, 2, 4)


def _over(bias: Tensor | None, scale: float) -> Tensor | None:
    return None if bias is None else bias.float() / scale


def _tiles(q: Tensor, dilations: list[int]) -> int:
    """Tiles of one head of one image, where it has the most."""
    height, width = q.shape[2:4]
    return max(
        d * d * math.prod(-(-side // (d * TILE)) for side in (height, width)) for d in dilations
    )


def _sizes(q: Tensor, dilations: list[int]) -> tuple[int, ...]:
    """heads, tiles, height, width and slots of the kernels."""
    _, heads, height, width, _ = q.shape
    slots = max(d * d * -(-height // d) * -(-width // d) for d in dilations)
    return heads, _tiles(q, dilations), height, width, slots


def _options(q: Tensor, kernel: str = "forward", capability: int | None = None) -> dict[str, Any]:
    """Compile-time arguments of a kernel, on a GPU of this compute capability's first number, which
    is that of the device unless given."""
    if capability is None:
        capability = torch.cuda.get_device_capability(q.device)[0] if q.is_cuda else 0
    head_dim = q.shape[-1]
    # Three products of TF32 numbers are as exact as one of float32, and run on tensor cores.
    exact = q.dtype == torch.float32 and torch.get_float32_matmul_precision() == "highest"
    width = head_dim * q.element_size()  # of a pixel, in bytes
    # These take few registers by themselves: products read operands from shared memory.
    halves = q.element_size() == 2 and kernel != "backward_bias"
    slim = capability in (9, 10) and (halves or kernel == "forward")
    return {
        "HEAD_DIM": head_dim,
        "ALIGN": math.gcd(*q.stride()[:4], head_dim, 16),
        "PRECISION": "tf32x3" if exact else "tf32",
        "TILE": TILE,
        # The gradients of keys and values have the most to hold.
        "BLOCK": BLOCK // 2 if width > 256 or (exact and kernel == "backward_keys") else BLOCK,
        "num_warps": 4 if width <= 128 else 8,
        "num_stages": 1,
        # Registers of a thread, so that four programs share a multiprocessor, or three: the
        # assembler would take more, and the programs missing then hide less latency than it gains.
        "maxnreg": None if width > 128 or slim else 168 if exact else 128,
    }
