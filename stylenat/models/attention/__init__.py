"""2-D neighbourhood attention with a relative position bias: one function, several backends."""

from collections.abc import Callable

import torch
from torch import Tensor

from stylenat.models.attention import reference, tiles

# Each takes (q, k, v, rpb, kernel_size, dilation, scale), already checked.
_BACKENDS: dict[str, Callable[..., Tensor]] = {
    "reference": reference.attend,
    "tiles": tiles.attend,
}


def available_backends() -> tuple[str, ...]:
    """Names of the backends that this installation can run."""
    return tuple(_BACKENDS)


def default_backend(device: torch.device | str) -> str:
    """Name of the backend that `neighborhood_attention` takes for tensors on `device`."""
    return "tiles"


def describe(device: torch.device | str) -> str:
    """One line for logs: the default backend on `device`, and what else there is."""
    others = [name for name in _BACKENDS if name != default_backend(device)]
    return (
        f"neighbourhood attention on {device}: {default_backend(device)} "
        f"(also available: {', '.join(others)})"
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
    _check(q, k, v, rpb, kernel_size, dilation)
    if scale is None:
        scale = q.shape[-1] ** -0.5
    name = default_backend(q.device) if backend is None else backend
    if name not in _BACKENDS:
        raise ValueError(
            f"attention backend {name!r} is not available here; "
            f"choose one of {', '.join(_BACKENDS)}"
        )
    return _BACKENDS[name](q, k, v, rpb, kernel_size, dilation, scale)


def _check(
    q: Tensor, k: Tensor, v: Tensor, rpb: Tensor | None, kernel_size: int, dilation: int
) -> None:
    if q.dim() != 5 or not q.shape == k.shape == v.shape:
        raise ValueError(
            "q, k and v must share one shape (batch, heads, height, width, head_dim), "
            f"but are {tuple(q.shape)}, {tuple(k.shape)} and {tuple(v.shape)}"
        )
    if kernel_size < 1 or kernel_size % 2 == 0:
        raise ValueError(f"kernel size must be odd and positive, but is {kernel_size}")
    if dilation < 1:
        raise ValueError(f"dilation must be at least 1, but is {dilation}")
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
