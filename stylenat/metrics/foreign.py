"""Statistics that other programs wrote, and ours as they read them.

=====================  ==========================================================================
pytorch-fid, clean-fid  npz: ``mu`` (d,), ``sigma`` (d, d)
EDM                     npz: the same
EDM2                    pkl: {metric: {``mu``, ``sigma``}}
StyleGAN2-ADA and 3     pkl: the attributes of a FeatureStats, sums over ``num_items`` images
=====================  ==========================================================================

None of them says how images were resized, and most do not say how many there were.
"""

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stylenat.errors import UserError
from stylenat.io import atomic, brief, described, sha256
from stylenat.metrics.moments import Moments, Statistics
from stylenat.records import StatisticsRecord

# What a pickle of dictionaries, numbers, texts and NumPy arrays needs, and nothing more.
_ALLOWED = {
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"),
    ("numpy.core.numeric", "_frombuffer"),
    ("numpy._core.numeric", "_frombuffer"),
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("_codecs", "encode"),
}


@dataclass(frozen=True)
class Gaussian:
    """Mean (d,) and covariance (d, d) of features, and of how many images, where that is known."""

    mean: np.ndarray
    covariance: np.ndarray
    count: int | None

    def statistics(self, path: Path, extractor: str) -> Statistics:
        """As statistics of reals in the features of ``extractor``, which the file does not name."""
        # Only mean and covariance count; two images' worth of sums have any.
        count = self.count or 2
        moments = Moments(count, np.zeros_like(self.mean), self.covariance * (count - 1), self.mean)
        versions = f"of another program ({path.name})"
        record = StatisticsRecord.of(path.stem, extractor, sha256(path), versions)
        return Statistics(moments, record)


def read_gaussian(path: str | Path, metric: str = "fid") -> Gaussian:
    """What an npz or pkl of another program holds; nothing in it is executed.

    ``metric`` chooses from files of several. Anything else is a :class:`UserError`.
    """
    path = Path(path)
    try:
        content = _content(path)
    except FileNotFoundError:
        raise UserError(f"{path} does not exist; check the path.") from None
    except _Refused as error:
        raise UserError(
            f"{path} asks for `{error}`, which no statistics need; nothing of it was run, do not "
            "trust this file."
        ) from None
    except Exception as error:  # whatever a damaged file provokes in the readers
        raise UserError(
            f"{path} cannot be read ({described(path)}; {brief(error)}); fetch it again."
        ) from error
    try:
        found = _gaussian(content.get(metric, content))
    except (KeyError, TypeError, AttributeError, ValueError, ZeroDivisionError) as error:
        names = (
            ", ".join(map(str, content)) if isinstance(content, dict) else type(content).__name__
        )
        raise UserError(
            f"{path} holds no mean and covariance that are known here ({names}); it has to have mu "
            "and sigma, or raw_mean and raw_cov."
        ) from error
    size = len(found.mean)
    if found.mean.ndim != 1 or found.covariance.shape != (size, size):
        raise UserError(
            f"{path}: a mean {found.mean.shape} and a covariance {found.covariance.shape} do not "
            "belong together; fetch it again."
        )
    if not all(np.isfinite(values).all() for values in (found.mean, found.covariance)):
        raise UserError(f"{path} holds values that are not finite; fetch it again.")
    return found


def is_foreign(path: str | Path) -> bool:
    """Whether an npz has a mean and a covariance, and no record of ours."""
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {"mu", "sigma"} <= {*archive.files} and "record" not in archive.files
    except Exception:  # noqa: BLE001 - whoever reads it says what is wrong
        return False


def write_gaussian(path: str | Path, statistics: Statistics) -> None:
    """An npz as pytorch-fid and clean-fid read it."""
    moments = statistics.moments
    with atomic(path) as temporary, open(temporary, "wb") as file:
        np.savez(file, mu=moments.mean, sigma=moments.covariance)


class _Refused(Exception):
    """A pickle instruction that is not allowed."""


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if name == "EasyDict":  # StyleGAN's dictionary
            return dict
        if (module, name) not in _ALLOWED:
            raise _Refused(f"{module}.{name}")
        return super().find_class(module, name)

    def persistent_load(self, pid: Any) -> Any:
        raise _Refused("a persistent object")


def _content(path: Path) -> Any:
    with open(path, "rb") as file:
        if file.read(2) == b"PK":
            with np.load(path, allow_pickle=False) as archive:
                return {name: archive[name] for name in archive.files}
        file.seek(0)
        return _Unpickler(file).load()


def _gaussian(content: Any) -> Gaussian:
    if "raw_mean" in content:
        count = int(content["num_items"])
        mean = np.asarray(content["raw_mean"], np.float64) / count
        covariance = np.asarray(content["raw_cov"], np.float64) / count - np.outer(mean, mean)
        return Gaussian(mean, covariance, count)
    mean, covariance = (np.asarray(content[name], np.float64) for name in ("mu", "sigma"))
    return Gaussian(mean, covariance, None)
