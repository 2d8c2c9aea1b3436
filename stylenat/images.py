"""From network units (ImageNet-normalised) to pixels and back."""

import torch

# ImageNet statistics: what the published weights put out and what D sees.
MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)


def _channels(values: tuple[float, ...], like: torch.Tensor) -> torch.Tensor:
    if like.device.type == "cpu":
        return torch.tensor(values, dtype=like.dtype).view(1, 3, 1, 1)
    # Made there: a copy of memory that is not pinned waits for all that the device has to do.
    scalars = [torch.full((1, 1, 1), v, dtype=like.dtype, device=like.device) for v in values]
    return torch.stack(scalars, 1)


def to_uint8(x: torch.Tensor) -> torch.Tensor:
    """Network output (B, 3, H, W), ImageNet-normalised → uint8 (B, 3, H, W).

    ``floor(255 * clip(x * std + mean, 0, 1) + 0.5)``, computed in at least float32.
    """
    x = x.to(torch.promote_types(x.dtype, torch.float32))
    y = (x * _channels(STD, x) + _channels(MEAN, x)).clamp_(0, 1)
    return y.mul_(255).add_(0.5).floor_().to(torch.uint8)


def to_pixels(x: torch.Tensor) -> torch.Tensor:
    """ImageNet-normalised (B, 3, H, W) → the same colours with white at 255, neither clipped nor
    rounded: what gradients need."""
    return 255 * (x * _channels(STD, x) + _channels(MEAN, x))


def from_uint8(pixels: torch.Tensor, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    """uint8 (B, 3, H, W) → ImageNet-normalised (B, 3, H, W): what D is shown."""
    x = pixels.to(dtype) / 255
    return (x - _channels(MEAN, x)) / _channels(STD, x)


def to_signed(x: torch.Tensor) -> torch.Tensor:
    """ImageNet-normalised (B, 3, H, W) → the same colours in [−1, 1]."""
    return 2 * (x * _channels(STD, x) + _channels(MEAN, x)) - 1


def from_signed(x: torch.Tensor) -> torch.Tensor:
    """The inverse of :func:`to_signed`."""
    return ((x + 1) / 2 - _channels(MEAN, x)) / _channels(STD, x)
