"""Downloads that resume: a file is whole and verified under its name, or it is ``<name>.part``."""

import hashlib
import logging
import os
import re
import time
from collections.abc import Callable
from pathlib import Path

import requests

from stylenat.errors import UserError
from stylenat.io import sync_directory

log = logging.getLogger(__name__)

CHUNK = 1 << 16  # bytes; a broken connection loses at most so many
TIMEOUT = (15, 60)  # seconds to connect, seconds of silence
LONGEST_WAIT = 60  # seconds between two attempts
# 403 because busy hosts answer so to a download they will serve a minute later.
RETRIED = {403, 408, 425, 429, 500, 502, 503, 504}


class _Interrupted(Exception):
    """An attempt that failed for a reason that may have passed at the next one."""


TRANSIENT = (
    _Interrupted,
    requests.ConnectionError,
    requests.Timeout,
    requests.exceptions.ChunkedEncodingError,
)


def download(
    url: str,
    path: str | Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    size: int | None = None,
    attempts: int = 6,
    session: requests.Session | None = None,
    report: Callable[[int, int | None], None] | None = None,
) -> None:
    """Fetch ``url`` into ``path``; calling it again continues where it stopped.

    Bytes collect in ``<path>.part`` and are asked for with ``Range``, so neither a broken
    connection nor a killed process loses them. ``attempts`` counts failures in a row that
    brought no new byte; the wait between them doubles. ``size`` (bytes) and the hex digests
    are checked before the file takes its name; a file that already has the name and passes
    the same checks is kept. ``report(done, total)`` is called after every chunk (bytes; total
    may be None). Raises :class:`UserError` when the file is not there, is a web page instead, or
    does not pass.
    """
    path = Path(path)
    part = path.with_name(path.name + ".part")
    if path.exists() and _fault(path, size, sha256, md5) is None:
        return
    url = _direct(url)
    session = session or requests.Session()
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        while True:
            resumed = _collect(session, url, part, size, attempts, report)
            fault = _fault(part, size, sha256, md5)
            if fault is None:
                break
            part.unlink()
            # Old bytes may belong to another version of the file; new ones are what the host has.
            if not resumed:
                raise UserError(
                    f"{url} was downloaded but its {fault}; the file there has changed or something "
                    "in between replaced it: check the address and the expected value."
                )
            log.warning("%s: %s; starting over without the old bytes", path.name, fault)
        os.replace(part, path)
        sync_directory(path.parent)
    except OSError as error:
        raise UserError(
            f"{path} could not be written ({error.strerror or error}); free the space or fix the "
            "permissions and run the same command again: it continues."
        ) from error


def _direct(url: str) -> str:
    """Google Drive's pages lead to a question about viruses; its download host gives the file."""
    match = re.search(r"//drive\.google\.com/(?:uc\?(?:.*&)?id=|file/d/)([\w-]+)", url)
    if match is None:
        return url
    return f"https://drive.usercontent.google.com/download?id={match[1]}&export=download&confirm=t"


def _collect(
    session: requests.Session,
    url: str,
    part: Path,
    size: int | None,
    attempts: int,
    report: Callable[[int, int | None], None] | None,
) -> bool:
    """Bring ``part`` to its full length; True if it began with bytes of an earlier call."""
    resumed = _length(part) > 0
    failures = 0
    while True:
        before = _length(part)
        try:
            _attempt(session, url, part, size, report)
            return resumed
        except TRANSIENT as error:
            failures = 0 if _length(part) > before else failures + 1
            if failures >= attempts:
                raise UserError(
                    f"{url} could not be downloaded: {error} ({attempts} attempts); "
                    "run the same command later: it continues where it stopped."
                ) from error
            wait = min(2**failures, LONGEST_WAIT)
            log.warning("%s: %s; trying again in %d s", part.stem, error, wait)
            time.sleep(wait)
        except requests.RequestException as error:
            raise UserError(f"{url} cannot be downloaded: {error}; check the address.") from error


def _attempt(
    session: requests.Session,
    url: str,
    part: Path,
    size: int | None,
    report: Callable[[int, int | None], None] | None,
) -> None:
    """One request, from the bytes there are to the end."""
    done = _length(part)
    if size is not None and done == size:
        return
    # Without identity, Range and Content-Length would count compressed bytes.
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={done}-"} if done else {})
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as response:
        if (
            response.status_code == 416
        ):  # nothing after ``done``: complete, or not this file's bytes
            if response.headers.get("Content-Range") == f"bytes */{done}":
                return
            part.unlink()
            raise _Interrupted("the host has fewer bytes than were already here")
        if response.status_code in RETRIED:
            raise _Interrupted(f"the host answered {response.status_code} {response.reason}")
        if not response.ok:
            raise UserError(
                f"{url} is not available: the host answered {response.status_code} "
                f"{response.reason}; check the address, or fetch the file by hand."
            )
        if response.headers.get("Content-Type", "").startswith("text/html"):
            raise _Interrupted(f"the host sent a web page instead of the file ({_page(response)})")
        if response.status_code != 206:  # the host ignores Range and sends everything
            done = 0
        elif not response.headers.get("Content-Range", "").startswith(f"bytes {done}-"):
            part.unlink()
            raise _Interrupted("the host sent another range than it was asked for")
        total = _total(response, done)
        with open(part, "ab" if done else "wb") as file:
            for chunk in response.iter_content(CHUNK):
                file.write(chunk)
                done += len(chunk)
                if report:
                    report(done, total)
            file.flush()
            os.fsync(file.fileno())
        if total is not None and done < total:
            raise _Interrupted(f"the connection ended after {done} of {total} bytes")


def _page(response: requests.Response) -> str:
    """What a web page that came instead of a file is about."""
    text = next(response.iter_content(CHUNK), b"").lower()
    if b"quota" not in text and b"too many users" not in text:
        return "a login, or an error"
    # Google Drive counts over 24 hours and does not say when they began.
    later = time.strftime("%Y-%m-%d %H:%M", time.localtime(time.time() + 24 * 3600))
    return f"quota exceeded, try again after {later} at the latest"


def _total(response: requests.Response, offset: int) -> int | None:
    length = response.headers.get("Content-Length")
    return None if length is None else offset + int(length)


def _length(part: Path) -> int:
    return part.stat().st_size if part.exists() else 0


def _fault(path: Path, size: int | None, sha256: str | None, md5: str | None) -> str | None:
    """What is wrong with a complete file, or None."""
    if size is not None and path.stat().st_size != size:
        return f"size is {path.stat().st_size} bytes, not {size}"
    for algorithm, expected in (("sha256", sha256), ("md5", md5)):
        if expected is not None:
            with open(path, "rb") as file:
                found = hashlib.file_digest(file, algorithm).hexdigest()
            if found != expected:
                return f"{algorithm} is {found}, not {expected}"
    return None
