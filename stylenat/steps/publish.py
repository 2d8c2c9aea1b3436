"""Write what a model repository of the Hugging Face hub holds, and upload it if that is asked for.

The weights as they are, config.json (configuration and origin), a model card README.md, whose numbers
are the rows of --tables that measured exactly these weights, and a picture of samples.
"""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path, PurePath
from typing import Any

import numpy as np

from stylenat import command
from stylenat.errors import UserError
from stylenat.hub import CONFIG, WEIGHTS, is_repository
from stylenat.io import atomic, sha256, write_json
from stylenat.models import load_generator, read_header
from stylenat.models.latents import generate, parse_seeds
from stylenat.pictures import save_grid
from stylenat.report.card import LIBRARY, NOT_STATED, Published, write_card
from stylenat.report.measured import read_table
from stylenat.report.rows import MetricRow
from stylenat.runtime import select_device

CARD, SAMPLES = "README.md", "samples.png"
FILES = (WEIGHTS, CONFIG, CARD, SAMPLES)

log = command.log


def run(
    *,
    weights: Path,
    output: Path,
    device: str = "auto",
    tables: Sequence[Path] = (),
    licence: str = NOT_STATED,
    seeds: str = "0-15",
    truncation: float | None = None,
    push: str | None = None,
) -> None:
    if push is not None:
        require_pushable(push)
    numbers = parse_seeds(seeds)
    model, provenance = read_header(weights)
    digest = sha256(weights)
    rows = rows_of(tables, digest)
    for path in local_paths(provenance.to_dict()):
        log.warning("the header of the weights names %s, which becomes public with them", path)
    if licence == NOT_STATED:
        log.warning("no --licence is given: nobody will know what they may do with the weights")
    name = provenance.experiment_name or weights.stem
    about = Published(
        name=push.partition("/")[2] if push else name,
        model=model,
        provenance=provenance,
        weights=WEIGHTS,
        digest=digest,
        samples=SAMPLES,
        seeds=seeds,
        truncation=truncation,
        licence=licence,
        rows=rows,
        repository=push,
    )
    pictures = generate(load_generator(weights, select_device(device)), numbers, truncation)
    bar = command.progress(pictures, total=len(numbers), desc="sampling", unit="img")
    save_grid(output / SAMPLES, np.stack(list(bar)), seeds, truncation)
    if weights.resolve() != (output / WEIGHTS).resolve():
        with atomic(output / WEIGHTS) as temporary:
            shutil.copyfile(weights, temporary)
    record = {"library_name": LIBRARY, "model": asdict(model), "provenance": provenance.to_dict()}
    write_json(output / CONFIG, record | {"weights": {"file": WEIGHTS, "sha256": digest}})
    with atomic(output / CARD) as temporary:
        temporary.write_text(write_card(about), encoding="utf-8")
    log.info("%s: %s; %d metrics", output, ", ".join(FILES), len(about.measured))
    if push is not None:
        log.info("%s: %s", push, upload(output, push))


def rows_of(tables: Sequence[Path], digest: str) -> list[MetricRow]:
    """The rows that measured the weights of this SHA-256, each measurement once, and the floors of
    the same metrics.

    A file that is no metric table of ours, or has no such row, is a :class:`UserError`.
    """
    found: dict[tuple[str, str, str], MetricRow] = {}
    for path in tables:
        rows = MetricRow.of(read_table(path), path)
        own = [r for r in rows if r.kind == "snapshot" and r.generator_sha256 == digest]
        if not own:
            raise UserError(
                f"{path} has no measurement of these weights (SHA-256 {digest}); give the table of "
                "the experiment and the snapshot that it measured last, or leave it out."
            )
        names = {(row.protocol, row.metric) for row in own}
        floors = [r for r in rows if r.kind == "floor" and (r.protocol, r.metric) in names]
        for row in own + floors:
            found.setdefault((row.kind, row.protocol, row.metric), row)
    return list(found.values())


def local_paths(provenance: Any) -> list[str]:
    """The absolute paths of files among the strings of a record."""
    match provenance:
        case dict():
            return [path for value in provenance.values() for path in local_paths(value)]
        case list():
            return [path for value in provenance for path in local_paths(value)]
        case str() if PurePath(provenance).is_absolute():
            return [provenance]
    return []


def require_pushable(repository: str) -> None:
    """Raise a :class:`UserError`, before anything is computed, where an upload cannot work."""
    if not is_repository(repository):
        raise UserError(f"--push {repository!r} is no name of a repository; write user/name.")
    _hub()


def upload(folder: Path, repository: str) -> str:
    """Upload what this step wrote into ``folder``, and nothing else there; the repository is made,
    public, where there is none. The address of the upload; what the hub refuses is a
    :class:`UserError`."""
    api = _hub().HfApi()
    try:
        api.create_repo(repo_id=repository, repo_type="model", exist_ok=True)
        done = api.upload_folder(
            repo_id=repository,
            repo_type="model",
            folder_path=str(folder),
            allow_patterns=list(FILES),
            commit_message=f"{LIBRARY} publish",
        )
    except Exception as error:  # of another class with every version of the package
        reason = " ".join(str(error).split())
        raise UserError(
            f"{repository} could not be uploaded ({type(error).__name__}: {reason}); log in with "
            f"`hf auth login`, check the name, and run the same command again: {folder} is complete."
        ) from error
    return str(done)


def _hub() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise UserError(
            "--push needs the package huggingface_hub; install it with pip install huggingface_hub."
        ) from None
    return huggingface_hub


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    command.add_weights(options)
    options.add_argument("--output", type=Path, required=True, help="the folder")
    options.add_argument(
        "--tables",
        type=Path,
        nargs="+",
        help="metric tables with rows of these weights, such as results/E_metrics.csv",
    )
    options.add_argument(
        "--licence",
        help="of the weights: an identifier of the hub, such as cc-by-4.0, or its name in words",
    )
    options.add_argument("--seeds", help="of the picture")
    options.add_argument(
        "--truncation", type=float, metavar="PSI", help="of the picture: w towards its mean"
    )
    options.add_argument(
        "--push", metavar="USER/NAME", help="also upload it, public (pip install huggingface_hub)"
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
