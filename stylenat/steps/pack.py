"""Pack a data set into one LMDB file: cropped, resized, losslessly stored.

To go on after an interruption, run the same command again."""

import argparse
import os
from pathlib import Path

from stylenat import command
from stylenat.data.pack import PackSettings, pack
from stylenat.data.prepare import FILTERS
from stylenat.data.sources import open_source
from stylenat.data.sources.split import Split
from stylenat.io import alone, read_json
from stylenat.records import Manifest


def run(args: argparse.Namespace) -> None:
    remedy = "run the step download again"
    manifest = Manifest.read(read_json(args.manifest), args.manifest, remedy)
    directory = args.manifest.parent / manifest.directory
    source = open_source(manifest.source, args.resolution, directory, manifest.files)
    if args.test_share is not None:
        # Manifests of before do not say how to divide; both parts have the same one.
        by_place = manifest.split != "content"
        source = Split(source, args.test_share, args.held_out, by_place, args.workers)
    settings = PackSettings(args.name, args.resolution, args.filter)
    with (
        alone(args.output),
        command.progress(total=len(source.names), desc="packing", unit="image") as bar,
    ):
        record = pack(
            source, settings, args.output, args.workers, args.max_corrupt, advance=bar.update
        )
    command.log.info("%s: %d images, content %s", args.output, record.count, record.content_sha256)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--name", required=True, help="the data set's name, for its metadata")
    options.add_argument(
        "--manifest", type=Path, required=True, help="what the download step wrote"
    )
    options.add_argument("--resolution", type=int, required=True, help="side in pixels")
    options.add_argument("--filter", choices=FILTERS, required=True, help="how to resize")
    options.add_argument(
        "--max-corrupt", type=int, default=0, help="images that may be left out as unusable"
    )
    options.add_argument(
        "--test-share", type=float, help="share of the images that is held out, and left out here"
    )
    options.add_argument(
        "--held-out", action="store_true", help="pack that share instead of the rest"
    )
    options.add_argument("--workers", type=int, default=os.cpu_count(), help="processes")
    options.add_argument("--output", type=Path, required=True, help="the data set (LMDB)")
    command.main(options, run)


if __name__ == "__main__":
    main()
