"""CUDA graphs: what a step of the iteration launches is recorded once, then played back at once.

Playing back repeats the same kernels with the same numbers on the same memory. So what differs from one
iteration to the next is handed over in tensors that stay where they are (:meth:`Graphs.keep`), and
nothing within a step may ask the device for a number, draw one on the host, or copy from there.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from stylenat.errors import UserError

WARM_UP = 2  # runs of every step before the first is recorded: kernels are compiled and chosen

Scalars = dict[str, Tensor]
Step = Callable[[], Scalars]


class Graphs:
    """Runs steps of these names on a GPU; once all have run :data:`WARM_UP` times, records each at
    its next turn, and from then on plays it back.

    They share their memory, so they have to run in the same order in every iteration, and none may read
    what another made, but for parameters, buffers and optimisers' states.
    """

    def __init__(self, names: tuple[str, ...], device: torch.device) -> None:
        if device.type != "cuda":
            raise UserError(f"--execution graph needs a GPU, and this runs on {device}; use eager.")
        self._begin(names)
        self.stream = torch.cuda.Stream(device)
        self.pool = torch.cuda.graph_pool_handle()

    def _begin(self, names: tuple[str, ...]) -> None:
        self.runs = dict.fromkeys(names, 0)
        self.recorded: dict[str, Step] = {}
        self.inputs: dict[str, Tensor] = {}

    def keep(self, name: str, value: Tensor) -> Tensor:
        """Copy an input to the place that it has in every iteration, and return that."""
        if name not in self.inputs:
            self.inputs[name] = torch.empty_like(value)
        return self.inputs[name].copy_(value)

    def __call__(self, name: str, step: Step) -> Scalars:
        """Scalars by name of one run of a step, which always has the same inputs."""
        if name not in self.recorded:
            if min(self.runs.values()) < WARM_UP:
                self.runs[name] += 1
                with self._aside():
                    return step()
            self.recorded[name] = self._record(step)
        result = self.recorded[name]()
        # Copies: the next run writes to the same memory.
        return dict(zip(result, torch.stack(list(result.values())).unbind(), strict=True))

    @contextmanager
    def _aside(self) -> Iterator[None]:
        """On the stream of the recording, as PyTorch asks of what comes before it."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            yield
        torch.cuda.current_stream().wait_stream(self.stream)

    def _record(self, step: Step) -> Step:
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads may go on with what a recording forbids: the writer of states copies.
            with torch.cuda.graph(graph, self.pool, self.stream, capture_error_mode="thread_local"):
                result = step()
        except RuntimeError as error:
            raise UserError(
                "an iteration could not be recorded as CUDA graphs "
                f"({str(error).strip().partition(chr(10))[0]}); train with --execution eager."
            ) from error

        def replay() -> Scalars:
            graph.replay()
            return result

        return replay
