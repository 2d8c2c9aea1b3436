"""FFHQ by its official list: 70,000 photographs of faces, each with the MD5 of its pixels."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from tqdm import tqdm

from stylenat.data.extract import inside
from stylenat.data.sources.files import Files
from stylenat.data.transfer import Remote, download_all
from stylenat.errors import UserError
from stylenat.io import Json, brief
from stylenat.records import FileRecord

LICENCE = (
    "CC BY-NC-SA 4.0 (FFHQ, NVIDIA); each photograph under its own licence: "
    "CC BY 2.0, CC BY-NC 2.0, public domain, CC0 or U.S. government works"
)
LIST = Remote(
    "https://drive.google.com/uc?id=16N0RV4fHI6joBuKbQAoG34V_cQk7vxSA",
    "ffhq-dataset-v2.json",
    size=267_793_842,
    md5="425ae20f06a4da1d4dc0f46d40ba5fd6",
)
_LEFT_OUT = {"url", "expected"}  # of 70,000 records


class Ffhq(Files):
    """The official images, in the list's order: downloaded by us, or a copy that lies in a folder.

    A copy's pixels are compared with the list's before they are resized; downloads were compared
    when they came.
    """

    def __init__(self, directory: Path, files: Sequence[FileRecord]) -> None:
        super().__init__(directory, [record.path for record in files], LICENCE, "ffhq")
        self.expected = [record.pixel_md5 for record in files]

    def pixel_md5(self, index: int) -> str | None:
        return self.expected[index]


def obtain(entry: Json, directory: Path, progress: Callable[..., tqdm]) -> list[FileRecord]:
    """File records of the images: downloaded into ``directory``, or found below ``path``.

    ``entry`` may name another list (``json``, a URL or a file), for mirrors and excerpts.
    """
    images = read_list(_list_file(entry.get("json"), directory, progress))
    if "path" in entry:
        return _find(Path(entry["path"]), images)
    records = download_all(images, directory, progress)
    return [
        FileRecord(**record.model_dump(exclude=_LEFT_OUT, exclude_unset=True)) for record in records
    ]


def _list_file(json: str | None, directory: Path, progress: Callable[..., tqdm]) -> Path:
    if json and "://" not in json:
        return Path(json)
    remote = Remote(json, LIST.path) if json else LIST
    download_all([remote], directory, progress)
    return directory / remote.path


def read_list(path: Path) -> list[Remote]:
    """The images of an official list, in its order."""
    try:
        with open(path) as file:
            # Most of its 268 MB are landmarks; dropping them while parsing saves a gigabyte.
            entries = json.load(file, object_hook=lambda item: item.get("image", item))
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}).") from error
    except ValueError as error:
        raise UserError(f"{path} is not FFHQ's list in JSON ({brief(error)}).") from error
    try:
        return [
            Remote(
                url=image["file_url"],
                path=str(inside(image["file_path"])),
                size=image["file_size"],
                md5=image["file_md5"],
                pixel_md5=image["pixel_md5"],
            )
            for _, image in sorted(entries.items(), key=lambda item: int(item[0]))
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UserError(f"{path} is not FFHQ's list: {error!r} in an entry.") from error


def _find(folder: Path, images: Sequence[Remote]) -> list[FileRecord]:
    """Copies keep the list's folders, or start below the first one, or have none at all."""
    paths = [PurePosixPath(image.path) for image in images]
    for strip in (lambda p: p, lambda p: PurePosixPath(*p.parts[1:]), lambda p: p.name):
        found = [str(strip(path)) for path in paths]
        if (folder / found[0]).exists():
            break
    missing = [path for path in found if not (folder / path).exists()]
    if missing:
        raise UserError(
            f"{folder} is not a whole copy of FFHQ: {len(missing)} of {len(images)} images are "
            f"missing, the first is {missing[0]}."
        )
    return [
        FileRecord(path=path, pixel_md5=image.pixel_md5)
        for path, image in zip(found, images, strict=True)
    ]
