"""Self-attention over all pixels of a level."""

from stylenat.blocks.base import Block, LevelConfig, View


def views(config: LevelConfig, level: int) -> list[View]:
    """All heads see all pixels."""
    side = config.resolutions[level]
    return [View(config.heads(side), f"{side}×{side}", [list(range(side))] * side)]


FULL = Block(views, "stylenat.models.blocks.full:FullAttention", at_4="full")
