"""Augmentation in training, by ``training.augment``.

bCR's T is applied to copies, on which the discriminator has to agree with itself; DiffAugment and
ADA are applied to everything that the discriminator is shown, so G's gradient goes through them.
"""

from collections.abc import Callable

from torch import Tensor

from stylenat.training.augment import ada, bcr, diffaugment
from stylenat.training.distributed import World
from stylenat.training.noise import Purpose, stream

# Of images (B, 3, S, S), this rank's share of a batch or the given part of its share.
Augment = Callable[[Tensor, Purpose, slice], Tensor]

WHOLE = slice(None)
SHOWN = ("ada", "diffaugment")  # whose result is what the discriminator is shown


def augmentation(
    kind: str, seed: int, step: int, batch: int, world: World, p: float = 0.0
) -> Augment:
    """The augmentation of one iteration; independent for every purpose.

    ``batch`` is the total over all ranks; ``p`` is ADA's probability.
    """

    def augment(images: Tensor, purpose: Purpose, part: slice = WHOLE) -> Tensor:
        rng, side = stream(seed, step, purpose), images.shape[-1]
        if kind == "ada":
            return ada.apply(images, ada.draw(rng, batch, side, p)[world.share][part])
        draws = bcr.draw(rng, batch, side)
        share = {key: value[world.share][part] for key, value in draws.items()}
        apply = diffaugment.apply if kind == "diffaugment" else bcr.apply
        return apply(images, bcr.Draws(**world.all_to_device(share)))

    return augment
