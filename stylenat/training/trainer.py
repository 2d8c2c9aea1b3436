"""One iteration of StyleNAT's training: discriminator, R1, generator, running average.

The order of operations is the reference's, including the number and order of the
discriminator's passes, because each one advances its spectral norms by a power iteration.
"""

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import partial, reduce
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from stylenat.config import TrainingConfig
from stylenat.errors import UserError
from stylenat.models import Discriminator, Generator
from stylenat.precision import layers, products, resolve
from stylenat.training import schedule
from stylenat.training.augment import SHOWN, WHOLE, Augment, Augmentation
from stylenat.training.augment.ada import AdaptiveProbability
from stylenat.training.distributed import World
from stylenat.training.graphs import Graphs, Step
from stylenat.training.losses import discriminator_loss, generator_loss, r1_penalty
from stylenat.training.noise import Purpose

Record = dict[str, Tensor | float]  # scalars by name


class Trainer:
    """Networks, optimisers and running average of one run, advanced an iteration at a time.

    ``generator_ema`` is the exponential moving average of the generator, what is sampled and
    evaluated. ``step`` counts finished iterations; learning rates are a function of it. Where memory
    is short, this rank computes its share of the batch in parts of at most ``microbatch`` images; the
    discriminator, whose minibatch-stddev groups cannot be split, in parts of at least one group, those
    of fakes and reals apart if a group is more than ``microbatch``.
    ``precision`` is that of the networks' passes (:mod:`stylenat.precision`; ``auto``: by the
    device); losses, R1, optimisers and the average are float32. ``execution`` may be ``graph``: what
    an iteration launches on a GPU is recorded and played back (:mod:`stylenat.training.graphs`).
    """

    def __init__(
        self,
        generator: Generator,
        discriminator: Discriminator,
        config: TrainingConfig,
        world: World | None = None,
        microbatch: int | None = None,
        precision: str = "auto",
        execution: str = "eager",
    ):
        self.config = config
        self.world = world or World(0, 1, next(generator.parameters()).device)
        self.accumulation_steps = self.world.accumulation_steps(config.batch_size, microbatch)
        self.microbatch = microbatch
        # Which of the discriminator's passes are computed together: all, or, where its group is more
        # images than the generator computes at once, so that its own step takes the most memory,
        # those of fakes before those of reals, because no term of its loss is of both.
        part = self.world.check_batch(config.batch_size) // self.accumulation_steps
        apart = microbatch is not None and microbatch < part
        self.together = [slice(0, None, 2), slice(1, None, 2)] if apart else [slice(None)]
        self.precision = resolve(precision, self.world.device)
        self.generator = generator.train()
        self.discriminator = discriminator.train()
        self.generator_ema = copy.deepcopy(generator).eval().requires_grad_(False)
        self.generator.recompute_blocks(config.checkpoint_activations)
        # What is trained of each network; the rest of the discriminator is frozen (FreezeD).
        self.discriminator.requires_grad_(False)
        self.trained = {
            self.generator: list(generator.parameters()),
            self.discriminator: discriminator.trainable(config.freeze_discriminator),
        }
        self.step = 0
        # A GPU decides by itself whether to drop an optimiser step, so that the host, which would have to
        # wait for it, goes on launching.
        self.device_decides = self.world.device.type != "cpu"
        self.graphs = self._graphs() if execution == "graph" else None
        correction = schedule.lazy_correction(config)
        self.generator_lr = config.generator_lr
        self.discriminator_lr = config.discriminator_lr * correction
        self.generator_optimizer = self._adam(generator, config.beta1, config.beta2)
        self.discriminator_optimizer = self._adam(
            discriminator, config.beta1**correction, config.beta2**correction
        )
        self.optimizers = {
            self.generator: self.generator_optimizer,
            self.discriminator: self.discriminator_optimizer,
        }
        self.ada = None
        if config.augment == "ada":
            self.ada = AdaptiveProbability(
                config.ada_target, config.ada_images, config.batch_size, self.world.device
            )

    def iteration(self, reals: Tensor, z_d: Tensor, z_g: Tensor, augment: Augment) -> Record:
        """Train on reals (B, 3, S, S), normalised, and the two networks' z (B, style_dim).

        ``augment`` is bCR's T, or, with ADA and DiffAugment, what is done to all that the
        discriminator is shown. Returns scalars of this iteration, means over all ranks: losses,
        logits, gradient norms, rates. On a GPU nothing of it is read, so it may still be computed.
        """
        with products(self.precision, self.world.device):
            return self._iteration(reals, z_d, z_g, augment)

    def _iteration(self, reals: Tensor, z_d: Tensor, z_g: Tensor, augment: Augment) -> Record:
        factor = schedule.lr_factor(self.config, self.step)
        _set_lr(self.discriminator_optimizer, self.discriminator_lr * factor)
        _set_lr(self.generator_optimizer, self.generator_lr * factor)
        record: Record = {
            "lr_d": self.discriminator_lr * factor,
            "lr_g": self.generator_lr * factor,
            "skipped": 0,
        }
        if self.graphs:
            keep = self.graphs.keep
            reals, z_d, z_g = keep("reals", reals), keep("z_d", z_d), keep("z_g", z_g)
            assert isinstance(augment, Augmentation)
            augment = augment.kept(keep, reals.shape[-1])
        # Gradients of the other network would not be used.
        self._require_grad(self.generator, False)
        self._require_grad(self.discriminator, True)
        self._run(record, self._discriminator_step, reals, z_d, augment)
        if self.step % self.config.r1_interval == 0:
            self._run(record, self._r1_step, reals, augment)
        self._require_grad(self.discriminator, False)
        self._require_grad(self.generator, True)
        self._run(record, self._generator_step, z_g, augment)
        self._update_ema()
        if self.ada:
            record["augment_p"] = self.ada.state[0].clone()
            sign = record["sign_real"]
            assert isinstance(sign, Tensor)
            self.ada.update(sign, self.step)
        self.step += 1
        return record

    def _run(self, record: Record, step: Callable[..., Record], *inputs: Tensor | Augment) -> None:
        """Take one step of the iteration, and its scalars into the record."""
        work = partial(step, *inputs)
        # On a device all scalars are tensors.
        done = self.graphs(step.__name__, cast(Step, work)) if self.graphs else work()
        record |= done | {"skipped": record["skipped"] + done["skipped"]}

    def _discriminator_step(self, reals: Tensor, z: Tensor, augment: Augment) -> Record:
        config = self.config
        fakes = self._fakes(z)
        consistent = config.augment == "bcr" and config.bcr_weight > 0
        if consistent:
            # The reals' T is drawn before the fakes', but the fakes' forward comes first.
            augmented_reals = augment(reals, Purpose.AUGMENT_REAL, WHOLE)
            augmented_fakes = augment(fakes, Purpose.AUGMENT_FAKE, WHOLE)
        sums: dict[str, Any] = defaultdict(float)
        for part in self._parts():
            batches = [
                self._shown(fakes[part], augment, Purpose.AUGMENT_FAKE, part),
                self._shown(reals[part], augment, Purpose.AUGMENT_REAL, part),
            ]
            if consistent:
                batches += [augmented_fakes[part], augmented_reals[part]]
            for which in self._with_same_norms(self.together):
                kinds = ("fake", "real")[which]
                logits = self._discriminate(*batches, which=which)
                plain, augmented = dict(zip(kinds, logits, strict=False)), logits[len(kinds) :]
                loss = discriminator_loss(**plain)
                means = {"loss_d": loss} | {f"d_{kind}": x.mean() for kind, x in plain.items()}
                if self.ada and "real" in plain:
                    means["sign_real"] = plain["real"].sign().mean()
                if consistent:
                    bcr = reduce(torch.add, map(F.mse_loss, augmented, plain.values()))
                    loss = loss + config.bcr_weight * bcr
                    means["bcr"] = bcr
                (loss / self.accumulation_steps).backward()
                self._sum(sums, means)
        return self._update(self.discriminator, sums, "grad_norm_d", config.gradient_clip)

    def _r1_step(self, reals: Tensor, augment: Augment) -> Record:
        config = self.config
        sums: dict[str, Any] = defaultdict(float)
        for part in self._parts():

            def logits(images: Tensor, part: slice = part) -> Tensor:
                shown = self._shown(images, augment, Purpose.AUGMENT_REAL, part)
                return self.discriminator(shown)

            penalty = r1_penalty(logits, reals[part])
            (
                config.r1_gamma / 2 * config.r1_interval * penalty / self.accumulation_steps
            ).backward()
            self._sum(sums, {"r1": penalty})
        for parameter in self.trained[self.discriminator]:
            if parameter.grad is None:  # Adam must take the step with every parameter
                parameter.grad = torch.zeros_like(parameter)
        return self._update(self.discriminator, sums, "grad_norm_r1")

    def _generator_step(self, z: Tensor, augment: Augment) -> Record:
        sums: dict[str, Any] = defaultdict(float)
        for part in self._parts():
            pieces = self._pieces(z[part])
            # Of several, none of G's maps are kept while D runs, whose group they are.
            split = len(pieces) > 1
            fakes = self._fakes(z[part]).requires_grad_() if split else self._generate(z[part])
            shown = self._shown(fakes, augment, Purpose.AUGMENT_GENERATED, part)
            (fake,) = self._discriminate(shown)
            loss = generator_loss(fake)
            (loss / self.accumulation_steps).backward()
            self._sum(sums, {"loss_g": loss})
            if split:
                assert fakes.grad is not None
                for piece, gradient in zip(pieces, self._pieces(fakes.grad), strict=True):
                    self._generate(piece).backward(gradient)
        return self._update(self.generator, sums, "grad_norm_g")

    def _shown(self, images: Tensor, augment: Augment, purpose: Purpose, part: slice) -> Tensor:
        """What the discriminator is shown of images."""
        return augment(images, purpose, part) if self.config.augment in SHOWN else images

    def _require_grad(self, network: nn.Module, required: bool) -> None:
        for parameter in self.trained[network]:
            parameter.requires_grad_(required)

    def _generate(self, z: Tensor) -> Tensor:
        with layers(self.precision, self.world.device):
            return self.generator(z)

    @torch.no_grad()
    def _fakes(self, z: Tensor) -> Tensor:
        """G's images, without what its gradient needs."""
        return torch.cat([self._generate(piece) for piece in self._pieces(z)])

    def _pieces(self, batch: Tensor) -> tuple[Tensor, ...]:
        """Of as many images as G computes at once."""
        pieces: tuple[Tensor, ...] = batch.split(self.microbatch or len(batch))
        return pieces

    def _discriminate(self, *batches: Tensor, which: slice = slice(None)) -> tuple[Tensor, ...]:
        """Logits of ``which`` of the batches, computed together. The passes of all batches are one
        after the other."""
        wanted = batches[which]
        images = wanted[0] if len(wanted) == 1 else torch.cat(wanted)
        with layers(self.precision, self.world.device):
            return self.discriminator(images, len(batches), which).chunk(len(wanted))

    def _parts(self) -> Iterator[slice]:
        """Our share in :attr:`accumulation_steps` parts, whose gradients add up to those of the whole.

        Part m holds every ``accumulation_steps``-th sample, so that the minibatch-stddev groups are the same
        sets. A power iteration belongs to a forward of the batch, not of a part.
        """
        steps = self.accumulation_steps
        return self._with_same_norms([slice(n, None, steps) for n in range(steps)])

    def _with_same_norms(self, parts: Sequence[slice]) -> Iterator[slice]:
        """The parts, each of which finds the spectral norms as the first one did."""
        if len(parts) == 1:
            yield parts[0]
            return
        vectors = [
            buffer
            for name, buffer in self.discriminator.named_buffers()
            if name.endswith(("weight_u", "weight_v"))
        ]
        before = [vector.clone() for vector in vectors]
        for part in parts:
            torch._foreach_copy_(vectors, before)
            yield part

    def _sum(self, sums: dict[str, Tensor], means: dict[str, Tensor]) -> None:
        """Add one part's means to those of the share."""
        for name, value in means.items():
            sums[name] = sums[name] + value.detach() / self.accumulation_steps

    def _update(
        self,
        network: nn.Module,
        record: dict[str, Tensor],
        norm_name: str,
        clip: float | None = None,
    ) -> Record:
        """One Adam step on the gradients averaged over the ranks, and ``record`` likewise.

        Returns the record with the gradients' norm and ``skipped``. If the norm or a scalar of the
        record is not finite, the gradients are dropped and that is 1: the ranks reach the same
        decision, because they have the same averages.
        """
        parameters = self.trained[network]
        gradients = [it.grad for it in parameters if it.grad is not None]
        self.world.all_reduce_mean_([*gradients, *record.values()])
        norm = nn.utils.get_total_norm(gradients)
        optimizer = self.optimizers[network]
        finite = torch.isfinite(torch.stack([norm, *record.values()])).all()
        skipped: float | Tensor = 0.0
        if self.device_decides or finite:
            if clip is not None:
                nn.utils.clip_grads_with_norm_(parameters, clip, norm)
            if self.device_decides:
                # What a gradient scaler would set: where it is 1, the fused step changes nothing.
                skipped = finite.logical_not().float()
                optimizer.found_inf = skipped  # type: ignore[attr-defined]  # PyTorch's own way
            optimizer.step()
        else:
            skipped = 1.0
        optimizer.zero_grad()
        return {**record, norm_name: norm, "skipped": skipped}

    @torch.no_grad()
    def _update_ema(self) -> None:
        torch._foreach_lerp_(
            list(self.generator_ema.parameters()),
            list(self.generator.parameters()),
            1 - schedule.ema_decay(self.config, self.step),
        )

    def _graphs(self) -> Graphs:
        """Refuses what cannot be recorded."""
        if self.world.size > 1:
            raise UserError(
                "--execution graph records what one process launches, and here are "
                f"{self.world.size}; use eager."
            )
        if self.config.augment == "ada":
            raise UserError(
                "--execution graph needs the same operations in every iteration, and ADA augments "
                "another number of images in each; use eager."
            )
        names = ("_discriminator_step", "_r1_step", "_generator_step")
        return Graphs(names, self.world.device)

    def _adam(self, network: nn.Module, beta1: float, beta2: float) -> torch.optim.Adam:
        # The rate is set before every step; fused is the fastest form on CPUs and GPUs alike.
        betas, recorded = (beta1, beta2), self.graphs is not None
        adam = torch.optim.Adam(self.trained[network], 0.0, betas, fused=True, capturable=recorded)
        if recorded:
            adam.param_groups[0]["lr"] = torch.zeros((), device=self.world.device)
        return adam


def _set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(lr)
        else:
            group["lr"] = lr
