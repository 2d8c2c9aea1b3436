"""What every step shares on the command line: log file, header, progress bar, plain errors."""

import argparse
import inspect
import logging
import math
import os
import shlex
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm
from tqdm.contrib.logging import logging_redirect_tqdm

from stylenat import runtime
from stylenat.errors import UserError
from stylenat.hub import local_weights

log = logging.getLogger("stylenat")


def parser(description: str) -> argparse.ArgumentParser:
    """An argument parser with the options every step has."""
    verb = sys.modules["__main__"].__spec__
    result = argparse.ArgumentParser(
        prog=f"stylenat {verb.name.rpartition('.')[2]}" if verb else None,
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    result.add_argument("--log", type=Path, help="also write the log to this file")
    return result


def add_device(to: argparse.ArgumentParser) -> None:
    """The ``--device`` option of steps that run a network."""
    to.add_argument("--device", help="auto, cpu or cuda")


def add_weights(to: argparse.ArgumentParser) -> None:
    """The ``--weights`` option of steps that read a generator: whatever
    :func:`stylenat.load_generator` takes, as the path of a file that is here."""
    to.add_argument(
        "--weights",
        type=_weights,
        required=True,
        help="generator: safetensors file, folder of `stylenat publish`, address, or user/name of the hub",
    )


def add_files(to: argparse.ArgumentParser, many: bool = False, **options: str) -> None:
    """Required options, each the path of a file, or of ``many``, with its help."""
    for name, described in options.items():
        to.add_argument(
            f"--{name.replace('_', '-')}",
            type=Path,
            nargs="+" if many else None,
            required=True,
            help=described,
        )


def _weights(source: str) -> Path:
    try:
        return local_weights(source)
    except UserError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def main(
    options: argparse.ArgumentParser,
    run: Callable[..., None],
    arguments: list[str] | None = None,
    keep_memory: bool = True,
    precision: str = "float32",
) -> None:
    """Parse, open the log, print the header, call ``run`` with the options as keywords; a UserError is
    one line and exit status 1.

    The defaults of ``run`` are those of the options. Any other exception is logged with its traceback:
    it is a defect, or a file worth sending us. ``keep_memory`` is whether to call
    :func:`stylenat.runtime.keep_freed_memory`; ``precision`` is what the header says where there is no
    ``--dtype``.
    """
    options.set_defaults(**_defaults(run))
    values = vars(options.parse_args(arguments))
    _open_log(values.pop("log"))
    if keep_memory:
        runtime.keep_freed_memory()
    try:
        with logging_redirect_tqdm(loggers=[log]):
            _header(values.get("device"), values.get("dtype", precision))
            run(**values)
    except UserError as error:
        log.error("error: %s", error)
        sys.exit(1)
    except Exception:
        log.exception("unexpected failure")
        sys.exit(70)


def progress(
    iterable: Iterable[Any] | None = None,
    *,
    total: int | None = None,
    desc: str = "",
    unit: str = "it",
    initial: int = 0,
) -> tqdm:
    """A progress bar with rate and time left on stderr; sparse lines where that is no terminal."""
    terminal = sys.stderr.isatty()
    return tqdm(
        iterable,
        total=total,
        desc=desc,
        unit=unit,
        initial=initial,
        mininterval=0.5 if terminal else 20,
        ascii=None if terminal else True,
        dynamic_ncols=terminal,
        disable=int(os.environ.get("RANK", "0")) != 0,
    )


def pictures(made: Iterable[np.ndarray], shape: Sequence[int]) -> np.ndarray:
    """Images while they are made, with a progress bar: uint8 (*shape, S, S, 3)."""
    bar = progress(made, total=math.prod(shape), desc="sampling", unit="img")
    images = np.stack(list(bar))
    return images.reshape(*shape, *images.shape[1:])


def _defaults(run: Callable[..., None]) -> dict[str, Any]:
    parameters = inspect.signature(run).parameters.values()
    return {one.name: one.default for one in parameters if one.default is not one.empty}


def _open_log(path: Path | None) -> None:
    rank = int(os.environ.get("RANK", "0"))
    log.setLevel(logging.INFO if rank == 0 else logging.WARNING)
    prefix = "" if rank == 0 else f"rank {rank}: "
    handlers: list[logging.Handler] = [logging.StreamHandler(sys.stderr)]
    if path is not None and rank == 0:
        path.parent.mkdir(parents=True, exist_ok=True)
        handlers.append(logging.FileHandler(path, mode="w"))
    for handler in handlers:
        handler.setFormatter(logging.Formatter(f"%(asctime)s {prefix}%(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    logging.captureWarnings(True)


def _header(device: str | None, precision: str) -> None:
    """The line that reruns this step by hand, then what the numbers below depend on."""
    module = sys.modules["__main__"].__spec__
    name = module.name if module else sys.argv[0]
    log.info("$ python -m %s %s", name, shlex.join(sys.argv[1:]))
    log.info("versions: %s", ", ".join(f"{k} {v}" for k, v in runtime.versions().items()))
    log.info("commit: %s", runtime.commit())
    if device is None:
        log.info("device: none (this step runs no network); attention backend: none")
        return
    from stylenat.models.attention import describe

    selected = runtime.select_device(device)
    if selected.type == "cuda":
        runtime.keep_kernels_on_this_node()
    log.info("device: %s", runtime.describe_device(selected))
    log.info("attention backend: %s", describe(selected))
    log.info("precision: %s", precision)
