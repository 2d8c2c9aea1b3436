"""Unpacking downloaded archives without trusting them."""

import lzma
import os
import shutil
import tarfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from stylenat.errors import UserError
from stylenat.io import brief

# An archive that grows further than data sets do is an attack or an accident.
LARGEST_RATIO = 200
HARMLESS = 16 << 20  # bytes; small files may have any ratio

# zipfile says by RuntimeError that a member is encrypted.
_FAULTS = (
    OSError,
    EOFError,
    RuntimeError,
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
)


def extract(archive: Path, folder: Path) -> None:
    """Extract the regular files of a zip or tar ``archive`` into ``folder``, once.

    Names are taken as below ``folder`` whatever they say; links and devices are skipped. A bomb
    or a damaged archive is a :class:`UserError`. A killed extraction starts again.
    """
    if folder.exists():
        return
    partial = folder.with_name(f"{folder.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        written = 0
        for name, source in _members(archive):
            target = partial / inside(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            with source, open(target, "wb") as file:
                while block := source.read(1 << 20):
                    written += len(block)
                    refuse_bomb(str(archive), written, archive.stat().st_size)
                    file.write(block)
        os.replace(partial, folder)
    except _FAULTS as error:
        raise UserError(
            f"{archive} cannot be extracted ({brief(error)}); if the disk is not full, the archive is "
            "damaged: delete it and run the same command again."
        ) from error


def inside(name: str) -> PurePosixPath:
    """A member's name as a relative path that stays below where it is put."""
    parts = [part for part in PurePosixPath(name.replace("\\", "/")).parts if part.strip("./ ")]
    if not parts:
        raise UserError(f"an archive names a file {name!r}, which is no name; it is refused.")
    return PurePosixPath(*parts)


def refuse_bomb(name: str, size: int, packed: int) -> None:
    """A :class:`UserError` if ``packed`` bytes that become ``size`` look like an attack."""
    if size > HARMLESS and size > LARGEST_RATIO * packed:
        raise UserError(
            f"{name} expands more than {LARGEST_RATIO}-fold (to {size} bytes or more); "
            "this looks like a bomb and is refused."
        )


def _members(archive: Path) -> Iterator[tuple[str, IO[bytes]]]:
    if zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as opened:
            for member in opened.infolist():
                if not member.is_dir():
                    yield member.filename, opened.open(member)
    else:
        with tarfile.open(archive) as tar:
            for entry in tar:
                if entry.isfile() and (file := tar.extractfile(entry)):
                    yield entry.name, file
