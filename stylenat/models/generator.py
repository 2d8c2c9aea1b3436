"""The StyleNAT generator (paper, section 3): style blocks on Hydra neighbourhood attention.

Feature maps are (B, H, W, C) throughout, because every layer but the resampling acts on the
channels of single pixels. Images are (B, 3, S, S). Parameter names are those of the reference's
current checkpoints.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from pkgutil import resolve_name
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from stylenat.blocks import BLOCKS
from stylenat.config import ModelConfig
from stylenat.models.blocks import AttentionLayer
from stylenat.models.cpu import PixelLinear, by_rows
from stylenat.models.instance_norm import InstanceNorm
from stylenat.models.layers import (
    LEAKY_GAIN,
    LEAKY_SLOPE,
    EqualLinear,
    Upsample,
    at_least_float32,
)

START_SIDE = 4  # of the constant input
MOST_NUMBERS = 2**31 - 1  # that bilinear upsampling on GPUs puts into one map of (B, H, W, C)


class PixelNorm(nn.Module):
    """Scale every z (B, D) to unit mean square."""

    def forward(self, z: Tensor) -> Tensor:
        return z * torch.rsqrt(z.square().mean(1, keepdim=True) + 1e-8)


class ConstantInput(nn.Module):
    """The learned 4² map every image starts from: (1, C, 4, 4), put out as (B, 4, 4, C)."""

    def __init__(self, channels: int):
        super().__init__()
        self.input = nn.Parameter(torch.randn(1, channels, START_SIDE, START_SIDE))

    def forward(self, batch: int) -> Tensor:
        return self.input.permute(0, 2, 3, 1).expand(batch, -1, -1, -1)


class AdaIN(nn.Module):
    """Adaptive instance norm: x (B, H, W, C), style (B, 2 C) → gamma * normalised x + beta.

    gamma and beta are the halves of the style, which is ``self.style(w)``, for all layers at once in
    training. Statistics are over the pixels, biased, eps 1e-5. Upstream does not add 1 to gamma.
    """

    def __init__(self, channels: int, style_dim: int):
        super().__init__()
        self.style = EqualLinear(style_dim, 2 * channels)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        return InstanceNorm.apply(at_least_float32(x), style)


class MLP(nn.Module):
    """Two linear layers around an exact (erf) GELU."""

    __call__: Callable[..., Tensor]

    def __init__(self, channels: int, ratio: float):
        super().__init__()
        hidden = int(channels * ratio)
        self.fc1 = PixelLinear(channels, hidden)
        self.fc2 = PixelLinear(hidden, channels)

    @by_rows
    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class StyleBlock(nn.Module):
    """Pre-norm transformer block whose norms carry the style."""

    def __init__(self, channels: int, attention: nn.Module, config: ModelConfig):
        super().__init__()
        self.norm1 = AdaIN(channels, config.style_dim)
        self.attn = attention
        self.norm2 = AdaIN(channels, config.style_dim)
        self.mlp = MLP(channels, config.mlp_ratio)

    def forward(self, x: Tensor, style1: Tensor, style2: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x, style1))
        return x + self.mlp(self.norm2(x, style2))


class SinusoidalEmbedding(nn.Module):
    """Sines and cosines of the pixel's column, then of its row, times a scale: a map
    (side, side, channels)."""

    __call__: Callable[..., Tensor]
    axis: Tensor

    def __init__(self, side: int, channels: int):
        super().__init__()
        frequencies = channels // 4
        rates = torch.exp(torch.arange(frequencies) * -(math.log(10000) / (frequencies - 1)))
        angles = torch.arange(1, side + 1)[:, None] * rates
        self.register_buffer("axis", torch.cat((angles.sin(), angles.cos()), 1), persistent=False)
        # Unused; checkpoints of the reference hold it.
        self.register_buffer("_float_tensor", torch.zeros(1))

    def forward(self, scale: Tensor) -> Tensor:
        side, half = self.axis.shape
        axis = scale * self.axis
        columns = axis[None, :, :].expand(side, side, half)
        rows = axis[:, None, :].expand(side, side, half)
        return torch.cat((columns, rows), -1)


def double(x: Tensor) -> Tensor:
    """Bilinear ×2: (B, H, W, C) → (B, 2H, 2W, C), as many images at once as PyTorch takes."""
    most = max(1, MOST_NUMBERS // (4 * x[0].numel()))
    images = x.permute(0, 3, 1, 2)
    parts = [
        F.interpolate(part, scale_factor=2, mode="bilinear", align_corners=False)
        for part in (images.split(most) if x.shape[0] > most else (images,))
    ]
    return (parts[0] if len(parts) == 1 else torch.cat(parts)).permute(0, 2, 3, 1)


class LevelUpsample(nn.Module):
    """To the next level: bilinear ×2, layer norm, linear to its width, scaled position embedding."""

    def __init__(self, inputs: int, outputs: int, side: int):
        super().__init__()
        self.alpha = nn.Parameter(torch.zeros(1))
        self.norm = nn.LayerNorm(inputs)
        self.reduction = PixelLinear(inputs, outputs, bias=False)
        self.sin_pos_embed = SinusoidalEmbedding(side, outputs)

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduction(self.norm(double(x)))
        return x + self.sin_pos_embed(self.alpha).to(x.dtype)


class Level(nn.Module):
    """Two style blocks at one resolution, then the way up (identity after the last)."""

    def __init__(self, config: ModelConfig, level: int):
        super().__init__()
        side = config.resolutions[level]
        channels = config.width(side)

        attention: type[AttentionLayer] = resolve_name(BLOCKS[config.block[level]].layer)
        self.blocks = nn.ModuleList(
            StyleBlock(channels, attention.of(config, level), config) for _ in range(2)
        )
        self.upsample = (
            LevelUpsample(channels, config.width(2 * side), 2 * side)
            if side < config.image_size
            else None
        )
        self.recompute = False

    def forward(self, x: Tensor, styles: Sequence[Tensor]) -> Tensor:
        """With the styles of all norms."""
        for block, *pair in zip(self.blocks, styles[::2], styles[1::2], strict=True):
            if self.recompute and x.requires_grad and torch.is_grad_enabled():
                # Nothing in a block is random, so no random state needs to be kept.
                x = checkpoint(block, x, *pair, use_reentrant=False, preserve_rng_state=False)
            else:
                x = block(x, *pair)
        if self.upsample is not None:
            x = self.upsample(x)
        return x


class ToRGB(nn.Module):
    """Add this level's colours (B, H, W, C) to the image so far (B, 3, H, W or H/2, W/2)."""

    def __init__(self, channels: int, upsample: bool):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1, 3, 1, 1))
        self.upsample = Upsample() if upsample else None
        self.conv = nn.Conv2d(channels, 3, 1)

    def forward(self, x: Tensor, skip: Tensor | None) -> Tensor:
        rgb = F.linear(x, self.conv.weight.flatten(1), self.conv.bias).permute(0, 3, 1, 2)
        rgb = rgb + self.bias
        if skip is None:
            return rgb
        return rgb + (skip if self.upsample is None else self.upsample(skip))


