"""Kinds of attention: what each says of itself, and one of one's own."""

import torch
from torch import Tensor

from stylenat.blocks import BLOCKS
from stylenat.blocks.base import Block, View
from stylenat.blocks.hydra import HYDRA
from stylenat.metrics.flops import synthesis_flops
from stylenat.models import Generator
from stylenat.models.blocks import AttentionLayer
from stylenat.report.receptive import draw_receptive_fields
from stylenat.report.rows import model_name
from tests.tiny import experiment


class MeanOfNeighbours(AttentionLayer):
    """Every pixel is the mean of the 3 x 3 pixels around it, as far as they are on the map."""

    @classmethod
    def of(cls, config, level):
        return cls()

    def bias_tables(self):
        return ()

    def forward(self, x: Tensor) -> Tensor:
        planes = x.permute(0, 3, 1, 2)
        mean = torch.nn.functional.avg_pool2d(planes, 3, 1, 1, count_include_pad=False)
        return mean.permute(0, 2, 3, 1)


def three_by_three(config, level):
    side = config.resolutions[level]
    windows = [[p for p in (x - 1, x, x + 1) if 0 <= p < side] for x in range(side)]
    return [View(config.heads(side), "3×3", windows)]


def tiny(block):
    values = experiment().to_dict()["model"]
    return type(experiment().model)(**values | {"block": block})


def test_a_kind_of_ones_own_is_two_objects_and_a_line(monkeypatch):
    mean = Block(three_by_three, f"{__name__}:MeanOfNeighbours", at_4="mean", model="MeanGAN")
    monkeypatch.setitem(BLOCKS, "mean", mean)
    config = tiny("mean")
    generator = Generator(config)
    images = generator(torch.randn(2, config.style_dim))
    assert images.shape == (2, 3, config.image_size, config.image_size)
    assert {type(block.attn) for level in generator.layers for block in level.blocks} == {
        MeanOfNeighbours
    }
    assert model_name(config) == "MeanGAN"
    assert 0 < synthesis_flops(config) < synthesis_flops(tiny("full"))
    assert draw_receptive_fields(config).axes


def test_pairs_are_counted_over_both_axes():
    config = tiny("full")
    (everything,) = BLOCKS["full"].views(config, 1)
    assert everything.pairs == config.heads(8) * 8**4
    # Corners see 4 pixels, edges 6, the others 9.
    view = three_by_three(config, 1)[0]
    assert view.pairs == config.heads(8) * (4 * 4 + 24 * 6 + 36 * 9)


def test_names_of_generators():
    assert model_name(tiny("hydra")) == "StyleNAT"
    assert model_name(tiny("full")) == "full 4² to 16²"
    assert model_name(tiny(["full", "full", "hydra"])) == "full 4² to 8², hydra 16²"
    assert HYDRA.at_4 == "full"
