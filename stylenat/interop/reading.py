"""Reading the reference's checkpoints without doing what the pickle inside asks for.

There are two arrangements: *published* is flat (``g``, ``d``, ``g_ema``, ``g_optim``, ``d_optim``,
``args``, an ``argparse.Namespace``); *current* nests (``state_dicts``, ``optim_dicts``, ``args``,
plain or OmegaConf containers, ``eval_info`` with NumPy scalars).
"""

import logging
import pickle
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stylenat.errors import UserError
from stylenat.io import Json, brief, described
from stylenat.torch_types import StateDict

log = logging.getLogger(__name__)

NETWORKS = ("g", "d", "g_ema")

_WRAPPED = re.compile(r"^(module\.)+|(^|(?<=\.))_orig_mod\.(module\.)*")
_HALF = (torch.float16, torch.bfloat16)


class _Inert:
    """Stands in for a class that a pickle names: keeps the state it is given, does nothing."""

    state: Any = None

    def __init__(self, *arguments: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        self.state = state


# All that checkpoints of the reference name beyond tensors and plain containers. Not even these
# are imported: each name stands for a class of ours that does nothing.
_NAMES = (
    "argparse.Namespace",
    "omegaconf.dictconfig.DictConfig",
    "omegaconf.listconfig.ListConfig",
    "omegaconf.nodes.AnyNode",
    "omegaconf.base.ContainerMetadata",
    "omegaconf.base.Metadata",
    # Types that OmegaConf's metadata mentions
    "typing.Any",
    "builtins.dict",
    "builtins.list",
    "builtins.int",
    # A FID as NumPy computed it
    "numpy.dtype",
    "numpy.core.multiarray.scalar",
    "numpy._core.multiarray.scalar",
)
_STAND_INS: list[Any] = [(type(name, (_Inert,), {}), name) for name in _NAMES]
# OmegaConf's resolver cache; the unpickler fills dictionaries only where they are dictionaries.
_STAND_INS.append((lambda *_: {}, "collections.defaultdict"))


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint of the reference holds."""

    path: Path
    networks: dict[str, dict[str, Tensor]]  # "g", "d", "g_ema", as far as they are there
    optimizers: dict[str, dict[int, StateDict]]  # "g", "d": Adam's state by parameter number
    settings: Json  # of the generator, as the reference names them
    step: int | None  # updates of the generator so far, by its optimiser


def read_checkpoint(path: str | Path) -> Checkpoint:
    """Read either arrangement. Raises :class:`UserError` for a file that is missing, truncated,
    something else, or that names anything which such a checkpoint does not need."""
    path = Path(path)
    content = _load(path)
    try:
        networks = _networks(path, content)
        optimizers = _optimizers(content.get("optim_dicts", content))
        step = _updates(optimizers)
        settings = _generator_settings(_plain(content.get("args")))
    except (AttributeError, TypeError, RecursionError) as error:
        raise UserError(f"{path} is not a checkpoint of the reference ({brief(error)}).") from error
    if not networks:
        raise UserError(
            f"{path} is not a checkpoint of the reference: among its {len(content)} entries is "
            "neither state_dicts nor g_ema."
        )
    return Checkpoint(path, networks, optimizers, settings, step)


def _load(path: Path) -> Any:
    try:
        with torch.serialization.safe_globals(_STAND_INS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check --checkpoint.") from None
    except pickle.UnpicklingError as error:
        if not _is_pickled(path):
            raise UserError(f"{path} is not a PyTorch checkpoint: {described(path)}.") from None
        # Torch's own message advises to load the file unsafely, so it is not passed on.
        named = re.search(r"GLOBAL ([\w.]+)", str(error))
        raise UserError(
            f"{path} asks for {f'`{named[1]}`' if named else 'pickle instructions'}, which no "
            "checkpoint of the reference needs; nothing of it was run, do not trust this file."
        ) from None
    except Exception as error:  # whatever a damaged file provokes in the reader
        reason = brief(error).partition(". ")[0]
        raise UserError(
            f"{path} is truncated or not a PyTorch checkpoint ({described(path)}; {reason}); fetch "
            "it again."
        ) from error


def _is_pickled(path: Path) -> bool:
    """Whether a file can be a checkpoint at all: an archive, or the older bare pickle."""
    with open(path, "rb") as file:
        start = file.read(2)
    return start == b"PK" or start[:1] == b"\x80"


def _networks(path: Path, content: StateDict) -> dict[str, dict[str, Tensor]]:
    """The networks by the reference's names, a generator alone as g_ema; notes what is unusual."""
    found = content.get("state_dicts", content)
    networks = {name: found[name] for name in NETWORKS if name in found}
    bare = content.get("state_dict", content)
    if not networks and bare and all(isinstance(value, Tensor) for value in bare.values()):
        log.info("%s holds the tensors of one network; they are taken for the generator", path)
        networks = {"g_ema": bare}
    return {name: _cleaned(path, name, tensors) for name, tensors in networks.items()}


def _cleaned(path: Path, name: str, tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Without what DataParallel and torch.compile add to names, and in single precision."""
    for key, value in tensors.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise TypeError(f"{name} has {type(value).__name__} at {key}, not a tensor")
    cleaned = {_WRAPPED.sub("", key): value for key, value in tensors.items()}
    if cleaned.keys() != tensors.keys():
        log.info("%s, network %s: names without module. and _orig_mod.", path, name)
    halves = [key for key, value in cleaned.items() if value.dtype in _HALF]
    if halves:
        log.info("%s, network %s: %d tensors of half precision", path, name, len(halves))
    return cleaned | {key: cleaned[key].float() for key in halves}


def _plain(value: Any) -> Any:
    """Saved arguments as dicts, lists and scalars, whatever containers held them."""
    if isinstance(value, _Inert):
        state = value.state if isinstance(value.state, dict) else {}
        # OmegaConf keeps a container's entries and a node's value so; a Namespace is its state.
        for key in ("_content", "_val"):
            if key in state:
                return _plain(state[key])
        return _plain(state)
    if isinstance(value, dict):
        return {key: _plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    return value


def _generator_settings(arguments: Any) -> Json:
    """The generator's settings: under runs.generator, or at the top of a flat Namespace."""
    settings = arguments
    for key in ("runs", "generator"):
        if isinstance(settings, dict) and isinstance(settings.get(key), dict):
            settings = settings[key]
    return settings if isinstance(settings, dict) else {}


def _optimizers(content: StateDict) -> dict[str, dict[int, StateDict]]:
    return {
        network: content[name]["state"]
        for network, name in (("g", "g_optim"), ("d", "d_optim"))
        if name in content
    }


def _updates(optimizers: dict[str, dict[int, StateDict]]) -> int | None:
    try:
        return int(next(iter(optimizers["g"].values()))["step"])
    except (KeyError, StopIteration):  # weights alone, or no update yet
        return None