class Generator(nn.Module):
    """z (B, style_dim) → images (B, 3, S, S) in ImageNet-normalised units, not clipped.

    ``mapping`` and ``synthesis`` are its two halves; see :func:`stylenat.images.to_uint8`.
    """

    __call__: Callable[..., Tensor]
    mean_w: Tensor | None

    def __init__(self, config: ModelConfig):
        super().__init__()
        self.config = config
        layers = [
            EqualLinear(config.style_dim, config.style_dim, config.mapping_lr)
            for _ in range(config.mapping_layers)
        ]
        self.style = nn.Sequential(PixelNorm(), *layers)
        # Truncation's mean w (style_dim,) where a file of weights holds it; no part of the
        # reference's state dict. See :func:`stylenat.models.latents.mean_style`.
        self.register_buffer("mean_w", None, persistent=False)
        self.input = ConstantInput(config.width(START_SIDE))
        levels = range(len(config.resolutions))
        self.layers = nn.ModuleList(Level(config, level) for level in levels)
        # A level's colours are taken after its upsampling, so at the next level's width; the last
        # two work at the same side, hence no upsampling in the last.
        last = levels[-1]
        self.to_rgbs = nn.ModuleList(
            ToRGB(config.width(config.resolutions[min(level + 1, last)]), upsample=level < last)
            for level in levels
        )
        self.style_layers = [m.style for m in self.modules() if isinstance(m, AdaIN)]
        self.initialise(weight_std=0.02, rgb_gain=0.02, position_scale=0.0)

    def recompute_blocks(self, recompute: bool) -> None:
        """Whether to keep, of every style block, only its inputs for the backward pass, and compute
        the rest again there, with the same numbers: about a third more time, a fraction of the
        memory."""
        for module in self.modules():
            if isinstance(module, Level):
                module.recompute = recompute

    @torch.no_grad()
    def initialise(self, weight_std: float, rgb_gain: float, position_scale: float) -> None:
        """Draw the linear layers and bias tables from a truncated normal of ``weight_std``, the
        colours from a Xavier normal of ``rgb_gain``, and scale every position embedding by
        ``position_scale``; 0.02, 0.02 and 0 are the reference's choice."""
        for module in self.modules():
            match module:
                case nn.Linear():
                    nn.init.trunc_normal_(module.weight, std=weight_std)
                    if module.bias is not None:
                        nn.init.zeros_(module.bias)
                case nn.Conv2d():
                    assert module.bias is not None
                    nn.init.xavier_normal_(module.weight, gain=rgb_gain)
                    nn.init.zeros_(module.bias)
                case LevelUpsample():
                    nn.init.constant_(module.alpha, position_scale)
                case AttentionLayer():
                    for table in module.bias_tables():
                        nn.init.trunc_normal_(table, std=weight_std)

    def mapping(self, z: Tensor) -> Tensor:
        """z (B, style_dim) → w (B, style_dim)."""
        norm, *layers = cast(Iterator[Any], iter(self.style))
        # Of all layers at once; they are alike.
        scale, bias_scale = layers[0].weight_scale, layers[0].bias_scale
        weights = torch.stack([layer.weight for layer in layers]) * scale
        biases = torch.stack([layer.bias for layer in layers]) * bias_scale
        w: Tensor = norm(z)
        for weight, bias in zip(weights, biases, strict=True):
            w = F.leaky_relu(F.linear(w, weight) + bias, LEAKY_SLOPE) * LEAKY_GAIN
        return w

    def _styles(self, w: Tensor) -> Sequence[Tensor]:
        """For every norm (B, 2 C), of a w (B, style_dim) or one per block (B, latents, style_dim)."""
        layers = self.style_layers
        if w.ndim == 2 and self.training:
            weight = torch.cat([layer.weight for layer in layers])
            bias = torch.cat([layer.bias for layer in layers])
            styles = torch.addmm(bias, w, weight.T, alpha=layers[0].weight_scale)
            each: tuple[Tensor, ...] = styles.split([len(layer.bias) for layer in layers], 1)
            return each
        if w.ndim == 2:
            w = w[:, None].expand(-1, self.config.latents, -1)
        return [layer(w[:, number // 2]) for number, layer in enumerate(layers)]

    def synthesis(self, w: Tensor) -> Tensor:
        """w (B, style_dim), or one per block (B, latents, style_dim) → images (B, 3, S, S)."""
        styles = self._styles(w)
        x: Tensor = self.input(w.shape[0])
        image: Tensor | None = None
        for level, (layer, to_rgb) in enumerate(zip(self.layers, self.to_rgbs, strict=True)):
            x = layer(x, styles[4 * level : 4 * level + 4])
            image = to_rgb(x, image)
        assert image is not None
        return image

    def forward(self, z: Tensor) -> Tensor:
        return self.synthesis(self.mapping(z))
