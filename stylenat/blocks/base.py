"""What every kind of attention says of itself."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol


class LevelConfig(Protocol):
    """What a block reads of :class:`stylenat.config.ModelConfig`."""

    @property
    def resolutions(self) -> tuple[int, ...]: ...
    @property
    def kernels(self) -> tuple[tuple[int, ...], ...]: ...
    @property
    def dilations(self) -> tuple[tuple[int, ...], ...]: ...

    def heads(self, resolution: int) -> int:
        """Heads at a level."""


@dataclass(frozen=True)
class View:
    """Heads that see the same: along an axis, the pixels in the window of every pixel. In two
    dimensions a pixel attends to the product of both axes."""

    heads: int
    name: str
    windows: list[list[int]]

    @property
    def pairs(self) -> int:
        """Pairs of a query and a key, over all heads."""
        return self.heads * sum(map(len, self.windows)) ** 2


@dataclass(frozen=True)
class Block:
    """One kind of attention."""

    # Of a configuration and a level; a ConfigError where the level cannot have this attention.
    views: Callable[[LevelConfig, int], list[View]]
    layer: str  # its AttentionLayer, as "module:class"
    at_4: str  # the kind that stands for this one at 4²
    model: str | None = None  # what the literature calls a generator of these blocks
    has_neighbourhoods: bool = False  # whose weights are drawn by the step attention
