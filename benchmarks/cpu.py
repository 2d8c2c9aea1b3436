"""What each of the CPU's own ways gains in sampling: the network with one of them, and without any.

Cases: experiments, and the batch that sampling computes at once. The parts of the network that a way
replaces are put in their plain form, then one way at a time is put back; all run in turn, for every
number of threads.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.generator import build
from benchmarks.harness import (
    Program,
    Row,
    add_seconds,
    in_turn,
    markdown,
    parser,
    record,
    summary,
    write,
)
from benchmarks.iteration import experiment
from stylenat import command
from stylenat.models import generator, layers
from stylenat.models.blocks import windows
from stylenat.models.instance_norm import InstanceNorm
from stylenat.runtime import select_device

CASES = ("faces32:8", "ffhq256:1", "ffhq256-styleswin:1")


def onednn(self: nn.Linear, x: Tensor) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(x, self.weight, self.bias, "none", [], "")
    return y


def plain_upsample(self: Any, x: Tensor) -> Tensor:
    x = self.reduction(self.norm(generator.double(x)))
    return generator.residual(self.sin_pos_embed(self.alpha).to(x.dtype), x)


# By name: what is replaced, its plain form, and the CPU's way.
Way = tuple[Any, str, Callable[..., Any], Callable[..., Any]]
WAYS: dict[str, Way] = {
    "linear layers by oneDNN": (layers.PixelLinear, "forward", nn.Linear.forward, onednn),
    "linear layers as convolutions": (
        *(layers.PixelLinear, "forward", nn.Linear.forward),
        layers.PixelLinear.forward,
    ),
    "MLP in pieces": (
        *(generator.MLP, "forward", lambda self, x: self.fc2(F.gelu(self.fc1(x)))),
        generator.MLP.forward,
    ),
    "upsampling's layers in pieces": (
        *(generator.LevelUpsample, "forward", plain_upsample),
        generator.LevelUpsample.forward,
    ),
    "AdaIN in pieces": (
        *(generator.AdaIN, "forward", lambda self, x, style: InstanceNorm.apply(x, style)),
        generator.AdaIN.forward,
    ),
    "windows in pieces": (
        *(windows, "prefers_pieces", lambda x: False),
        windows.prefers_pieces,
    ),
    "residuals in place": (generator, "residual", lambda x, y: x + y, generator.residual),
}
BASE = "linear layers by oneDNN"  # in all networks but "plain" and those with other linear layers


def install(names: tuple[str, ...]) -> None:
    """From now on, networks have these ways, and not the others."""
    for owner, part, plain, _ in WAYS.values():
        setattr(owner, part, plain)
    for owner, part, _, way in map(WAYS.__getitem__, names):
        setattr(owner, part, way)


def forward(network: generator.Generator, z: Tensor, ways: tuple[str, ...]) -> Program:
    def run() -> None:
        install(ways)
        with torch.inference_mode():
            network(z)

    return run


def measure(case: str, threads: int, device: torch.device, seconds: float) -> Row:
    name, _, batch = case.partition(":")
    torch.set_num_threads(threads)
    config = experiment(name, 16).model
    network = build(config, device)
    z = torch.randn(int(batch), config.style_dim)
    ways: dict[str, tuple[str, ...]] = {"plain": (), BASE: (BASE,)}
    for way, (owner, *_) in WAYS.items():
        if owner is layers.PixelLinear:
            ways[way] = (way,)
        elif owner is not windows or config.block[-1] == "windows":
            ways[way] = (BASE, way)
    programs = {name: forward(network, z, names) for name, names in ways.items()}
    times = {n: summary(v) for n, v in in_turn(programs, device, seconds).items()}
    return {"case": case, "threads": threads, "times": times}


def table(rows: list[Row]) -> str:
    """One line for each case, number of threads and way; a gain is over the line it names."""
    header = ("", "threads", "network", "rounds", "ms", "quartiles", "gain", "over")
    lines = []
    for row in rows:
        for name, times in row["times"].items():
            linear = name == "plain" or WAYS[name][0] is layers.PixelLinear
            other = "plain" if linear else BASE
            lines.append(
                [
                    *(row["case"], str(row["threads"]), name, str(times["rounds"])),
                    f"{times['ms']:.4g}",
                    f"{times['ms_q25']:.4g}–{times['ms_q75']:.4g}",
                    f"{row['times'][other]['ms'] / times['ms']:.3f}",
                    other,
                ]
            )
    return markdown(header, lines)


def run(
    *, device: str, output: Path, seconds: float, cases: Sequence[str], threads: Sequence[int]
) -> None:
    selected = select_device(device)
    about = record(selected)
    rows = [measure(case, number, selected, seconds) for case in cases for number in threads]
    write(output, "cpu", about, rows, table(rows))


def main() -> None:
    options = parser(__doc__)
    add_seconds(options)
    options.add_argument("--cases", nargs="+", default=CASES, help="experiment:batch")
    options.add_argument("--threads", type=int, nargs="+", default=(1, 2))
    command.main(options, run)


if __name__ == "__main__":
    main()
