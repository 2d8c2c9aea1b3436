"""Neighbourhood attention by NATTEN's compiled operators, where that library is installed.

NATTEN 0.17 has a product of queries and keys with the relative position bias, and one of weights
and values, on CPUs and GPUs. From 0.20 on it has one fused operator for GPUs, without the bias.
"""

import natten
import torch
from natten import functional
from torch import Tensor

if natten.__name__ != "natten":
    raise ImportError("natten is not NATTEN here, but what stylenat.natten.install() put there")

FUSED = not hasattr(functional, "na2d_qk")


def limitation(q: Tensor, biased: bool) -> str | None:
    """What keeps this backend from serving these inputs; None if nothing does."""
    if FUSED and biased:
        return (
            f"has no relative position bias in version {natten.__version__} (0.17.5 was the last "
            "with one); use another backend, or train without the bias"
        )
    if FUSED and q.device.type != "cuda":
        return f"runs on GPUs only in version {natten.__version__}, not on {q.device.type}"
    if FUSED and q.dtype == torch.float64 or q.device.type == "cpu" and q.dtype.itemsize < 4:
        return f"does not compute in {q.dtype} on {q.device.type}"
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
    if FUSED:
        q, k, v = (x.permute(0, 2, 3, 1, 4) for x in (q, k, v))
        out: Tensor = natten.na2d(q, k, v, kernel_size=kernel_size, dilation=dilation, scale=scale)
        return out.permute(0, 3, 1, 2, 4)
    if rpb is not None:
        rpb = rpb.to(q.dtype)
    logits = functional.na2d_qk(scale * q, k, kernel_size=kernel_size, dilation=dilation, rpb=rpb)
    out = functional.na2d_av(logits.softmax(-1), v, kernel_size=kernel_size, dilation=dilation)
    return out
