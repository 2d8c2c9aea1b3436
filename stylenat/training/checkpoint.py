"""The state of a training run as one file: everything the next iteration depends on.

A safetensors file: networks, running average, both optimisers; its header says which experiment,
data set and step they belong to, and holds a digest of the tensors, so that a damaged file is
found out before it is trained on.
"""

import hashlib
import json
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from stylenat import runtime
from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.io import brief, described
from stylenat.models.weights import save_tensors
from stylenat.records import DataIdentity, Provenance, StateHeader
from stylenat.training.trainer import Trainer

# By the names that their tensors have in the file: the trainer's attributes.
NETWORKS = {
    "generator": "generator",
    "discriminator": "discriminator",
    "average": "generator_ema",
}
OPTIMIZERS = ("generator", "discriminator")
ADA = "ada"  # its probability and what decides on the next


@dataclass(frozen=True)
class State:
    """A state in memory: tensors by name on the CPU, and the header."""

    tensors: dict[str, Tensor]
    header: StateHeader
    path: Path | None = None  # the file it was read from

    @property
    def step(self) -> int:
        """Finished iterations."""
        return self.header.step


def capture(
    trainer: Trainer,
    experiment: ExperimentConfig,
    data: DataIdentity | None,
    parent: str | None = None,
) -> State:
    """A copy of the trainer's state, which training can go on beside; ``parent`` is the digest of the
    state that the segment started from."""
    tensors = {
        name: value.detach().to("cpu", copy=True).contiguous()
        for name, value in _tensors(trainer).items()
    }
    header = StateHeader(
        step=trainer.step,
        experiment=experiment.to_dict(),
        data=data,
        parent=parent,
        versions=runtime.versions(),
        commit=runtime.commit(),
    )
    return State(tensors, header)


def write_state(path: str | Path, state: State) -> None:
    """Write a state, with the digest of its tensors in the header."""
    header = state.header.model_copy(update={"digest": _digest(state.tensors)})
    save_tensors(path, state.tensors, "meta", header.to_dict())


def save_state(
    path: str | Path, trainer: Trainer, experiment: ExperimentConfig, data: DataIdentity | None
) -> None:
    """Write the trainer's state; arguments as for :func:`capture`."""
    write_state(path, capture(trainer, experiment, data))


def load_state(path: str | Path) -> State:
    """Read a state and check its digest; a missing or damaged file is a :class:`UserError`."""
    header, tensors = _read(path, with_tensors=True)
    if _digest(tensors) != header.digest:
        raise UserError(
            f"{path} is damaged: its tensors do not match their digest; "
            "delete it and rerun, training goes on from the state before it."
        )
    return State(tensors, header, Path(path))


def state_digest(path: str | Path) -> str | None:
    """The digest in a state's header, which tells states apart without reading their tensors."""
    return _read(path, with_tensors=False)[0].digest


def require_same(state: State, experiment: ExperimentConfig, data: DataIdentity | None) -> None:
    """Refuse, by name, a state of another experiment or data set."""
    trained = state.header.experiment
    with suppress(UserError):  # a record from before there was a key lacks it
        trained = ExperimentConfig.from_dict(trained).to_dict()
    compared: list[tuple[str, Any, Any]] = [("experiment", trained, experiment.to_dict())]
    if state.header.data is not None:  # the initial state has seen no data yet
        compared.append(("data", state.header.data.to_dict(), data and data.to_dict()))
    for key, found, wanted in compared:
        difference = _difference(key, *(json.loads(json.dumps(one)) for one in (found, wanted)))
        if difference:
            raise UserError(
                f"{state.path} (step {state.step}) was trained with another {difference}; give the "
                "changed experiment a name of its own, or delete that file to start over."
            )


def restore(trainer: Trainer, state: State) -> None:
    """Put a state into a trainer of the same experiment (see :func:`require_same`)."""
    for name, attribute in NETWORKS.items():
        network: nn.Module = getattr(trainer, attribute)
        prefix = f"{name}."
        network.load_state_dict(
            {k.removeprefix(prefix): v for k, v in state.tensors.items() if k.startswith(prefix)}
        )
    for name in OPTIMIZERS:
        restore_optimizer(trainer, name, state.tensors)
    if trainer.ada:
        trainer.ada.restore(state.tensors[ADA])
    trainer.step = state.step


def provenance(
    trainer: Trainer, experiment: ExperimentConfig, data: DataIdentity | None
) -> Provenance:
    """What a snapshot says of its origin, in the header of its safetensors file."""
    return Provenance(
        experiment=experiment.to_dict(),
        step=trainer.step,
        images_seen=trainer.step * experiment.training.batch_size,
        data=data,
        precision=trainer.precision if trainer.step else None,
        versions=runtime.versions(),
        commit=runtime.commit(),
    )


def _read(path: str | Path, with_tensors: bool) -> tuple[StateHeader, dict[str, Tensor]]:
    remedy = "delete it and rerun, training goes on from the state before it"
    try:
        with safe_open(path, framework="pt") as file:
            header = StateHeader.read(json.loads((file.metadata() or {})["meta"]), path, remedy)
            if header.digest is None:
                raise KeyError("digest")
            names = file.keys() if with_tensors else ()
            return header, {name: file.get_tensor(name) for name in names}
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; train up to it first.") from None
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is truncated or not a training state ({described(path)}; {brief(error)}); "
            f"{remedy}."
        ) from error


def _tensors(trainer: Trainer) -> dict[str, Tensor]:
    tensors = {}
    for name, attribute in NETWORKS.items():
        for key, value in getattr(trainer, attribute).state_dict().items():
            tensors[f"{name}.{key}"] = value
    for name in OPTIMIZERS:
        optimizer = getattr(trainer, f"{name}_optimizer")
        for key, parameter in getattr(trainer, name).named_parameters():
            for moment, value in optimizer.state.get(parameter, {}).items():
                tensors[f"{name}_optimizer.{key}.{moment}"] = value
    if trainer.ada:
        tensors[ADA] = trainer.ada.state
    return tensors


def restore_optimizer(trainer: Trainer, name: str, tensors: dict[str, Tensor]) -> None:
    """Put Adam's state of one network, named as in a state, into the trainer's optimiser."""
    optimizer = getattr(trainer, f"{name}_optimizer")
    optimizer.state.clear()
    trained = set(optimizer.param_groups[0]["params"])  # without what is frozen
    for key, parameter in getattr(trainer, name).named_parameters():
        prefix = f"{name}_optimizer.{key}."
        for moment in ("step", "exp_avg", "exp_avg_sq"):
            if prefix + moment in tensors and parameter in trained:
                value = tensors[prefix + moment].to(parameter.device, copy=True)
                optimizer.state[parameter][moment] = value


def _digest(tensors: dict[str, Tensor]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        digest.update(tensors[name].reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def _difference(path: str, found: Any, wanted: Any) -> str | None:
    """The first place where two records differ, as ``a.b.c (X there, Y here)``."""
    if isinstance(found, dict) and isinstance(wanted, dict):
        for key in sorted(found.keys() | wanted.keys()):
            difference = _difference(f"{path}.{key}", found.get(key), wanted.get(key))
            if difference:
                return difference
        return None
    return None if found == wanted else f"{path} ({found} there, {wanted} here)"
