"""Where images come from: one class per kind of source, chosen by ``kind`` in the configuration.

A new kind is a file with its class and a line in :data:`SOURCES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from stylenat.data.sources.avatars import Avatars
from stylenat.data.sources.base import Source
from stylenat.data.sources.downloaded import open_downloaded
from stylenat.data.sources.ffhq import Ffhq
from stylenat.data.sources.files import Folder, Lmdb, Zip
from stylenat.data.sources.parquet import Parquet
from stylenat.data.sources.samples import Galaxies, Photos
from stylenat.errors import UserError
from stylenat.io import Json
from stylenat.records import FileRecord

__all__ = ["SOURCES", "Source", "open_source"]


@dataclass(frozen=True)
class Context:
    """What a source may need beside its entry."""

    resolution: int  # the images will be packed at; it selects among stored sizes
    directory: Path | None  # where downloads lie …
    files: Sequence[FileRecord]  # … and their records
    licence: str

    @property
    def downloads(self) -> Path:
        """The directory, for kinds that are downloaded."""
        assert self.directory is not None
        return self.directory


SOURCES: dict[str, Callable[[Json, Context], Source]] = {
    "avatars": lambda entry, at: Avatars(
        entry["style"], entry["count"], entry["first_seed"], entry["backgrounds"], at.resolution
    ),
    "galaxies": lambda entry, at: Galaxies(),
    "photos": lambda entry, at: Photos(at.resolution),
    "folder": lambda entry, at: Folder(entry["path"], at.licence, entry.get("classes")),
    "zip": lambda entry, at: Zip(entry["path"], at.licence, entry.get("classes")),
    "lmdb": lambda entry, at: Lmdb(entry["path"], at.resolution, at.licence),
    "parquet": lambda entry, at: Parquet(entry["path"], at.licence),
    "urls": lambda entry, at: open_downloaded(at.downloads, at.files, at.resolution, at.licence),
    "ffhq": lambda entry, at: Ffhq(
        Path(entry["path"]) if "path" in entry else at.downloads, at.files
    ),
}


def open_source(
    entry: Json,
    resolution: int,
    directory: Path | None = None,
    files: Sequence[FileRecord] = (),
) -> Source:
    """The source that one entry of ``sources`` describes; a :class:`UserError` if it is not there.

    ``resolution`` is the side the images will be packed at; ``files`` are the records of what was
    downloaded into ``directory``, for kinds that need it.
    """
    if entry["kind"] not in SOURCES:
        raise UserError(
            f"unknown kind of source {entry['kind']!r}; there are {', '.join(SOURCES)}."
        )
    licence = entry.get("licence", "not stated")
    return SOURCES[entry["kind"]](entry, Context(resolution, directory, files, licence))
