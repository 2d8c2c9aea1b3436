"""Packing: a source of images becomes one LMDB file, in parallel, in order, resumable."""

import hashlib
import json
import logging
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from stylenat.data import codec
from stylenat.data.ordered import ordered_map
from stylenat.data.prepare import Unusable, prepare
from stylenat.data.sources import Source
from stylenat.data.writer import StoreWriter, partial_path
from stylenat.errors import UserError
from stylenat.io import brief, read_json, write_json
from stylenat.records import Dataset

log = logging.getLogger(__name__)

_MESSAGE = 2 << 20  # bytes of pixels that a worker hands over at a time


@dataclass(frozen=True)
class PackSettings:
    """What decides the bytes of a data set, besides its source."""

    name: str
    resolution: int
    filter: str  # a key of prepare.FILTERS

    @property
    def codec(self) -> str:
        """How pixels are stored."""
        return codec.choose(self.resolution)


def pack(
    source: Source,
    settings: PackSettings,
    output: Path,
    workers: int = 1,
    max_corrupt: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> Dataset:
    """Pack ``source`` into the data set ``output`` and return its metadata record.

    The bytes of the file depend on source and settings alone, not on ``workers``, nor on interruptions and
    reruns in between: the same call goes on where the last one stopped. More than ``max_corrupt``
    unusable images are a :class:`UserError`. ``advance`` is told how many images are done.
    """
    workers = workers if workers > 1 else 0  # one process has nothing to gain from another
    progress = _Progress.resume(output, _fingerprint(source, settings))
    odd: Counter[str] = Counter()
    with StoreWriter(output, resume=True) as writer:
        _confirm_written(writer, settings, workers)
        start = progress.position(len(writer))
        advance(start)
        work = partial(_pack_one, source, settings)
        images = range(start, len(source.names))
        # Messages of about 2 MB: many images at 32², one at 1024², to bound what is in flight.
        chunk = max(1, min(32, _MESSAGE // (3 * settings.resolution**2)))
        with closing(ordered_map(work, images, workers, chunk)) as results:
            for index, (result, notes) in zip(images, results, strict=True):
                odd.update(notes)
                if isinstance(result, str):
                    progress.leave_out(index, source.names[index], result)
                    _check_limit(progress, settings.name, max_corrupt)
                else:
                    writer.append(result)
                advance(1)
        record = writer.finish(
            {
                "name": settings.name,
                "resolution": settings.resolution,
                "filter": settings.filter,
                "codec": settings.codec,
                "source": source.describe(),
                "licence": source.licence,
                "creator": source.creator,
                **({"classes": sorted(set(source.classes))} if source.classes else {}),
                "notes": [f"left out {name}: {reason}" for _, name, reason in progress.left_out],
            }
        )
    progress.path.unlink(missing_ok=True)
    for note, count in odd.items():
        log.warning("%s: %d images have %s", settings.name, count, note)
    if record.duplicates:
        log.warning(
            "%s: %d images have the same pixels as another", settings.name, record.duplicates
        )
    return record


def _pack_one(
    source: Source, settings: PackSettings, index: int
) -> tuple[codec.Encoded | str, list[str]]:
    """One image in its stored form, or why it is left out; and what is odd about it."""
    notes: list[str] = []
    try:
        data, expected = source.read(index), source.pixel_md5(index)
        image = prepare(data, settings.resolution, settings.filter, expected, notes.append)
    except Unusable as error:
        return str(error), notes
    except OSError as error:
        return f"cannot be read: {error.strerror or error}", notes
    return codec.encode(image, settings.codec, source.attributes(index)), notes


def _confirm_written(writer: StoreWriter, settings: PackSettings, workers: int) -> None:
    """Decode what a killed run left, which proves it whole and gives its hash."""
    if not len(writer):
        return
    log.info("going on after the %d images that are packed already", len(writer))
    check = partial(_checksums, settings)
    try:
        for checksum, digest in ordered_map(check, writer.written(), workers):
            writer.confirm(checksum, digest)
    except (OSError, ValueError) as error:
        raise UserError(
            f"{writer.partial} is damaged ({brief(error)}); delete it and run the same command again."
        ) from error


def _checksums(settings: PackSettings, stored: tuple[bytes, bytes | None]) -> tuple[int, bytes]:
    value, attributes = stored
    pixels = codec.decode(value, settings.codec, settings.resolution)
    if attributes is not None:
        json.loads(attributes)
    return codec.checksum(value, attributes), codec.pixel_digest(pixels)


def _check_limit(progress: "_Progress", name: str, max_corrupt: int) -> None:
    count = len(progress.left_out)
    if count > max_corrupt:
        shown = "; ".join(f"{image} ({reason})" for _, image, reason in progress.left_out[:5])
        raise UserError(
            f"{name}: {count} images cannot be used, and max_corrupt is {max_corrupt}: "
            f"{shown}{' …' if count > 5 else ''}. Mend or remove them, or raise max_corrupt."
        )


def _fingerprint(source: Source, settings: PackSettings) -> str:
    """Tells whether a partial file was made from the same images in the same way."""
    described = [source.describe(), repr(settings), *source.names]
    return hashlib.sha256(json.dumps(described).encode()).hexdigest()


@dataclass
class _Progress:
    """The note beside a partial file: what it is made of, and which images were left out.

    It is written before any later image, so it records every gap before the last stored image.
    """

    path: Path
    fingerprint: str
    left_out: list[list[Any]] = field(default_factory=list)  # [index, name, reason]

    @classmethod
    def resume(cls, output: Path, fingerprint: str) -> "_Progress":
        progress = cls(partial_path(output).with_suffix(".part.json"), fingerprint)
        if progress.path.exists():
            record = read_json(progress.path)
            if record["fingerprint"] == fingerprint:
                progress.left_out = record["left_out"]
                return progress
            log.warning("%s was begun from other images or settings: starting again", output)
        # In this order, so that the note never vouches for a file it does not belong to.
        partial_path(output).unlink(missing_ok=True)
        progress._write()
        return progress

    def position(self, stored: int) -> int:
        """The first image of the source that is not dealt with, given that many stored."""
        gaps = {index for index, _, _ in self.left_out}
        position = 0
        while stored:
            stored -= position not in gaps
            position += 1
        self.left_out = [entry for entry in self.left_out if entry[0] < position]
        return position

    def leave_out(self, index: int, name: str, reason: str) -> None:
        log.warning("left out %s: %s", name, reason)
        self.left_out.append([index, name, reason])
        self._write()

    def _write(self) -> None:
        write_json(self.path, {"fingerprint": self.fingerprint, "left_out": self.left_out})
