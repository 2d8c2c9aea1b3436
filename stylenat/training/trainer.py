"""One iteration of StyleNAT's training: discriminator, R1, generator, running average.

The order of operations is the reference's (SPEC §3), down to the number and order of the
discriminator's forwards, because each one advances its spectral norms by a power iteration.
"""

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenat.config import TrainingConfig
from stylenat.models import Discriminator, Generator
from stylenat.training import schedule
from stylenat.training.augment import Augment
from stylenat.training.distributed import World
from stylenat.training.losses import discriminator_loss, generator_loss, r1_penalty


class Trainer:
    """Networks, optimisers and running average of one run, advanced an iteration at a time.

    ``average`` is the exponential moving average of the generator, what is sampled and evaluated.
    ``step`` counts finished iterations; learning rates are a function of it.
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        config: TrainingConfig,
        world: World | None = None,
    ):
        self.config = config
        self.world = world or World(0, 1, next(generator.parameters()).device)
        self.generator = generator.train()
        self.discriminator = discriminator.train()
        self.average = copy.deepcopy(generator).eval().requires_grad_(False)
        self.step = 0
        self.skipped = 0  # optimiser steps dropped in the iteration under way
        correction = schedule.lazy_correction(config)
        self.generator_lr = config.generator_lr
        self.discriminator_lr = config.discriminator_lr * correction
        self.generator_optimizer = _adam(generator, config.beta1, config.beta2)
        self.discriminator_optimizer = _adam(
            discriminator, config.beta1**correction, config.beta2**correction
        )
        self.optimizers = {
            self.generator: self.generator_optimizer,
            self.discriminator: self.discriminator_optimizer,
        }

    def iteration(
        self, reals: Tensor, z_d: Tensor, z_g: Tensor, augment: Augment
    ) -> dict[str, Tensor | float]:
        """Train on reals (B, 3, S, S), normalised, and the two networks' z (B, style_dim).

        ``augment`` is bCR's T, called first on the reals, then on the fakes. Returns scalars of
        this iteration: losses, logits, gradient norms, rates.
        """
        factor = schedule.lr_factor(self.config, self.step)
        _set_lr(self.discriminator_optimizer, self.discriminator_lr * factor)
        _set_lr(self.generator_optimizer, self.generator_lr * factor)
        record: dict[str, Tensor | float] = {
            "lr_d": self.discriminator_lr * factor,
            "lr_g": self.generator_lr * factor,
        }
        self.skipped = 0
        # Freezing the other network spares the gradients nobody uses.
        self.generator.requires_grad_(False)
        self.discriminator.requires_grad_(True)
        record |= self._discriminator_step(reals, z_d, augment)
        if self.step % self.config.r1_interval == 0:
            record |= self._r1_step(reals)
        self.discriminator.requires_grad_(False)
        self.generator.requires_grad_(True)
        record |= self._generator_step(z_g)
        self._update_average()
        self.step += 1
        return record | {"skipped": self.skipped}

    def _discriminator_step(self, reals: Tensor, z: Tensor, augment: Augment) -> dict[str, Tensor]:
        config, discriminator = self.config, self.discriminator
        fakes = self.generator(z)
        fake, real = discriminator(fakes), discriminator(reals)
        loss = discriminator_loss(real, fake)
        record = {"loss_d": loss.detach(), "d_real": real.mean(), "d_fake": fake.mean()}
        if config.bcr_weight > 0:
            # The reals' T is drawn before the fakes', but the fakes' forward comes first.
            augmented_reals = augment(reals)
            augmented_fakes = augment(fakes)
            bcr = F.mse_loss(discriminator(augmented_fakes), fake)
            bcr = bcr + F.mse_loss(discriminator(augmented_reals), real)
            loss = loss + config.bcr_weight * bcr
            record["bcr"] = bcr
        loss.backward()
        record["grad_norm_d"] = self._update(discriminator, config.gradient_clip)
        return {key: value.detach() for key, value in record.items()}

    def _r1_step(self, reals: Tensor) -> dict[str, Tensor]:
        config = self.config
        penalty = r1_penalty(self.discriminator, reals)
        (config.r1_gamma / 2 * config.r1_interval * penalty).backward()
        for parameter in self.discriminator.parameters():
            if parameter.grad is None:  # Adam must take the step with every parameter
                parameter.grad = torch.zeros_like(parameter)
        self._update(self.discriminator)
        return {"r1": penalty.detach()}

    def _generator_step(self, z: Tensor) -> dict[str, Tensor]:
        loss = generator_loss(self.discriminator(self.generator(z)))
        loss.backward()
        return {"loss_g": loss.detach(), "grad_norm_g": self._update(self.generator)}

    def _update(self, network: nn.Module, clip: float | None = None) -> Tensor:
        """One Adam step on the gradients averaged over the ranks; returns their norm.

        Gradients that are not finite are dropped, and the step counted in ``self.skipped``: the
        ranks agree without talking, because they see the same average.
        """
        parameters = list(network.parameters())
        self.world.average_(parameter.grad for parameter in parameters)
        norm = nn.utils.get_total_norm([parameter.grad for parameter in parameters])
        optimizer = self.optimizers[network]
        if torch.isfinite(norm):
            if clip is not None:
                nn.utils.clip_grads_with_norm_(parameters, clip, norm)
            optimizer.step()
        else:
            self.skipped += 1
        optimizer.zero_grad()
        return norm

    @torch.no_grad()
    def _update_average(self) -> None:
        torch._foreach_lerp_(
            list(self.average.parameters()),
            list(self.generator.parameters()),
            1 - schedule.ema_decay(self.config),
        )


def _adam(network: nn.Module, beta1: float, beta2: float) -> torch.optim.Adam:
    # The rate is set before every step; fused is the fastest form on CPUs and GPUs alike.
    return torch.optim.Adam(network.parameters(), lr=0.0, betas=(beta1, beta2), fused=True)


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = lr
