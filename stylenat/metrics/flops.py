"""Floating-point operations of a generator for one image, by formula.

One definition for all: a multiply-add is 2 operations, and only matrix products and convolutions
count (not norms, softmax, GELU, bilinear interpolation, biases). Attention counts pairs of a query
and a key that it attends to, whatever a backend computes beside them; so a number belongs to the
architecture, not to an implementation.
"""

from stylenat.blocks import BLOCKS
from stylenat.config import ModelConfig

FIR_TAPS = 4 * 4  # of the filter that doubles the image so far


def mapping_flops(config: ModelConfig) -> int:
    """From z to w."""
    return 2 * config.mapping_layers * config.style_dim**2


def synthesis_flops(config: ModelConfig) -> int:
    """From w to the image."""
    total = 0
    last = len(config.resolutions) - 1
    for level, side in enumerate(config.resolutions):
        total += 2 * _block_flops(config, level)  # two blocks per level
        after = min(2 * side, config.image_size)
        if level < last:
            total += 2 * after**2 * config.width(side) * config.width(after)  # to the next width
        total += 2 * after**2 * config.width(after) * 3  # colours
        if 0 < level < last:
            total += 2 * side**2 * 3 * FIR_TAPS
    return total


def _block_flops(config: ModelConfig, level: int) -> int:
    side = config.resolutions[level]
    pixels, channels = side**2, config.width(side)
    head_dim = channels // config.heads(side)
    styles = 2 * config.style_dim * 2 * channels  # two norms: gamma and beta
    projections = pixels * channels * (3 * channels + channels)
    pairs = sum(view.pairs for view in BLOCKS[config.block[level]].views(config, level))
    products = 2 * head_dim * pairs  # with the keys, and with the values
    mlp = 2 * pixels * channels * int(channels * config.mlp_ratio)
    return 2 * (styles + projections + products + mlp)
