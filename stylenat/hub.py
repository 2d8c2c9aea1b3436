"""Generators from elsewhere: what a model repository of the Hugging Face hub holds, and a cache of
what was downloaded.

A file is downloaded once. Its SHA-256 is kept beside it and checked whenever it is used; a damaged one
is fetched again, and must be what it was the first time.
"""

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stylenat.errors import UserError
from stylenat.io import sha256
from stylenat.pins import FIRST_SEEN, pin, pinned

WEIGHTS, CONFIG = "model.safetensors", "config.json"
HUB = "https://huggingface.co"
CHECKSUMS = "checksums.json"
ATTEMPTS = 3  # of a download that brings nothing: somebody waits for it


def local_weights(source: str | Path) -> Path:
    """The safetensors file that ``source`` stands for, downloaded if it has to be.

    A file is itself, and a folder what ``stylenat publish`` wrote there. A string that names neither
    may be the http(s) address of a safetensors file, or user/name of a public repository of the
    hub (at ``HF_ENDPOINT``, where that is set). Raises :class:`UserError` where there is nothing,
    where a download fails, and where it is not what it was the first time.
    """
    path = Path(source)
    if path.is_dir():
        if not (path / WEIGHTS).is_file():
            raise UserError(
                f"{path} is a folder without {WEIGHTS}; give a folder that stylenat publish wrote, "
                "or a safetensors file."
            )
        return path / WEIGHTS
    if isinstance(source, Path) or path.exists():
        return path
    if re.match("https?://", source):
        return _cached(source)
    # A path of ours that is not there would also do as a name.
    if is_repository(source) and not source.endswith(".safetensors"):
        return _cached(address(source))
    return path


def is_repository(name: str) -> bool:
    """Whether ``name`` is one that a repository of the hub can have: user/name."""
    return re.fullmatch(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9_][\w.-]*", name, re.ASCII) is not None


def address(repository: str) -> str:
    """Where the hub has the weights of user/name."""
    endpoint = os.environ.get("HF_ENDPOINT") or HUB
    return f"{endpoint.rstrip('/')}/{repository}/resolve/main/{WEIGHTS}"


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/stylenat``, or ``~/.cache/stylenat``."""
    home = os.environ.get("XDG_CACHE_HOME")
    try:
        return (Path(home) if home else Path.home() / ".cache") / "stylenat"
    except RuntimeError:  # no HOME, and a user that the system does not know
        raise UserError(
            "this user has no home directory to keep downloads in; set XDG_CACHE_HOME to a folder "
            "that can be written, or download the file and give its path."
        ) from None


def _cached(url: str) -> Path:
    from stylenat.fetch import download  # whose requests most uses do without

    folder = cache_folder()
    name = hashlib.sha256(url.encode()).hexdigest()[:16]
    path, pins = folder / f"{name}.safetensors", folder / CHECKSUMS
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _locked(folder / f"{name}.lock"):
            expected = pinned(pins).get(url)
            if expected is not None and path.exists() and sha256(path) == expected:
                return path
            try:
                download(url, path, sha256=expected, attempts=ATTEMPTS)
            except UserError as error:
                hint = f"no copy in the cache {folder}, and " if expected is None else ""
                again = "" if expected is None else f" {FIRST_SEEN.format(lock=pins)}"
                raise UserError(f"{hint}{error}{again}") from error
            pin(pins, {url: sha256(path)})
    except OSError as error:
        raise UserError(
            f"{folder} cannot be used to keep {url} ({error.strerror}); set XDG_CACHE_HOME to a folder "
            "that can be written, or download the file and give its path."
        ) from error
    return path


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Only one process at a time, or they would write into one unfinished file."""
    with open(path, "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
