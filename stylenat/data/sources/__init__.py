"""Where images come from: one class per kind of source, chosen by ``kind`` in the configuration."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stylenat.data.sources.avatars import Avatars
from stylenat.data.sources.base import Source
from stylenat.data.sources.downloaded import open_downloaded
from stylenat.data.sources.ffhq import Ffhq
from stylenat.data.sources.files import Folder, Lmdb, Zip
from stylenat.data.sources.parquet import Parquet
from stylenat.data.sources.samples import Galaxies, Photos
from stylenat.errors import UserError

__all__ = ["Source", "open_source"]


def open_source(
    entry: dict[str, Any],
    resolution: int,
    directory: Path | None = None,
    files: Sequence[dict[str, Any]] = (),
) -> Source:
    """The source that one entry of ``sources`` describes; a :class:`UserError` if it is not there.

    ``resolution`` is the side the images will be packed at; it selects among stored sizes.
    ``files`` are the records of what was downloaded into ``directory``, for kinds that need it.
    """
    kind, licence = entry["kind"], entry.get("licence", "not stated")
    match kind:
        case "avatars":
            settings = (entry[key] for key in ("style", "count", "first_seed", "backgrounds"))
            return Avatars(*settings, resolution)
        case "galaxies":
            return Galaxies()
        case "photos":
            return Photos(resolution)
        case "folder":
            return Folder(entry["path"], licence)
        case "zip":
            return Zip(entry["path"], licence)
        case "lmdb":
            return Lmdb(entry["path"], resolution, licence)
        case "parquet":
            return Parquet(entry["path"], licence)
        case "urls":
            return open_downloaded(directory, files, resolution, licence)
        case "ffhq":
            return Ffhq(Path(entry.get("path", directory)), files)
    raise UserError(f"unknown kind of source {kind!r}")
