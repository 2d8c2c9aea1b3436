"""Find or download the images of a data set: the first of its sources that is there.

To go on after an interruption, run the same command again."""

import json
import os
from pathlib import Path

from stylenat import command
from stylenat.data.download import acquire
from stylenat.data.listing import listing_of_source
from stylenat.io import Json, write_json
from stylenat.pins import LOCK, LOCK_HELP
from stylenat.records import Manifest


def run(
    *, name: str, sources: list[Json], directory: Path, manifest: Path, lock: Path = LOCK
) -> None:
    source, files = acquire(name, sources, directory, lock, command.progress)
    written = Manifest(
        dataset=name,
        source=source,
        # Relative to the manifest, so that results can be moved.
        directory=os.path.relpath(directory, manifest.parent),
        files=files,
        split="content",  # what decides which images are held out, if a share is
        listing=listing_of_source(source),
    )
    write_json(manifest, written.to_dict())


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--name", required=True, help="the data set, in messages")
    options.add_argument(
        "--sources", type=json.loads, required=True, help="its `sources` of config.yaml as JSON"
    )
    options.add_argument(
        "--directory", type=Path, required=True, help="where downloaded files are collected"
    )
    options.add_argument(
        "--manifest", type=Path, required=True, help="output: the source used, and its files (JSON)"
    )
    options.add_argument("--lock", type=Path, help=LOCK_HELP)
    command.main(options, run)


if __name__ == "__main__":
    main()
