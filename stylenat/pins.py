"""Checksums of downloads for which the configuration has none: what a URL gave first, it must give again.

They are kept beside the configuration, because results/ may be deleted.
"""

import fcntl
import os
from pathlib import Path

from stylenat.errors import UserError
from stylenat.io import read_json, write_json

LOCK = Path("config/downloads.lock")
LOCK_HELP = "checksums of first downloads, where the configuration has none (default: %(default)s)"
FIRST_SEEN = (
    "Its expected checksum is that of the first download, in {lock}; delete the line there if the new "
    "file is to be trusted."
)


def pinned(path: str | Path) -> dict[str, str]:
    """SHA-256 by URL, of the lock file at ``path``; none where there is no file."""
    if not Path(path).exists():
        return {}
    pins = read_json(path)
    if not isinstance(pins, dict):
        raise UserError(
            f"{path} does not hold checksums by URL; restore it, or delete it to trust "
            "what is downloaded next."
        )
    return pins


def pin(path: str | Path, found: dict[str, str]) -> None:
    """Add SHA-256 by URL; of URLs that are there already, the earlier ones stay. Safe beside other
    processes that do the same."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    directory = os.open(path.parent, os.O_RDONLY)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        known = pinned(path)
        if found.keys() - known.keys():
            write_json(path, dict(sorted((found | known).items())))
    finally:
        os.close(directory)
