"""Draw FID against parameters, throughput and images seen from result tables and the literature."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from stylenat import command
from stylenat.report import style
from stylenat.report.measured import read_measured
from stylenat.report.progress import draw_progress
from stylenat.report.published import read_published
from stylenat.report.scatter import PARAMETERS, THROUGHPUT, draw_fid_scatter


def run(
    *,
    published: Path,
    tables: Sequence[Path] = (),
    fid_vs_params: Sequence[Path] = (),
    fid_vs_throughput: Sequence[Path] = (),
    fid_vs_images: Sequence[Path] = (),
) -> None:
    literature = read_published(published)
    measured = read_measured(tables)
    for ours in measured:
        name = ours.experiment
        if ours.params_m is None:
            command.log.warning("%s: its parameters are not counted: not in fid_vs_params", name)
        if not ours.speeds:
            command.log.warning("%s: no throughput table: not in fid_vs_throughput", name)
    for draw, outputs in (
        (partial(draw_fid_scatter, PARAMETERS, literature, measured), fid_vs_params),
        (partial(draw_fid_scatter, THROUGHPUT, literature, measured), fid_vs_throughput),
        (partial(draw_progress, measured, literature), fid_vs_images),
    ):
        if not outputs:
            continue
        with style.styled():
            style.save(draw(), outputs)
        command.log.info("wrote %s", ", ".join(map(str, outputs)))


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument(
        "--tables", type=Path, nargs="*", help="CSV tables made by the step tables"
    )
    options.add_argument("--published", type=Path, required=True, help="published results (CSV)")
    for name in ("--fid-vs-params", "--fid-vs-throughput", "--fid-vs-images"):
        options.add_argument(name, type=Path, nargs="+", help=style.FORMATS)
    command.main(options, run)


if __name__ == "__main__":
    main()
