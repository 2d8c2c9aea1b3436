"""DiffAugment (Zhao et al. 2020): everything that the discriminator is shown is augmented.

Colour, translation and cut-out, in this order, with the draws of bCR's T but for its flip; on
images in [−1, 1], where the filling 0 is mid-grey.
"""

from torch import Tensor

from stylenat.images import from_signed, to_signed
from stylenat.training.augment.bcr import Draws, cut_out, recolour, translate


def apply(images: Tensor, draws: Draws) -> Tensor:
    """Augment ImageNet-normalised images (B, 3, S, S); twice differentiable."""
    x = recolour(to_signed(images), draws)
    return from_signed(cut_out(translate(x, draws), draws))
