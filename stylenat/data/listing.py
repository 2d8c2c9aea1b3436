"""Whether folders are as they were left, by names, sizes and times: quick, even for many files."""

import hashlib
import os
from contextlib import suppress
from pathlib import Path

from stylenat.errors import UserError
from stylenat.io import Json, read_json
from stylenat.records import Manifest


def listing_of(folder: str | Path) -> str:
    """SHA-256 of the names, sizes and times of all files below a folder. Links are followed, and each
    real folder is visited once."""
    lines, seen = [], set()
    for path, subfolders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(path)
        if real in seen:
            subfolders.clear()
            continue
        seen.add(real)
        for name in files:
            file = os.path.join(path, name)
            try:
                state = os.stat(file)
                found = f"{state.st_size} {state.st_mtime_ns}"
            except OSError:  # a link to nothing
                found = "not there"
            lines.append(f"{os.path.relpath(file, folder)}\0{found}")
    return hashlib.sha256("\n".join(sorted(lines)).encode(errors="surrogateescape")).hexdigest()


def listing_of_source(source: Json) -> str | None:
    """That of a data source that is a folder, and None of any other."""
    return listing_of(source["path"]) if source["kind"] == "folder" else None


def changed_folder(manifest: str | Path) -> str | None:
    """The folder that the manifest of a data set was made from, if it is not as it was then."""
    try:
        record = Manifest.read(read_json(manifest), manifest, "")
    except UserError:
        return None  # not there yet; or damaged, which packing will say
    unchanged = record.listing in (None, listing_of_source(record.source))
    return None if unchanged else record.source["path"]


# Not results, or not yet.
_LEFT_OUT = ("logs", "wandb", "tensorboard", ".download", ".part", ".lock", ".records")


def empty_results(folder: str | Path) -> list[str]:
    """Results without a byte, as a power cut may leave them: no step writes such."""
    found = []
    for path, subfolders, files in os.walk(folder):
        subfolders[:] = [name for name in subfolders if not name.endswith(_LEFT_OUT)]
        for name in files:
            file = os.path.join(path, name)
            with suppress(OSError):  # gone in the meantime, or a link to nothing
                if not name.endswith(_LEFT_OUT) and os.path.getsize(file) == 0:
                    found.append(file)
    return sorted(found)
