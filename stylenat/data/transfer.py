"""Many downloads at once, each checked, none fetched twice."""

import hashlib
import json
import logging
import os
import shutil
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import requests
from tqdm import tqdm

from stylenat.data.prepare import Unusable, decode, pixel_md5
from stylenat.errors import UserError
from stylenat.fetch import download
from stylenat.io import sha256
from stylenat.records import FileRecord

log = logging.getLogger(__name__)

_CONNECTIONS = 8
_ATTEMPTS = 4  # failures in a row, per file, before the file is given up for this run
_GIVE_UP = 20  # files given up before the run stops: the host is down or the quota used up


@dataclass(frozen=True)
class Remote:
    """A file to download: where from, where to (below the download folder), what it must be.

    ``pixel_md5`` is the MD5 of the decoded RGB pixels; a file that has it is accepted, with a
    note, even if its own checksum differs: it was encoded again, losslessly.
    """

    url: str
    path: str
    size: int | None = None
    md5: str | None = None
    sha256: str | None = None
    pixel_md5: str | None = None

    @property
    def expected(self) -> dict[str, int | str]:
        """What is known about the file beforehand."""
        known = {"size": self.size, "md5": self.md5, "sha256": self.sha256}
        return {key: value for key, value in known.items() if value is not None}


class _Stopped(Exception):
    """Another thread has ended the run."""


def download_all(
    remotes: Sequence[Remote], folder: Path, progress: Callable[..., tqdm] = tqdm
) -> list[FileRecord]:
    """Download what is missing of ``remotes`` into ``folder``, several at a time.

    Returns a record per file, in order. One file's failure does not stop the others; in the end
    the :class:`UserError` says how many failed and why, and the same call fetches only what is
    missing.
    """
    return _Transfer(remotes, folder).run(progress)


