"""Without a GPU, Triton kernels run in Triton's interpreter; it has to be told before its import,
which the first import of ``stylenat.models`` may cause."""

import os

import torch

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")
