"""From ``config.yaml`` to experiments that can run.

An experiment is the defaults with its own keys laid over them, and those of its base, where it
names one, in between. Everything is checked here, whole and at once, before anything is computed:
every complaint is one sentence that begins with the key it is about.
"""

import functools
from collections.abc import Callable, Iterable
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import TypeAdapter, ValidationError

from stylenat.ablations import Family, expand
from stylenat.configuration import Configuration, Dataset, Experiment, Settings
from stylenat.errors import ConfigError
from stylenat.fields import Key, SomeSeeds, dotted, explain
from stylenat.io import Json

Model = TypeVar("Model")

_SHOWN = 12  # names in a message

# These are beside the experiments' own folders in results/.
RESERVED = frozenset(
    {"ablations", "benchmarks", "comparison", "data", "figures", "logs", "weights"}
)


def resolve(config: Json) -> tuple[dict[str, Experiment], dict[str, Family]]:
    """Check a whole configuration; return its experiments by name, defaults merged, those of
    families included, and the families by name.

    Raises :class:`ConfigError`.
    """
    checked = _validate(Configuration, config)
    seeds = {
        name: _validate(SomeSeeds, values["seeds"], functools.partial(_seed_key, name))
        for name, values in config["experiments"].items()
        if "seeds" in values
    }
    for name, ablation in checked.ablations.items():
        key = f"ablations.{name}"
        _known(f"{key}.base", "experiment", ablation.base, config["experiments"])
        _known(f"{key}.protocol", "protocol", ablation.protocol, config["protocols"])
    written, origins, families = expand(config["experiments"], checked.ablations, seeds)
    config = config | {"experiments": written}
    lists = {"run": checked.run, "comparison.experiments": checked.comparison.experiments}
    for key, names in lists.items():
        for index, name in enumerate(names):
            _known(f"{key}[{index}]", "experiment", name, config["experiments"])
    for name, dataset in checked.datasets.items():
        _check_held_out(f"datasets.{name}", dataset)
    for name, protocol in checked.protocols.items():
        key = f"protocols.{name}.extractor"
        _known(key, "feature network", protocol.extractor, config["weights"])
    experiments = {name: _experiment(name, config, origins) for name in written}
    for name in experiments:
        _check_start(name, experiments)
    for name, family in families.items():
        measured = experiments[family.experiments[0]]
        if not family.protocol:
            families[name] = replace(family, protocol=measured.protocols[0])
        elif family.protocol not in measured.protocols:
            raise ConfigError(
                f"ablations.{name}.protocol: {family.protocol!r} is not measured; it has to be in "
                "evaluation.protocols of the base"
            )
    return experiments, families


def _seed_key(name: str, path: Key) -> Key:
    return ["experiments", name, "seeds", *path]


def refuse_duplicate_keys(path: str | Path) -> None:
    """Raise a :class:`ConfigError` if a mapping in a YAML file has a key twice: YAML readers keep
    the last without a word; or if it is no YAML."""

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            seen = set()
            for key, _ in node.value:
                line = key.start_mark.line + 1
                if not isinstance(key, yaml.ScalarNode):
                    raise ConfigError(f"{path}, line {line}: a key has to be a word")
                if key.value in seen and key.value != "<<":
                    name = dotted([key.value])
                    raise ConfigError(f"{path}, line {line}: {name} is there twice; keep one")
                seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        yaml.load(Path(path).read_text(encoding="utf-8"), Loader)
    except ConfigError:
        raise
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read ({error.strerror})") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path}, line {mark.line + 1}" if mark else f"{path}"
        reason = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise ConfigError(f"{where}: this is not valid YAML ({reason})") from error


