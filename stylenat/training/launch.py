"""torchrun for training: one sentence where it prints a traceback, and our exit status.

    python -m stylenat.training.launch --nproc-per-node=8 --standalone -m stylenat.steps.train …

Takes torchrun's options. A clean stop ends with the ranks' own status, which torchrun turns
into a failure; a node that is missing is reported within a minute.
"""

import os
import signal
import sys

from torch.distributed import DistError, run
from torch.distributed.elastic.multiprocessing import SignalException
from torch.distributed.elastic.multiprocessing.errors import ChildFailedError, ProcessFailure
from torch.distributed.elastic.rendezvous import RendezvousError

from stylenat.training.distributed import TIMEOUT
from stylenat.training.interruption import EXIT_CODE


def main(arguments: list[str] | None = None) -> None:
    """Run the ranks of this node; ends with :class:`SystemExit`."""
    args = run.parse_args(arguments)
    args.signals_to_handle = "SIGTERM,SIGINT,SIGHUP,SIGQUIT,SIGUSR2"  # passed on to the ranks
    if not args.rdzv_conf and not args.standalone:
        args.rdzv_conf = f"timeout={TIMEOUT.seconds}"
    _share_threads(run.determine_local_world_size(args.nproc_per_node))
    try:
        run.run(args)
    except ChildFailedError as error:
        sys.exit(_report(error.failures))
    except SignalException:
        sys.exit(EXIT_CODE)  # the ranks had the signal too; what they saved, they said
    except (DistError, RendezvousError) as error:
        text = str(error).strip().partition("\n")[0]
        _say(f"node {args.node_rank} of {args.nnodes} did not reach the others ({text}); rerun.")
        sys.exit(1)


def _share_threads(processes: int) -> None:
    """Give each rank of this node its part of the CPUs that the job was granted."""
    has_affinity = hasattr(os, "sched_getaffinity")  # not on macOS
    granted = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    granted = min(granted, int(os.environ.get("OMP_NUM_THREADS", granted)))
    share = str(max(1, granted // processes))
    os.environ.update(OMP_NUM_THREADS=share, MKL_NUM_THREADS=share)


def _report(failures: dict[int, ProcessFailure]) -> int:
    """Say which rank ended first and how, unless it stopped on request; return the status."""
    # A rank leaves with our status only when the state is saved, and torchrun then ends the others,
    # which may still be shutting down: with SIGTERM, and that is no failure.
    stopped = any(it.exitcode == EXIT_CODE for it in failures.values())
    harmless = (EXIT_CODE, -signal.SIGTERM) if stopped else (EXIT_CODE,)
    culprits = {rank: it for rank, it in failures.items() if it.exitcode not in harmless}
    if not culprits:
        return EXIT_CODE

    def order(rank: int) -> tuple[int, int]:
        """What was killed cannot say so itself; others fail for want of it: by a status, by NCCL,
        which aborts them, or told to end."""
        status = culprits[rank].exitcode
        late = {-signal.SIGABRT: 2, -signal.SIGTERM: 3}
        return late.get(status, int(status > 0)), culprits[rank].timestamp

    rank = min(culprits, key=order)
    status = culprits[rank].exitcode
    if status > 0:
        _say(f"rank {rank} ended with status {status}; its message is above.")
        return status
    killed = status == -signal.SIGKILL
    _say(
        f"rank {rank} was ended by {signal.Signals(-status).name}"
        f"{' (out of memory, or from outside)' if killed else ''}; "
        "the same command goes on from the last saved state."
    )
    return 1


def _say(sentence: str) -> None:
    print(f"error: {sentence}", file=sys.stderr)


if __name__ == "__main__":
    main()
