"""The image tower of CLIP ViT-L/14 (Radford et al. 2021).

Keys are those of ``model.safetensors`` of openai/clip-vit-large-patch14, whose text tower is left
out. Images are resized to 224² by Pillow's bicubic filter, as CLIP's authors do it.
"""

from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenat.metrics.extractors.base import FeatureNetwork, Weights, resize_as_pillow

EPS = 1e-5  # of every layer norm
# What CLIP was trained with, for pixels from 0 to 1.
MEAN = (0.48145466, 0.4578275, 0.40821073)
STD = (0.26862954, 0.26130258, 0.27577711)


class Attention(nn.Module):
    """Every token attends to every token."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.q_proj, self.k_proj = nn.Linear(width, width), nn.Linear(width, width)
        self.v_proj, self.out_proj = nn.Linear(width, width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(2, (self.heads, -1)).transpose(1, 2)
            for layer in (self.q_proj, self.k_proj, self.v_proj)
        )
        x = F.scaled_dot_product_attention(q, k, v)
        out: Tensor = self.out_proj(x.transpose(1, 2).flatten(2))
        return out


class MLP(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.fc1 = nn.Linear(width, 4 * width)
        self.fc2 = nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.fc1(x)
        out: Tensor = self.fc2(x * torch.sigmoid(1.702 * x))  # CLIP's approximation of GELU
        return out


class Layer(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int):
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(width, EPS)
        self.self_attn = Attention(width, heads)
        self.layer_norm2 = nn.LayerNorm(width, EPS)
        self.mlp = MLP(width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        out: Tensor = x + self.mlp(self.layer_norm2(x))
        return out


class Embeddings(nn.Module):
    """The class token, then one token for each patch, with their positions."""

    def __init__(self, width: int, patch: int, patches: int):
        super().__init__()
        self.class_embedding = nn.Parameter(torch.empty(width))
        self.patch_embedding = nn.Conv2d(3, width, patch, patch, bias=False)
        self.position_embedding = nn.Embedding(1 + patches, width)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patch_embedding(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.class_embedding.expand(len(x), 1, -1), x], 1)
        return x + self.position_embedding.weight


class Encoder(nn.Module):
    def __init__(self, width: int, heads: int, depth: int):
        super().__init__()
        self.layers = nn.ModuleList(Layer(width, heads) for _ in range(depth))


class Tower(nn.Module):
    """Normalised images (B, 3, side, side) → the class token (B, width)."""

    def __init__(self, width: int, heads: int, depth: int, patch: int, side: int):
        super().__init__()
        self.embeddings = Embeddings(width, patch, (side // patch) ** 2)
        self.pre_layrnorm = nn.LayerNorm(width, EPS)  # spelt as in the published file
        self.encoder = Encoder(width, heads, depth)
        self.post_layernorm = nn.LayerNorm(width, EPS)

    def forward(self, x: Tensor) -> Tensor:
        x = self.pre_layrnorm(self.embeddings(x))
        for layer in self.encoder.layers:
            x = layer(x)
        token: Tensor = self.post_layernorm(x[:, 0])
        return token


class CLIP(FeatureNetwork):
    """The 768 features that are compared with texts, not scaled to length one.

    ``weights`` is a path or a state dict. Called with uint8 (B, 3, H, W) of any size.
    """

    dimension = 768
    width: ClassVar[int] = 1024
    depth: ClassVar[int] = 24
    heads: ClassVar[int] = 16
    patch: ClassVar[int] = 14
    side: ClassVar[int] = 224

    def __init__(self, weights: Weights):
        super().__init__()
        self.vision_model = Tower(self.width, self.heads, self.depth, self.patch, self.side)
        self.visual_projection = nn.Linear(self.width, self.dimension, bias=False)
        self.load_weights(weights)

    @staticmethod
    def unused(key: str) -> bool:
        return key.startswith(("text_", "logit_scale")) or key.endswith("position_ids")

    def features(self, pixels: Tensor) -> Tensor:
        x = resize_as_pillow(pixels, self.side) / 255
        mean, std = (x.new_tensor(values).view(3, 1, 1) for values in (MEAN, STD))
        features: Tensor = self.visual_projection(self.vision_model((x - mean) / std))
        return features
