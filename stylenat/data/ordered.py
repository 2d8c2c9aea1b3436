"""A parallel map that keeps order, bounds what is in flight and leaves no orphans."""

import multiprocessing
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from itertools import islice
from typing import Any

from stylenat.errors import UserError
from stylenat.runtime import keep_freed_memory


def ordered_map(
    function: Callable[[Any], Any],
    items: Iterable[Any],
    workers: int,
    chunk: int = 8,
    ahead: int = 4,
) -> Generator[Any, None, None]:
    """``map(function, items)`` over ``workers`` processes, results in the order of the items.

    ``function`` is sent to each worker once, so it has to be picklable and must not be defined in
    the program's main module, which workers do not import; 0 workers means this process. Items travel
    in messages of ``chunk``, at most ``ahead`` messages per worker at a time, so memory does not
    grow with the number of items.
    """
    if not workers:
        yield from map(function, items)
        return
    items = iter(items)
    chunks = iter(lambda: list(islice(items, chunk)), [])
    # Not fork: the parent may have threads, whose locks a forked child would find taken for ever.
    executor = ProcessPoolExecutor(
        workers, multiprocessing.get_context("spawn"), _initialise, (function,)
    )
    running: deque[Future[list[Any]]] = deque()
    try:
        for message in chunks:
            with _main_hidden():
                running.append(executor.submit(_call, message))
            if len(running) >= workers * ahead:
                yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    except BrokenProcessPool as error:
        for worker in multiprocessing.active_children():
            worker.kill()  # the pool asks them to end, which they ignore (see _initialise)
        raise UserError(
            "a worker process was killed, most likely for want of memory if nothing above says "
            "why; run the same command again with fewer workers or more memory."
        ) from error
    finally:
        executor.shutdown(cancel_futures=True)


@contextmanager
def _main_hidden() -> Iterator[None]:
    """Spare workers that start here the import of the main module: a training step's brings torch
    with it (seconds, and 200 MB each), and an interactive session has none to import."""
    main = sys.modules["__main__"]
    hidden = {name: getattr(main, name, None) for name in ("__spec__", "__file__")}
    for name in hidden:
        setattr(main, name, None)
    try:
        yield
    finally:
        for name, value in hidden.items():
            setattr(main, name, value)


_function: Callable[[Any], Any]


def _initialise(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function
    keep_freed_memory()  # every image is decoded into memory as large as the last one's
    # A scheduler signals every process of a job. What that means is for the parent to say: training,
    # for one, goes on until its state is saved.
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR2):
        signal.signal(number, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A pool's workers wait for ever when the parent is killed outright.
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _call(items: list[Any]) -> list[Any]:
    return [_function(item) for item in items]
