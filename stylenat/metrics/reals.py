"""Which statistics of reals may stand where: an experiment's reference, and its held-out reals."""

from pathlib import Path

from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.metrics.moments import COMPARABLE, require_same
from stylenat.records import StatisticsRecord


def held_out_name(dataset: str) -> str:
    """What the images of a data set that no network trains on are called."""
    return f"{dataset}.test"


def require_reference(path: Path, record: StatisticsRecord, experiment: ExperimentConfig) -> None:
    """Raise a :class:`UserError` unless these are reals of the data set of ``experiment``."""
    name = record.dataset.name
    if record.kind != "real":
        raise UserError(f"{path} is of {record.kind} images; a reference must be of reals.")
    if name == held_out_name(experiment.dataset):
        raise UserError(
            f"dataset.name is {name!r} in {path}: these reals are held out of the data set, and "
            f"cannot be the reference; give the statistics of {experiment.dataset!r}."
        )
    if name != experiment.dataset:
        raise UserError(
            f"dataset.name is {name!r} in {path}, but experiment {experiment.name} was trained on "
            f"{experiment.dataset!r}; give that data set's statistics."
        )


def require_held_out(path: Path, record: StatisticsRecord, reference: StatisticsRecord) -> None:
    """Raise a :class:`UserError` unless these are all held-out reals of the reference's data set,
    in features that may be compared with the reference's."""
    expected = held_out_name(reference.dataset.name)
    name = record.dataset.name
    if record.kind != "real" or name != expected:
        raise UserError(
            f"dataset.name is {name!r} in {path} ({record.kind} images), but held-out reals of "
            f"{reference.dataset.name!r} are called {expected!r}; give their statistics."
        )
    if record.subset != "all":
        raise UserError(
            f"subset is {record.subset!r} in {path}; held-out reals are used whole: compute "
            "their statistics with --subset all."
        )
    require_same(COMPARABLE, record, reference)
    if record.dataset.content_sha256 == reference.dataset.content_sha256:
        raise UserError(f"{path} and the reference hold the same images; none is held out.")
