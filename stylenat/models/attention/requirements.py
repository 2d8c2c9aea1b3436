"""Whether Triton's kernels can run on this machine's GPUs, and if not, what to do about it."""

import os
import shutil
import sysconfig
from functools import cache
from importlib.util import find_spec
from pathlib import Path

import torch

from stylenat.precision import TENSOR_CORES

# Families of kernels, and why one of them is left out in this process: what
# `stylenat.models.self_check` found.
ATTENTION, ADAIN = "neighbourhood attention", "AdaIN's norm"
faults: dict[str, str] = {}


@cache
def triton_fault() -> str | None:
    """Why the kernels cannot run here, as part of a sentence; None if nothing is in the way.

    Triton compiles a launcher for every kernel when it first runs: it needs a C compiler and
    Python's header files, which neither its package nor PyTorch's brings.
    """
    if find_spec("triton") is None:
        return "triton is not installed (pip install triton)"
    if not torch.cuda.is_available():
        return "there is no GPU"
    if torch.cuda.get_device_capability() < TENSOR_CORES:
        return f"{torch.cuda.get_device_name()} is older than compute capability 8.0"
    compilers = (os.environ["CC"],) if "CC" in os.environ else ("gcc", "clang")
    if not any(map(shutil.which, compilers)):
        return "there is no C compiler (install gcc, or name one in the environment variable CC)"
    # Debian's own Python has its headers where others have them.
    scheme = sysconfig.get_default_scheme().replace("posix_local", "posix_prefix")
    headers = Path(sysconfig.get_path("include", scheme))
    if not (headers / "Python.h").exists():
        return f"{headers} has no Python.h (install python3-dev, or a Python that brings it)"
    return None
