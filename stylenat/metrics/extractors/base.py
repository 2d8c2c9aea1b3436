"""What every feature network has in common: uint8 images in, float32 features out."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import Tensor, nn

from stylenat.errors import UserError
from stylenat.io import described
from stylenat.precision import products

Weights = str | Path | Mapping[str, Tensor]


class FeatureNetwork(nn.Module, ABC):
    """Frozen network: uint8 (B, 3, H, W) on any device → float32 (B, dimension) on its own.

    Subclasses build their layers in ``__init__``, then call :meth:`load_weights`, and turn
    pixels 0…255 as float32 (B, 3, H, W) into features in :meth:`features`.
    """

    dimension: int

    def load_weights(self, weights: Weights) -> None:
        """Fill the network from a file or a state dict and freeze it.

        Every key must be there with its shape; keys listed by :meth:`unused` are left out.
        """
        source = "the state dict" if isinstance(weights, Mapping) else str(weights)
        tensors = weights if isinstance(weights, Mapping) else read_state_dict(weights)
        expected = self.state_dict()
        fault = _fault(expected, {k: v for k, v in tensors.items() if not self.unused(k)})
        if fault:
            raise UserError(
                f"{source} does not hold the weights of {type(self).__name__}: {fault}; "
                "give the file that config/config.yaml names under `weights`."
            )
        self.load_state_dict({key: tensors[key] for key in expected})
        self.eval().requires_grad_(False)

    @property
    def head(self) -> Tensor | None:
        """(classes, dimension): the classifier behind the features, if the network has one."""
        return None

    @staticmethod
    def unused(key: str) -> bool:
        """Whether a key of the weights file belongs to a part that is not computed here."""
        return False

    @abstractmethod
    def features(self, pixels: Tensor) -> Tensor:
        """float32 pixels 0…255 (B, 3, H, W) → features (B, dimension)."""

    @torch.inference_mode()
    def forward(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or images.ndim != 4 or images.shape[1] != 3:
            raise TypeError(
                f"expected uint8 (B, 3, H, W), got {images.dtype} {tuple(images.shape)}"
            )
        images = images.to(self.device)
        # Whatever the caller uses elsewhere: 10-bit mantissas move FID.
        with products("float32", self.device):
            return self.features(images.float())

    @property
    def device(self) -> torch.device:
        """Where the parameters are."""
        return next(self.parameters()).device


def resize_as_tf1(images: Tensor, side: int) -> Tensor:
    """Images float32 (B, C, H, W) → (B, C, side, side) as by TensorFlow 1's ``resize_bilinear``.

    Pixel i is read at i · size / side, so that an enlarged picture moves to the left and up, by less
    than half of one of its own pixels; nothing is antialiased.
    """
    for dim in (3, 2):
        size = images.shape[dim]
        place = torch.arange(side, dtype=torch.float32, device=images.device) * (size / side)
        low = place.long()
        weight = (place - low).view(-1, *[1] * (3 - dim))
        below = images.index_select(dim, low)
        above = images.index_select(dim, (low + 1).clamp(max=size - 1))
        images = below + (above - below) * weight
    return images


def resize_as_pillow(images: Tensor, side: int) -> Tensor:
    """Pixels 0…255 float32 (B, C, H, W) → (B, C, side, side) by Pillow's bicubic filter: antialiased,
    first the rows, then the columns, each to whole levels."""
    for size in ((images.shape[2], side), (side, side)):
        if images.shape[2:] != size:
            images = F.interpolate(images, size, mode="bicubic", antialias=True)
            images = images.round().clamp(0, 255)
    return images


def read_state_dict(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.pth`` or safetensors file; nothing in it is executed."""
    try:
        with open(path, "rb") as file:
            safe = file.read(9)[8:] == b"{"
        tensors = (
            load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
        )
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; fetch it with stylenat.steps.weights.") from None
    except Exception as error:  # whatever a damaged file provokes in the reader
        raise UserError(
            f"{path} is truncated or not a file of plain weights ({described(path)}); delete it and "
            "fetch it again."
        ) from error
    if not isinstance(tensors, dict) or not all(torch.is_tensor(v) for v in tensors.values()):
        raise UserError(f"{path} does not hold a state dict; give the file of plain weights.")
    return tensors


def _fault(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str | None:
    """The first way in which a state dict does not fit, or None."""
    missing = [key for key in expected if key not in found]
    extra = [key for key in found if key not in expected]
    for kind, keys in (("missing", missing), ("unknown", extra)):
        if keys:
            return f"{len(keys)} {kind} keys, such as {keys[0]}"
    for key, tensor in expected.items():
        if found[key].shape != tensor.shape:
            return f"{key} is {tuple(found[key].shape)}, not {tuple(tensor.shape)}"
    return None
