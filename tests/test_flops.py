"""FLOPs of a generator: by hand, and as an independent counter sees them run."""

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from stylenat.config import ModelConfig
from stylenat.metrics.flops import mapping_flops, synthesis_flops
from stylenat.models import Generator, attention, cpu
from tests.project import CONFIG

TINY = CONFIG["defaults"]["model"] | {
    "image_size": 16,
    "style_dim": 8,
    "mapping_layers": 3,
    "channel_max": 16,
    "channel_base": 128,
    "channel_multiplier": 1,
    "min_heads": 2,
    "mlp_ratio": 2,
    "kernels": [[3], [5], [3, 5]],
    "dilations": [[1], [1], [1, 2]],
}  # widths 16, 16, 8; two heads everywhere


def test_by_hand():
    config = ModelConfig(**TINY)
    assert mapping_flops(config) == 2 * 3 * 8 * 8

    def block(pixels, channels, pairs):
        styles = 2 * (8 * 2 * channels)
        qkv, proj = pixels * channels * 3 * channels, pixels * channels * channels
        mlp = 2 * (pixels * channels * 2 * channels)
        return styles + qkv + proj + mlp + 2 * pairs * (channels // 2)

    blocks = (
        block(16, 16, pairs=2 * 16 * 16)  # two heads: all with all
        + block(64, 16, pairs=2 * 64 * 25)  # kernel 5
        + block(256, 8, pairs=256 * 9 + 256 * 25)  # one head with kernel 3, one with 5
    )
    up = 64 * 16 * 16 + 256 * 16 * 8
    colours = (64 * 16 + 256 * 8 + 256 * 8) * 3
    filtered = 64 * 3 * 16  # the 8² image spread by 4 x 4 taps
    assert synthesis_flops(config) == 2 * (2 * blocks + up + colours + filtered)


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"block": ["full", "full", "hydra"]},
        {"block": "windows", "kernels": [[4], [4], [8]]},
    ],
    ids=["hydra", "full", "windows"],
)
def test_as_a_counter_sees_it(monkeypatch, change):
    """With attention that computes the attended pairs and no others, every product that runs."""
    monkeypatch.setattr(attention, "default_backend", lambda device, *_: "reference")
    config = ModelConfig(**(TINY | change))
    generator = Generator(config).eval().requires_grad_(False)
    z = torch.zeros(1, 8)

    def products(q, k, v, attn_mask=None, **_):
        return ((q @ k.mT) + attn_mask).softmax(-1) @ v

    monkeypatch.setattr(torch.nn.functional, "scaled_dot_product_attention", products)
    monkeypatch.setattr(cpu, "ONEDNN", None)  # the counter does not know its operation
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        generator(z)
    assert counter.get_total_flops() == mapping_flops(config) + synthesis_flops(config)
