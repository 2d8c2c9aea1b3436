"""Sampling: images per second of a whole generator, and what its attention costs.

Variants: the generator; without neighbourhoods (the values pass from one linear layer of the
attention to the other); with identity as attention (its linear layers are gone as well); and all
of its linear layers alone, on inputs of the same shapes. With --dtype bfloat16 (autocast) the table
says how many uint8 pixels differ from float32's by at most one level.
"""

import copy
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from benchmarks.harness import (
    Program,
    Row,
    add_seconds,
    ffhq,
    in_turn,
    markdown,
    parser,
    peak_memory,
    record,
    summary,
    write,
)
from stylenat import command, runtime
from stylenat.config import ModelConfig
from stylenat.images import to_uint8
from stylenat.models import Generator, load_generator
from stylenat.models.generator import StyleBlock

BATCH_SIZES = {"cpu": (1, 4), "cuda": (1, 8, 32, 64)}


class Projections(nn.Module):
    """The linear layers of an attention module, the values in between."""

    def __init__(self, attention: nn.Module):
        super().__init__()
        self.qkv, self.proj = attention.qkv, attention.proj

    def forward(self, x: Tensor) -> Tensor:
        return self.proj(self.qkv(x)[..., 2 * x.shape[-1] :])


def with_attention(generator: Generator, replace: type[nn.Module]) -> Generator:
    """A copy whose attention modules are ``replace(module)``; the weights are shared."""
    memo = {id(parameter): parameter for parameter in generator.parameters()}
    result = copy.deepcopy(generator, memo)
    for module in result.modules():
        if isinstance(module, StyleBlock):
            module.attn = replace(module.attn)
    return result


def linear_layers(generator: Generator, z: Tensor, dtype: str) -> Program:
    """All products with a weight of the blocks and between levels, one after the other."""
    calls: list[tuple[nn.Linear, torch.Size]] = []
    hooks = [
        module.register_forward_pre_hook(
            lambda layer, inputs: calls.append((layer, inputs[0].shape))
        )
        for module in generator.modules()
        if isinstance(module, nn.Linear)
    ]
    with torch.inference_mode():
        generator(z)
    for hook in hooks:
        hook.remove()
    largest = max(shape.numel() for _, shape in calls)
    values = torch.randn(largest, device=z.device, dtype=z.dtype)

    def run() -> None:
        with torch.inference_mode(), precision(z.device, dtype):
            for layer, shape in calls:
                layer(values[: shape.numel()].view(shape))

    return run


def precision(device: torch.device, dtype: str) -> torch.autocast:
    """What a forward runs in: nothing special for float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=dtype == "bfloat16")


def within_one_level(generator: Generator, z: Tensor, dtype: str) -> float:
    """The share of uint8 pixels that differ from those of float32 by at most one level."""
    with torch.inference_mode():
        expected = to_uint8(generator(z)).int()
        with precision(z.device, dtype):
            found = to_uint8(generator(z)).int()
    return ((found - expected).abs() <= 1).float().mean().item()


def variants(generator: Generator, z: Tensor, dtype: str) -> dict[str, Program]:
    """By name: programs that turn z into images, or into what is left of them."""
    networks = {
        "generator": generator,
        "without neighbourhoods": with_attention(generator, Projections),
        "identity as attention": with_attention(generator, nn.Identity),
    }

    def forward(network: Generator) -> Program:
        def run() -> None:
            with torch.inference_mode(), precision(z.device, dtype):
                network(z)

        return run

    programs = {name: forward(network) for name, network in networks.items()}
    return programs | {"linear layers": linear_layers(generator, z, dtype)}


def build(config: ModelConfig, device: torch.device) -> Generator:
    torch.manual_seed(0)
    return Generator(config).to(device).eval().requires_grad_(False)


def sample_once(config: ModelConfig, batch: int, dtype: str) -> None:
    """What the peak memory is measured of: a process that makes one batch on the CPU."""
    device = torch.device("cpu")
    runtime.keep_freed_memory()
    generator = build(config, device)
    with torch.inference_mode(), precision(device, dtype):
        generator(torch.randn(batch, config.style_dim))


def memory(generator: Generator, z: Tensor, dtype: str) -> float:
    """Peak MB: of the device's tensors on a GPU, of a fresh process on a CPU."""
    if z.device.type == "cpu":
        return peak_memory(sample_once, generator.config, len(z), dtype)
    torch.cuda.reset_peak_memory_stats()
    with torch.inference_mode(), precision(z.device, dtype):
        generator(z)
    return torch.cuda.max_memory_allocated() / 1e6


def measure(
    generator: Generator, batch: int, device: torch.device, dtype: str, seconds: float
) -> Row:
    z = torch.randn(batch, generator.config.style_dim, device=device)
    times = {
        name: summary(values)
        for name, values in in_turn(variants(generator, z, dtype), device, seconds).items()
    }
    ms = {name: values["ms"] for name, values in times.items()}
    return {
        "batch_size": batch,
        "within_one_level": within_one_level(generator, z, dtype),
        "images_per_second": batch / ms["generator"] * 1e3,
        "memory_mb": memory(generator, z, dtype),
        "neighbourhoods_to_linear": (ms["generator"] - ms["without neighbourhoods"])
        / ms["linear layers"],
        "to_without_neighbourhoods": ms["generator"] / ms["without neighbourhoods"],
        "to_identity_as_attention": ms["generator"] / ms["identity as attention"],
        "times": times,
    }


def table(rows: list[Row]) -> str:
    """One line for each batch size."""
    names = list(rows[0]["times"])
    header = [
        "batch",
        "images/s",
        "peak MB",
        "pixels within one level",
        *(f"{name}, ms" for name in names),
        "neighbourhoods / linear",
        "generator / without neighbourhoods",
        "generator / identity",
    ]
    return markdown(
        header,
        [
            [
                str(row["batch_size"]),
                f"{row['images_per_second']:.3g}",
                f"{row['memory_mb']:.0f}",
                f"{row['within_one_level']:.2%}",
                *(f"{row['times'][name]['ms']:.4g}" for name in names),
                f"{row['neighbourhoods_to_linear']:.2f}",
                f"{row['to_without_neighbourhoods']:.2f}",
                f"{row['to_identity_as_attention']:.2f}",
            ]
            for row in rows
        ],
    )


def run(
    *,
    device: str,
    output: Path,
    seconds: float,
    image_size: int,
    weights: Path | None,
    dtype: str,
    batch_sizes: Sequence[int] | None,
) -> None:
    selected = runtime.select_device(device)
    about = record(selected, dtype=dtype)
    if weights:
        generator = load_generator(weights, selected)
    else:
        generator = build(ffhq(image_size), selected)
    about["image_size"] = generator.config.image_size
    rows = [
        measure(generator, batch, selected, dtype, seconds)
        for batch in batch_sizes or BATCH_SIZES[selected.type]
    ]
    write(output, "generator", about, rows, table(rows))


def main() -> None:
    options = parser(__doc__)
    add_seconds(options)
    options.add_argument(
        "--image-size", type=int, default=256, help="FFHQ's generator of this size"
    )
    options.add_argument(
        "--weights", type=Path, help="this generator, not FFHQ's with random weights"
    )
    options.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32")
    options.add_argument(
        "--batch-sizes", type=int, nargs="+", help=f"to sweep; if not given, {BATCH_SIZES}"
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
