"""How exactly networks compute: matrix products, convolutions, attention kernels and autocast alike.

- ``float32``: no TF32 anywhere.
- ``tf32``: products of float32 tensors on tensor cores, with 10 bits of their mantissas; GPUs only.
- ``bf16``: layers under autocast in bfloat16, what stays float32 as with ``tf32`` on a GPU.

The kernels of neighbourhood attention follow `torch.get_float32_matmul_precision`, so they are
decided here, too. What is trained may choose; what is measured, sampled and drawn is float32.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext

import torch

from stylenat.errors import UserError

PRECISIONS = ("float32", "tf32", "bf16")
TENSOR_CORES = (8, 0)  # compute capability from which they take TF32 and bfloat16 (Ampere)


def resolve(wanted: str, device: torch.device) -> str:
    """One of :data:`PRECISIONS`; ``auto`` is tf32 where the device has it, else float32.

    What the device cannot do is a :class:`UserError`. A CPU does compute in bfloat16.
    """
    gpu = device.type == "cuda"
    able = gpu and torch.cuda.get_device_capability(device) >= TENSOR_CORES
    if wanted == "auto":
        return "tf32" if able else "float32"
    if wanted == "tf32" and not gpu:
        raise UserError(f"TF32 needs a GPU, and this runs on {device}; choose float32.")
    if wanted != "float32" and gpu and not able:
        raise UserError(
            f"precision {wanted} needs a GPU of compute capability 8.0 or more, and "
            f"{torch.cuda.get_device_name(device)} has less; choose float32."
        )
    return wanted


@contextmanager
def products(precision: str, device: torch.device, **cudnn: bool) -> Iterator[None]:
    """Within, products and convolutions of float32 tensors use TF32 or not, and no autocast of the
    caller's counts. ``cudnn`` may ask for ``benchmark`` or ``deterministic``.

    The switches belong to the process, so they are left alone on CPUs, where they change nothing
    and threads run networks side by side.
    """
    with ExitStack() as stack:
        stack.enter_context(without_autocast(device))
        if device.type == "cuda":
            tf32 = precision != "float32"
            stack.callback(torch.set_float32_matmul_precision, torch.get_float32_matmul_precision())
            torch.set_float32_matmul_precision("high" if tf32 else "highest")
            flags = torch.backends.cudnn.flags(enabled=True, allow_tf32=tf32, **cudnn)
            stack.enter_context(flags)
        yield


def layers(precision: str, device: torch.device) -> AbstractContextManager[object]:
    """Within, layers compute in bfloat16 if the precision is ``bf16``; for forward passes only."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16")


def without_autocast(device: torch.device) -> AbstractContextManager[object]:
    """Within, operations keep the dtypes that they are given."""
    # By name: a compiler cannot follow the question whether a device has it.
    if device.type not in ("cpu", "cuda"):
        return nullcontext()
    return torch.autocast(device.type, enabled=False)
