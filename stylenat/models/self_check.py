"""Whether Triton's kernels give right numbers on this GPU: asked before a job relies on them.

A compiler, driver or GPU that nobody has tried may get a kernel wrong. So each family of kernels
computes a small case, a map of 16², and is compared with plain PyTorch in float64. One that fails is left
out for the rest of the process, with a warning, and plain PyTorch takes its place.

Every rank of a distributed job finds out for itself: gradients are averaged before they are used, and
differ by rounding only between kernels and plain PyTorch, so ranks need not choose the same.
"""

import logging
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from stylenat.blocks import BLOCKS
from stylenat.blocks.hydra import HeadGroup
from stylenat.config import ModelConfig
from stylenat.models.attention import hydra_attention, kernels_serve
from stylenat.models.attention.requirements import ADAIN, ATTENTION, faults
from stylenat.models.instance_norm import InstanceNorm
from stylenat.precision import products
from stylenat.runtime import describe_device

log = logging.getLogger(__name__)

SIDE = 16
KERNEL_SIZE, DILATIONS = 7, (1, 2)
# Largest difference, relative to the largest number: a few times what rounding alone has given on an
# H200 (7e-7, 3e-3 and 6e-3), which a kernel that takes wrong numbers is far above.
TOLERANCES = {"float32": 1e-4, "tf32": 1e-2, "bf16": 2e-2}
FALLBACKS = {
    ATTENTION: "tiles of plain PyTorch operators",
    ADAIN: "plain PyTorch operators",
}


@dataclass(frozen=True)
class AttentionCase:
    """The attention of a level that has these heads, half of them dilated."""

    heads: int
    head_dim: int
    biased: bool
    precision: str
    family = ATTENTION
    outcomes = ("output", "gradient of q, k and v", "gradient of a bias table")

    def __str__(self) -> str:
        return f"{self.heads} heads of {self.head_dim} channels, {self.precision}"

    @property
    def groups(self) -> list[HeadGroup]:
        counts = self.heads // 2, self.heads - self.heads // 2
        parts = zip(counts, DILATIONS, strict=True)
        return [HeadGroup(count, KERNEL_SIZE, dilation) for count, dilation in parts if count]

    def inputs(self, random: torch.Generator) -> list[Tensor]:
        """qkv, and the bias table of each group."""
        channels = self.heads * self.head_dim
        qkv = torch.randn(1, SIDE, SIDE, 3 * channels, generator=random)
        span = 2 * KERNEL_SIZE - 1
        tables = [
            torch.randn(group.heads, span, span, generator=random)
            for group in self.groups
            if self.biased
        ]
        return [qkv.bfloat16() if self.precision == "bf16" else qkv, *tables]

    def output(self, qkv: Tensor, *tables: Tensor) -> Tensor:
        backend = "reference" if qkv.dtype == torch.float64 else "triton"
        return hydra_attention(qkv, tables or (None,) * len(self.groups), self.groups, backend)


@dataclass(frozen=True)
class NormCase:
    """AdaIN's norm of two maps, which is float32 in every precision."""

    channels: int
    precision: str = "float32"
    family = ADAIN
    outcomes = ("output", "gradient of the map", "gradient of the style")

    def __str__(self) -> str:
        return f"{self.channels} channels, {self.precision}"

    def inputs(self, random: torch.Generator) -> list[Tensor]:
        """The map, which is off zero, and its style."""
        x = torch.randn(2, SIDE, SIDE, self.channels, generator=random)
        return [x + 1, torch.randn(2, 2 * self.channels, generator=random)]

    def output(self, x: Tensor, style: Tensor) -> Tensor:
        return InstanceNorm.apply(x, style)


Case = AttentionCase | NormCase


def check_kernels(
    config: ModelConfig, device: torch.device | str, precision: str, gradients: bool
) -> None:
    """Have a job on ``device`` leave out kernels that are wrong there, and warn of each family once.

    ``config`` is whose layers the cases are like, ``precision`` one of
    :data:`stylenat.precision.PRECISIONS`; without ``gradients`` only outputs are compared. What was
    compared once in this process is not compared again. Does nothing where plain PyTorch computes
    anyway. Draws no random number of PyTorch's own generators.
    """
    device = torch.device(device)
    for case in _cases(config, precision):
        if kernels_serve(case.family, device):
            _check(case, device, gradients)


def _cases(config: ModelConfig, precision: str) -> list[Case]:
    """One for each width of heads, since the kernels are compiled for each.

    Heads are as many as the first level of at least this side has: then the kernels are those that
    are compiled for it anyway, but for the gradient of the bias, which depends on the batch.
    """
    attention: dict[int, Case] = {}
    for level, side in enumerate(config.resolutions):
        if side >= SIDE and BLOCKS[config.block[level]].has_neighbourhoods:
            heads = config.heads(side)
            head_dim = config.width(side) // heads
            case = AttentionCase(heads, head_dim, config.relative_position_bias, precision)
            attention.setdefault(head_dim, case)
    return [*attention.values(), NormCase(config.width(SIDE))]


@cache
def _check(case: Case, device: torch.device, gradients: bool) -> None:
    try:
        fault = _fault(case, device, gradients)
    except Exception as error:  # noqa: BLE001 whatever a compiler or driver may raise
        reason = str(error).strip().partition("\n")[0]
        fault = f"they failed with {type(error).__name__}: {reason}"
    if fault:
        faults[case.family] = fault
        log.warning(
            "Triton's kernels of %s are not used on %s, because in a check before the job (%s) %s; "
            "%s take their place, which is slower. `make gpu-check` compares every kernel.",
            *(case.family, describe_device(device), case, fault, FALLBACKS[case.family]),
        )


def _fault(case: Case, device: torch.device, gradients: bool) -> str | None:
    """What is wrong, as part of a sentence; None if nothing is."""
    inputs = case.inputs(torch.Generator().manual_seed(0))
    # The caller may be sampling, in which tensors can have no gradient.
    with torch.inference_mode(False), torch.set_grad_enabled(gradients):
        with products(case.precision, device):
            found = _outcome(case, [x.to(device) for x in inputs], gradients)
        expected = _outcome(case, [x.to(device).double() for x in inputs], gradients)
    tolerance = TOLERANCES[case.precision]
    names = case.outcomes[:2] + case.outcomes[2:] * len(inputs[1:])
    for name, one, exact in zip(names, found, expected, strict=False):
        difference = ((one.double() - exact).abs().max() / exact.abs().max()).item()
        if not difference <= tolerance:  # it may be NaN
            return (
                f"their {name} differed from that in float64 by {difference:.2g} of its largest "
                f"number, where {tolerance:g} is allowed"
            )
    return None


def _outcome(case: Case, inputs: list[Tensor], gradients: bool) -> list[Tensor]:
    """The output and, where asked for, the gradients of all inputs."""
    inputs = [x.clone().requires_grad_(gradients) for x in inputs]
    y = case.output(*inputs)
    if not gradients:
        return [y]
    grad = torch.randn(y.shape, generator=torch.Generator().manual_seed(1)).to(y)
    return [y.detach(), *torch.autograd.grad(y, inputs, grad)]
