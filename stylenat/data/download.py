"""Getting a data set: the first of its sources that is there, downloaded where it has to be."""

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from urllib.parse import unquote, urlsplit

from tqdm import tqdm

from stylenat.data.extract import inside
from stylenat.data.sources import ffhq, open_source
from stylenat.data.transfer import Remote, download_all
from stylenat.errors import UserError
from stylenat.io import Json
from stylenat.pins import FIRST_SEEN, pin, pinned
from stylenat.records import FileRecord

log = logging.getLogger(__name__)


def acquire(
    name: str,
    sources: list[Json],
    directory: Path,
    lock: Path,
    progress: Callable[..., tqdm] = tqdm,
) -> tuple[Json, list[FileRecord]]:
    """Try the ``sources`` of data set ``name`` in the order listed; take the first that is there.

    Returns its entry and the records of its files, which lie in ``directory`` if they had to be
    downloaded. A URL without a checksum has to give what it gave first, by ``lock``. If no source is there, the :class:`UserError` says why for each.
    """
    reasons = []
    for entry in sources:
        try:
            files = _obtain(entry, directory, progress, lock)
            source = open_source(entry, _ANY_RESOLUTION, directory, files)
        except UserError as error:
            reasons.append(f"{entry['kind']}: {error}")
            log.warning("source %s is not there: %s", entry["kind"], error)
            continue
        log.info("%s: %d images; licence: %s", source.describe(), len(source.names), source.licence)
        return entry, files
    raise UserError(f"no source of data set {name} is there. " + " ".join(reasons))


_ANY_RESOLUTION = 1  # whether a source is there does not depend on it


def _obtain(
    entry: Json, directory: Path, progress: Callable[..., tqdm], lock: Path
) -> list[FileRecord]:
    """Download what the source needs; records of its files, where it does not find them itself."""
    match entry["kind"]:
        case "ffhq":
            return ffhq.obtain(entry, directory, progress)
        case "urls":
            return _download_pinned(_remotes(entry["urls"]), directory, progress, lock)
    return []


def _download_pinned(
    remotes: list[Remote], directory: Path, progress: Callable[..., tqdm], lock: Path
) -> list[FileRecord]:
    known = pinned(lock)
    expected = {
        remote.url: known[remote.url]
        for remote in remotes
        if remote.url in known and not (remote.sha256 or remote.md5)
    }
    try:
        records = download_all(
            [replace(r, sha256=expected.get(r.url, r.sha256)) for r in remotes], directory, progress
        )
    except UserError as error:
        if any(digest in str(error) for digest in expected.values()):
            raise UserError(f"{error} {FIRST_SEEN.format(lock=lock)}") from error
        raise
    pin(lock, {r.url: r.sha256 for r in records if r.url and r.sha256})
    return records


def _remotes(urls: Sequence[str | Json]) -> list[Remote]:
    """The files of a source of kind ``urls``: addresses, alone or with size, md5 or sha256."""
    remotes = []
    for index, item in enumerate(urls):
        item = {"url": item} if isinstance(item, str) else item
        # Numbered, so that the order is the list's and equal names do not collide.
        name = inside(unquote(urlsplit(item["url"]).path)).name
        remotes.append(Remote(path=f"{index:06d}-{name}", **item))
    return remotes
