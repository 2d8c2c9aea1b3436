"""Augmentation in training, by ``training.augment``.

bCR's T is applied to copies, on which the discriminator has to agree with itself; DiffAugment and
ADA are applied to everything that the discriminator is shown, so G's gradient goes through them.
"""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor

from stylenat.training.augment import ada, bcr, diffaugment
from stylenat.training.distributed import World
from stylenat.training.noise import Purpose, stream

# Of images (B, 3, S, S), this rank's share of a batch or the given part of its share.
Augment = Callable[[Tensor, Purpose, slice], Tensor]

WHOLE = slice(None)
SHOWN = ("ada", "diffaugment")  # whose result is what the discriminator is shown
BCR_PURPOSES = (Purpose.AUGMENT_REAL, Purpose.AUGMENT_FAKE)
# Of those whose draws do not depend on what was computed before.
PURPOSES = {"bcr": BCR_PURPOSES, "diffaugment": (*BCR_PURPOSES, Purpose.AUGMENT_GENERATED)}


@dataclass(frozen=True)
class Augmentation:
    """The augmentation of one iteration; independent for every purpose.

    ``batch`` is the total over all ranks; ``p`` is ADA's probability.
    """

    kind: str
    seed: int
    step: int
    batch: int
    world: World
    p: float = 0.0

    def __call__(self, images: Tensor, purpose: Purpose, part: slice = WHOLE) -> Tensor:
        side = images.shape[-1]
        if self.kind == "ada":
            draws = ada.draw(stream(self.seed, self.step, purpose), self.batch, side, self.p)
            return ada.apply(images, draws[self.world.share][part])
        return self._apply(images, self._draws(purpose, side), part)

    def kept(self, keep: Callable[[str, Tensor], Tensor], side: int) -> Augment:
        """The same for images of one side, drawn now, all draws being in the places that ``keep`` puts
        them; not for ADA."""
        draws = {
            purpose: {
                key: keep(f"{purpose.name} {key}", value)
                for key, value in self._draws(purpose, side).items()
            }
            for purpose in PURPOSES.get(self.kind, ())
        }
        return lambda images, purpose, part: self._apply(images, draws[purpose], part)

    def _draws(self, purpose: Purpose, side: int) -> dict[str, Tensor]:
        """Of bCR's T, for this rank's share, on its device."""
        draws = bcr.draw(stream(self.seed, self.step, purpose), self.batch, side)
        share = {key: value[self.world.share] for key, value in draws.items()}
        return self.world.all_to_device(share)

    def _apply(self, images: Tensor, draws: dict[str, Tensor], part: slice) -> Tensor:
        apply = diffaugment.apply if self.kind == "diffaugment" else bcr.apply
        return apply(images, bcr.Draws(**{key: value[part] for key, value in draws.items()}))
