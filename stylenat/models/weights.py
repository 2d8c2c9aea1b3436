"""The EMA generator as one safetensors file: tensors, configuration and where they come from."""

import json
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from stylenat.config import ModelConfig
from stylenat.errors import ConfigError, UserError
from stylenat.hub import local_weights
from stylenat.io import Json, atomic, brief, described
from stylenat.models.generator import Generator
from stylenat.models.latents import computed_mean_style
from stylenat.models.self_check import check_kernels
from stylenat.records import Provenance

MEAN_W = "mean_w"  # the tensor beside those of the network


def save_tensors(
    path: str | Path, tensors: dict[str, torch.Tensor], name: str, record: Json
) -> None:
    """Write contiguous tensors and, as entry ``name`` of the header, a JSON record.

    The same content gives the same bytes: one entry, because safetensors writes several in an
    order of its own. A full disk is a :class:`UserError`.
    """
    with atomic(path) as temporary:
        try:
            save_file(tensors, temporary, metadata={name: json.dumps(record)})
        except SafetensorError as error:
            raise OSError(str(error)) from error


def save_generator(path: str | Path, generator: Generator, provenance: Provenance) -> None:
    """Write weights, truncation's mean w, configuration, and ``provenance`` with the number of
    parameters."""
    tensors = {key: value.contiguous() for key, value in generator.state_dict().items()}
    tensors[MEAN_W] = computed_mean_style(generator)
    count = sum(parameter.numel() for parameter in generator.parameters())
    provenance = provenance.model_copy(update={"parameters": count})
    record = {"model": asdict(generator.config), "provenance": provenance.to_dict()}
    save_tensors(path, tensors, "stylenat", record)


def read_header(path: str | Path) -> tuple[ModelConfig, Provenance]:
    """(configuration, provenance) without reading the tensors.

    Raises :class:`UserError` for a file that is missing, truncated or not one of ours.
    """
    remedy = "make it with stylenat.steps.train or stylenat.steps.convert"
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})["stylenat"])
        model = ModelConfig.from_dict(header["model"])
        return model, Provenance.read(header["provenance"], path, remedy)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; train or convert the weights first.") from None
    except ConfigError as error:
        raise UserError(f"{path} states a model that cannot be: {error}") from error
    except (SafetensorError, KeyError, TypeError, ValueError, OSError) as error:
        raise UserError(
            f"{path} is truncated or not a generator of ours ({described(path)}; {brief(error)}); "
            f"{remedy}."
        ) from error


def load_generator(source: str | Path, device: str | torch.device = "cpu") -> Generator:
    """The generator from one of our safetensors files, in evaluation mode, gradients off.

    ``source`` is the file; or a folder that ``stylenat publish`` wrote; or, as a string, the http(s)
    address of such a file, or ``"user/name"`` of a public repository of the Hugging Face hub. What is
    downloaded is kept and checked (:func:`stylenat.hub.local_weights`). Raises :class:`UserError`.
    """
    path = local_weights(source)
    config, _ = read_header(path)
    # Without memory, because the configuration may be damaged and ask for any amount.
    with torch.device("meta"):
        expected = {key: tuple(it.shape) for key, it in Generator(config).state_dict().items()}
    expected[MEAN_W] = (config.style_dim,)
    with safe_open(path, framework="pt") as file:
        found = {key: tuple(file.get_slice(key).get_shape()) for key in file.keys()}  # noqa: SIM118
    found.setdefault(MEAN_W, expected[MEAN_W])  # files of before lack it
    wrong = sorted(key for key in expected | found if expected.get(key) != found.get(key))
    if wrong:
        key = wrong[0]
        raise UserError(
            f"{path} does not fit its own configuration: {key} is {found.get(key, 'missing')}, not "
            f"{expected.get(key, 'part of the model')}; make it again."
        )
    generator = Generator(config)
    tensors = load_file(path)
    generator.mean_w = tensors.pop(MEAN_W, None)
    generator.load_state_dict(tensors)
    check_kernels(config, device, "float32", gradients=False)
    return generator.to(device).eval().requires_grad_(False)
