"""Images that already lie somewhere: a folder, a zip, an LMDB."""

import logging
import os
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from PIL import Image

from stylenat.data.environment import Reader
from stylenat.data.extract import refuse_bomb
from stylenat.data.sources.base import Source
from stylenat.data.sources.classes import read_classes
from stylenat.data.store import META_KEY, ImageStore, index_key
from stylenat.errors import UserError
from stylenat.io import brief

log = logging.getLogger(__name__)

SUFFIXES = frozenset(
    (
        ".png",
        ".jpg",
        ".jpeg",
        ".jpe",
        ".jfif",
        ".webp",
        ".bmp",
        ".tif",
        ".tiff",
        ".gif",
        ".ppm",
        ".jp2",
    )
)


# What programs leave beside images, with copies of them inside.
_LEFTOVERS = ("__MACOSX", "@eaDir")


def is_hidden(name: str) -> bool:
    """Whether a path names or lies in something hidden, or that a program left."""
    parts = PurePosixPath(name).parts
    hidden = (part.startswith(".") and part != ".." for part in parts)
    return any(hidden) or any(part in _LEFTOVERS for part in parts)


def is_image_name(name: str) -> bool:
    """Whether a file of this name is taken for an image; hidden files never are."""
    return PurePosixPath(name).suffix.lower() in SUFFIXES and not is_hidden(name)


def report_skipped(where: str, skipped: Sequence[str]) -> None:
    """Say in one line which files are not taken for images, by kind."""
    if not skipped:
        return
    kinds: dict[str, list[str]] = {}
    for name in sorted(skipped):
        suffix = PurePosixPath(name).suffix.lower() or "no suffix"
        kinds.setdefault("hidden" if is_hidden(name) else suffix, []).append(name)
    texts = [f"{len(names):,} {kind} ({names[0]})" for kind, names in kinds.items()]
    log.info("%s: %d files are not read as images: %s", where, len(skipped), ", ".join(texts))


class Files(Source):
    """Files of encoded images, named by their paths below a folder."""

    def __init__(self, path: Path, names: Sequence[str], licence: str, kind: str) -> None:
        self.path = path
        self.names = names
        self.licence = licence
        self.kind = kind

    def read(self, index: int) -> bytes:
        return (self.path / self.names[index]).read_bytes()

    def describe(self) -> str:
        return f"{self.kind}: {self.path}"


class Folder(Files):
    """The images below a folder, at any depth, of any format, sorted by relative path."""

    def __init__(
        self, path: str | Path, licence: str = "not stated", classes: str | None = None
    ) -> None:
        path = Path(path)
        if not path.is_dir():
            raise UserError(f"{path} is not a folder.")
        super().__init__(path, [], licence, "folder")
        self.names, skipped = self._find()
        report_skipped(str(path), skipped)
        if not self.names:
            raise UserError(f"{path} holds no images{_suggestion(path)}.")
        if classes:

            def content(name: str) -> bytes:
                return (path / name).read_bytes()

            self.classes = read_classes(classes, str(path), self.names, content)

    def _find(self) -> tuple[list[str], list[str]]:
        """(images, other files), by relative path, sorted. Each real file once: links are followed,
        and one to a parent would go round for ever."""

        def refuse(error: OSError) -> None:
            raise UserError(f"{error.filename} cannot be read ({error.strerror}).")

        found, skipped, seen = [], [], set()
        for folder, subfolders, files in os.walk(self.path, followlinks=True, onerror=refuse):
            subfolders.sort()
            real = os.path.realpath(folder)
            if real in seen:
                subfolders.clear()
                continue
            seen.add(real)
            relative = Path(folder).relative_to(self.path)
            for name in (relative / file for file in sorted(files)):
                path = os.path.realpath(self.path / name)
                if not is_image_name(name.as_posix()):
                    skipped.append(name.as_posix())
                elif not os.path.exists(path):
                    log.warning("%s is a link to %s, which is not there", self.path / name, path)
                elif path not in seen:
                    seen.add(path)
                    found.append(name.as_posix())
        return sorted(found), skipped


