"""The layers of the kinds of attention in :mod:`stylenat.blocks`."""

from stylenat.models.blocks.base import AttentionLayer

__all__ = ["AttentionLayer"]
