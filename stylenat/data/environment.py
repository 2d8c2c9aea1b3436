"""Read-only LMDB environments that are safe to hold in many places of one process.

LMDB refuses to open a file twice in a process, must not be used across a fork, and answers a
truncated file with a bus error; readers go through here so that none of that reaches them.
"""

import os
import weakref
from pathlib import Path
from typing import Self

import lmdb

from stylenat.errors import UserError
from stylenat.io import described

_opened: weakref.WeakValueDictionary[tuple[object, ...], lmdb.Environment] = (
    weakref.WeakValueDictionary()
)


def _close_inherited() -> None:
    """In a forked child: give up the parent's environments, so that it may open its own."""
    for environment in list(_opened.values()):
        environment.close()
    _opened.clear()


os.register_at_fork(after_in_child=_close_inherited)


class Reader:
    """Key to value of one LMDB; pickles as its path, and opens on first use in each process.

    So it may be handed to forked or spawned workers, and be shared by threads.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._environment: lmdb.Environment | None = None
        self._pid = -1

    def __reduce__(self) -> tuple[type[Self], tuple[Path]]:
        return type(self), (self.path,)

    def get(self, key: bytes) -> bytes | None:
        """The value, or None if there is no such key."""
        with self._opened().begin() as transaction:
            return transaction.get(key)

    def sorted_keys(self) -> list[bytes]:
        """All keys there are."""
        with self._opened().begin() as transaction:
            return list(transaction.cursor().iternext(values=False))

    def _opened(self) -> lmdb.Environment:
        # An environment must not be used after a fork; the child opens its own.
        if self._environment is None or self._pid != os.getpid():
            self._environment, self._pid = open_readonly(self.path), os.getpid()
        return self._environment


def open_readonly(path: Path) -> lmdb.Environment:
    """The environment of the LMDB at ``path`` (a file, or a directory holding ``data.mdb``).

    It is shared within the process and closed with its last reference. No lock file is written
    and nothing is read ahead, so a file on a read-only or network file system is fine. A missing,
    foreign or truncated file is a :class:`UserError`.
    """
    data = path / "data.mdb" if path.is_dir() else path
    try:
        status = data.stat()
    except OSError as error:
        raise UserError(f"{data} cannot be read ({error.strerror}).") from error
    # Size and mtime: a file replaced under the same name is another file.
    key = (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)
    environment = _opened.get(key)
    if environment is None:
        environment = _opened[key] = _open_checked(data, status.st_size)
    return environment


def _open_checked(data: Path, size: int) -> lmdb.Environment:
    try:
        environment = lmdb.open(
            str(data), subdir=False, readonly=True, lock=False, readahead=False, max_readers=1
        )
    except lmdb.Error as error:
        raise UserError(
            f"{data} is not an LMDB file, or is cut off at its start ({size} bytes; "
            f"{described(data)}); delete it and make or copy it again."
        ) from error
    # The pages are mapped, not read: touching one beyond the end of the file kills the process.
    needed = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    if size < needed:
        environment.close()
        raise UserError(
            f"{data} is truncated: {size} of {needed} bytes; delete it and make or copy it again."
        )
    return environment
