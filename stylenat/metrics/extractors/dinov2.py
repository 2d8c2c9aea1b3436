"""DINOv2 ViT-L/14 (Oquab et al. 2023) for FD-DINOv2 (Stein et al. 2023).

Keys are those of ``dinov2_vitl14_pretrain.pth``. As in Stein et al., images are resized to 224²
by Pillow's bicubic filter, normalised by ImageNet's statistics, and the class token is the feature.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenat.images import from_uint8
from stylenat.metrics.extractors.base import FeatureNetwork, Weights, resize_as_pillow

EPS = 1e-6  # of every layer norm


class Attention(nn.Module):
    """Every token attends to every token."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.qkv = nn.Linear(width, 3 * width)
        self.proj = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        shape = (batch, tokens, 3, self.heads, width // self.heads)
        q, k, v = self.qkv(x).reshape(shape).permute(2, 0, 3, 1, 4)
        x = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.proj(x.transpose(1, 2).reshape(batch, tokens, width))
        return out


class MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.fc2(F.gelu(self.fc1(x)))
        return out


class LayerScale(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.empty(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Block(nn.Module):
    """Pre-norm transformer block, both branches scaled per channel."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.norm1 = nn.LayerNorm(width, EPS)
        self.attn = Attention(width, heads)
        self.ls1 = LayerScale(width)
        self.norm2 = nn.LayerNorm(width, EPS)
        self.mlp = MLP(width)
        self.ls2 = LayerScale(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.ls1(self.attn(self.norm1(x)))
        out: Tensor = x + self.ls2(self.mlp(self.norm2(x)))
        return out


class PatchEmbed(nn.Module):
    def __init__(self, width: int, patch: int):
        super().__init__()
        self.proj = nn.Conv2d(3, width, patch, patch)

    def forward(self, x: Tensor) -> Tensor:
        tokens: Tensor = self.proj(x).flatten(2).transpose(1, 2)
        return tokens


class DINOv2(FeatureNetwork):
    """The 1024 features of the class token.

    ``weights`` is a path or a state dict. Called with uint8 (B, 3, H, W) of any size.
    """

    dimension = 1024
    depth: ClassVar[int] = 24
    heads: ClassVar[int] = 16
    patch: ClassVar[int] = 14
    side: ClassVar[int] = 224
    trained_grid: ClassVar[int] = 37  # patches along a side of the 518² images it was trained on

    def __init__(self, weights: Weights):
        super().__init__()
        width = self.dimension
        self.cls_token = nn.Parameter(torch.empty(1, 1, width))
        self.pos_embed = nn.Parameter(torch.empty(1, 1 + self.trained_grid**2, width))
        self.patch_embed = PatchEmbed(width, self.patch)
        self.blocks = nn.ModuleList(Block(width, self.heads) for _ in range(self.depth))
        self.norm = nn.LayerNorm(width, EPS)
        self.load_weights(weights)

    @staticmethod
    def unused(key: str) -> bool:
        return key == "mask_token"  # for training

    def features(self, pixels: Tensor) -> Tensor:
        x = self.patch_embed(from_uint8(resize_as_pillow(pixels, self.side)))
        x = torch.cat([self.cls_token.expand(len(x), -1, -1), x], 1) + self._positions()
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.norm(x[:, 0])
        return features

    def _positions(self) -> Tensor:
        """The position embedding (1, 1 + patches, width) of the smaller grid, interpolated as the
        published network does: 0.1 is added to the grid before its scale is taken."""
        grid, trained = self.side // self.patch, self.trained_grid
        first, rest = self.pos_embed[:, :1], self.pos_embed[:, 1:]
        if grid == trained:
            return self.pos_embed
        rest = rest.view(1, trained, trained, -1).permute(0, 3, 1, 2)
        scale = (grid + 0.1) / trained
        rest = F.interpolate(rest, scale_factor=(scale, scale), mode="bicubic")
        return torch.cat([first, rest.flatten(2).transpose(1, 2)], 1)
