"""CLIP's image tower against PyTorch's own transformer layers, after Pillow's resizing."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import save_file
from torch import nn

from stylenat.errors import UserError
from stylenat.metrics.extractors.clip import CLIP, MEAN, STD
from tests.weights import normal


class Tiny(CLIP):
    """Two layers of four heads on a 4 × 4 grid of patches."""

    dimension, width, depth, heads, patch, side = 6, 16, 2, 4, 4, 16


def shapes(network: type[CLIP]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the published file, of the image's tower."""
    d, tower = network.width, "vision_model"
    found = {
        f"{tower}.embeddings.class_embedding": (d,),
        f"{tower}.embeddings.patch_embedding.weight": (d, 3, network.patch, network.patch),
        f"{tower}.embeddings.position_embedding.weight": (
            1 + (network.side // network.patch) ** 2,
            d,
        ),
        "visual_projection.weight": (network.dimension, d),
    }
    for name in ("pre_layrnorm", "post_layernorm"):
        found |= {f"{tower}.{name}.weight": (d,), f"{tower}.{name}.bias": (d,)}
    for layer in (f"{tower}.encoder.layers.{index}" for index in range(network.depth)):
        for name, outputs, inputs in (
            *((f"self_attn.{part}_proj", d, d) for part in ("q", "k", "v", "out")),
            ("mlp.fc1", 4 * d, d),
            ("mlp.fc2", d, 4 * d),
        ):
            found |= {
                f"{layer}.{name}.weight": (outputs, inputs),
                f"{layer}.{name}.bias": (outputs,),
            }
        for name in ("layer_norm1", "layer_norm2"):
            found |= {f"{layer}.{name}.weight": (d,), f"{layer}.{name}.bias": (d,)}
    return found


@pytest.fixture(scope="module")
def weights():
    return {key: 0.4 * normal(key, shape) for key, shape in shapes(Tiny).items()}


def by_torch(weights: dict[str, torch.Tensor], images: torch.Tensor) -> torch.Tensor:
    """uint8 (B, 3, 40, 40) → (B, 6), in float64."""
    w = {key: value.double() for key, value in weights.items()}
    d, tower = Tiny.width, "vision_model"
    size = (Tiny.side, Tiny.side)
    resized = [
        np.asarray(Image.fromarray(image.permute(1, 2, 0).numpy()).resize(size, Image.BICUBIC))
        for image in images
    ]
    x = torch.from_numpy(((np.stack(resized) / 255 - MEAN) / STD).transpose(0, 3, 1, 2).copy())
    x = F.conv2d(x, w[f"{tower}.embeddings.patch_embedding.weight"], stride=Tiny.patch)
    first = w[f"{tower}.embeddings.class_embedding"].expand(len(x), 1, d)
    x = torch.cat([first, x.flatten(2).mT], 1)
    x = x + w[f"{tower}.embeddings.position_embedding.weight"]

    def norm(x, name):
        return F.layer_norm(x, (d,), w[f"{tower}.{name}.weight"], w[f"{tower}.{name}.bias"], 1e-5)

    x = norm(x, "pre_layrnorm")
    for index in range(Tiny.depth):
        key = f"{tower}.encoder.layers.{index}"
        layer = nn.TransformerEncoderLayer(
            d, Tiny.heads, 4 * d, 0.0, lambda y: y * torch.sigmoid(1.702 * y), 1e-5, True, True
        )
        state = {
            "self_attn.in_proj_weight": [f"self_attn.{p}_proj.weight" for p in "qkv"],
            "self_attn.in_proj_bias": [f"self_attn.{p}_proj.bias" for p in "qkv"],
        }
        for ours, theirs in (
            ("self_attn.out_proj", "self_attn.out_proj"),
            ("mlp.fc1", "linear1"),
            ("mlp.fc2", "linear2"),
            ("layer_norm1", "norm1"),
            ("layer_norm2", "norm2"),
        ):
            state |= {f"{theirs}.{kind}": [f"{ours}.{kind}"] for kind in ("weight", "bias")}
        layer.load_state_dict(
            {k: torch.cat([w[f"{key}.{part}"] for part in v]) for k, v in state.items()}
        )
        x = layer.double()(x)
    return norm(x[:, 0], "post_layernorm") @ w["visual_projection.weight"].T


def test_features_are_those_of_pytorchs_layers_and_pillows_resizing(weights, tmp_path):
    pixels = (128 + 60 * normal("clip", (3, 3, 40, 40))).clamp(0, 255).byte()
    with torch.no_grad():
        expected = by_torch(weights, pixels).float()
    assert expected.std() > 0.1
    # Pillow resizes with integers, so that an exact half may fall the other way.
    torch.testing.assert_close(Tiny(weights)(pixels), expected, rtol=0, atol=2e-2)
    small = pixels[:, :, :16, :16]
    torch.testing.assert_close(
        Tiny(weights)(small), by_torch(weights, small).detach().float(), rtol=0, atol=1e-5
    )
    # The published file has the other tower, too.
    other = {"text_model.final_layer_norm.bias": torch.ones(3), "logit_scale": torch.ones(())}
    save_file(weights | other, tmp_path / "clip.pth")
    torch.testing.assert_close(Tiny(tmp_path / "clip.pth")(pixels), Tiny(weights)(pixels))


def test_the_published_file_fits_key_by_key():
    with torch.device("meta"):
        network = CLIP({key: torch.empty(shape) for key, shape in shapes(CLIP).items()})
    assert sum(value.numel() for value in network.state_dict().values()) == 303_966_208


def test_a_truncated_safetensors_file_is_refused(weights, tmp_path):
    path = tmp_path / "clip.pth"
    save_file(weights, path)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"clip.pth is truncated or not a file of plain weights"):
        Tiny(path)
