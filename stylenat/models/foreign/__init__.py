"""Checkpoints of the reference implementation: read without running them, and written for it.

StyleSwin's, which it grew from, are read as well.
"""

from stylenat.models.foreign.inference import infer_config
from stylenat.models.foreign.loading import generator_from
from stylenat.models.foreign.reading import Checkpoint, read_checkpoint
from stylenat.models.foreign.writing import write_checkpoint

__all__ = ["Checkpoint", "generator_from", "infer_config", "read_checkpoint", "write_checkpoint"]
