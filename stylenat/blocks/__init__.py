"""Kinds of attention by the names that ``model.block`` uses: what needs no tensors of them.

A new kind is a file here, with its layer in :mod:`stylenat.models.blocks`, and a line in
:data:`BLOCKS`.
"""

from stylenat.blocks.base import Block
from stylenat.blocks.full import FULL
from stylenat.blocks.hydra import HYDRA
from stylenat.blocks.windows import WINDOWS

BLOCKS: dict[str, Block] = {"hydra": HYDRA, "windows": WINDOWS, "full": FULL}
