"""Pack a data set into one LMDB file: cropped, resized, losslessly stored.

To go on after an interruption, run the same command again."""

from pathlib import Path

from stylenat import command
from stylenat.data.pack import PackSettings, pack
from stylenat.data.prepare import FILTERS
from stylenat.data.sources import open_source
from stylenat.data.sources.split import Split
from stylenat.io import alone, read_json
from stylenat.records import Manifest
from stylenat.runtime import CORES


def run(
    *,
    name: str,
    manifest: Path,
    resolution: int,
    filter: str,
    output: Path,
    max_corrupt: int = 0,
    test_share: float | None = None,
    held_out: bool = False,
    workers: int = CORES,
) -> None:
    remedy = "run the step download again"
    found = Manifest.read(read_json(manifest), manifest, remedy)
    directory = manifest.parent / found.directory
    source = open_source(found.source, resolution, directory, found.files)
    if test_share is not None:
        # Manifests of before do not say how to divide; both parts have the same one.
        by_place = found.split != "content"
        source = Split(source, test_share, held_out, by_place, workers)
    settings = PackSettings(name, resolution, filter)
    with (
        alone(output),
        command.progress(total=len(source.names), desc="packing", unit="image") as bar,
    ):
        record = pack(source, settings, output, workers, max_corrupt, advance=bar.update)
    command.log.info("%s: %d images, content %s", output, record.count, record.content_sha256)


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--name", required=True, help="the data set's name, for its metadata")
    options.add_argument(
        "--manifest", type=Path, required=True, help="what the download step wrote"
    )
    options.add_argument("--resolution", type=int, required=True, help="side in pixels")
    options.add_argument("--filter", choices=FILTERS, required=True, help="how to resize")
    options.add_argument("--max-corrupt", type=int, help="images that may be left out as unusable")
    options.add_argument(
        "--test-share", type=float, help="share of the images that is held out, and left out here"
    )
    options.add_argument(
        "--held-out", action="store_true", help="pack that share instead of the rest"
    )
    options.add_argument("--workers", type=int, help="processes")
    options.add_argument("--output", type=Path, required=True, help="the data set (LMDB)")
    command.main(options, run)


if __name__ == "__main__":
    main()
