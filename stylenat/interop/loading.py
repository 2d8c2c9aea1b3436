"""From a checkpoint of the reference, or of StyleSwin, to our generator, every tensor checked."""

from collections.abc import Collection, Iterator

import torch
from torch import Tensor

from stylenat.config import ModelConfig
from stylenat.errors import UserError
from stylenat.interop.inference import infer_config
from stylenat.interop.layouts import from_published, is_published, to_published
from stylenat.interop.reading import Checkpoint
from stylenat.interop.styleswin import from_styleswin, is_styleswin, to_styleswin
from stylenat.io import Json, brief
from stylenat.models.generator import Generator

# The reference registers this buffer without writing to it, so it holds whatever was there.
_UNINITIALISED = "_float_tensor"
_COMPUTED = ("relative_position_index", "attn_mask2", ".kernel")
# What a state dict holds beside parameters, the discriminator's included.
_BUFFERS = (*_COMPUTED, _UNINITIALISED, "weight_u", "weight_v", ".ll", ".lh", ".hl", ".hh")
_LISTED = 20  # of each kind of misfit in an error


def generator_from(
    checkpoint: Checkpoint, network: str = "g_ema", config: ModelConfig | None = None
) -> Generator:
    """The generator ``network`` (g or g_ema) of a checkpoint.

    Without ``config`` it is inferred. Raises :class:`UserError` listing tensors that are missing,
    extra, of another shape or type, not finite, or (index tables, filters) of another value.
    """
    if network not in checkpoint.networks:
        raise UserError(
            f"{checkpoint.path} has no network {network}, only {', '.join(checkpoint.networks)}; "
            "choose one with --network."
        )
    tensors = checkpoint.networks[network]
    where = f"{checkpoint.path}, network {network}"
    generator = Generator(config or _inferred(tensors, checkpoint.settings, where))
    own = generator.state_dict()
    if is_styleswin(tensors) and set(generator.config.block) != {"windows"}:
        raise UserError(
            f"{where}, is StyleSwin's, but the experiment's model.block is "
            f"{', '.join(generator.config.block)}; it has to be windows."
        )
    misfits = list(_misfits(tensors, _as_in(tensors, own)))
    if misfits:
        model = "the experiment's model" if config else "the model that its tensors describe"
        raise UserError(f"{where}, does not fit {model}: {'; '.join(misfits)}.")
    generator.load_state_dict(_as_ours(tensors, own))
    return generator


def adam_from(
    checkpoint: Checkpoint, network: str, parameters: dict[str, Tensor]
) -> dict[str, Tensor]:
    """Adam's state of g or d under the names of our ``parameters``: ``{name}.exp_avg`` and so on.

    The file numbers parameters in the order of its own layout; our layout joins and turns some
    tensors, and the moments likewise. Empty where the file has none. Raises :class:`UserError`
    where it does not fit.
    """
    entries, tensors = checkpoint.optimizers.get(network, {}), checkpoint.networks[network]
    names = [key for key in tensors if not key.endswith(_BUFFERS)]
    where = f"{checkpoint.path}, optimiser of network {network}"
    result = {}
    for moment in ("exp_avg", "exp_avg_sq"):
        # A parameter that never had a gradient has no entry.
        found = {
            name: entries.get(number, {}).get(moment, torch.zeros_like(tensors[name]))
            for number, name in enumerate(names)
        }
        moments = _as_ours(found, parameters) if entries else {}
        for key, value in moments.items():
            if value.shape != parameters[key].shape or max(entries) >= len(names):
                raise UserError(f"{where}, does not fit its network, at {key}; it cannot be used.")
            result[f"{key}.{moment}"] = value.float().contiguous()
            step = max(float(entry["step"]) for entry in entries.values())
            result[f"{key}.step"] = torch.tensor(step)
    return result


def _as_in(tensors: dict[str, Tensor], own: dict[str, Tensor]) -> dict[str, Tensor]:
    """Our tensors in the layout of the others."""
    if is_styleswin(tensors):
        return to_styleswin(own)
    return to_published(own) if is_published(tensors) else own


def _as_ours(tensors: dict[str, Tensor], keys: Collection[str]) -> dict[str, Tensor]:
    if is_styleswin(tensors):
        return from_styleswin(tensors, keys)
    return from_published(tensors, keys) if is_published(tensors) else tensors


def _inferred(tensors: dict[str, Tensor], settings: Json, where: str) -> ModelConfig:
    try:
        return infer_config(tensors, settings)
    except KeyError as error:
        raise UserError(
            f"{where}, is not a generator of StyleNAT or StyleSwin: it lacks {brief(error)}."
        ) from error
    except (ArithmeticError, IndexError, TypeError, ValueError) as error:
        raise UserError(
            f"{where}: its tensors and arguments make no model ({brief(error)}); state the model with "
            "--experiment."
        ) from error


def _misfits(tensors: dict[str, Tensor], expected: dict[str, Tensor]) -> Iterator[str]:
    """One phrase for every kind of disagreement, naming the tensors."""
    yield from _listed("missing", [key for key in expected if key not in tensors])
    yield from _listed("extra", [key for key in tensors if key not in expected])
    common = [key for key in expected if key in tensors]
    other = [key for key in common if _kind(tensors[key]) != _kind(expected[key])]
    yield from _listed(
        "of another shape",
        [f"{key} ({_kind(tensors[key])} instead of {_kind(expected[key])})" for key in other],
    )
    same = [key for key in common if key not in other and not key.endswith(_UNINITIALISED)]
    yield from _listed("not finite", [key for key in same if not tensors[key].isfinite().all()])
    yield from _listed(
        "of another value",
        [
            key
            for key in same
            if key.endswith(_COMPUTED) and not torch.allclose(tensors[key], expected[key])
        ],
    )


def _listed(kind: str, keys: list[str]) -> Iterator[str]:
    if keys:
        more = f" and {len(keys) - _LISTED} more" if len(keys) > _LISTED else ""
        yield f"{kind}: {', '.join(keys[:_LISTED])}{more}"


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
