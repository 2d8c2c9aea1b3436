"""What the machine has, and whether the kernels can be compiled and run there."""

import os
import platform
import shutil
import time

import torch

from benchmarks.gpu_check.check import Check, first_line
from stylenat.models.attention import available_backends, describe, neighborhood_attention
from stylenat.models.attention.requirements import triton_fault

LEAST_MEMORY = 12e9  # bytes: what FFHQ-256 takes at 4 images


def run(check: Check) -> None:
    device = check.device
    if check.gpu:
        free, total = torch.cuda.mem_get_info(device)
        properties = torch.cuda.get_device_properties(device)
        facts = {
            "name": properties.name,
            "GPUs": torch.cuda.device_count(),
            "compute capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory, GB": total / 1e9,
            "free, GB": free / 1e9,
            "CUDA of PyTorch": torch.version.cuda,
            "driver": _driver(),
            "cuDNN": torch.backends.cudnn.version(),
        }
        check.verdict(
            "Is enough of its memory free?",
            free >= LEAST_MEMORY,
            f"{free / 1e9:.1f} of {total / 1e9:.1f} GB.",
        )
    else:
        facts = {"name": platform.processor() or platform.machine()}
        check.verdict("Is enough of its memory free?", None, "There is no GPU.")
    facts |= {
        "compiler": os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang") or "none",
        "system": platform.platform(),
        "processors": os.cpu_count(),
        "attention": describe(device),
        "backends": ", ".join(available_backends()),
    }
    for key, value in facts.items():
        check.row("facts", fact=key, value=value)
    fault = triton_fault()
    check.verdict(
        "Can Triton's kernels run here?",
        None if not check.gpu else fault is None,
        "Nothing is missing." if fault is None else f"They cannot, because {fault}.",
    )
    _first_kernel(check)


def _first_kernel(check: Check) -> None:
    """One attention, from an empty cache of kernels."""
    question = "Does attention run, its kernels compiled from nothing?"
    q = torch.randn(1, 4, 16, 16, 32, device=check.device, requires_grad=True)
    begun = time.monotonic()
    try:
        neighborhood_attention(q, q, q, None, 7, 1).sum().backward()
        finite = bool(q.grad.isfinite().all())
    except Exception as error:  # noqa: BLE001 whatever a compiler or driver may raise is the finding
        check.verdict(question, False, first_line(error))
        return
    check.verdict(question, finite, f"{time.monotonic() - begun:.1f} s.")


def _driver() -> str:
    """What the driver's own file says; none in some containers."""
    try:
        with open("/proc/driver/nvidia/version") as file:
            return file.readline().strip()
    except OSError:
        return "unknown"
