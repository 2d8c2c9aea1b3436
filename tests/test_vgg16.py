"""VGG-16 and TorchScript networks against the same computed layer by layer."""

import pytest
import torch
import torch.nn.functional as F

from stylenat.errors import UserError
from stylenat.images import from_uint8
from stylenat.metrics.extractors.base import resize_as_tf1
from stylenat.metrics.extractors.features import extractor
from stylenat.metrics.extractors.torchscript import TorchScript
from stylenat.metrics.extractors.vgg16 import VGG16
from tests.weights import normal

# Of the published file: the convolutions' numbers among the layers, and their channels.
CONVOLUTIONS = {
    0: (3, 64), 2: (64, 64), 5: (64, 128), 7: (128, 128), 10: (128, 256), 12: (256, 256),
    14: (256, 256), 17: (256, 512), 19: (512, 512), 21: (512, 512), 24: (512, 512), 26: (512, 512),
    28: (512, 512),
}  # fmt: skip


class Tiny(VGG16):
    """A 32nd of the channels."""

    dimension, side = 24, 64
    groups = ((2, 2), (4, 4), (8, 8, 8), (16, 16, 16), (16, 16, 16))


def shapes(part: int, hidden: int, map_side: int, classes: int) -> dict[str, tuple[int, ...]]:
    found = {}
    for layer, (inputs, outputs) in CONVOLUTIONS.items():
        inputs = inputs if inputs == 3 else inputs // part
        found[f"features.{layer}.weight"] = (outputs // part, inputs, 3, 3)
        found[f"features.{layer}.bias"] = (outputs // part,)
    for layer, inputs, outputs in (
        (0, 512 // part * map_side**2, hidden),
        (3, hidden, hidden),
        (6, hidden, classes),
    ):
        found[f"classifier.{layer}.weight"] = (outputs, inputs)
        found[f"classifier.{layer}.bias"] = (outputs,)
    return found


@pytest.fixture
def weights():
    """Scaled so that activations stay near one."""
    tensors = {}
    for key, shape in shapes(32, 24, 2, 10).items():
        fan = torch.Size(shape[1:]).numel()
        tensors[key] = normal(key, shape) * ((2 / fan) ** 0.5 if key.endswith("weight") else 0.1)
    return tensors


def images(count, side):
    return (128 + 60 * normal(f"vgg16.{side}", (count, 3, side, side))).clamp(0, 255).byte()


@pytest.mark.parametrize("side", [64, 40])
def test_features_equal_the_network_layer_by_layer(weights, side):
    pixels = images(3, side)
    x = from_uint8(resize_as_tf1(pixels.float(), 64))
    for layer in CONVOLUTIONS:
        x = F.relu(
            F.conv2d(
                x, weights[f"features.{layer}.weight"], weights[f"features.{layer}.bias"], padding=1
            )
        )
        if layer in (2, 7, 14, 21, 28):
            x = x.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).amax((3, 5))
    x = x.flatten(1)
    for layer in (0, 3):
        x = F.relu(
            x @ weights[f"classifier.{layer}.weight"].T + weights[f"classifier.{layer}.bias"]
        )
    assert x.std() > 0.1
    torch.testing.assert_close(Tiny(weights)(pixels), x, rtol=0, atol=1e-5)


def test_the_published_file_fits_key_by_key():
    expected = shapes(1, 4096, 7, 1000)
    with torch.device("meta"):
        network = VGG16({key: torch.empty(shape) for key, shape in expected.items()})
    assert sum(torch.Size(shape).numel() for shape in expected.values()) == 138_357_544
    assert {k: tuple(v.shape) for k, v in network.state_dict().items()} == {
        key: shape for key, shape in expected.items() if not key.startswith("classifier.6")
    }


# --------------------------------------------------------------------------------- TorchScript


class Means(torch.nn.Module):
    """Channel means, behind the classes unless features are asked for."""

    def __init__(self):
        super().__init__()
        self.head = torch.nn.Linear(3, 7)

    def forward(self, x: torch.Tensor, return_features: bool = False) -> torch.Tensor:
        x = x.mean((2, 3))
        return x if return_features else self.head(x)


class Flat(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(2.0))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.scale * x


def saved(path, module):
    torch.jit.script(module).save(path)
    return path


def test_a_torchscript_network_is_asked_for_its_features(tmp_path):
    network = extractor("torchscript", saved(tmp_path / "means.pt", Means()))
    pixels = images(4, 16)
    assert network.dimension == 3
    torch.testing.assert_close(
        torch.from_numpy(network(pixels)), pixels.float().mean((2, 3)), rtol=0, atol=1e-4
    )


def test_files_that_are_no_network_of_images_are_refused(tmp_path):
    torch.save({"scale": torch.ones(1)}, tmp_path / "weights.pt")
    with pytest.raises(UserError, match="weights.pt is not a TorchScript file"):
        TorchScript(tmp_path / "weights.pt")
    with pytest.raises(UserError, match=r"makes \(1, 3, 64, 64\) of an image, not a vector"):
        TorchScript(saved(tmp_path / "flat.pt", Flat()))
    with pytest.raises(UserError, match="does not take images: "):
        TorchScript(saved(tmp_path / "linear.pt", torch.nn.Linear(5, 2)))
