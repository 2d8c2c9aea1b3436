"""The ranks of a training run: one process per GPU under torchrun, or just this process."""

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta

import numpy as np
import torch
import torch.distributed as dist
from torch import Tensor

from stylenat.errors import UserError
from stylenat.models.discriminator import stddev_group

# Longer than any iteration, short enough that a rank that died is noticed within a minute.
TIMEOUT = timedelta(seconds=50)
# Until the first iteration is done, in which kernels are compiled, on one rank sooner than on another.
FIRST_TIMEOUT = timedelta(minutes=10)
POLL_SECONDS = 0.1

_DTYPES = {np.dtype(name): getattr(torch, name) for name in ("bool", "int64", "float32", "float64")}


def to_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Move host data to a device, without waiting for the copy where that is possible."""
    if device.type != "cpu":
        return tensor.pin_memory().to(device, non_blocking=True)
    return tensor.to(device)


@dataclass(frozen=True)
class World:
    """Which share of the batch is ours, and where its tensors go."""

    rank: int
    size: int
    device: torch.device

    @property
    def is_main(self) -> bool:
        """Whether this rank writes files and logs."""
        return self.rank == 0

    @property
    def share(self) -> slice:
        """Our samples of the total batch: i with i mod size == rank."""
        return slice(self.rank, None, self.size)

    def to_device(self, tensor: Tensor) -> Tensor:
        """Move host data to our device, without waiting for the copy where that is possible."""
        return to_device(tensor, self.device)

    def all_to_device(self, arrays: dict[str, np.ndarray]) -> dict[str, Tensor]:
        """Move arrays of any dtypes to our device in one copy; they share its memory."""
        # The widest numbers first, so that each begins at a multiple of its own width.
        names = sorted(arrays, key=lambda name: -arrays[name].itemsize)
        parts = [np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint8) for name in names]
        bytes = self.to_device(torch.from_numpy(np.concatenate(parts)))
        pieces = bytes.split([len(part) for part in parts])
        return {
            name: piece.view(_DTYPES[arrays[name].dtype]).view(arrays[name].shape)
            for name, piece in zip(names, pieces, strict=True)
        }

    def highest(self, value: int) -> int:
        """The largest of the ranks' numbers: how they agree on what to do at an iteration."""
        return int(self._reduce(torch.tensor([int(value)]), dist.ReduceOp.MAX).item())

    def same(self, value: int) -> bool:
        """Whether every rank has this number."""
        highest, lowest = self._reduce(torch.tensor([value, -value]), dist.ReduceOp.MAX).tolist()
        return bool(highest == -lowest)

    def wait(self, done: Callable[[], bool]) -> None:
        """Return on all ranks together, once it is done on each.

        They keep asking, because waiting inside a collective ends after :data:`TIMEOUT`.
        """
        while self.highest(not done()):
            time.sleep(POLL_SECONDS)

    def limit_waiting(self, timeout: timedelta) -> None:
        """From now on, a collective that takes longer than this means that a rank is lost."""
        if self.size > 1 and (group := dist.group.WORLD) is not None:
            group.set_timeout(timeout)

    def all_reduce_mean_(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its mean over the ranks, in place, in one message.

        Gradients are averaged here, once per optimiser step, rather than by
        DistributedDataParallel: the discriminator is differentiated twice, which its hooks do
        not allow.
        """
        if self.size == 1:
            return
        tensors = list(tensors)
        flat = self._reduce(torch.cat([t.reshape(-1) for t in tensors]), dist.ReduceOp.SUM)
        flat /= self.size
        for tensor, part in zip(tensors, flat.split([t.numel() for t in tensors]), strict=True):
            tensor.copy_(part.view_as(tensor))

    def check_batch(self, batch_size: int) -> int:
        """Samples per rank; a batch that does not divide is a UserError.

        Shares must also hold whole minibatch-stddev groups, or the number of GPUs would change
        what is computed.
        """
        share, rest = divmod(batch_size, self.size)
        if rest or share % stddev_group(batch_size):
            raise UserError(
                f"batch_size {batch_size} does not divide over {self.size} processes in groups of "
                f"{stddev_group(batch_size)} (the minibatch standard deviation's); change the "
                "number of GPUs (profile) or training.batch_size (config)."
            )
        return share

    def accumulation_steps(self, batch_size: int, most: int | None) -> int:
        """In how many parts our share of the batch is computed, so that none has over ``most`` images.

        Like shares, parts hold whole minibatch-stddev groups, one at least, whatever ``most`` is.
        """
        share, group = self.check_batch(batch_size), stddev_group(batch_size)
        if most is None:
            return 1
        if most < 1:
            raise UserError(f"--microbatch {most} is not a number of images; set 1 or more.")
        sizes = range(min(max(most, group), share), 0, -1)
        return share // next(size for size in sizes if share % size == 0 and size % group == 0)

    def _reduce(self, tensor: Tensor, operation: dist.ReduceOp.RedOpType) -> Tensor:
        """Combine a tensor over the ranks, on our device; a rank that is gone is a UserError."""
        if self.size == 1:
            return tensor
        tensor = tensor.to(self.device)
        try:
            dist.all_reduce(tensor, operation)
        except RuntimeError as error:
            raise UserError(
                f"rank {self.rank} of {self.size} lost contact with the others "
                f"({_first_line(error)}): one of them died or hangs. Its own message or the "
                "launcher's says why; the same command goes on from the last saved state."
            ) from error
        return tensor


def start(device: torch.device) -> World:
    """Join the process group that torchrun announces in the environment, if there is one."""
    # NCCL would abort the process when a collective times out; so it only ends the collective, and the
    # next one raises an error, which we put into words.
    os.environ.setdefault("TORCH_NCCL_ASYNC_ERROR_HANDLING", "2")
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    if size > 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            dist.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT)
        except RuntimeError as error:
            raise UserError(
                f"rank {rank} of {size} could not join the others within {TIMEOUT.seconds} s "
                f"({_first_line(error)}); look for the rank that is missing and rerun."
            ) from error
    return World(rank, size, device)


def leave(failed: bool) -> None:
    """Leave the process group, if we joined one. After a failure without waiting for the others,
    which may wait for us."""
    if not dist.is_initialized():
        return
    group = dist.group.WORLD
    if failed and dist.get_backend() == "nccl" and group is not None:
        group.abort()
    else:
        dist.destroy_process_group()


def _first_line(error: Exception) -> str:
    """What torch says, without the C++ stack that follows."""
    return str(error).strip().partition("\n")[0]
