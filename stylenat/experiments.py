"""From ``config.yaml`` to experiments that can run.

An experiment is the defaults with its own keys laid over them, and those of its base, where it
names one, in between. Everything is checked here, whole and at once, before anything is computed:
every complaint is one sentence that begins with the key it is about.
"""

import difflib
import functools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from jsonschema import Draft202012Validator, ValidationError, validators

from stylenat.config import ExperimentConfig
from stylenat.errors import ConfigError

Key = list[str | int]  # the parts of a dotted key

# These lie beside the experiments' own folders in results/.
RESERVED = frozenset({"benchmarks", "comparison", "data", "figures", "logs", "weights"})

# JSON counts 16.0 as an integer; Python's range() does not.
_Validator = validators.extend(
    Draft202012Validator,
    type_checker=Draft202012Validator.TYPE_CHECKER.redefine(
        "integer", lambda _, value: isinstance(value, int) and not isinstance(value, bool)
    ),
)


@dataclass(frozen=True)
class Experiment:
    """One experiment: what decides its weights (``config``), and what is done with them."""

    config: ExperimentConfig
    device: str  # "gpu" or "any"
    iterations: int
    segment: int
    protocols: tuple[str, ...]  # of every snapshot …
    final_protocols: tuple[str, ...]  # … and these of the last one alone
    repeats: int  # sampling sets of the last snapshot
    grid: int
    curated: tuple[int, ...]  # seeds
    throughput_batch_sizes: tuple[int, ...]
    tracking: dict[str, Any]  # TensorBoard and Weights & Biases
    checkpoint: dict[str, Any] | None  # published weights instead of training

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Steps whose weights are evaluated: the untrained network and the end of every segment,
        or the one step of a checkpoint."""
        if self.checkpoint is not None:
            return (self.checkpoint["step"],)
        return tuple(range(0, self.iterations + 1, self.segment))


def resolve(config: dict[str, Any], schemas: Path) -> dict[str, Experiment]:
    """Check a whole configuration and return its experiments by name, defaults merged.

    ``schemas`` is the folder of ``config.schema.yaml`` and ``experiment.schema.yaml``.
    Raises :class:`ConfigError`.
    """
    _validate(config, schemas / "config.schema.yaml")
    lists = {"run": config["run"], "comparison.experiments": config["comparison"]["experiments"]}
    for key, names in lists.items():
        for index, name in enumerate(names):
            _known(f"{key}[{index}]", "experiment", name, config["experiments"])
    for name, dataset in config["datasets"].items():
        _check_held_out(f"datasets.{name}", dataset)
    for name, protocol in config["protocols"].items():
        key = f"protocols.{name}.extractor"
        _known(key, "feature network", protocol["extractor"], config["weights"])
    return {name: _experiment(name, config, schemas) for name in config["experiments"]}


def _experiment(name: str, config: dict[str, Any], schemas: Path) -> Experiment:
    key = f"experiments.{name}"
    if name in RESERVED or name in config["weights"]:
        raise ConfigError(f"{key}: results/{name} is needed for other files; choose another name")
    # From the defaults to the experiment itself, each with the key it stands under.
    layers: list[tuple[Key, dict[str, Any]]] = [(["defaults"], config["defaults"])]
    for ancestor in _lineage(name, config["experiments"]):
        own = {k: value for k, value in config["experiments"][ancestor].items() if k != "base"}
        layers.append((["experiments", ancestor], own))
    merged = functools.reduce(_merge, (values for _, values in layers))

    def origin(path: Key) -> Key:
        """Where the value at ``path`` was written: by the last layer that has it."""
        for place, values in reversed(layers[1:]):
            if _has(values, path):
                return [*place, *path]
        return ["defaults", *path]

    _validate(merged, schemas / "experiment.schema.yaml", origin)

    dataset = merged["dataset"]
    _known(f"{key}.dataset", "data set", dataset, config["datasets"])
    for which in ("protocols", "final_protocols"):
        for index, protocol in enumerate(merged["evaluation"][which]):
            where = f"{key}.evaluation.{which}[{index}]"
            _known(where, "protocol", protocol, config["protocols"])
    size, resolution = merged["model"]["image_size"], config["datasets"][dataset]["resolution"]
    if size != resolution:
        raise ConfigError(
            f"{key}.model.image_size: {size} does not fit the data set {dataset}, "
            f"whose images are {resolution} x {resolution}"
        )

    checkpoint, run = merged.get("checkpoint"), merged["run"]
    if checkpoint is not None:
        _check_checkpoint(key, config["experiments"][name], checkpoint)
    elif run["iterations"] % run["segment"]:
        raise ConfigError(
            f"{key}.run.iterations: {run['iterations']} is not a multiple of "
            f"run.segment, {run['segment']}"
        )
    return Experiment(
        config=ExperimentConfig.from_dict(
            {
                "name": name,
                "dataset": dataset,
                "model": merged["model"],
                "discriminator": {"image_size": size, **merged["discriminator"]},
                "training": merged["training"],
            }
        ),
        device=merged["device"],
        iterations=run["iterations"],
        segment=run["segment"],
        protocols=tuple(merged["evaluation"]["protocols"]),
        final_protocols=tuple(merged["evaluation"]["final_protocols"]),
        repeats=merged["evaluation"]["repeats"],
        grid=merged["evaluation"]["grid"],
        curated=tuple(merged["evaluation"]["curated"]),
        throughput_batch_sizes=tuple(merged["evaluation"]["throughput_batch_sizes"]),
        tracking=merged["tracking"],
        checkpoint=checkpoint,
    )


def _lineage(name: str, experiments: dict[str, Any]) -> list[str]:
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


def _check_held_out(key: str, dataset: dict[str, Any]) -> None:
    """Refuse avatars that are both in the data set and in its test split."""
    for here, held_out in enumerate(dataset.get("test", [])):
        for there, source in enumerate(dataset["sources"]):
            if not held_out["kind"] == source["kind"] == "avatars":
                continue
            tested, trained = (
                range(it["first_seed"], it["first_seed"] + it["count"]) for it in (held_out, source)
            )
            same = range(max(tested.start, trained.start), min(tested.stop, trained.stop))
            if held_out["style"] == source["style"] and same:
                raise ConfigError(
                    f"{key}.test[{here}].first_seed: seeds {same[0]} to {same[-1]} of style "
                    f"{source['style']} are in sources[{there}] too, so these images would not be "
                    f"held out; take seeds from {trained.stop} on"
                )


def _check_checkpoint(key: str, own: dict[str, Any], checkpoint: dict[str, Any]) -> None:
    for ineffective in ("training", "run"):
        if ineffective in own:
            raise ConfigError(
                f"{key}.{ineffective}: has no effect, because weights from a checkpoint "
                "are not trained; remove this key or `checkpoint`"
            )
    if ("file" in checkpoint) == ("url" in checkpoint):
        raise ConfigError(f"{key}.checkpoint: give either file or url")


def _merge(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    """``over`` laid on ``base`` key by key; anything but a mapping is replaced whole."""
    return base | {
        key: _merge(base[key], value)
        if isinstance(value, dict) and isinstance(base.get(key), dict)
        else value
        for key, value in over.items()
    }


def _known(key: str, kind: str, name: str, names: Iterable[str]) -> None:
    if name not in names:
        raise ConfigError(f"{key}: unknown {kind} {name!r}; there are {', '.join(sorted(names))}")


def _validate(
    values: dict[str, Any], schema: Path, origin: Callable[[Key], Key] = lambda path: path
) -> None:
    """Raise the first violation of ``schema``; ``origin`` maps a path in ``values`` to the one
    that the user wrote."""
    errors = sorted(
        _Validator(yaml.safe_load(schema.read_text())).iter_errors(values),
        # A misspelt key explains other errors, so it comes first.
        key=lambda error: (error.validator != "additionalProperties", error.json_path),
    )
    if errors:
        path, message = _explain(errors[0])
        raise ConfigError(f"{_dotted(origin(path))}: {message}")


def _explain(error: ValidationError) -> tuple[Key, str]:
    """The key an error is about, and a sentence that a user can act on."""
    path, value = list(error.absolute_path), error.instance
    match error.validator:
        case "additionalProperties":
            known = sorted(error.schema["properties"])
            key = next(key for key in value if key not in known)
            return [*path, key], f"unknown key{_suggestion(key, known)}"
        case "required":
            key = next(key for key in error.validator_value if key not in value)
            return [*path, key], "is missing"
        case "type" if isinstance(value, str) and _is_number(value):
            return path, f"{value} is text to YAML; write it with a decimal point, as in 1.0e-4"
        case "type":
            kinds = error.validator_value
            kinds = " or ".join([kinds] if isinstance(kinds, str) else kinds)
            return path, f"{value!r} is not of type {kinds}"
        case "const":
            return path, f"{value!r} cannot be; it has to be {error.validator_value!r} here"
        case "enum":
            return path, f"{value!r} is not one of {', '.join(error.validator_value)}"
        case "minimum":
            return path, f"{value} is less than {error.validator_value}"
        case "exclusiveMinimum":
            return path, f"{value} is not greater than {error.validator_value}"
        case "exclusiveMaximum":
            return path, f"{value} is not less than {error.validator_value}"
        case _:
            return path, error.message


def _suggestion(key: str, known: list[str]) -> str:
    """The known keys that look like ``key``, or all of them."""
    short = key.replace("learning_rate", "lr")  # what most other projects call it
    close = difflib.get_close_matches(short, known, n=1, cutoff=0.6)
    close = close or [name for name in known if name.endswith(short)]
    return f" (did you mean {' or '.join(close)}?)" if close else f"; known are {', '.join(known)}"


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _dotted(path: Key) -> str:
    """``["model", "dilations", 3]`` as ``model.dilations[3]``."""
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(
        "."
    )
