"""Layers of stylenat.natten beside those of NATTEN 0.17, with the same weights: how far they differ.

    python -m benchmarks.natten    where NATTEN 0.17 is installed (docs/natten.md)

A difference is the largest one over the largest value: of the output, and the worst of the gradients of
the input and of every parameter.
"""

from pathlib import Path

import natten
import torch

import stylenat.natten
from benchmarks.harness import Row, markdown, parser, record, write
from stylenat import command
from stylenat.runtime import select_device

# Channels, heads, kernel, dilation, height of the map; it is three pixels wider.
SHAPES = (
    (64, 2, 3, 1, 12),
    (64, 4, 7, 1, 14),
    (64, 4, 7, 2, 20),
    (96, 3, 5, 3, 24),
    (128, 8, 13, 1, 32),
    (128, 4, 7, 4, 32),
)
COLUMNS = ("channels", "heads", "kernel", "dilation", "height", "bias", "output", "gradients")


def outcome(layer: torch.nn.Module, x: torch.Tensor, grad: torch.Tensor) -> list[torch.Tensor]:
    """Output and gradients of a layer (B, H, W, C) → (B, H, W, C)."""
    x = x.clone().requires_grad_()
    y = layer(x)
    return [y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], grad)]


def compare(shape: tuple[int, ...], bias: bool, device: torch.device) -> Row:
    channels, heads, kernel, dilation, side = shape
    options = {"kernel_size": kernel, "dilation": dilation, "rel_pos_bias": bias}
    theirs, ours = (
        module.NeighborhoodAttention2D(channels, heads, **options).to(device)
        for module in (natten, stylenat.natten)
    )
    if bias:
        torch.nn.init.normal_(theirs.rpb, std=0.5)
    ours.load_state_dict(theirs.state_dict())
    x, grad = torch.randn(2, 2, side, side + 3, channels, device=device)
    pairs = zip(outcome(theirs, x, grad), outcome(ours, x, grad), strict=True)
    output, *gradients = [float((a - b).abs().max() / a.abs().max()) for a, b in pairs]
    return dict(zip(COLUMNS, (*shape, bias, output, max(gradients)), strict=True))


def run(*, device: str, output: Path) -> None:
    selected = select_device(device)
    facts = record(selected, natten=natten.__version__)
    torch.manual_seed(0)
    rows = [compare(shape, bias, selected) for shape in SHAPES for bias in (True, False)]
    lines = [[f"{v:.1e}" if isinstance(v, float) else str(v) for v in row.values()] for row in rows]
    write(
        output, "natten", facts, rows, f"NATTEN {natten.__version__}\n\n{markdown(COLUMNS, lines)}"
    )


def main() -> None:
    command.main(parser(__doc__.partition("\n")[0]), run)


if __name__ == "__main__":
    main()
