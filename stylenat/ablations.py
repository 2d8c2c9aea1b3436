"""Families of runs: an experiment with several seeds, and ablations, variants of one experiment.

Every run is an experiment of its own, so it is trained, resumed and evaluated like any other:
``{experiment}-seed1``, ``{ablation}-{variant}-seed1``.
"""

from dataclasses import dataclass

from stylenat.configuration import Ablation
from stylenat.errors import ConfigError
from stylenat.fields import Key, SomeSeeds
from stylenat.io import Json


@dataclass(frozen=True)
class Family:
    """Runs that a table compares: the experiments of every variant, by seed."""

    name: str
    protocol: str
    baseline: str
    runs: dict[str, dict[int, str]]

    @property
    def experiments(self) -> list[str]:
        """Of all variants and seeds."""
        return [name for runs in self.runs.values() for name in runs.values()]


def expand(
    experiments: dict[str, Json], ablations: dict[str, Ablation], seeds: dict[str, SomeSeeds]
) -> tuple[dict[str, Json], dict[str, Key], dict[str, Family]]:
    """Experiments as written, with those of all families; where each of these was written; the
    families by name.

    ``seeds`` are those of experiments with several. A name that is there already is a
    :class:`ConfigError`.
    """
    written = {
        name: {key: value for key, value in values.items() if key != "seeds"}
        for name, values in experiments.items()
    }
    origins: dict[str, Key] = {}
    families = {}
    for name, ablation in ablations.items():
        runs = {
            variant: {seed: f"{name}-{variant}-seed{seed}" for seed in ablation.seeds}
            for variant in ablation.variants
        }
        families[name] = Family(name, ablation.protocol, ablation.baseline, runs)
        for variant, values in ablation.variants.items():
            for seed, run in runs[variant].items():
                _add(written, run, ablation.base, values, seed)
                origins[run] = ["ablations", name, "variants", variant]
    for name, several in seeds.items():
        replicates = {seed: f"{name}-seed{seed}" for seed in several}
        for seed, run in replicates.items():
            _add(written, run, name, {}, seed)
            origins[run] = ["experiments", name]
        if name in families:
            raise ConfigError(f"ablations.{name}: an experiment with seeds has this name")
        families[name] = Family(name, "", name, {name: replicates})
    return written, origins, families


def _add(written: dict[str, Json], run: str, base: str, values: Json, seed: int) -> None:
    if run in written:
        raise ConfigError(f"experiments.{run}: is made from seeds already; rename one of the two")
    training = values.get("training", {})
    if isinstance(training, dict):  # anything else is refused with the rest of the run
        training = {**training, "seed": seed}
    written[run] = {**values, "base": base, "training": training}
