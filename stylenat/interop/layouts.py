"""The reference's two sets of names for a generator's tensors.

Ours are those of the *current* layout (``attn.rpb.0``, ``attn.rpb.1``, …). The *published* layout
has two groups of heads at every level, ``attn.rpb0`` and ``attn.rpb1``; where the level has one
dilation they differ in nothing, and together they are our single group.
"""

import re
from collections.abc import Collection, Iterable

import torch
from torch import Tensor

# A bias table in either layout: (the block's tables, number)
TABLE = re.compile(r"(layers\.\d+\.blocks\.\d+\.attn\.rpb)\.?(\d+)")


def is_published(keys: Iterable[str]) -> bool:
    """Whether a state dict with these keys has the published layout."""
    return any(key.endswith(("attn.rpb0", "attn.rpb1")) for key in keys)


def to_published(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors under the names of the published layout."""
    result = {}
    for key, value in tensors.items():
        match = TABLE.fullmatch(key)
        if match is None:
            result[key] = value
        elif f"{match[1]}.1" in tensors:
            result[f"{match[1]}{match[2]}"] = value
        else:
            result[f"{match[1]}0"], result[f"{match[1]}1"] = value.tensor_split(2)
    return result


def from_published(tensors: dict[str, Tensor], keys: Collection[str]) -> dict[str, Tensor]:
    """The inverse: tensors of the published layout under our ``keys``."""
    result = {}
    for key in keys:
        match = TABLE.fullmatch(key)
        if match is None:
            result[key] = tensors[key]
        elif f"{match[1]}.1" in keys:
            result[key] = tensors[f"{match[1]}{match[2]}"]
        else:
            result[key] = torch.cat([tensors[f"{match[1]}0"], tensors[f"{match[1]}1"]])
    return result
