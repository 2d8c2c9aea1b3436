"""What ``config/config.yaml`` may say: its sections as models, and a JSON schema of them for editors.

``python -m stylenat.configuration`` writes the schema to ``workflow/schemas``.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    WithJsonSchema,
    model_validator,
)

from stylenat.config import (
    ExperimentConfig,
    ModelConfig,
    Precision,
    TrainingConfig,
    WidthConfig,
)
from stylenat.fields import (
    Boolean,
    Complaint,
    Count,
    Name,
    Positive,
    Seed,
    Seeds,
    Sha256,
    SomeCounts,
    SomeSeeds,
    SomeTexts,
    Step,
    Text,
    Texts,
    choice,
    nested,
    number,
    text,
)
from stylenat.io import Json

SCHEMA = Path(__file__).parents[1] / "workflow/schemas/config.schema.json"


ABSENT: Any = None


class Section(BaseModel):
    """Unknown keys are refused. A key whose default is ABSENT may be left out, but not be null."""

    model_config = ConfigDict(extra="forbid", frozen=True)


# ---------------------------------------------------------------------------- experiments


class Widths(Section):
    channel_max: Count
    channel_base: Count
    channel_multiplier: Positive


class Run(Section):
    iterations: Count
    segment: Count

    @model_validator(mode="after")
    def _few_snapshots(self) -> Self:
        if self.iterations // self.segment > 100_000:
            raise Complaint(f"{self.segment} makes more than 100,000 segments", "segment")
        return self


class Evaluation(Section):
    protocols: SomeTexts
    final_protocols: Texts
    repeats: Annotated[int, *number(integer=True, minimum=1, maximum=1000)]
    grid: Annotated[int, *number(integer=True, minimum=1, maximum=10_000)]
    curated: Seeds
    throughput_batch_sizes: SomeCounts


class Wandb(Section):
    project: Text
    entity: Text = ABSENT
    name: Text = ABSENT
    tags: tuple[Text, ...] = ABSENT
    description: Text = ABSENT
    mode: Annotated[str, *choice("online", "offline")] = ABSENT


class Tracking(Section):
    tensorboard: Boolean
    wandb: Wandb | None


class Checkpoint(Section):
    file: Text = ABSENT
    url: Text = ABSENT
    sha256: Sha256 | None = None
    step: Step

    @model_validator(mode="after")
    def _from_one_place(self) -> Self:
        if (self.file is None) == (self.url is None):
            raise Complaint("give either file or url")
        return self


class Settings(Section):
    """An experiment after the defaults are merged."""

    dataset: Text
    device: Annotated[str, *choice("any", "gpu")]
    precision: Precision
    model: ModelConfig
    discriminator: Widths
    training: TrainingConfig
    run: Run
    evaluation: Evaluation
    tracking: Tracking
    checkpoint: Checkpoint = ABSENT

    def experiment(self, name: str) -> "Experiment":
        """The experiment that is called ``name``."""
        widths = self.discriminator.model_dump() | {"image_size": self.model.image_size}
        discriminator = WidthConfig(**widths)
        return Experiment(
            config=ExperimentConfig(
                name, self.dataset, self.model, discriminator, self.training, self.precision
            ),
            device=self.device,
            **self.run.model_dump(),
            **self.evaluation.model_dump(),
            tracking=self.tracking.model_dump(exclude_unset=True),
            checkpoint=self.checkpoint,
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
    tracking: Json  # TensorBoard and Weights & Biases
    checkpoint: Checkpoint | None  # published weights instead of training

    @property
    def snapshots(self) -> tuple[int, ...]:
        """Steps whose weights are evaluated: where training starts and the end of every segment,
        or the one step of a checkpoint."""
        if self.checkpoint is not None:
            return (self.checkpoint.step,)
        return tuple(range(self.config.first_step, self.iterations + 1, self.segment))


# ---------------------------------------------------------------------- the other sections


class Url(Section):
    url: Text
    size: Annotated[int, *number(integer=True, minimum=0)] = ABSENT
    md5: Annotated[str, *text("^[0-9a-f]{32}$")] = ABSENT
    sha256: Sha256 = ABSENT


def _url(value: Any) -> Any:
    return nested(Url if isinstance(value, dict) else Text, value)


SOURCES = ("avatars", "galaxies", "photos", "folder", "zip", "lmdb", "parquet", "urls", "ffhq")


class Source(Section):
    """A source of images; which keys it needs depends on its kind."""

    kind: Annotated[str, *choice(*SOURCES)]
    path: Text = ABSENT
    json_: Text = Field(ABSENT, alias="json")
    licence: Text = ABSENT
    classes: Annotated[str, *choice("folders", "dataset.json")] = ABSENT
    urls: tuple[Annotated[Url | str, PlainValidator(_url)], ...] = ABSENT
    style: Text = ABSENT
    count: Count = ABSENT
    first_seed: Seed = ABSENT
    backgrounds: tuple[Annotated[str, *text("^[0-9a-fA-F]{6}$")], ...] = ABSENT

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed = {
            "avatars": ("style", "count", "first_seed", "backgrounds"),
            "urls": ("urls",),
            **dict.fromkeys(("folder", "zip", "lmdb", "parquet"), ("path",)),
        }
        for key in needed.get(self.kind, ()):
            if not getattr(self, key) and getattr(self, key) != 0:
                raise Complaint("is missing", key)
        if self.classes and self.kind not in ("folder", "zip"):
            raise Complaint(f"a source of kind {self.kind} keeps no class labels", "classes")
        return self


def _test(value: Any) -> Any:
    """Sources of held-out images, or the share of the images that is held out."""
    return nested(SomeSources if isinstance(value, list) else Share, value)


SomeSources = Annotated[tuple[Source, ...], Field(min_length=1)]
Share = Annotated[float, *number(above=0, below=1)]
_TEST = WithJsonSchema(
    {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
            {"type": "array", "minItems": 1},
        ]
    }
)


class Dataset(Section):
    resolution: Annotated[int, *number(integer=True, minimum=8, maximum=2**16)]
    filter: Annotated[str, *choice("lanczos", "box", "none")]
    max_corrupt: Annotated[int, *number(integer=True, minimum=0)] = 0
    sources: SomeSources
    test: Annotated[tuple[Source, ...] | float, PlainValidator(_test), _TEST] = ABSENT


class Comparison(Section):
    experiments: SomeTexts
    batch_sizes: SomeCounts
    seconds: Positive


def _all_or_count(value: Any) -> Any:
    return value if value == "all" else nested(TwoOrMore, value)


TwoOrMore = Annotated[int, *number(integer=True, minimum=2, maximum=10**9)]
_ALL_OR_COUNT = WithJsonSchema({"anyOf": [{"const": "all"}, {"type": "integer", "minimum": 2}]})


class Protocol(Section):
    metric: Text
    extractor: Text
    samples: TwoOrMore
    reals: Annotated[int | str, PlainValidator(_all_or_count), _ALL_OR_COUNT]

    @model_validator(mode="after")
    def _sensible(self) -> Self:
        # It needs class logits.
        if self.metric == "inception_score":
            require(self.extractor, "inception", "extractor")
        # A copy of an image that is left out would go unseen.
        if self.metric == "copies":
            require(self.reals, "all", "reals")
        return self


def require(value: Any, needed: Any, *path: str) -> None:
    """Raise the error of the value at ``path`` if it is not the only possible one."""
    if value != needed:
        raise Complaint(f"{value!r} cannot be; it has to be {needed!r} here", *path)


class FeatureWeights(Section):
    url: Text = ABSENT
    package: Text = ABSENT
    path: Text = ABSENT
    sha256: Sha256 | None

    @model_validator(mode="after")
    def _from_somewhere(self) -> Self:
        if self.url is None and self.path is None:
            raise Complaint("is missing", "path")
        return self


class Ablation(Section):
    """Variants of an experiment, each with the same seeds, compared with one of them."""

    base: Name
    protocol: Name
    baseline: Name
    seeds: SomeSeeds
    variants: dict[Name, Json]

    @model_validator(mode="after")
    def _has_its_baseline(self) -> Self:
        if self.baseline not in self.variants:
            raise Complaint(f"there is no variant {self.baseline!r}", "baseline")
        return self


class Configuration(Section):
    """The whole file; experiments are checked again, after the defaults are merged."""

    run: SomeTexts
    container: Text = ABSENT
    defaults: Json
    comparison: Comparison
    experiments: dict[Name, Json]
    ablations: dict[Name, Ablation] = {}
    datasets: dict[Name, Dataset]
    protocols: dict[Name, Protocol]
    weights: dict[Name, FeatureWeights]

    @model_validator(mode="after")
    def _only_fid_is_called_fid(self) -> Self:
        for name, protocol in self.protocols.items():
            if name.startswith("fid"):
                if protocol.extractor != "inception_tf1":
                    require(protocol.extractor, "inception", "protocols", name, "extractor")
                if not protocol.metric.startswith("frechet"):
                    message = f"{protocol.metric!r} cannot be; {name} is a Fréchet distance"
                    raise Complaint(message, "protocols", name, "metric")
        return self


def json_schema() -> Json:
    """The schema for editors. Experiments and their defaults are partial, so nothing is required
    there."""
    schema = Configuration.model_json_schema()
    settings = Settings.model_json_schema(ref_template="#/$defs/{model}")
    parts = settings.pop("$defs")
    for part in (settings, *parts.values()):
        part.pop("required", None)
    settings["properties"]["base"] = {"type": "string"}
    settings["properties"]["seeds"] = {"type": "array", "items": {"type": "integer"}}
    schema["$defs"] |= parts | {"Settings": settings}
    reference = {"$ref": "#/$defs/Settings"}
    schema["properties"]["defaults"] = reference
    variants = schema["$defs"]["Ablation"]["properties"]["variants"]
    for named in (schema["properties"]["experiments"], variants):
        named["patternProperties"] = dict.fromkeys(named["patternProperties"], reference)
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema


if __name__ == "__main__":
    SCHEMA.write_text(json.dumps(json_schema(), indent=1) + "\n")
