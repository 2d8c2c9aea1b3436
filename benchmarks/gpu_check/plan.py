"""The parts of the check, in their order, and the time each may take."""

from dataclasses import dataclass

MINUTES = 8.0  # for all of them
STARTING = 20.0  # seconds that a part's process takes to begin, at most
# At toy sizes nothing is measured, and the machine may be a busy one: times only end what hangs.
TOY_MINUTES = 60.0
TOY_SECONDS = 300.0


@dataclass(frozen=True)
class Part:
    """A module of :mod:`benchmarks.gpu_check.parts` with a ``run(check)``.

    After ``seconds`` it begins nothing new, and after half as long again it is ended. None: what
    is left for all.
    """

    name: str
    title: str
    seconds: float | None


PLAN = (
    Part("preflight", "The machine", 15),
    Part("kernels", "Attention kernels against float64", 60),
    Part("golden", "Golden training", 25),
    Part("images", "Images against the CPU's", 15),
    Part("resume", "Stop and resume", 60),
    Part("ranks", "Two ranks", 80),
    Part("iterations", "Training iterations", 60),
    Part("graphs", "Training iterations as CUDA graphs", 25),
    Part("largest", "The largest batches", 40),
    Part("profile", "One iteration, profiled", 15),
    Part("attention", "Attention beside other formulations", 40),
    Part("sampling", "Sampling", 40),
    Part("faces", "Training for the time that is left", None),
)
