"""What an experiment is made of: frozen dataclasses without defaults, checked by pydantic.

Defaults are in ``config/config.yaml`` alone; a value that
cannot work is a :class:`ConfigError` naming its key, raised before anything is computed.
"""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, ClassVar, Self, TypeVar

from pydantic import ConfigDict, PlainValidator, TypeAdapter, ValidationError, WithJsonSchema

from stylenat.blocks import BLOCKS
from stylenat.errors import ConfigError, require
from stylenat.fields import (
    Boolean,
    Complaint,
    Count,
    Fraction,
    Levels,
    Positive,
    Seed,
    Sha256,
    Step,
    Text,
    Weight,
    choice,
    dotted,
    explain,
    number,
)
from stylenat.io import Json

T = TypeVar("T")


def _tuples(levels: Any) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(level) for level in levels)


@dataclass(frozen=True)
class WidthConfig:
    """Channels per resolution: ``min(channel_max, channel_base * channel_multiplier / res)``.

    The discriminator needs nothing else (StyleGAN2's table, shared by both networks).
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    image_size: Count
    channel_max: Count
    channel_base: Count
    channel_multiplier: Positive

    def __post_init__(self) -> None:
        size = self.image_size
        require(
            size >= 8 and size & (size - 1) == 0, "image_size", f"{size} is not a power of two >= 8"
        )

    def width(self, resolution: int) -> int:
        """Channels of the feature maps of side ``resolution``."""
        return min(self.channel_max, int(self.channel_base * self.channel_multiplier // resolution))


def _words(value: Any) -> tuple[str, ...] | str:
    words = (value,) if isinstance(value, str) else value
    if not isinstance(words, Sequence) or not all(isinstance(word, str) for word in words):
        raise Complaint(f"{value!r} is neither a word nor a list of words")
    return value if isinstance(value, str) else tuple(value)


_WORDS = {"anyOf": [{"enum": [*BLOCKS]}, {"type": "array", "items": {"enum": [*BLOCKS]}}]}
Block = Annotated[tuple[str, ...] | str, PlainValidator(_words), WithJsonSchema(_WORDS)]


@dataclass(frozen=True)
class ModelConfig(WidthConfig):
    """The generator. ``kernels``, ``dilations`` and ``block`` hold one entry per level, from 4²
    upwards; levels beyond ``image_size`` are cut off, so the same lists serve every size. A
    single word as ``block`` counts for all levels, but at 4² ``hydra`` is full attention."""

    # Bounds far beyond use; what is larger would exhaust memory or time before it fails.
    style_dim: Annotated[int, *number(integer=True, minimum=1, maximum=2**16)]
    mapping_layers: Annotated[int, *number(integer=True, minimum=1, maximum=1000)]
    mapping_lr: Annotated[float, *number(above=0, maximum=10**6)]
    min_heads: Count
    mlp_ratio: Annotated[float, *number(above=0, maximum=1000)]
    kernels: Levels
    dilations: Levels
    # The only defaults: weights and records from before there was a choice do not name them.
    block: Block = "hydra"
    relative_position_bias: Boolean = True  # of the hydra levels

    def __post_init__(self) -> None:
        super().__post_init__()
        levels = len(self.resolutions)
        block = (self.block,) * levels if isinstance(self.block, str) else tuple(self.block)
        require(
            len(block) >= levels and set(block) <= set(BLOCKS),
            "block",
            f"{self.block!r} is neither one of {', '.join(BLOCKS)} "
            f"nor a list of them for each of the {levels} levels of {self.image_size}²",
        )
        object.__setattr__(self, "block", (BLOCKS[block[0]].at_4, *block[1:levels]))
        for key in ("kernels", "dilations"):
            value = _tuples(getattr(self, key))
            require(
                len(value) >= levels and all(value),
                key,
                f"needs a non-empty list for each of the {levels} levels of {self.image_size}²",
            )
            object.__setattr__(self, key, value[:levels])
        for resolution in self.resolutions:
            channels, heads = self.width(resolution), self.heads(resolution)
            require(
                channels % heads == 0,
                "min_heads",
                f"{channels} channels at {resolution}² do not divide into {heads} heads",
            )
            # Both axes of the sinusoidal embedding need sines and cosines of two frequencies.
            require(
                channels % 4 == 0 and channels >= 8,
                "channel_base",
                f"{channels} channels at {resolution}² are not a multiple of 4 from 8 upwards",
            )
        for level, kind in enumerate(self.block):
            BLOCKS[kind].views(self, level)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """What a record says; unknown, missing and impossible values are refused by name."""
        return _validated(cls, values, "model")

    @property
    def resolutions(self) -> tuple[int, ...]:
        """Sides of the levels: 4, 8, …, image_size."""
        return tuple(4 << level for level in range(int(math.log2(self.image_size)) - 1))

    @property
    def latents(self) -> int:
        """Number of blocks, each with its own copy of w: two per level."""
        return 2 * len(self.resolutions)

    def heads(self, resolution: int) -> int:
        """Attention heads at a level: ``max(channels // 32, min_heads)``."""
        return max(self.width(resolution) // 32, self.min_heads)


AUGMENTATIONS = ("none", "bcr", "diffaugment", "ada")


@dataclass(frozen=True)
class StartConfig:
    """Weights that training starts from: a file, a download, or another experiment's state."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    mode: Annotated[str, *choice("continue", "finetune")]
    file: Text | None = None
    url: Text | None = None
    sha256: Sha256 | None = None
    experiment: Text | None = None
    step: Step | None = None  # of the state that is continued, or of the experiment's
    missing: Annotated[str, *choice("refuse", "initialise")] = "refuse"

    def __post_init__(self) -> None:
        places = [key for key in ("file", "url", "experiment") if getattr(self, key) is not None]
        if len(places) != 1:
            raise Complaint("give one of file, url and experiment")
        if self.step is None and (self.mode == "continue" or self.experiment is not None):
            raise Complaint("needs step, the number of finished iterations to start from")
        require(
            self.mode == "finetune" or self.missing == "refuse",
            "missing",
            "a run that is continued needs the whole network; use mode finetune",
        )


# Of training: see `stylenat.precision`.
Precision = Annotated[str, *choice("auto", "float32", "tf32", "bf16")]


@dataclass(frozen=True)
class TrainingConfig:
    """The optimisation problem (paper, section 4). ``batch_size`` is the total over all GPUs; the number
    of iterations is not part of it, so that a run can be extended without retraining."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    seed: Seed
    weight_std: Positive  # of the generator's initial linear layers and bias tables
    rgb_gain: Positive  # of the Xavier initialisation of its colours
    # Of its position embeddings at first; learned from there.
    position_scale: Annotated[float, *number()]
    batch_size: Count
    horizontal_flips: Boolean
    generator_lr: Positive
    discriminator_lr: Positive
    beta1: Fraction
    beta2: Fraction
    lr_decay_start: Step | None  # iteration from which both rates fall linearly …
    lr_decay_end: Step | None  # … to zero at this one; null: constant
    r1_gamma: Weight
    r1_interval: Count
    bcr_weight: Weight
    gradient_clip: Positive
    ema_half_life: Positive  # iterations until a weight's share in the average has halved
    # Defaults for records from before there was a choice.
    ema_rampup: Positive | None = (
        None  # the half-life is at most this share of the iterations so far
    )
    augment: Annotated[str, *choice(*AUGMENTATIONS)] = "bcr"
    ada_target: Fraction = 0.6  # mean sign of the logits on reals that p is driven to
    ada_images: Count = 500_000  # reals in which p can rise from 0 to 1
    freeze_discriminator: Step = 0  # levels, the finest first, that are not trained
    start_from: StartConfig | None = None
    # G's blocks are computed again in the backward pass, not kept: slower, and less memory.
    checkpoint_activations: Boolean = False

    def __post_init__(self) -> None:
        start, end = self.lr_decay_start, self.lr_decay_end
        require(
            (start is None) == (end is None), "lr_decay_end", "needs lr_decay_start, and vice versa"
        )
        if start is not None and end is not None:
            require(0 <= start < end, "lr_decay_end", f"{end} is not after lr_decay_start {start}")


@dataclass(frozen=True)
class ExperimentConfig:
    """Everything that decides what the weights will be, and nothing else."""

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid")

    name: Text
    dataset: Text
    model: ModelConfig
    discriminator: WidthConfig
    training: TrainingConfig
    # Experiments from before there was a choice do not name it.
    precision: Precision = "auto"

    def __post_init__(self) -> None:
        levels = int(math.log2(self.discriminator.image_size)) - 2  # 4² is the coarsest
        frozen = self.training.freeze_discriminator
        require(
            frozen <= levels,
            "training.freeze_discriminator",
            f"{frozen} is more than the {levels} levels of a discriminator of "
            f"{self.discriminator.image_size}²",
        )

    @property
    def first_step(self) -> int:
        """The step training starts at: 0, or that of the run which is continued."""
        start = self.training.start_from
        return start.step or 0 if start and start.mode == "continue" else 0

    def to_dict(self) -> Json:
        """Plain JSON types, in the order of the fields."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Json) -> Self:
        """The inverse of :meth:`to_dict`; unknown or missing keys are refused by name."""
        name = values.get("name") if isinstance(values, dict) else None
        return _validated(cls, values, "experiments", str(name))


def _validated(kind: type[T], values: Any, *place: str) -> T:
    """A record's values as ``kind``; a :class:`ConfigError` names the key, below ``place``."""
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        path, message = explain(error, kind)
        raise ConfigError(f"{dotted([*place, *path])}: {message}") from error