class _Transfer:
    """The threads' common state."""

    def __init__(self, remotes: Sequence[Remote], folder: Path) -> None:
        self.remotes, self.folder = remotes, folder
        folder.mkdir(parents=True, exist_ok=True)
        self.journal = _Journal(folder / "downloaded.jsonl")
        self.waiting = deque(r for r in remotes if not self.journal.holds(r, folder))
        self.failures: list[UserError] = []
        self.stopped = threading.Event()
        self.lock = threading.Lock()
        self.bytes = 0

    def run(self, progress: Callable[..., tqdm]) -> list[FileRecord]:
        known = len(self.remotes) - len(self.waiting)
        if known:
            log.info("%d of %d files are here already", known, len(self.remotes))
        if self.waiting:
            self._check_space()
            total = sum(remote.size or 0 for remote in self.waiting) // 1_000_000
            with (
                progress(total=total or None, desc="downloading", unit="MB") as self.bar,
                ThreadPoolExecutor(_CONNECTIONS) as pool,
            ):
                try:
                    for thread in [pool.submit(self._work) for _ in range(_CONNECTIONS)]:
                        thread.result()
                finally:
                    self.stopped.set()
        if self.failures:
            raise self._summary()
        return [self.journal.records[remote.path] for remote in self.remotes]

    def _check_space(self) -> None:
        needed = sum(remote.size or 0 for remote in self.waiting)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise UserError(
                f"{self.folder} needs {needed / 1e9:.1f} GB more and its disk has "
                f"{free / 1e9:.1f} GB free; free some, or work on another disk."
            )

    def _work(self) -> None:
        with requests.Session() as session:
            while self.waiting and not self.stopped.is_set():
                try:
                    remote = self.waiting.popleft()
                except IndexError:  # another thread took the last one
                    return
                try:
                    record = self._fetch(remote, session)
                except _Stopped:
                    return
                except UserError as error:
                    with self.lock:
                        log.warning("%s", error)
                        self.failures.append(error)
                        if len(self.failures) >= _GIVE_UP:
                            self.stopped.set()
                else:
                    with self.lock:
                        self.journal.add(record)

    def _fetch(self, remote: Remote, session: requests.Session) -> FileRecord:
        target = self.folder / remote.path
        fetch = partial(download, session=session, attempts=_ATTEMPTS, report=self._meter())
        note = None
        if remote.pixel_md5 is None:
            fetch(remote.url, target, size=remote.size, md5=remote.md5, sha256=remote.sha256)
        else:
            note = _fetch_image(remote, target, fetch)
        record = FileRecord(
            path=remote.path,
            url=remote.url,
            bytes=target.stat().st_size,
            sha256=sha256(target),
            expected=remote.expected,
        )
        if note:
            log.info("%s: %s", remote.path, note)
            return record.model_copy(update={"note": note})
        if not (remote.md5 or remote.sha256):
            log.warning(
                "%s: nothing says what it should be; its sha256 is %s", remote.url, record.sha256
            )
        return record

    def _meter(self) -> Callable[[int, int | None], None]:
        """A ``report`` for one download that adds to the common bar."""
        seen = 0

        def report(done: int, total: int | None) -> None:
            nonlocal seen
            if self.stopped.is_set():
                raise _Stopped
            with self.lock:
                self.bytes += done - seen
                seen = done
                self.bar.update(self.bytes // 1_000_000 - self.bar.n)

        return report

    def _summary(self) -> UserError:
        count = len(self.failures)
        here = sum(remote.path in self.journal.records for remote in self.remotes)
        stopped = " (given up there)" if self.stopped.is_set() and count >= _GIVE_UP else ""
        return UserError(
            f"{count} of {len(self.remotes)} files could not be downloaded{stopped}, the first "
            f"because: {self.failures[0]} {here} files are in {self.folder}; run the same command "
            "again to fetch only what is missing."
        )


def _fetch_image(remote: Remote, target: Path, fetch: Callable[..., None]) -> str | None:
    """Download an image that may be told by its pixels; return a note if it was."""
    if target.exists() and (note := _accept(remote, target)) is not None:
        return note
    unverified = target.with_name(f"{target.name}.unverified")
    for _ in range(2):  # what an earlier run left may be of another version
        fetch(remote.url, unverified)
        if (note := _accept(remote, unverified)) is not None:
            unverified.replace(target)
            return note
        unverified.unlink()
    raise UserError(
        f"{remote.url} is not the image it should be: neither its md5 nor that of its pixels fits."
    )


def _accept(remote: Remote, path: Path) -> str | None:
    """An empty string if the file is the expected one, a note if its pixels are, else None."""
    data = path.read_bytes()
    if hashlib.md5(data, usedforsecurity=False).hexdigest() == remote.md5:
        return ""
    try:
        same = pixel_md5(decode(data)) == remote.pixel_md5
    except Unusable:
        return None
    return "encoded again (its md5 differs), with the official pixels" if same else None


class _Journal:
    """What is downloaded and verified: one JSON line per file, written after its rename."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.records: dict[str, FileRecord] = {}
        content = path.read_bytes() if path.exists() else b""
        *lines, torn = content.split(b"\n")
        for line in lines:
            try:
                record = FileRecord.model_validate_json(line)
                self.records[record.path] = record
            except ValueError:  # as after a power cut
                log.warning("%s: a damaged line is left out, its file is checked again", path)
        if torn:  # an earlier run was killed here; that file will be checked again
            os.truncate(path, len(content) - len(torn))

    def holds(self, remote: Remote, folder: Path) -> bool:
        record = self.records.get(remote.path)
        if record:
            same = (record.url, record.expected) == (remote.url, remote.expected)
            with suppress(FileNotFoundError):
                if same and (folder / remote.path).stat().st_size == record.bytes:
                    return True
        self.records.pop(remote.path, None)
        return False

    def add(self, record: FileRecord) -> None:
        self.records[record.path] = record
        with open(self.path, "a") as file:
            file.write(json.dumps(record.to_dict()) + "\n")
