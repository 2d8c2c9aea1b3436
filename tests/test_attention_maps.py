"""Attention maps: exact weights at their pixels, and the reference's mean-query map."""

import itertools

import pytest
import torch

from stylenat.config import ModelConfig
from stylenat.models import Generator
from stylenat.models.attention_maps import (
    mean_query_maps,
    neighbourhood_weights,
    record_attention,
)
from tests.weights import fill

# Three heads in two groups at 16²: unequal groups, and borders where windows shift inwards.
MODEL = {
    "image_size": 16, "channel_max": 24, "channel_base": 1024, "channel_multiplier": 1,
    "style_dim": 16, "mapping_layers": 1, "mapping_lr": 0.01, "min_heads": 3, "mlp_ratio": 1,
    "kernels": [[3], [5], [3, 5]], "dilations": [[1], [1], [1, 3]],
}  # fmt: skip


@pytest.fixture(scope="module", params=[True, False], ids=["bias", "no bias"])
def recorded(request):
    """Blocks of a network with large weights, and what each sent to its output projection."""
    generator = Generator(ModelConfig(**MODEL, relative_position_bias=request.param)).eval()
    generator.load_state_dict(fill(generator.state_dict()))
    combined = {}
    for level, block in itertools.product((1, 2), (0, 1)):
        projection = generator.layers[level].blocks[block].attn.proj

        def keep(_module, inputs, place=(level, block)):
            combined[place] = inputs[0][0]

        projection.register_forward_pre_hook(keep)
    w = generator.mapping(torch.randn(1, 16, generator=torch.Generator().manual_seed(0)))
    image, blocks = record_attention(generator, w)
    return generator, w, image, blocks, combined


def pixels(side: int):
    return itertools.product((0, 1, side // 2, side - 1), (0, side // 2 + 1, side - 2))


def test_the_network_is_left_as_it_was(recorded):
    generator, w, image, blocks, _ = recorded
    assert [(b.level, b.block, b.side) for b in blocks] == [
        (1, 0, 8), (1, 1, 8), (2, 0, 16), (2, 1, 16),
    ]  # fmt: skip
    hooked = [module for module in generator.modules() if module._forward_hooks]
    assert not hooked
    with torch.inference_mode():
        assert torch.equal(generator.synthesis(w), image)


def test_weights_are_a_distribution_over_the_neighbourhood(recorded):
    for block in recorded[3]:
        dilations = [group.dilation for group in block.groups for _ in range(group.heads)]
        sizes = [group.kernel_size for group in block.groups for _ in range(group.heads)]
        for y, x in pixels(block.side):
            maps = neighbourhood_weights(block, y, x)
            torch.testing.assert_close(maps.sum((1, 2)), torch.ones(3, dtype=torch.float64))
            for weights, size, dilation in zip(maps, sizes, dilations, strict=True):
                keys = weights.nonzero()
                assert len(keys) == size**2
                for query, axis in ((y, keys[:, 0]), (x, keys[:, 1])):
                    assert (axis % dilation == query % dilation).all()
                    members = torch.arange(query % dilation, block.side, dilation)
                    rank = int((members == query).nonzero())
                    first = min(max(rank - size // 2, 0), len(members) - size)
                    assert sorted(set(axis.tolist())) == members[first : first + size].tolist()


def test_the_weights_of_the_values_are_the_layers_output(recorded):
    """Against what the layer really computed, through whatever backend."""
    _, _, _, blocks, combined = recorded
    for block in blocks:
        assert neighbourhood_weights(block, 3, 5).max() > 2 / 25, "weights that tell keys apart"
        for y, x in pixels(block.side):
            maps = neighbourhood_weights(block, y, x)
            output = torch.einsum("hyx,hyxd->hd", maps, block.v).flatten()
            expected = combined[block.level, block.block][y, x].double()
            torch.testing.assert_close(output, expected, rtol=1e-4, atol=1e-5)


def test_the_mean_query_against_every_key(recorded):
    block = recorded[3][-1]
    maps = mean_query_maps(block)
    assert maps.shape == (3, 16, 16)
    expected = torch.stack([(block.q @ block.k[:, y, x, :, None].unsqueeze(1)).mean((1, 2, 3))
                            for y, x in ((0, 0), (7, 12))])  # fmt: skip
    torch.testing.assert_close(torch.stack((maps[:, 0, 0], maps[:, 7, 12])), expected)
