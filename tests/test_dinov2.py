"""DINOv2 against the same network written out in NumPy, and against Pillow's resizing."""

import numpy as np
import pytest
import torch
from PIL import Image
from scipy.special import erf

from stylenat.errors import UserError
from stylenat.metrics.extractors.base import resize_as_pillow
from stylenat.metrics.extractors.dinov2 import DINOv2
from tests.weights import normal

MEAN, STD = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])


class Tiny(DINOv2):
    """Two blocks, a 4 × 4 grid of patches, trained on 9 × 9."""

    dimension, depth, heads, patch, side, trained_grid = 12, 2, 3, 4, 16, 9


class TinyOfItsSize(Tiny):
    trained_grid = 4


def shapes(network: type[DINOv2]) -> dict[str, tuple[int, ...]]:
    """Keys and shapes of the published file, for a network of these dimensions."""
    d, patch = network.dimension, network.patch
    found = {
        "cls_token": (1, 1, d),
        "pos_embed": (1, 1 + network.trained_grid**2, d),
        "mask_token": (1, d),
        "patch_embed.proj.weight": (d, 3, patch, patch),
        "patch_embed.proj.bias": (d,),
        "norm.weight": (d,),
        "norm.bias": (d,),
    }
    for block in (f"blocks.{index}" for index in range(network.depth)):
        for name, width, inputs in (
            ("attn.qkv", 3 * d, d),
            ("attn.proj", d, d),
            ("mlp.fc1", 4 * d, d),
            ("mlp.fc2", d, 4 * d),
        ):
            found |= {f"{block}.{name}.weight": (width, inputs), f"{block}.{name}.bias": (width,)}
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            found[f"{block}.{name}"] = (d,)
        found |= {f"{block}.ls1.gamma": (d,), f"{block}.ls2.gamma": (d,)}
    return found


def weights(network: type[DINOv2]) -> dict[str, torch.Tensor]:
    return {key: 0.4 * normal(key, shape) for key, shape in shapes(network).items()}


def images(count: int, side: int) -> torch.Tensor:
    return (128 + 60 * normal(f"dinov2.{side}", (count, 3, side, side))).clamp(0, 255).byte()


def resized(image: torch.Tensor, side: int) -> np.ndarray:
    picture = Image.fromarray(image.permute(1, 2, 0).numpy())
    return np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC))


def cubic(x: np.ndarray) -> np.ndarray:
    """Keys' kernel with a = −0.75, which PyTorch uses where it does not antialias."""
    x, a = np.abs(x), -0.75
    near = (a + 2) * x**3 - (a + 3) * x**2 + 1
    far = a * (x**3 - 5 * x**2 + 8 * x - 4)
    return np.where(x <= 1, near, np.where(x < 2, far, 0))


def interpolation(grid: int, trained: int) -> np.ndarray:
    """(grid, trained): bicubic weights along one axis, edges repeated."""
    matrix = np.zeros((grid, trained))
    for row in range(grid):
        centre = (row + 0.5) * trained / (grid + 0.1) - 0.5
        for column in range(int(np.floor(centre)) - 1, int(np.floor(centre)) + 3):
            matrix[row, np.clip(column, 0, trained - 1)] += cubic(np.array(centre - column))
    return matrix


def written_out(network: type[DINOv2], image: torch.Tensor) -> np.ndarray:
    """The class token's features (dimension,) of one uint8 image (3, H, W), in float64."""
    w = {key: value.numpy().astype(float) for key, value in weights(network).items()}
    d, patch, grid = network.dimension, network.patch, network.side // network.patch

    def linear(x, name):
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    def norm(x, name):
        scaled = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-6)
        return scaled * w[f"{name}.weight"] + w[f"{name}.bias"]

    x = (resized(image, network.side) / 255 - MEAN) / STD
    x = x.reshape(grid, patch, grid, patch, 3).transpose(0, 2, 4, 1, 3).reshape(grid**2, -1)
    x = x @ w["patch_embed.proj.weight"].reshape(d, -1).T + w["patch_embed.proj.bias"]
    positions = w["pos_embed"][0]
    if grid != network.trained_grid:
        along = interpolation(grid, network.trained_grid)
        table = positions[1:].reshape(network.trained_grid, network.trained_grid, d)
        table = np.einsum("yi,xj,ijd->yxd", along, along, table).reshape(-1, d)
        positions = np.concatenate([positions[:1], table])
    x = np.concatenate([w["cls_token"][0], x]) + positions
    for block in (f"blocks.{index}" for index in range(network.depth)):
        qkv = linear(norm(x, f"{block}.norm1"), f"{block}.attn.qkv")
        heads = []
        for q, k, v in zip(
            *(np.split(part, network.heads, 1) for part in np.split(qkv, 3, 1)), strict=True
        ):
            attention = np.exp(q @ k.T / np.sqrt(d / network.heads))
            heads.append(attention / attention.sum(1, keepdims=True) @ v)
        y = linear(np.concatenate(heads, 1), f"{block}.attn.proj")
        x = x + y * w[f"{block}.ls1.gamma"]
        y = linear(norm(x, f"{block}.norm2"), f"{block}.mlp.fc1")
        y = linear(y * (1 + erf(y / np.sqrt(2))) / 2, f"{block}.mlp.fc2")
        x = x + y * w[f"{block}.ls2.gamma"]
    return norm(x[0], "norm")


@pytest.mark.parametrize("network", [Tiny, TinyOfItsSize])
@pytest.mark.parametrize("side", [16, 40, 9])
def test_features_equal_the_network_written_out(network, side):
    pixels = images(3, side)
    expected = np.stack([written_out(network, image) for image in pixels])
    found = network(weights(network))(pixels)
    assert found.shape == (3, 12) and expected.std() > 0.1
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_resizing_is_pillows():
    pixels = images(2, 40)
    found = resize_as_pillow(pixels.float(), 16).permute(0, 2, 3, 1).numpy()
    expected = np.stack([resized(image, 16) for image in pixels])
    # Pillow computes with integers, so an exact half may fall the other way.
    assert (found != expected).mean() < 0.01 and np.abs(found - expected).max() <= 1


def test_the_published_file_fits_key_by_key():
    with torch.device("meta"):
        network = DINOv2.__new__(DINOv2)
        expected = shapes(DINOv2)
        tensors = {key: torch.empty(shape) for key, shape in expected.items()}
        network.__init__(tensors)
    assert sum(value.numel() for value in network.state_dict().values()) == 304_367_616
    assert expected["pos_embed"] == (1, 1370, 1024)
    assert expected["blocks.23.mlp.fc1.weight"] == (4096, 1024)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"blocks.0.ls1.gamma": None}, "1 missing keys, such as blocks.0.ls1.gamma"),
        ({"register_tokens": torch.zeros(1, 4, 12)}, "1 unknown keys, such as register_tokens"),
        ({"pos_embed": torch.zeros(1, 17, 12)}, r"pos_embed is \(1, 17, 12\), not \(1, 82, 12\)"),
    ],
)
def test_other_weights_are_refused(change, message):
    tensors = {k: v for k, v in (weights(Tiny) | change).items() if v is not None}
    with pytest.raises(UserError, match=message):
        Tiny(tensors)
