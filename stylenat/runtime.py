"""Where a step runs: versions, commit, device. Torch is imported only when a device is asked for."""

import ctypes
import os
import platform
import stat
import subprocess
import tempfile
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING

from stylenat.errors import UserError

if TYPE_CHECKING:
    import torch

# Of glibc's malloc.h.
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3

CORES = os.cpu_count() or 1  # how many processes a step starts unless told otherwise

PACKAGES = ("stylenat", "torch", "numpy", "scipy", "pillow", "lmdb", "safetensors", "pandas")


@cache
def versions() -> dict[str, str]:
    """Versions of Python and of the packages that can change a number."""
    found = {"python": platform.python_version()}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


@cache
def commit() -> str:
    """Short git commit of the code that runs, ``+dirty`` when it was edited, or ``unknown``."""

    def git(*arguments: str) -> str:
        return subprocess.run(
            ["git", "-C", str(Path(__file__).parent), *arguments],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()

    try:
        dirty = git("status", "--porcelain", "--untracked-files=no", "--", ".")
        return git("rev-parse", "--short=12", "HEAD") + ("+dirty" if dirty else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def keep_freed_memory() -> None:
    """Have the C library keep what this process frees, for its next tensors and images.

    Large ones otherwise come fresh from the system, which clears them page by page: a sixth of the
    time of a generator on a CPU. Does nothing where the C library is not glibc.
    """
    if platform.libc_ver()[0] == "glibc":
        library = ctypes.CDLL(None)
        library.mallopt(M_MMAP_THRESHOLD, 1 << 30)
        library.mallopt(M_TRIM_THRESHOLD, (1 << 31) - 1)


def keep_kernels_on_this_node() -> None:
    """Have Triton keep compiled kernels on a local disk rather than in a home directory that many
    nodes share. ``TRITON_CACHE_DIR`` is left alone where it is set.

    What lies there is executed, so a folder that others can write to is not used.
    """
    folder = Path(tempfile.gettempdir()) / f"stylenat-kernels-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        found = folder.lstat()
    except OSError:
        return
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
        os.environ.setdefault("TRITON_CACHE_DIR", str(folder))


def select_device(name: str) -> "torch.device":
    """``auto`` (a GPU if there is one), ``cpu`` or ``cuda``; a missing GPU is a UserError."""
    import torch

    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name.startswith("cuda") and not torch.cuda.is_available():
        raise UserError(
            "no CUDA device is visible here; run on a GPU node "
            "(snakemake --profile profiles/slurm …) or set `device: any` in the experiment."
        )
    if name == "cuda":  # one process per GPU under torchrun
        name = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    return torch.device(name)


def describe_device(device: "torch.device") -> str:
    """Human-readable device for logs and records: ``cpu (model, n threads)`` or the GPU's name."""
    import torch

    if device.type == "cuda":
        return f"{device} ({torch.cuda.get_device_name(device)})"
    return f"cpu ({_processor()}, {torch.get_num_threads()} threads)"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
