"""Draw samples beside the training images nearest to them, copies framed."""

from pathlib import Path

import numpy as np

from stylenat import command
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.io import read_npz, sha256
from stylenat.models import load_generator
from stylenat.models.latents import generate
from stylenat.records import NeighboursRecord
from stylenat.report import style
from stylenat.report.mosaic import draw_mosaic
from stylenat.runtime import select_device

ROWS = 8  # of the samples in the file those nearest to a training image


def run(*, weights: Path, neighbours: Path, data: Path, output: Path, device: str = "auto") -> None:
    arrays, values = read_npz(neighbours)
    remedy = "run the step neighbours again"
    record = NeighboursRecord.read(values, neighbours, remedy)
    store = ImageStore(data)
    _require_same(record, neighbours, weights, data, store)
    nearest = np.argsort(arrays["distances"][:, 0], kind="stable")[:ROWS]
    seeds = arrays["seeds"][nearest].tolist()
    indices, distances = arrays["indices"][nearest], arrays["distances"][nearest]
    generator = load_generator(weights, select_device(device))
    # `generate` computes seeds of one pass together if they are neighbours.
    made = dict(zip(sorted(seeds), generate(generator, sorted(seeds)), strict=True))
    rows = zip(seeds, indices.tolist(), strict=True)
    pictures = np.array([[made[seed], *map(store.read, row)] for seed, row in rows])
    copies = {(row, 0) for row in range(len(seeds)) if distances[row, 0] <= record.threshold}
    footer = (
        f"Under the training images: Euclidean distance in the features of {record.extractor}. "
        f"Framed: copies, at most {record.threshold:.3g} from a training image, as "
        f"{record.quantile:.0%} of training images are from another. "
        f"{record.copies:.2%} of all {record.n_generated:,} samples are copies. Shown: of "
        f"the first {len(arrays['seeds'])} the {len(seeds)} nearest to a training image."
    )
    order = ["nearest", "2nd", "3rd", *(f"{n}th" for n in range(4, indices.shape[1] + 1))]
    with style.styled():
        figure = draw_mosaic(
            pictures,
            [f"seed {seed}" for seed in seeds],
            ["sample", *order],
            notes=[["", *(f"{distance:.3g}" for distance in row)] for row in distances],
            framed=copies,
            sources=(0, 1),
            footer=footer,
        )
        facts = {"seeds": ",".join(map(str, seeds)), "truncation": "None"}
        style.save(figure, [output], facts)
    command.log.info("%s: %d of %d samples shown are copies", output, len(copies), len(seeds))


def _require_same(
    record: NeighboursRecord, neighbours: Path, weights: Path, data: Path, store: ImageStore
) -> None:
    for path, key, found, wanted in (
        (weights, "generator_sha256", sha256(weights), record.generator_sha256),
        (data, "dataset_sha256", store.metadata.content_sha256, record.dataset_sha256),
    ):
        if found != wanted:
            raise UserError(
                f"{path} is not what {neighbours} was made from ({key} differs); "
                "run the step neighbours again."
            )


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    command.add_files(options, neighbours="of the step neighbours")
    command.add_files(options, data="the training images (LMDB)", output="the PNG")
    command.main(options, run)


if __name__ == "__main__":
    main()
