"""StyleNAT (arXiv 2211.05770) reproduced: networks, training, sampling and evaluation.

What is listed here is imported when it is first used, so that ``import stylenat`` costs nothing.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_MODULES = {
    "Discriminator": "stylenat.models",
    "Generator": "stylenat.models",
    "Inception": "stylenat.metrics.extractors",
    "ModelConfig": "stylenat.config",
    "Trainer": "stylenat.training",
    "fid": "stylenat.library",
    "frechet_distance": "stylenat.metrics.fid",
    "from_uint8": "stylenat.images",
    "generate": "stylenat.library",
    "kid": "stylenat.library",
    "load_generator": "stylenat.models",
    "neighborhood_attention": "stylenat.models.attention",
    "prdc": "stylenat.library",
    "to_uint8": "stylenat.images",
}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'stylenat' has no attribute {name!r}")
    return getattr(import_module(_MODULES[name]), name)


def __dir__() -> list[str]:
    return [*globals(), *_MODULES]
