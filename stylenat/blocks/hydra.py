"""Hydra neighbourhood attention (paper, section 3.2): groups of heads see different neighbourhoods."""

from dataclasses import dataclass

from stylenat.blocks.base import Block, LevelConfig, View
from stylenat.errors import require
from stylenat.neighbourhood import axis_windows


@dataclass(frozen=True)
class HeadGroup:
    """Consecutive heads of one level that share a neighbourhood (the paper's Hydra partition)."""

    heads: int
    kernel_size: int
    dilation: int

    @property
    def name(self) -> str:
        return f"{self.kernel_size}×{self.kernel_size}, d = {self.dilation}"


def head_groups(config: LevelConfig, level: int) -> tuple[HeadGroup, ...]:
    """Head groups of a neighbourhood-attention level (1 = 8²).

    One kernel size serves all dilations of a level and the other way round; heads that do
    not divide evenly go one each to the *last* groups, as in the published weights.
    """
    side = config.resolutions[level]
    kernels, dilations = config.kernels[level], config.dilations[level]
    count = max(len(kernels), len(dilations))
    for key, values in (("kernels", kernels), ("dilations", dilations)):
        require(
            len(values) in (1, count),
            f"{key}[{level}]",
            f"{len(values)} entries for {count} groups; give one, or one for each group",
        )
    kernels, dilations = (v * count if len(v) == 1 else v for v in (kernels, dilations))
    heads = config.heads(side)
    require(
        count <= heads,
        f"dilations[{level}]",
        f"{count} groups are more than the {heads} heads at {side}²",
    )
    small, remainder = divmod(heads, count)
    groups = []
    for index, (kernel, dilation) in enumerate(zip(kernels, dilations, strict=True)):
        require(
            kernel % 2 == 1 and kernel >= 3,
            f"kernels[{level}]",
            f"kernel size {kernel} is not odd and at least 3",
        )
        require(dilation >= 1, f"dilations[{level}]", f"dilation {dilation} is not positive")
        require(
            kernel * dilation <= side,
            f"dilations[{level}]",
            f"kernel {kernel} x dilation {dilation} is wider than the side {side}",
        )
        extra = index >= count - remainder
        groups.append(HeadGroup(small + extra, kernel, dilation))
    return tuple(groups)


def views(config: LevelConfig, level: int) -> list[View]:
    """One for each group of heads."""
    side = config.resolutions[level]
    return [
        View(
            group.heads,
            group.name,
            axis_windows(side, group.kernel_size, group.dilation)[0],
        )
        for group in head_groups(config, level)
    ]


# At 4², the published networks attend to all pixels.
HYDRA = Block(
    views,
    "stylenat.models.blocks.hydra:HydraAttention",
    at_4="full",
    model="StyleNAT",
    has_neighbourhoods=True,
)
