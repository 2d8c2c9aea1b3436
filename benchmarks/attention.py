"""Neighbourhood attention, level by level, against other ways to compute it and against the floor.

Cases are the levels of FFHQ-1024 (those up to 256² are FFHQ-256's), and maps of eight heads of 32
channels with dilations 1 and side / 8, some of them of a side that no dilation divides. Unlike the
pipeline's steps, this leaves the C library's allocator as it is, as programs around the other
formulations would find it.
"""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.formulations import dense, flex, gather
from benchmarks.harness import (
    Machine,
    Program,
    Row,
    add_seconds,
    ffhq,
    in_turn,
    markdown,
    measure_machine,
    parser,
    record,
    summary,
    write,
)
from stylenat import command
from stylenat.blocks.hydra import HeadGroup, head_groups
from stylenat.models.attention import available_backends, hydra_attention
from stylenat.runtime import select_device

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
UNFUSED = "gather"  # what ratios are to
DIRECTIONS = ("forward", "forward + backward")
FLEX_SIDES = (32, 64)  # it compiles for long, and makes its mask from every pair of pixels


@dataclass(frozen=True)
class Case:
    """The neighbourhood attention of one block: maps of side², heads in groups."""

    name: str
    batch: int
    side: int
    head_dim: int
    groups: tuple[HeadGroup, ...]

    @property
    def channels(self) -> int:
        return self.head_dim * sum(group.heads for group in self.groups)

    def tensors(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, list[Tensor]]:
        """What the attention of a block gets: output of its linear layer, and bias tables."""
        qkv = torch.randn(self.batch, self.side, self.side, 3 * self.channels, device=device)
        tables = [
            torch.randn(g.heads, *(2 * g.kernel_size - 1,) * 2, device=device) / 50
            for g in self.groups
        ]
        return qkv.to(dtype), tables

    def bytes(self, direction: str, itemsize: int) -> int:
        """Least traffic: q, k, v read and the output written; backward reads those and the
        gradient, and writes three."""
        maps = 4 if direction == "forward" else 4 + 4 + 3
        return maps * self.batch * self.side**2 * self.channels * itemsize

    def flops(self, direction: str) -> int:
        """Two products forward; backward the logits again and four gradients."""
        products = 2 if direction == "forward" else 2 + 5
        pairs = self.batch * self.side**2 * sum(g.heads * g.kernel_size**2 for g in self.groups)
        return 2 * products * pairs * self.head_dim


