"""NAT-Mini, a model of the field that was written for NATTEN 0.17 and before, on this PyTorch.

Hassani et al., "Neighborhood Attention Transformer", CVPR 2023 (arXiv 2204.07143), section 3.4:
built from its description, with random weights and without the drop of whole paths, which is for
training only. What is NATTEN's is the one import; `python docs/nat_mini.py` runs it.
"""

import time
from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from stylenat import natten

DEPTHS = (3, 4, 6, 5)  # blocks of each level
HEADS = (2, 4, 8, 16)
CHANNELS = 64  # of the first level; each level has twice as many as the one before
KERNEL_SIZE = 7
MLP_RATIO = 3


class Convolutions(nn.Module):
    """Overlapping 3x3 convolutions of stride 2, then a norm of the channels:
    (batch, height, width, channels[0]) → a map of half the side for each, of channels[-1]."""

    def __init__(self, channels: Sequence[int], bias: bool):
        super().__init__()
        layers = (nn.Conv2d(*pair, 3, 2, 1, bias=bias) for pair in pairwise(channels))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(channels[-1])

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.layers(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))


class Block(nn.Module):
    """Neighbourhood attention, then an MLP, each after a norm and added to its input."""

    def __init__(self, channels: int, heads: int, kernel_size: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(channels)
        self.attn = natten.NeighborhoodAttention2D(channels, heads, kernel_size, rel_pos_bias=True)
        self.norm2 = nn.LayerNorm(channels)
        wide = MLP_RATIO * channels
        self.mlp = nn.Sequential(nn.Linear(channels, wide), nn.GELU(), nn.Linear(wide, channels))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class NATMini(nn.Module):
    """Images (batch, 3, height, width) → logits (batch, classes).

    Sides are multiples of 32, and at least 32 * ``kernel_size``, so that the last map holds a
    window: 224 for the paper's kernel of 7.
    """

    def __init__(self, classes: int = 1000, kernel_size: int = KERNEL_SIZE):
        super().__init__()
        layers: list[nn.Module] = [Convolutions((3, CHANNELS // 2, CHANNELS), bias=True)]
        for level, (depth, heads) in enumerate(zip(DEPTHS, HEADS, strict=True)):
            channels = CHANNELS * 2**level
            if level:
                layers.append(Convolutions((channels // 2, channels), bias=False))
            layers += [Block(channels, heads, kernel_size) for _ in range(depth)]
        self.levels = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(channels)
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.levels(x.permute(0, 2, 3, 1))).mean((1, 2)))


if __name__ == "__main__":
    torch.manual_seed(0)
    model = NATMini().eval()
    parameters = sum(parameter.numel() for parameter in model.parameters())
    image = torch.randn(1, 3, 224, 224)
    with torch.inference_mode():
        model(image)  # the first time, tables are made
        start = time.perf_counter()
        logits = model(image)
    seconds = time.perf_counter() - start
    print(f"{parameters:,} parameters; {tuple(logits.shape)} logits in {seconds:.2f} s")
