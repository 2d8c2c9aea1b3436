"""A device that is not there: what runs on it computes shapes, and is watched.

It is PyTorch's meta device, under a mode that sees every operation, and does what a GPU would do
where the meta device cannot: a copy to the host is zeros, a number that is asked for is 1.
"""

import sys
import traceback
import weakref
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

from stylenat.models.attention import use_backend

DEVICE = torch.device("meta")
PACKAGE = Path(__file__).parents[1] / "stylenat"
COPIES = ("_to_copy", "copy_")
# They only reserve memory, or give it another shape.
ALLOCATIONS = {
    "empty",
    "empty_like",
    "empty_strided",
    "new_empty",
    "new_empty_strided",
    "_unsafe_view",
}


@dataclass(frozen=True)
class Event:
    """What a GPU would fail at ("mixed devices") or the host would wait for it at, and where."""

    kind: str
    operation: str
    place: str  # file:line of ours


class Watch(TorchDispatchMode):
    """Sees all operations of this thread.

    ``events`` are those to complain about; ``launches`` how often which operation started a kernel
    on the device, ``bytes`` what these read and wrote, by ``phase``, which the caller names.
    ``memory`` is what is held of all that was made meanwhile, in bytes, and ``peak`` the most of it.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[Event] = []
        self.phase = ""
        self.launches: Counter[tuple[str, str]] = Counter()
        self.bytes: Counter[tuple[str, str]] = Counter()
        self.memory = self.peak = 0
        self.held: set[int] = set()  # storages
        self.pinned: set[int] = set()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        name = function._schema.name.partition("::")[2]
        tensors = [x for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)]
        there = [x for x in tensors if x.device == DEVICE]
        if name == "_local_scalar_dense" and there:
            self._note("wait", name)
            return True if there[0].dtype == torch.bool else 1
        if name in COPIES:
            return self._copy(name, function, tensors, args, kwargs)
        # What other operations make up; outside inference mode they are seen one by one anyway.
        with self:
            result = function.decompose(*args, **kwargs)
        if result is not NotImplemented:
            return result
        # Scalars of the host may take part anywhere.
        if there and any(x.device != DEVICE and x.dim() for x in tensors):
            self._note("mixed devices", name)
            args, kwargs = tree_map(_there, (args, kwargs))  # to see what else there is
        # Adam with its rate on the device, in place; PyTorch has no shapes for it.
        known = function is not torch.ops.aten._fused_adam_.tensor_lr
        result = function(*args, **kwargs) if known else None
        outputs = [x for x in tree_leaves(result) if isinstance(x, Tensor)]
        self._allocated(there, outputs)
        self._launched(name, function, there, outputs)
        return result

    def _allocated(self, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        known = self.held | {x.untyped_storage()._cdata for x in inputs}
        for x in outputs:
            storage = x.untyped_storage()
            key, size = storage._cdata, storage.nbytes()
            if x.device == DEVICE and key not in known:
                known.add(key)
                self.held.add(key)
                self.memory += size
                weakref.finalize(storage, self._freed, key, size)
        self.peak = max(self.peak, self.memory)

    def _freed(self, key: int, size: int) -> None:
        self.held.discard(key)
        self.memory -= size

    def _launched(self, name: str, function, inputs: list[Tensor], outputs: list[Tensor]) -> None:
        outputs = [x for x in outputs if x.device == DEVICE]
        if not outputs and function._schema.is_mutable:  # of lists of tensors, in their place
            outputs = inputs
        if not outputs or function.is_view or name in ALLOCATIONS:
            return
        self.launches[self.phase, name] += 1
        self.bytes[self.phase, name] += sum(x.numel() * x.element_size() for x in inputs + outputs)

    def _copy(self, name: str, function, tensors: list[Tensor], args, kwargs):
        if name == "copy_":
            source, target = tensors[1], tensors[0].device
            waits = not (args[2] if len(args) > 2 else kwargs.get("non_blocking", False))
        else:
            source = tensors[0]
            target = torch.device(kwargs.get("device") or source.device)
            waits = not kwargs.get("non_blocking", False)
        if source.device == target:
            result = function(*args, **kwargs)
            if target == DEVICE:
                self._allocated(tensors, [result])
                self._launched(name, function, [source], [result])
            return result
        if source.device == DEVICE:
            self._note("wait", f"{name} to the host")
            if name == "copy_":
                return args[0].zero_()
            return torch.zeros(source.shape, dtype=kwargs.get("dtype") or source.dtype)
        if waits or source.untyped_storage()._cdata not in self.pinned:
            self._note("wait", f"{name} from the host{'' if waits else ', not pinned'}")
        return function(*args, **kwargs)

    def _note(self, kind: str, operation: str) -> None:
        frames = [f for f in traceback.extract_stack() if Path(f.filename).is_relative_to(PACKAGE)]
        place = f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "elsewhere"
        self.events.append(Event(kind, operation, place))

    def count(self) -> Counter:
        """How many events of which kind in which file."""
        return Counter((event.kind, event.place.partition(":")[0]) for event in self.events)


def _there(x: Any) -> Any:
    return x.to(DEVICE) if isinstance(x, Tensor) else x


@contextmanager
def pretended() -> Iterator[Watch]:
    """Within, the pretended device works like a GPU with our kernels."""
    watch = Watch()

    def pin(tensor: Tensor, *_) -> Tensor:
        watch.pinned.add(tensor.untyped_storage()._cdata)
        return tensor

    with ExitStack() as stack:
        stack.enter_context(use_backend("triton"))
        stack.enter_context(patch("stylenat.models.instance_norm.kernels_serve", lambda *_: True))
        stack.enter_context(patch.object(Tensor, "pin_memory", pin))
        # Operations on lists of tensors, Adam's fused form and autocast are for devices that exist; none changes what is computed
        # where.
        clip = sys.modules["torch.nn.utils.clip_grad"]
        stack.enter_context(patch.object(clip, "_has_foreach_support", lambda *_: True))
        adam = sys.modules["torch.optim.adam"]  # which torch.optim takes out of sight
        stack.enter_context(patch.object(adam, "_device_dtype_check_for_fused", lambda *_: None))
        stack.enter_context(patch("stylenat.training.trainer.layers", lambda *_: nullcontext()))
        yield stack.enter_context(watch)
