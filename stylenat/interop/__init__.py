"""Checkpoints of the reference implementation: read without running them, and written for it.

StyleSwin's, which it grew from, are read as well.
"""

from stylenat.interop.inference import infer_config
from stylenat.interop.loading import adam_from, generator_from
from stylenat.interop.reading import Checkpoint, read_checkpoint
from stylenat.interop.writing import write_checkpoint

__all__ = [
    "Checkpoint",
    "adam_from",
    "generator_from",
    "infer_config",
    "read_checkpoint",
    "write_checkpoint",
]
