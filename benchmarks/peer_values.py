"""What other programs make of sets of features; :mod:`benchmarks.peers` runs it where they are installed.

    python benchmarks/peer_values.py SETS.npz VALUES.json

It imports nothing of this project, so that an environment with these programs is enough, and only
their functions of features: torchvision, which they import for images, may be missing. A program
that is missing is left out; what fails is recorded as the error's name.
"""

import json
import sys
from collections.abc import Callable
from importlib import metadata
from importlib.util import find_spec
from unittest.mock import MagicMock

import numpy as np
import torch

Values = dict[str, float]
Program = Callable[[np.ndarray, np.ndarray], Values]


def pytorch_fid(real: np.ndarray, generated: np.ndarray) -> Values:
    from pytorch_fid.fid_score import calculate_frechet_distance

    return {"frechet": calculate_frechet_distance(*gaussian(real), *gaussian(generated))}


def clean_fid(real: np.ndarray, generated: np.ndarray) -> Values:
    from cleanfid import fid

    values = {"frechet": fid.frechet_distance(*gaussian(real), *gaussian(generated))}
    if len(real) == len(generated):  # else it would draw from the larger set
        values["kernel"] = fid.kernel_distance(real, generated, 1, len(real))
    return values


def torch_fidelity(real: np.ndarray, generated: np.ndarray) -> Values:
    from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_kid import kernel_mmd
    from torch_fidelity.metric_prc import calculate_precision_recall_full

    x, y = torch.from_numpy(generated), torch.from_numpy(real)
    gaussians = [fid_features_to_statistics(features) for features in (x, y)]
    precision, recall = calculate_precision_recall_full(x, y)
    values = {"precision": precision, "recall": recall}
    values |= {"frechet": fid_statistics_to_metric(*gaussians, False)["frechet_inception_distance"]}
    if len(real) == len(generated):
        values["kernel"] = kernel_mmd(generated, real)
    return values


def prdc(real: np.ndarray, generated: np.ndarray) -> Values:
    from prdc import compute_prdc

    values = compute_prdc(real, generated, nearest_k=5)
    return {name: values[name] for name in ("density", "coverage")}


def gaussian(features: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.mean(features, axis=0, dtype=np.float64), np.cov(features, rowvar=False)


PROGRAMS: dict[str, Program] = {
    "pytorch-fid": pytorch_fid,
    "clean-fid": clean_fid,
    "torch-fidelity": torch_fidelity,
    "prdc": prdc,
}


def stand_in_for_torchvision() -> None:
    """The programs import it, and functions of features do without."""
    for name in ("torchvision", "requests"):
        if find_spec(name) is None:
            for part in ("", ".transforms", ".transforms.functional", ".datasets", ".models"):
                sys.modules[name + part] = MagicMock()


def main(source: str, target: str) -> None:
    stand_in_for_torchvision()
    versions, found = {}, {}
    with np.load(source) as arrays:
        names = sorted({key.rpartition(".")[0] for key in arrays.files})
        sets = {name: (arrays[f"{name}.real"], arrays[f"{name}.generated"]) for name in names}
    for program, measure in PROGRAMS.items():
        try:
            versions[program] = metadata.version(program)
        except metadata.PackageNotFoundError:
            continue
        found[program] = {}
        for name, pair in sets.items():
            try:
                values = {metric: float(value) for metric, value in measure(*pair).items()}
            except ImportError:
                raise
            except Exception as error:  # noqa: BLE001 - what it does with such a set is the question
                values = {"failed": type(error).__name__}
            found[program][name] = values
    with open(target, "w") as file:
        json.dump({"versions": versions, "values": found}, file)


if __name__ == "__main__":
    main(*sys.argv[1:])
