"""Files that are whole or absent: every output is written beside its name, then renamed.

No torch here, so that tables and figures start in a moment.
"""

import fcntl
import hashlib
import json
import os
import socket
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from stylenat.errors import UserError

Json = dict[str, Any]  # an object of JSON or YAML, with any keys


@contextmanager
def atomic(path: str | Path) -> Iterator[Path]:
    """Yield a temporary name beside ``path``; on success sync it and rename it to ``path``.

    If the body raises, or the process dies, a file already at ``path`` is left as it was.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    # Snakemake and users glob by suffix, so the temporary name must not end like the real one.
    temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        temporary.touch()
        mode = temporary.stat().st_mode  # some writers (safetensors) would make it private
        yield temporary
        temporary.chmod(mode)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_directory(path.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise unwritten(path, error) from error
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


def unwritten(path: Path, error: Exception) -> UserError:
    """For a file that could not be written, whatever the system said."""
    return UserError(
        f"{path} could not be written ({getattr(error, 'strerror', None) or error}); free the space "
        "or fix the permissions and run the same command again."
    )


@contextmanager
def alone(path: str | Path) -> Iterator[None]:
    """Keep other processes, of this machine or another, from making ``path`` as long as the body runs.

    For files that are made over many minutes under names that every process would use. A second one
    gets a :class:`UserError`; the lock ends with its process, however that ends.
    """
    path = Path(path)
    lock = path.with_name(f"{path.name}.lock")
    descriptor = _locked(path, lock)
    try:
        with suppress(OSError):
            # It may outlive this process, and the next user be another.
            os.fchmod(descriptor, 0o666)
            os.ftruncate(descriptor, 0)
            os.write(descriptor, f"{os.getpid()} on {socket.gethostname()}".encode())
        try:
            yield
        finally:
            lock.unlink(missing_ok=True)
    finally:
        os.close(descriptor)


def _locked(path: Path, lock: Path) -> int:
    """The descriptor of ``lock``, locked by this process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(lock, os.O_RDWR | os.O_CREAT, 0o666)
    except OSError as error:
        raise unwritten(path, error) from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(descriptor, 200).decode(errors="replace")
        os.close(descriptor)
        raise UserError(
            f"{path} is being made by another process ({holder}); wait for it, or end it, and "
            "run the same command again."
        ) from None
    except OSError:  # a file system without locks
        return descriptor
    with suppress(FileNotFoundError):
        if os.path.samestat(os.fstat(descriptor), os.stat(lock)):
            return descriptor
    # Its holder ended, and deleted it, between our opening and locking it: a third may have made another.
    os.close(descriptor)
    return _locked(path, lock)


def sync_directory(path: Path) -> None:
    """Make a rename in ``path`` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def described(path: str | Path) -> str:
    """What a file seems to be, for messages about one that is not what its name says."""
    try:
        with open(path, "rb") as file:
            start = file.read(512)
    except OSError as error:
        return f"it cannot be read: {error.strerror}"
    text = start.lstrip().lower()
    for kind, found in (
        ("it is empty", not start),
        (
            "it is a Git LFS pointer: fetch the file itself with git lfs pull",
            text.startswith(b"version https://git-lfs"),
        ),
        (
            "it is an HTML page, perhaps of an error: download it again",
            text.startswith((b"<!doctype html", b"<html")),
        ),
        ("it is compressed by gzip: unpack it first", start.startswith(b"\x1f\x8b")),
        ("it is a safetensors file", start[8:9] == b"{"),
        ("it is a zip archive", start.startswith(b"PK")),
        ("it is a pickle", start.startswith(b"\x80") and start[1:2] in b"\x02\x03\x04\x05"),
        ("it is JSON", text.startswith((b"{", b"["))),
        ("it is a PNG", start.startswith(b"\x89PNG")),
        ("it is a JPEG", start.startswith(b"\xff\xd8")),
        ("it is text", start.isascii() and b"\0" not in start),
    ):
        if found:
            return kind
    return "it is truncated or of another kind"


def brief(error: BaseException) -> str:
    """The first 200 characters of an error's message, on one line: some quote the damaged bytes."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]}…"


def write_json(path: str | Path, record: Any) -> None:
    """Write one JSON record, keys in the order given, numbers unrounded."""
    with atomic(path) as temporary:
        temporary.write_text(json.dumps(record, indent=2, allow_nan=False) + "\n")


def read_json(path: str | Path) -> Any:
    """Read one JSON record; a file that is not JSON is a :class:`UserError`."""
    try:
        return json.loads(Path(path).read_text())
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run the step that makes it.") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:  # of JSON, or of its encoding
        raise UserError(
            f"{path} is not valid JSON ({described(path)}; {brief(error)}); delete it and rerun."
        ) from error


def write_npz(path: str | Path, arrays: dict[str, np.ndarray], record: Json) -> None:
    """Write arrays together with the JSON record that says what they are."""
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, allow_pickle=False, record=np.array(json.dumps(record)), **arrays)


def read_npz(path: str | Path, skip: Collection[str] = ()) -> tuple[dict[str, np.ndarray], Json]:
    """Read what :func:`write_npz` wrote, but for the arrays to ``skip``: (arrays, record).

    Nothing is unpickled.
    """
    try:
        with np.load(path, allow_pickle=False) as archive:
            if "record" not in archive.files:
                raise UserError(
                    f"{path} holds {', '.join(archive.files)}, but no record of what these are: "
                    "another program made it; it cannot be used here, and is left as it is."
                )
            arrays = {name: archive[name] for name in archive.files if name not in skip}
        return arrays, json.loads(str(arrays.pop("record")))
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; run the step that makes it.") from None
    except UserError:
        raise
    except Exception as error:  # zipfile, numpy and json each fail in several ways
        raise UserError(
            f"{path} is not one of our npz files, or truncated ({described(path)}; {brief(error)}); "
            "if a step of this project made it, delete it and rerun."
        ) from error


def sha256(path: str | Path) -> str:
    """Hex SHA-256 of a file's bytes."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
