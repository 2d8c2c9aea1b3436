"""2-D neighbourhood attention with a relative position bias: one function, several backends."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from types import ModuleType

import torch
from torch import Tensor, nn

from stylenat.blocks.hydra import HeadGroup
from stylenat.models.attention.requirements import ATTENTION, faults, triton_fault
from stylenat.precision import without_autocast
from stylenat.torch_types import constant_result

# Each is a module with `attend(q, k, v, rpb, kernel_size, dilation, scale)`, which gets checked
# arguments; with `limitation(q, biased)` if it cannot serve all of them; and with `attend_groups`
# if it has a faster way than one `attend` per head group.
_NAMES = ("reference", "gathers", "tiles", "triton", "natten")
_chosen: str | None = None  # by `use_backend`


@constant_result
def available_backends() -> tuple[str, ...]:
    """Names of the backends that this installation can run."""
    return _available_backends()


@cache
def _available_backends() -> tuple[str, ...]:
    return tuple(name for name in _NAMES if _available(name))


def _available(name: str) -> bool:
    if name == "triton":
        # Triton's interpreter, for tests, runs the kernels on a CPU.
        interpreted = os.environ.get("TRITON_INTERPRET") == "1"
        return interpreted and find_spec("triton") is not None or triton_fault() is None
    if name == "natten":
        try:
            _module(name)
        except Exception:  # noqa: BLE001 - built for another PyTorch, it may fail in any way
            return False
    return True


def _module(name: str) -> ModuleType:
    # Not imported with this package, because not everyone has the libraries that some need.
    match name:
        case "triton":
            from stylenat.models.attention import triton_ops

            return triton_ops
        case "natten":
            from stylenat.models.attention import natten_ops

            return natten_ops
        case "gathers":
            from stylenat.models.attention import gathers

            return gathers
        case "tiles":
            from stylenat.models.attention import tiles

            return tiles
        case _:
            from stylenat.models.attention import reference

            return reference


def default_backend(device: torch.device | str, dtype: torch.dtype = torch.float32) -> str:
    """Name of the backend that is taken for tensors on `device` where none is named."""
    if _chosen is not None:
        return _chosen
    fused = dtype != torch.float64 and kernels_serve(ATTENTION, torch.device(device))
    return "triton" if fused else "tiles"


def kernels_serve(family: str, device: torch.device) -> bool:
    """Whether Triton's kernels of a family compute on `device` where nothing else is named: on a GPU,
    if they can run and no check before has found them wrong."""
    return device.type == "cuda" and "triton" in available_backends() and family not in faults


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Within, the backend `name` is the default for every device and dtype."""
    global _chosen
    _require_available(name)
    before, _chosen = _chosen, name
    try:
        yield
    finally:
        _chosen = before


def describe(device: torch.device | str) -> str:
    """One line for logs: the default backend on `device`, and what else there is."""
    others = [name for name in available_backends() if name != default_backend(device)]
    without = ""
    if torch.device(device).type == "cuda" and not kernels_serve(ATTENTION, torch.device(device)):
        reason = faults.get(ATTENTION) or triton_fault()
        without = f"; slower than need be: no Triton kernels, because {reason}"
    return (
        f"neighbourhood attention on {device}: {default_backend(device)} "
        f"(also available: {', '.join(others)}){without}"
    )


def neighborhood_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    rpb: Tensor | None,
    kernel_size: int,
    dilation: int,
    scale: float | None = None,
    backend: str | None = None,
) -> Tensor:
    """Attend from every pixel to the kernel_size² neighbours of its dilation class.

    Along an axis, pixel i belongs to the class i mod dilation and attends to a window of
    kernel_size consecutive members, centred on itself and shifted inwards at the borders; two
    dimensions are the product of both axes (Hassani et al., "Neighborhood Attention Transformer",
    CVPR 2023; Hassani and Shi, "Dilated Neighborhood Attention Transformer", 2022). The logits are
    scale * q·k + rpb[head, Δy + kernel_size - 1, Δx + kernel_size - 1], where Δ is key - query in
    class steps.

    Args:
        q, k, v: (batch, heads, height, width, head_dim), of any strides.
        rpb: relative position bias (heads, 2 * kernel_size - 1, 2 * kernel_size - 1), or None.
        kernel_size: odd.
        dilation: at least 1, and kernel_size * dilation no longer than either side.
        scale: of q·k; head_dim ** -0.5 where None.
        backend: one of `available_backends()`; `default_backend` of q's device where None.

    Returns:
        (batch, heads, height, width, head_dim), in q's dtype.
    """
    check_arguments(q, k, v, rpb, kernel_size, dilation)
    if scale is None:
        scale = q.shape[-1] ** -0.5
    module = _backend(backend, q, rpb is not None)
    with without_autocast(q.device):
        out: Tensor = module.attend(q, k, v, rpb, kernel_size, dilation, scale)
    return out


