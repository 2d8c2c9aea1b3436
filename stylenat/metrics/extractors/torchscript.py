"""Anybody's feature network as a TorchScript file, such as those that StyleGAN's authors published.

TorchScript is a language of its own, which PyTorch interprets: a file of it computes with tensors,
and cannot do what Python can.
"""

from pathlib import Path

import torch
from torch import Tensor

from stylenat.errors import UserError
from stylenat.io import brief, described
from stylenat.metrics.extractors.base import FeatureNetwork


class TorchScript(FeatureNetwork):
    """Takes float32 pixels 0…255 (B, 3, H, W), and resizes them itself if it needs a size, → (B, dimension).

    One that takes ``return_features`` is told to return features, as StyleGAN's networks are.
    """

    def __init__(self, weights: str | Path):
        super().__init__()
        try:
            self.network = torch.jit.load(weights, map_location="cpu")
        except Exception as error:  # whatever a damaged file provokes in the reader
            raise UserError(
                f"{weights} is not a TorchScript file ({described(weights)}); give what "
                "torch.jit.save wrote."
            ) from error
        self.eval().requires_grad_(False)
        arguments = {argument.name for argument in self.network.forward.schema.arguments}
        self.options = {"return_features": True} if "return_features" in arguments else {}
        try:
            shape = self(torch.zeros(1, 3, 64, 64, dtype=torch.uint8)).shape
        except Exception as error:  # whatever a script does with what it did not expect
            raise UserError(f"{weights} does not take images: {brief(error)}") from error
        if len(shape) != 2:
            raise UserError(f"{weights} makes {tuple(shape)} of an image, not a vector.")
        self.dimension = shape[1]

    def features(self, pixels: Tensor) -> Tensor:
        features: Tensor = self.network(pixels, **self.options)
        return features