def _suggestion(folder: Path) -> str:
    if (folder / "data.mdb").exists():
        return "; it is an LMDB, so use kind: lmdb"
    archive = next(folder.glob("*.zip"), None)
    return f"; for {archive.name} use kind: zip" if archive else ""


class Zip(Source):
    """The images in a zip archive, sorted by name, read in place: nothing is extracted."""

    def __init__(
        self, path: str | Path, licence: str = "not stated", classes: str | None = None
    ) -> None:
        self.path = Path(path)
        self.licence = licence
        self._pid = -1
        self._archive: zipfile.ZipFile | None = None
        files = [m for m in self._open().infolist() if not m.is_dir()]
        members = [m for m in files if is_image_name(m.filename)]
        others = [m.filename for m in files if not is_image_name(m.filename)]
        report_skipped(str(self.path), others)
        if not members:
            raise UserError(f"{self.path} holds no images.")
        for member in members:
            refuse_bomb(
                f"{self.path}: {member.filename}", member.file_size, max(member.compress_size, 1)
            )
        self.names = sorted(member.filename for member in members)
        if classes:
            self.classes = read_classes(classes, str(path), self.names, self._open().read)

    def _open(self) -> zipfile.ZipFile:
        # Processes must not share one file position.
        if self._archive is None or self._pid != os.getpid():
            try:
                self._archive, self._pid = zipfile.ZipFile(self.path), os.getpid()
            except FileNotFoundError:
                raise UserError(f"{self.path} does not exist.") from None
            except (OSError, zipfile.BadZipFile) as error:
                raise UserError(
                    f"{self.path} is not a whole zip archive ({brief(error)})."
                ) from error
        return self._archive

    def __getstate__(self) -> dict[str, object]:
        return self.__dict__ | {"_archive": None}

    def read(self, index: int) -> bytes:
        try:
            return self._open().read(self.names[index])
        except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError) as error:
            raise OSError(str(error)) from error  # a bad checksum, method or password

    def describe(self) -> str:
        return f"zip: {self.path}"


class Lmdb(Source):
    """An LMDB of encoded images: LSUN's, the reference implementation's, or one packed by us.

    LSUN's has one image per key, JPEG or WebP. The reference's has keys
    ``{resolution}-{index:05d}`` and a key ``length``; of several resolutions the smallest that is
    not below the wanted one is read.
    """

    def __init__(self, path: str | Path, resolution: int, licence: str = "not stated") -> None:
        self.path = Path(path)
        self.licence = licence
        self._reader = Reader(path)
        self._packed: ImageStore | None = None
        length = self._reader.get(b"length")
        if self._reader.get(META_KEY) is not None:
            self._packed = ImageStore(path)
            self.licence = self._packed.metadata.licence or licence
            self.creator = self._packed.metadata.creator
            self._keys = [index_key(index) for index in range(len(self._packed))]
        elif length is not None:
            self._keys = self._reference_keys(int(length), resolution)
        else:
            self._keys = self._reader.sorted_keys()
        if not self._keys:
            raise UserError(f"{self.path} is an empty LMDB.")
        self.names = [key.decode(errors="backslashreplace") for key in self._keys]

    def _reference_keys(self, length: int, wanted: int) -> list[bytes]:
        prefixes = {key.partition(b"-")[0] for key in self._reader.sorted_keys()}
        stored = sorted(int(prefix) for prefix in prefixes if prefix.isdigit())
        if not stored:
            raise UserError(f"{self.path} has a key 'length' but no images '{wanted}-00000'.")
        resolution = next((side for side in stored if side >= wanted), stored[-1])
        return [b"%d-%05d" % (resolution, index) for index in range(length)]

    def read(self, index: int) -> bytes | Image.Image:
        if self._packed:
            return Image.fromarray(self._packed.read(index))
        value = self._reader.get(self._keys[index])
        if value is None:
            raise OSError("the key is missing")
        return value

    def attributes(self, index: int) -> dict[str, str] | None:
        return self._packed.attributes(index) if self._packed else None

    def describe(self) -> str:
        return f"lmdb: {self.path}"
