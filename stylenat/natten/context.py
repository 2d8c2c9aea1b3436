"""NATTEN's switches between its own kernels: accepted, so that models may set them, and without
effect, because there are no such kernels here. Models also ask for this module's existence to tell
NATTEN 0.17 from versions before it."""

from typing import Any


def _without_effect(*args: Any, **kwargs: Any) -> None:
    """Accept NATTEN's arguments, whatever they are, and change nothing."""


use_autotuner = _without_effect
use_fused_na = _without_effect
use_gemm_na = _without_effect
use_kv_parallelism_in_fused_na = _without_effect
use_tf32_in_gemm_na = _without_effect
use_tiled_na = _without_effect


def has_fused_na() -> bool:
    """True: `na2d` works on every device here, and is faster than `na2d_qk` and `na2d_av`."""
    return True


def is_fused_na_enabled() -> bool:
    """True, as for `has_fused_na`."""
    return True


# What versions before 0.20 called the same.
has_fna, is_fna_enabled, use_fna = has_fused_na, is_fused_na_enabled, use_fused_na
