"""NATTEN 0.17's interface for models that were written for it, on PyTorch alone.

NATTEN (https://natten.org) took the relative position bias, the CPU and the operators `na2d_qk` and
`na2d_av` out in its version 0.20. This package has them, with the names, arguments, layouts,
state-dict keys and arithmetic of version 0.17.5, in two dimensions; ``na2d`` and the layer are
computed by `stylenat.neighborhood_attention`. Either import it under the other name,

    from stylenat import natten

or, where the imports are somebody else's, call `install` before them.
"""

import sys

from stylenat.natten import context, functional
from stylenat.natten.context import (
    has_fused_na,
    is_fused_na_enabled,
    use_autotuner,
    use_fused_na,
    use_gemm_na,
    use_kv_parallelism_in_fused_na,
    use_tf32_in_gemm_na,
    use_tiled_na,
)
from stylenat.natten.functional import na2d, na2d_av, na2d_qk
from stylenat.natten.layer import NeighborhoodAttention2D

# The version whose interface this is, for models that compare it.
__version__ = "0.17.5+stylenat"

__all__ = [
    "NeighborhoodAttention2D",
    "context",
    "functional",
    "has_fused_na",
    "install",
    "is_fused_na_enabled",
    "na2d",
    "na2d_av",
    "na2d_qk",
    "use_autotuner",
    "use_fused_na",
    "use_gemm_na",
    "use_kv_parallelism_in_fused_na",
    "use_tf32_in_gemm_na",
    "use_tiled_na",
]


def install() -> None:
    """From now on ``import natten`` and ``from natten.functional import …`` mean this package.

    Raises:
        RuntimeError: NATTEN itself has been imported already, so some module may hold its functions.
    """
    ours = sys.modules[__name__]
    known = sys.modules.get("natten", ours)
    if known is not ours:
        version = getattr(known, "__version__", "of unknown version")
        raise RuntimeError(
            f"NATTEN {version} is imported already; call stylenat.natten.install() before "
            "anything that imports natten"
        )
    sys.modules["natten"] = ours
    # Without these, Python would load the files a second time under the other name.
    sys.modules["natten.context"] = context
    sys.modules["natten.functional"] = functional
