"""How different two pictures look: distances of a feature network's maps, at several depths.

After Zhang et al., "The Unreasonable Effectiveness of Deep Features as a Perceptual Metric" (LPIPS), CVPR
2018 (arXiv 1801.03924), with all channels weighted alike: nobody's judgements were used to weight
them, so its values are not those of LPIPS, and those of two networks do not compare.
"""

import torch
from torch import Tensor, nn

from stylenat.metrics.extractors.base import FeatureNetwork
from stylenat.precision import products

# Maps that are compared, by network: the last of every size.
LAYERS = {
    "lite0": ("_blocks.0", "_blocks.2", "_blocks.4", "_blocks.7", "_blocks.10"),
    "inception": ("Conv2d_2b_3x3", "Conv2d_4a_3x3", "Mixed_5d", "Mixed_6e", "Mixed_7c"),
}


class PerceptualDistance(nn.Module):
    """Distance from one image: float32 (B, 3, H, W), pixels 0…255 → (B,), at least 0.

    At every layer, vectors of channels are scaled to length one, and the squares of their differences
    summed over channels, averaged over pixels and over layers. ``name`` is a key of :data:`LAYERS`.
    """

    def __init__(self, name: str, network: FeatureNetwork, image: Tensor):
        super().__init__()
        self.network, self.name = network, name
        self._found: list[Tensor] = []
        for layer in LAYERS[name]:
            network.get_submodule(layer).register_forward_hook(self._keep)
        with torch.no_grad():
            self._expected = self._maps(image)

    def forward(self, images: Tensor) -> Tensor:
        distances = [
            (found - expected).square().sum(1).mean((1, 2))
            for found, expected in zip(self._maps(images), self._expected, strict=True)
        ]
        return torch.stack(distances).mean(0)

    def _maps(self, pixels: Tensor) -> list[Tensor]:
        self._found = []
        with products("float32", pixels.device):
            self.network.features(pixels)
        found, self._found = self._found, []
        return [x / (x.square().sum(1, keepdim=True) + 1e-10).sqrt() for x in found]

    def _keep(self, layer: nn.Module, inputs: tuple[Tensor], output: Tensor) -> None:
        self._found.append(output)
