"""The ranks of a training run: one process per GPU under torchrun, or just this process."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor

from stylenat.errors import UserError
from stylenat.models.discriminator import stddev_group

# Longer than any iteration or save, short enough that a missing rank is noticed within a minute.
TIMEOUT = timedelta(seconds=50)


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
        if self.device.type == "cuda":
            return tensor.pin_memory().to(self.device, non_blocking=True)
        return tensor.to(self.device)

    def any(self, flag: bool) -> bool:
        """Whether any rank says so: what all ranks must do at the same iteration."""
        if self.size == 1:
            return flag
        votes = torch.tensor([float(flag)], device=self.device)
        dist.all_reduce(votes, dist.ReduceOp.MAX)
        return bool(votes.item())

    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Replace every tensor by its mean over the ranks, in place, in one message.

        Gradients are averaged here, once per optimiser step, rather than by
        DistributedDataParallel: the discriminator runs four forwards per backward and is
        differentiated twice, which its hooks do not allow.
        """
        if self.size == 1:
            return
        tensors = list(tensors)
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
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


def start(device: torch.device) -> World:
    """Join the process group that torchrun announces in the environment, if there is one."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    if size > 1:
        if device.type == "cuda":
            torch.cuda.set_device(device)
        try:
            dist.init_process_group(
                "nccl" if device.type == "cuda" else "gloo", timeout=TIMEOUT
            )
        except (RuntimeError, dist.DistError) as error:
            raise UserError(
                f"rank {rank} of {size} could not join the others within "
                f"{TIMEOUT.seconds} s ({error}); look for the rank that is missing and rerun."
            ) from error
    return World(rank, size, device)


def stop() -> None:
    """Leave the process group, if we joined one."""
    if dist.is_initialized():
        dist.destroy_process_group()
