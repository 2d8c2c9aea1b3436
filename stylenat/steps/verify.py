"""Decode every image of a data set and compare its pixels with the recorded content hash."""

from pathlib import Path

from stylenat import command
from stylenat.data.check import verify
from stylenat.data.store import ImageStore
from stylenat.runtime import CORES


def run(*, dataset: Path, workers: int = CORES) -> None:
    with command.progress(total=len(ImageStore(dataset)), desc="verifying", unit="image") as bar:
        record = verify(dataset, workers, advance=bar.update)
    command.log.info(
        "%s is whole: %d images of %d², filter %s, content %s; licence: %s; creator: %s",
        dataset,
        record.count,
        record.resolution,
        record.filter,
        record.content_sha256,
        record.licence,
        record.creator or "not stated",
    )


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("dataset", type=Path, help="a packed data set (LMDB)")
    options.add_argument("--workers", type=int, help="processes")
    command.main(options, run)


if __name__ == "__main__":
    main()
