"""Weights made from names: any network can be filled without a file (see golden/*.layout.json).

A tensor is a function of its state-dict key: NumPy's PCG64, seeded with the key's CRC-32, gives
standard normal float32 values; a factor by kind of key keeps activations near unit variance.
"""

import json
import math
import re
import zlib
from collections import OrderedDict
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
# Shapes by key of published networks, in the order of their files.
LAYOUTS = json.loads((GOLDEN / "layouts.json").read_text())

# Filters and index tables: what a network computes itself is not filled.
COMPUTED = ("relative_position_index", ".kernel", ".ll", ".lh", ".hl", ".hh", "_float_tensor")


def normal(name: str, shape: tuple[int, ...]) -> Tensor:
    """Standard normal float32 of this shape, always the same for the same name."""
    generator = np.random.Generator(np.random.PCG64(zlib.crc32(name.encode())))
    return torch.from_numpy(generator.standard_normal(tuple(shape), dtype=np.float32))


def fill(state_dict: dict[str, Tensor], mapping_lr: float = 0.01) -> dict[str, Tensor]:
    """The same keys and shapes, filled from their names; computed buffers are kept."""
    return {
        key: value.clone() if key.endswith(COMPUTED) else _tensor(key, value.shape, mapping_lr)
        for key, value in state_dict.items()
    }


def golden_weights(name: str, network: str) -> OrderedDict:
    """A state dict of the golden networks, in the reference's own order."""
    layout = json.loads((GOLDEN / f"{name}.layout.json").read_text())[network]
    with np.load(GOLDEN / f"{name}.fixed.npz") as fixed:
        computed = {key: torch.from_numpy(fixed[key]) for key in fixed.files}
    empty = {
        key: computed.get(f"{network}.{key}", torch.zeros(shape)) for key, shape in layout.items()
    }
    return OrderedDict(fill(empty))


def _tensor(key: str, shape: torch.Size, mapping_lr: float) -> Tensor:
    x = normal(key, shape)
    if key.endswith("num_batches_tracked"):
        return torch.zeros(shape, dtype=torch.int64)
    if re.fullmatch(r"style\.\d+\.weight", key):  # mapping layers are scaled by their rate again
        return x / mapping_lr
    if re.fullmatch(r"style\.\d+\.bias", key):
        return 10 * x
    if key.endswith("style.weight") or key == "input.input":
        return x
    if ".rpb" in key or key.endswith("alpha"):
        return 0.5 * x
    if key.endswith("upsample.norm.weight"):
        return 1 + 0.1 * x
    if key.endswith(("weight_u", "weight_v")):
        return x / x.norm()
    if key.endswith(("bn.weight", "running_var")):
        return 1 + 0.2 * x.tanh()
    if key.endswith(("bias", "running_mean")):
        return 0.1 * x
    if key.startswith("to_rgbs"):
        gain = 0.3
    elif ".conv.weight" in key:  # followed by a ReLU
        gain = math.sqrt(2)
    else:
        gain = 1.0
    return x * gain / math.sqrt(math.prod(shape[1:]))