def hydra_attention(
    qkv: Tensor,
    rpbs: nn.ParameterList | Sequence[Tensor] | Sequence[None],
    groups: Sequence[HeadGroup],
    backend: str | None = None,
    table: Tensor | None = None,
) -> Tensor:
    """Neighbourhood attention of all head groups of a level, between its two linear layers.

    Args:
        qkv: (batch, height, width, 3 * channels); channels are ordered (q, k, v; head; head_dim),
            and heads belong to the groups in their order.
        rpbs: the relative position bias of each group, as in `neighborhood_attention`; either all
            or none of them are None.
        groups: number of heads, kernel size and dilation of each.
        backend: as in `neighborhood_attention`.
        table: the groups' `tables.head_table` on qkv's device, which a GPU backend otherwise makes
            anew, waiting for the copy.

    Returns:
        (batch, height, width, channels), in qkv's dtype.
    """
    heads = [group.heads for group in groups]
    qkv = qkv.unflatten(-1, (3, sum(heads), -1)).permute(3, 0, 4, 1, 2, 5)
    parts = qkv.split(heads, 2)
    for part, rpb, group in zip(parts, rpbs, groups, strict=True):
        q, k, v = part
        check_arguments(q, k, v, rpb, group.kernel_size, group.dilation)
    scale = qkv.shape[-1] ** -0.5
    module = _backend(backend, qkv[0], rpbs[0] is not None)
    if hasattr(module, "attend_groups"):
        kernel_sizes = [group.kernel_size for group in groups]
        dilations = [group.dilation for group in groups]
        with without_autocast(qkv.device):
            out: Tensor = module.attend_groups(
                qkv, rpbs, heads, kernel_sizes, dilations, scale, table
            )
        return out.permute(0, 2, 3, 1, 4).flatten(3)
    with without_autocast(qkv.device):
        outputs = [
            module.attend(*part, rpb, group.kernel_size, group.dilation, scale)
            for part, rpb, group in zip(parts, rpbs, groups, strict=True)
        ]
    # Backends put the heads of a pixel together, as the linear layer needs them.
    return torch.cat([out.permute(0, 2, 3, 1, 4) for out in outputs], 3).flatten(3)


def _require_available(name: str) -> None:
    if name not in available_backends():
        raise ValueError(
            f"attention backend {name!r} is not available here; "
            f"choose one of {', '.join(available_backends())}"
        )


def _backend(name: str | None, q: Tensor, biased: bool) -> ModuleType:
    """The named module, or the default one, if it can serve inputs like q."""
    if name is None:
        name = default_backend(q.device, q.dtype)
    _require_available(name)
    module = _module(name)
    limitation = module.limitation(q, biased) if hasattr(module, "limitation") else None
    if limitation:
        raise ValueError(f"attention backend {name!r} {limitation}")
    return module


def check_geometry(kernel_size: int, dilation: int) -> None:
    """Refuse, by a ValueError, what no map can be attended to with."""
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel size must be odd and positive, but is {kernel_size}")
    if dilation < 1:
        raise ValueError(f"dilation must be at least 1, but is {dilation}")


def check_arguments(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor | None, kernel_size: int, dilation: int
) -> None:
    """Refuse, by a ValueError, what `neighborhood_attention` says of its arguments and is not so."""
    if q.dim() != 5 or not q.shape == k.shape == v.shape:
        raise ValueError(
            "q, k and v must share one shape (batch, heads, height, width, head_dim), "
            f"but are {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    check_geometry(kernel_size, dilation)
    for side, length in (("height", q.shape[2]), ("width", q.shape[3])):
        if kernel_size * dilation > length:
            raise ValueError(
                f"kernel size {kernel_size} x dilation {dilation} = {kernel_size * dilation} "
                f"exceeds the {side} {length}; use a smaller kernel or dilation"
            )
    table = (q.shape[1], 2 * kernel_size - 1, 2 * kernel_size - 1)
    if rpb is not None and rpb.shape != table:
        raise ValueError(
            f"rpb must be (heads, 2 * kernel_size - 1, 2 * kernel_size - 1) = {table}, "
            f"but is {tuple(rpb.shape)}"
        )
