"""Generators as ONNX files, for programs without PyTorch."""

import io
import warnings

import torch
from torch import Tensor, nn

from stylenat.errors import UserError
from stylenat.images import to_pixels
from stylenat.models import Generator
from stylenat.models.attention import use_backend

SOURCES = ("z", "w")  # what images are made from
OPSET = 18


class _Network(nn.Module):
    def __init__(self, generator: Generator):
        super().__init__()
        self.generator = generator

    def images(self, w: Tensor) -> Tensor:
        return (to_pixels(self.generator.synthesis(w)) / 255).clamp(0, 1)


class _FromW(_Network):
    """w (B, latents, style_dim) → RGB (B, 3, S, S) from 0 to 1."""

    def forward(self, w: Tensor) -> Tensor:
        return self.images(w)


class _FromZ(_Network):
    """z (B, style_dim) → the same images, and their w (B, style_dim)."""

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor]:
        w = self.generator.mapping(z)
        return self.images(w), w


def require_onnx() -> None:
    """Raise a :class:`UserError` where the package is missing that PyTorch writes ONNX with."""
    try:
        import onnx  # noqa: F401
    except ImportError:
        raise UserError(
            "ONNX files are written with the package onnx, which is not installed; install it with "
            "pip install onnx."
        ) from None


def to_onnx(generator: Generator, source: str, facts: dict[str, str]) -> bytes:
    """An ONNX file that computes what a generator on the CPU does, for any batch size B.

    From ``z`` (B, style_dim) it makes ``images`` and ``w`` (B, style_dim); from ``w`` (B, latents,
    style_dim), a style for each block as :meth:`Generator.synthesis` takes it, ``images``: float32
    (B, 3, S, S), RGB from 0 to 1. ``facts`` become the file's metadata. Raises :class:`UserError`
    where the package onnx is missing.
    """
    require_onnx()
    import onnx

    config = generator.config
    network: _Network
    shape: tuple[int, ...]
    if source == "z":
        network, shape, outputs = _FromZ(generator), (config.style_dim,), ["images", "w"]
    else:
        network, shape, outputs = _FromW(generator), (config.latents, config.style_dim), ["images"]
    example = torch.zeros(2, *shape)
    file = io.BytesIO()
    with use_backend("gathers"), warnings.catch_warnings():
        # Sizes that the trace keeps as numbers are those of the model; and the exporter's own age.
        warnings.simplefilter("ignore")
        with torch.no_grad():
            network.eval()(example)  # makes the tables that the trace takes for constants
        # The exporter of torch.export takes ten times as long, and needs onnxscript.
        torch.onnx.export(
            network,
            (example,),
            file,  # type: ignore[arg-type]  # this exporter takes file objects
            dynamo=False,
            opset_version=OPSET,
            do_constant_folding=False,  # would store the bias of every pixel
            input_names=[source],
            output_names=outputs,
            dynamic_axes={name: {0: "batch"} for name in (source, *outputs)},
        )
    model = onnx.load_from_string(file.getvalue())
    onnx.helper.set_model_props(model, facts)
    return bytes(model.SerializeToString())
