"""Starting from what was trained before: here, with the reference, or with StyleSwin.

``continue`` takes everything, so that the run goes on as if it had never been interrupted;
``finetune`` takes the networks and the running average, and starts at step 0 with new optimisers.
"""

import logging
import re
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from stylenat import interop
from stylenat.config import StartConfig
from stylenat.errors import UserError
from stylenat.models import Discriminator, load_generator
from stylenat.training.checkpoint import ADA, NETWORKS, OPTIMIZERS, load_state, restore_optimizer
from stylenat.training.trainer import Trainer

log = logging.getLogger(__name__)

# The reference's names of the networks, by those in our states.
_REFERENCE = {"generator": "g", "discriminator": "d", "average": "g_ema"}
_LEVEL = re.compile(r"(from_rgbs|convs)\.(\d+)\.")


@dataclass(frozen=True)
class Source:
    """What a file holds, under the names of a state's tensors."""

    path: Path
    tensors: dict[str, Tensor]
    step: int | None

    def part(self, name: str) -> dict[str, Tensor]:
        """The tensors whose names begin so, without it."""
        return {
            key.removeprefix(f"{name}."): value
            for key, value in self.tensors.items()
            if key.startswith(f"{name}.")
        }


def start(trainer: Trainer, path: Path, config: StartConfig) -> None:
    """Fill the trainer from a file: a state or weights of ours, a checkpoint of the reference or of
    StyleSwin. What the file lacks is said in the log; what does not fit is a :class:`UserError`."""
    source = _read(path, trainer, config)
    for name, other in (("generator", "average"), ("average", "generator"), ("discriminator", "")):
        network = getattr(trainer, NETWORKS[name])
        found = source.part(name)
        if not found and other:
            found = source.part(other)
            log.warning("%s has no %s; its %s stands for it", path, name, other)
        if not found:
            log.warning("%s has no %s: it starts from its initial weights", path, name)
            continue
        _fill(network, found, f"{path}, {name}", config.missing == "initialise")
    if config.mode == "continue":
        _continue(trainer, source, config)
    log.info("%s from %s, now at step %d", config.mode, path, trainer.step)


def _continue(trainer: Trainer, source: Source, config: StartConfig) -> None:
    if source.step not in (None, config.step):
        raise UserError(
            f"{source.path} is at step {source.step}, training.start_from.step is {config.step}; "
            "set it to the step of the file."
        )
    for name in OPTIMIZERS:
        if source.part(f"{name}_optimizer"):
            restore_optimizer(trainer, name, source.tensors)
        else:
            log.warning(
                "%s has no optimiser of the %s: Adam's moments start at zero, so the first "
                "iterations differ from those of an uninterrupted run",
                *(source.path, name),
            )
    if trainer.ada:
        if ADA in source.tensors:
            trainer.ada.restore(source.tensors[ADA])
        else:
            log.warning("%s has no probability for ADA: it starts at 0", source.path)
    assert config.step is not None  # a run that is continued has it
    trainer.step = config.step


def _read(path: Path, trainer: Trainer, config: StartConfig) -> Source:
    if not path.exists():
        raise UserError(f"{path} does not exist; check training.start_from.")
    kind = _our_kind(path)
    if kind == "state":
        state = load_state(path)
        return Source(path, state.tensors, state.step)
    if kind == "weights":
        tensors = load_generator(path).state_dict()
        return Source(path, _named("average", tensors), None)
    return _from_reference(path, trainer, config)


def _our_kind(path: Path) -> str | None:
    """Whether a file of ours is a "state" or "weights"; None for other files."""
    try:
        with safe_open(path, framework="pt") as file:
            return "state" if "meta" in (file.metadata() or {}) else "weights"
    except (SafetensorError, OSError):
        return None


def _from_reference(path: Path, trainer: Trainer, config: StartConfig) -> Source:
    checkpoint = interop.read_checkpoint(path)
    # The file tells its model where it may differ from ours.
    model = None if config.missing == "initialise" else trainer.generator.config
    tensors: dict[str, Tensor] = {}
    for name, theirs in _REFERENCE.items():
        if theirs not in checkpoint.networks:
            continue
        if name == "discriminator":
            found = checkpoint.networks[theirs]
        else:
            found = interop.generator_from(checkpoint, theirs, model).state_dict()
        tensors |= _named(name, found)
    if config.mode == "continue":
        for name in OPTIMIZERS:
            if _REFERENCE[name] in checkpoint.networks:
                parameters = dict(getattr(trainer, name).named_parameters())
                found = interop.adam_from(checkpoint, _REFERENCE[name], parameters)
                tensors |= _named(f"{name}_optimizer", found)
    return Source(path, tensors, checkpoint.step)


def _fill(network: nn.Module, found: dict[str, Tensor], where: str, partly: bool) -> None:
    """Load ``found``; ``partly``: what is there and fits, the rest stays as it is."""
    own = network.state_dict()
    if partly and isinstance(network, Discriminator):
        found = _aligned(found, own)
    different = [key for key in own if key not in found or found[key].shape != own[key].shape]
    different += [key for key in found if key not in own]
    if different and not partly:
        raise UserError(f"{where}: {_difference(different[0], found, own)}.")
    new = [key for key in own if key in different]
    if new:
        log.info("%s: %d tensors are new: %s", where, len(new), ", ".join(new))
    network.load_state_dict(own | {key: found[key] for key in own if key not in different})


def _difference(key: str, found: dict[str, Tensor], own: dict[str, Tensor]) -> str:
    shapes = [list(tensors[key].shape) if key in tensors else "absent" for tensors in (found, own)]
    return (
        f"{key} is {shapes[0]} there and {shapes[1]} in this experiment; give the experiment the "
        "sizes and widths of that network, or take over what fits with mode: finetune and "
        "missing: initialise"
    )


def _aligned(found: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """A discriminator's tensors with its levels numbered as in ours, whose first is the finest."""

    def levels(tensors: dict[str, Tensor]) -> int:
        return max((int(match[2]) for match in map(_LEVEL.match, tensors) if match), default=0)

    shift = levels(own) - levels(found)
    return {
        _LEVEL.sub(lambda match: f"{match[1]}.{int(match[2]) + shift}.", key): value
        for key, value in found.items()
    }


def _named(name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    return {f"{name}.{key}": value for key, value in tensors.items()}
