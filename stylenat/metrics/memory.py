"""The most memory that a piece of work needs at once."""

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


def peak_memory(work: Callable[[], Any], device: torch.device) -> int:
    """Bytes of tensors that ``work`` has on the device at once, beside those that are there before.

    On a GPU the allocator tells. CPUs have none that does, so there the tensors are counted that
    PyTorch's operations return, without scratch inside an operation; a process's resident memory
    would depend on what it did before.
    """
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        before = torch.cuda.memory_allocated(device)
        work()
        return torch.cuda.max_memory_allocated(device) - before
    live = _LiveTensors()
    with live:
        work()
    return live.peak


class _LiveTensors(TorchDispatchMode):
    """Counts the storages that operations make, and takes them off when they are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak = 0
        self._alive: dict[int, int] = {}  # bytes by storage

    def __torch_dispatch__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        older = {storage._cdata for storage in _storages((args, kwargs))}
        for storage in _storages(result):
            key = storage._cdata
            if key not in older and key not in self._alive:
                self._alive[key] = storage.nbytes()
                weakref.finalize(storage, self._alive.pop, key)
        self.peak = max(self.peak, sum(self._alive.values()))
        return result


def _storages(tree: Any) -> list[torch.UntypedStorage]:
    return [leaf.untyped_storage() for leaf in tree_leaves(tree) if isinstance(leaf, Tensor)]
