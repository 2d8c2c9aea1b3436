"""What a list of URLs turned out to be: images, archives of images, an LMDB, Parquet files."""

import tarfile
import zipfile
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from pathlib import Path, PurePosixPath

from PIL import Image

from stylenat.data.extract import extract
from stylenat.data.sources.base import Source
from stylenat.data.sources.files import Files, Folder, Lmdb, Zip, is_image_name
from stylenat.data.sources.parquet import Parquet
from stylenat.errors import UserError
from stylenat.records import FileRecord


class Chain(Source):
    """Several sources one after the other."""

    def __init__(self, sources: Sequence[Source], licence: str, description: str) -> None:
        self.sources = sources
        self.licence = licence
        self.description = description
        self.names = [name for source in sources for name in source.names]
        self.starts = [0, *accumulate(len(source.names) for source in sources)]

    def read(self, index: int) -> bytes | Image.Image:
        which = bisect_right(self.starts, index) - 1
        return self.sources[which].read(index - self.starts[which])

    def describe(self) -> str:
        return self.description


def open_downloaded(
    directory: Path, files: Sequence[FileRecord], resolution: int, licence: str
) -> Source:
    """The images in downloaded ``files`` in the order listed.

    Archives are extracted beside the files on first use, except zips of images, which are read
    in place.
    """
    paths = [record.path for record in files]
    images = [path for path in paths if is_image_name(path)]
    parts: list[Source] = []
    if images:
        parts.append(Files(directory, images, licence, "urls"))
    for path in paths:
        if path not in images:
            parts.append(_open(directory, path, resolution, licence))
    first = files[0].url
    more = f" and {len(files) - 1} more" if len(files) > 1 else ""
    return Chain(parts, licence, f"urls: {first}{more}")


def _open(directory: Path, name: str, resolution: int, licence: str) -> Source:
    path = directory / name
    extracted = directory / "extracted" / name
    if PurePosixPath(name).suffix == ".parquet":
        return Parquet(path, licence)
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            if not any(member.endswith("data.mdb") for member in archive.namelist()):
                return Zip(path, licence)
    elif not tarfile.is_tarfile(path):
        raise UserError(f"{path} is neither an image nor an archive nor a Parquet file.")
    extract(path, extracted)
    database = next(extracted.rglob("data.mdb"), None)
    if database:
        return Lmdb(database.parent, resolution, licence)
    return Folder(extracted, licence)