def _experiment(name: str, config: Json, origins: dict[str, Key]) -> Experiment:
    key = f"experiments.{name}"
    if name in RESERVED or name in config["weights"]:
        raise ConfigError(f"{key}: results/{name} is needed for other files; choose another name")
    # From the defaults to the experiment itself, each with the key it stands under.
    layers: list[tuple[Key, Json]] = [(["defaults"], config["defaults"])]
    for ancestor in _lineage(name, config["experiments"]):
        own = {k: value for k, value in config["experiments"][ancestor].items() if k != "base"}
        layers.append((origins.get(ancestor, ["experiments", ancestor]), own))
    merged = functools.reduce(_merge, (values for _, values in layers))

    def origin(path: Key) -> Key:
        """Where the value at ``path`` was written: by the last layer that has it."""
        for place, values in reversed(layers[1:]):
            if _has(values, path):
                return [*place, *path]
        return ["defaults", *path]

    settings = _validate(Settings, merged, origin)
    dataset, size = settings.dataset, settings.model.image_size
    _known(f"{key}.dataset", "data set", dataset, config["datasets"])
    evaluation = settings.evaluation
    for which in ("protocols", "final_protocols"):
        for index, protocol in enumerate(getattr(evaluation, which)):
            where = f"{key}.evaluation.{which}[{index}]"
            _known(where, "protocol", protocol, config["protocols"])
    resolution = config["datasets"][dataset]["resolution"]
    if size != resolution:
        raise ConfigError(
            f"{key}.model.image_size: {size} does not fit the data set {dataset}, "
            f"whose images are {resolution} x {resolution}"
        )
    run = settings.run
    if settings.checkpoint is not None:
        _check_checkpoint(key, config["experiments"][name])
        return settings.experiment(name)
    experiment = settings.experiment(name)
    first = experiment.config.first_step
    if run.iterations <= first or (run.iterations - first) % run.segment:
        beyond = f" beyond the {first} it continues from" if first else ""
        raise ConfigError(
            f"{key}.run.iterations: {run.iterations} is not a multiple of run.segment, "
            f"{run.segment}{beyond}"
        )
    return experiment


def _lineage(name: str, experiments: Json) -> list[str]:
    """The experiment and those it is based on, the furthest first."""
    found = [name]
    while (base := experiments[found[0]].get("base")) is not None:
        key = f"experiments.{found[0]}.base"
        if not isinstance(base, str):
            raise ConfigError(f"{key}: {base!r} is not the name of an experiment")
        _known(key, "experiment", base, experiments)
        if base in found:
            raise ConfigError(f"{key}: {base!r} is itself based on this experiment")
        found.insert(0, base)
    return found


def _has(values: Any, path: Key) -> bool:
    """Whether the value at ``path`` is from here; lists are not merged."""
    for part in path:
        if not isinstance(values, dict):
            break
        if part not in values:
            return False
        values = values[part]
    return True


def _check_held_out(key: str, dataset: Dataset) -> None:
    """Refuse avatars that are both in the data set and in its test split."""
    for here, held_out in enumerate(dataset.test if isinstance(dataset.test, tuple) else ()):
        for there, source in enumerate(dataset.sources):
            if not held_out.kind == source.kind == "avatars":
                continue
            tested, trained = (
                range(it.first_seed, it.first_seed + it.count) for it in (held_out, source)
            )
            same = range(max(tested.start, trained.start), min(tested.stop, trained.stop))
            if held_out.style == source.style and same:
                raise ConfigError(
                    f"{key}.test[{here}].first_seed: seeds {same[0]} to {same[-1]} of style "
                    f"{source.style} are in sources[{there}] too, so these images would not be "
                    f"held out; take seeds from {trained.stop} on"
                )


def _check_start(name: str, experiments: dict[str, Experiment]) -> None:
    """Refuse to start from an experiment, or from a step of it, that does not exist."""
    seen = []
    while (start := experiments[name].config.training.start_from) and start.experiment:
        key = f"experiments.{name}.training.start_from"
        _known(f"{key}.experiment", "experiment", start.experiment, experiments)
        seen.append(name)
        if start.experiment in seen:
            raise ConfigError(f"{key}.experiment: {start.experiment!r} itself starts from this one")
        steps = experiments[start.experiment].snapshots
        if start.step not in steps:
            raise ConfigError(
                f"{key}.step: {start.experiment} has no state of step {start.step}; "
                f"there are {', '.join(map(str, steps[:8]))}{', …' * (len(steps) > 8)}"
            )
        name = start.experiment


def _check_checkpoint(key: str, own: Json) -> None:
    for ineffective in ("training", "run"):
        if ineffective in own:
            raise ConfigError(
                f"{key}.{ineffective}: has no effect, because weights from a checkpoint "
                "are not trained; remove this key or `checkpoint`"
            )


def _merge(base: Json, over: Json) -> Json:
    """``over`` laid on ``base`` key by key; anything but a mapping is replaced whole."""
    return base | {
        key: _merge(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in over.items()
    }


def _known(key: str, kind: str, name: str, names: Iterable[str]) -> None:
    if name not in names:
        names = sorted(names)
        shown = names if len(names) <= _SHOWN else get_close_matches(name, names, _SHOWN)
        more = ", …" if len(names) > _SHOWN else ""
        raise ConfigError(
            f"{key}: unknown {kind} {name!r}; there are {', '.join(shown or names[:_SHOWN])}{more}"
        )


def _validate(
    kind: type[Model], values: Json, origin: Callable[[Key], Key] = lambda path: path
) -> Model:
    """The values as ``kind``; ``origin`` maps a path in them to the one that the user wrote."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        path, message = explain(error, kind)
        raise ConfigError(f"{dotted(origin(path))}: {message}") from error