def cases(device: torch.device, largest: int) -> list[Case]:
    """All that are no larger than ``largest``."""
    small, large = (1, 4) if device.type == "cpu" else (8, 8)
    model = ffhq(1024)
    levels = [
        Case(f"level {side}²", small, side, model.width(side) // model.heads(side), groups)
        for side, groups in (
            (side, head_groups(model, level))
            for level, side in enumerate(model.resolutions)
            if level
        )
    ]
    others = [
        Case(
            f"8 heads, {side}²",
            large,
            side,
            head_dim=32,
            groups=(HeadGroup(4, 7, 1), HeadGroup(4, 7, side // 8)),
        )
        for side in (32, 33, 64, 65, 128)
    ]
    return [case for case in (*levels, *others) if case.side <= largest]


def level(attend: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A formulation of one group of heads as one of all, between the same two linear layers."""

    def attend_groups(qkv: Tensor, tables: Sequence[Tensor], groups: Sequence[HeadGroup]) -> Tensor:
        heads = [group.heads for group in groups]
        qkv = qkv.unflatten(-1, (3, sum(heads), -1)).permute(3, 0, 4, 1, 2, 5)
        outputs = [
            attend(*part, rpb, group.kernel_size, group.dilation)
            for part, rpb, group in zip(qkv.split(heads, 2), tables, groups, strict=True)
        ]
        return torch.cat([y.permute(0, 2, 3, 1, 4) for y in outputs], 3).flatten(3)

    return attend_groups


def program(
    case: Case, attend: Callable[..., Tensor], direction: str, qkv: Tensor, tables: list[Tensor]
) -> Program:
    """Attention as in a block, with the gradients of everything where asked for."""
    if direction == "forward":

        def run() -> None:
            with torch.inference_mode():
                attend(qkv, tables, case.groups)
    else:
        grad = torch.randn_like(qkv[..., : case.channels])

        def run() -> None:
            inputs = [x.detach().requires_grad_() for x in (qkv, *tables)]
            torch.autograd.grad(attend(inputs[0], inputs[1:], case.groups), inputs, grad)

    return run


def formulations(case: Case, direction: str, qkv: Tensor, memory: float) -> dict[str, Callable]:
    """What can compute this case in ``memory`` bytes, by name; our backends first."""
    found = {
        name: partial(hydra_attention, backend=name)
        for name in available_backends()
        if name != "reference" and (name != "triton" or qkv.is_cuda)
    }
    # Groups are computed one after the other, but for gradients both are kept.
    backward = direction != "forward"
    if gather_bytes(case, qkv.element_size(), backward) <= memory:
        found["gather"] = level(gather)
    if dense_bytes(case, qkv.element_size()) <= memory:
        found["dense"] = level(dense)
    if case.side in FLEX_SIDES and (qkv.is_cuda or not backward):
        found["flex"] = level(flex)
    return found


def gather_bytes(case: Case, itemsize: int, backward: bool) -> int:
    """Memory of the neighbours' keys and values of a group; of all, and gradients, for backward."""
    neighbours = max(g.kernel_size for g in case.groups) ** 2
    numbers = 2 * neighbours * case.batch * case.side**2 * case.channels
    return itemsize * (2 * numbers if backward else numbers // len(case.groups))


def dense_bytes(case: Case, itemsize: int) -> int:
    """Memory of mask and weights, with their gradients."""
    heads = sum(group.heads for group in case.groups)
    return 2 * (1 + case.batch) * heads * case.side**4 * itemsize


def measure(
    case: Case,
    direction: str,
    machine: Machine,
    device: torch.device,
    dtype: str,
    memory: float,
    seconds: float,
) -> list[Row]:
    """One row for each formulation that can do it within ``memory`` GB."""
    qkv, tables = case.tensors(device, DTYPES[dtype])
    programs = {
        name: program(case, attend, direction, qkv, tables)
        for name, attend in formulations(case, direction, qkv, memory * 1e9).items()
    }
    moved, flops = case.bytes(direction, qkv.element_size()), case.flops(direction)
    floor = machine.floor(moved, flops)
    times = in_turn(programs, device, seconds)
    medians = {name: summary(values)["ms"] for name, values in times.items()}
    return [
        {
            "case": asdict(case),
            "direction": direction,
            "formulation": name,
            **summary(values),
            "bytes": moved,
            "flops": flops,
            "floor_ms": floor,
            "of_floor": floor / medians[name],
            "speedup": medians[UNFUSED] / medians[name] if UNFUSED in medians else None,
        }
        for name, values in times.items()
    ]


def table(rows: list[Row], machine: Machine) -> str:
    """Milliseconds; in brackets the speed-up over the unfused formulation."""
    text = (
        f"Floor: a copy moves {machine.bandwidth / 1e9:.1f} GB/s, a matrix product does "
        f"{machine.rate / 1e9:.0f} GFLOP/s. Milliseconds (times as fast as {UNFUSED}); "
        "of floor: the share of the floor in the first formulation's time.\n"
    )
    for direction in DIRECTIONS:
        mine = [row for row in rows if row["direction"] == direction]
        names = list(dict.fromkeys(row["formulation"] for row in mine))
        lines = []
        for case in dict.fromkeys(row["case"]["name"] for row in mine):
            here = {row["formulation"]: row for row in mine if row["case"]["name"] == case}
            first = next(iter(here.values()))
            lines.append(
                [
                    case,
                    f"{first['bytes'] / 1e6:.1f}",
                    f"{first['flops'] / 1e9:.2f}",
                    f"{first['floor_ms']:.3g}",
                    f"{first['of_floor']:.0%}",
                    *(_cell(here.get(name)) for name in names),
                ]
            )
        header = [direction, "MB", "GFLOP", "floor", "of floor", *names]
        text += f"\n{markdown(header, lines)}"
    return text


def _cell(row: Row | None) -> str:
    if row is None:
        return ""
    speedup = f" ({row['speedup']:.1f})" if row["speedup"] else ""
    return f"{row['ms']:.3g}{speedup}"


def run(
    *,
    device: str,
    output: Path,
    seconds: float,
    dtype: str,
    largest: int,
    memory: float,
    product: int,
) -> None:
    selected = select_device(device)
    about = record(selected, dtype=dtype)
    machine = measure_machine(selected, DTYPES[dtype], product)
    rows = []
    for case in cases(selected, largest):
        for direction in DIRECTIONS:
            command.log.info("%s, %s", case.name, direction)
            rows += measure(case, direction, machine, selected, dtype, memory, seconds)
    write(output, "attention", {**about, "machine": asdict(machine)}, rows, table(rows, machine))


def main() -> None:
    options = parser(__doc__)
    add_seconds(options)
    options.add_argument("--dtype", choices=DTYPES, default="float32", help="of q, k and v")
    options.add_argument("--largest", type=int, default=1024, help="side of the largest maps")
    options.add_argument(
        "--memory", type=float, default=4.0, help="GB that a formulation may take; else left out"
    )
    options.add_argument("--product", type=int, default=2048, help="side of the matrices for floor")
    command.main(options, run, keep_memory=False)


if __name__ == "__main__":
    main()
