"""Records: what a step writes into a file and other steps read, under the names of the fields.

Fields with a default are keys that not every record has: they are written where they were given. Keys
without a field, as other versions may write, are kept. No torch here.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError

from stylenat.errors import UserError
from stylenat.fields import dotted, explain
from stylenat.io import Json, brief, read_json

R = TypeVar("R", bound="Record")


class Record(BaseModel):
    """A JSON object with these keys, in this order."""

    model_config = ConfigDict(frozen=True, extra="allow")

    @classmethod
    def read(cls, values: Any, path: str | Path, remedy: str) -> Self:
        """What the file at ``path`` says, parsed or as bytes; a missing or wrong key is a
        :class:`UserError`."""
        try:
            if isinstance(values, bytes):
                return cls.model_validate_json(values)
            return cls.model_validate(values)
        except ValidationError as error:
            key, message = explain(error, cls)
            name = f"its {dotted(key)}" if key else "its record"
            raise UserError(f"{path}: {name}: {brief(ValueError(message))}; {remedy}.") from error

    @classmethod
    def read_lists(cls, paths: Iterable[str | Path], remedy: str) -> dict[str, Self]:
        """The records in lists, by what a message calls them; see :meth:`read`."""
        found = {}
        for path in paths:
            values = read_json(path)
            if not isinstance(values, list):
                raise UserError(f"{path} holds no list of records; {remedy}.")
            for number, value in enumerate(values):
                name = f"{path}, record {number}"
                found[name] = cls.read(value, name, remedy)
        return found

    @classmethod
    def joined(cls, *parts: "Record") -> Self:
        """The record that has the keys of all these."""
        return cls(**{key: value for part in parts for key, value in part.to_dict().items()})

    def part(self, kind: type[R]) -> R:
        """What a record of ``kind`` says of the same thing."""
        return kind(**{key: getattr(self, key) for key in kind.model_fields})

    def to_dict(self) -> Json:
        """Plain JSON types, in the order of the fields."""
        return self.model_dump(exclude_unset=True)


class MeasuredSet(Record):
    """The set of images that statistics are of."""

    name: str
    content_sha256: str
    resolution: int | None  # None: not known, of images that another program measured
    filter: str | None  # None for samples of converted weights, too
    licence: str | None = None
    creator: str | None = None


class StatisticsRecord(Record):
    """Whose features statistics are of, and from which network."""

    kind: str  # "real" or "generated"
    dataset: MeasuredSet
    generator_sha256: str | None
    seeds: str | None = None
    subset: str  # all, a number, or class=NAME
    seed: int | None = None  # of the draw of a number of images
    extractor: str
    weights_sha256: str | None
    device: str | None = None
    dtype: str | None = None
    versions: dict[str, str] | str | None = None
    commit: str | None = None
    attributes: dict[str, list[str]] | None = None  # values by name, in the order of their codes

    @classmethod
    def of(
        cls, name: str, extractor: str, content_sha256: str = "", versions: str | None = None
    ) -> Self:
        """Of reals of which no more is known."""
        dataset = MeasuredSet(
            name=name, content_sha256=content_sha256, resolution=None, filter=None
        )
        return cls(
            kind="real",
            dataset=dataset,
            generator_sha256=None,
            subset="all",
            extractor=extractor,
            weights_sha256=None,
            versions=versions,
        )


class DataIdentity(Record):
    """The data set that a network was trained on."""

    name: str
    count: int | None = None
    resolution: int | None = None
    filter: str | None = None
    content_sha256: str | None = None


class Provenance(Record):
    """Where weights come from, as their header says it."""

    experiment: Json | None = None  # resolved, as its version had it
    step: int | None = None
    images_seen: int | None = None
    data: DataIdentity | None = None
    checkpoint: str | None = None  # name of the file that the weights were converted from …
    checkpoint_sha256: str | None = None
    network: str | None = None  # … and of the network in it
    precision: str | None = None
    versions: dict[str, str] | None = None
    commit: str | None = None
    parameters: int | None = None

    @property
    def experiment_name(self) -> str | None:
        return (self.experiment or {}).get("name")


class StateHeader(Record):
    """What a training state belongs to."""

    step: int
    experiment: Json  # resolved, as its version had it
    data: DataIdentity | None  # None before any was seen
    parent: str | None = None  # digest of the state that its segment started from
    versions: dict[str, str] | None = None
    commit: str | None = None
    digest: str | None = None  # of the tensors


class Dataset(Record):
    """What a packed data set says of itself; samples that are packed have more keys."""

    name: str
    resolution: int
    filter: str | None = None  # None: not known, of samples of converted weights
    codec: str
    source: str | None = None
    licence: str | None = None
    creator: str | None = None
    classes: list[str] | None = None  # where there are labels
    notes: list[str] | None = None
    count: int
    content_sha256: str
    duplicates: int | None = None  # images with the pixels of an earlier one
    generator_sha256: str | None = None  # of samples …
    seeds: str | None = None  # … and theirs


class FileRecord(Record):
    """A file of a data set: downloaded, or found in a copy."""

    path: str  # below the folder of the files
    url: str | None = None
    bytes: int | None = None
    sha256: str | None = None
    expected: dict[str, int | str] | None = None  # what it was checked against: size, md5, sha256
    note: str | None = None
    pixel_md5: str | None = None


class Manifest(Record):
    """Where the images of a data set are."""

    dataset: str | None = None
    source: Json  # the entry of ``sources`` in the configuration
    directory: str  # of the files, relative to the manifest
    files: list[FileRecord]
    split: str | None = None  # "content": what decides which images are held out
    listing: str | None = None  # of a folder's files, by :func:`stylenat.data.listing.listing_of`


class Subject(Record):
    """What a metric was measured of."""

    experiment: str
    dataset: str
    resolution: int | None
    kind: str  # "snapshot", or "floor": real images alone
    floor_of: str | None = None  # "held-out" or "halves"
    step: int | None = None
    images_seen: int | None = None
    generator_sha256: str | None = None
    checkpoint: str | None = None  # of another program, that the weights are from
    precision: str | None = None  # of the training
    parameters: int | None = None
    protocol: str


class Summary(Record):
    """One metric over several sets of images: the mean, and every set's own value."""

    metric: str
    better: str  # "lower" or "higher"
    value: float
    values: list[float]
    uncertainty: float | None = None
    uncertainty_of: str | None = None
    note: str | None = None
    attribute: str | None = None  # whose values …
    shares: dict[str, dict[str, float]] | None = None  # … are how frequent among reals and samples
    missing: list[str] | None = None
    held_out: float | None = None  # the same, compared with held-out reals
    held_out_values: list[float] | None = None
    held_out_uncertainty: float | None = None


class Draw(Record):
    """Which images of a data set were drawn."""

    subset: str
    seed: int | None


class Origin(Record):
    """How many images were compared, from where, in which features, on which machine."""

    n_generated: int
    n_real: int
    n_real_held_out: int | None = None
    seeds: list[str | None] = []
    reals: Draw | None = None
    extractor: str
    weights_sha256: str | None
    filter: str | None
    dataset_sha256: str
    dataset_licence: str | None = None
    dataset_creator: str | None = None
    device: str | None = None
    dtype: str | None = None
    versions: dict[str, str] | None = None
    commit: str | None = None


class MetricRecord(Origin, Summary, Subject):
    """What a protocol gave."""


class NeighboursRecord(Record):
    """Whose nearest training images were looked for, among which, and which count as copies."""

    experiment: str
    dataset: str
    dataset_sha256: str
    resolution: int | None
    step: int
    protocol: str
    extractor: str
    weights_sha256: str | None
    generator_sha256: str | None
    n_generated: int
    n_real: int
    seeds: str
    quantile: float  # of the distances between training images …
    threshold: float  # … which is this distance
    copies: float  # share of the samples
    versions: dict[str, str]
    commit: str


class Throughput(Record):
    """How fast a generator is by one protocol."""

    experiment: str | None = None
    step: int | None = None
    generator_sha256: str | None = None
    device: str
    threads: int
    backend: str
    versions: dict[str, str]
    commit: str
    protocol: str
    batch_size: int
    warmup: int  # rounds
    rounds: int
    rounds_intended: int
    seconds: float  # that all generators together had
    interleaved: int  # what was measured in turn
    dtype: str
    execution: str
    memory_of: str
    resolution: int
    parameters: int
    flops: int
    timed: str  # which part of the generator
    images_per_second: float
    images_per_second_median: float
    images_per_second_q25: float
    images_per_second_q75: float
    memory_mb: float  # of 10⁶ bytes


class SampledSet(Record):
    """What a set of samples says of its origin; its file adds what the pixels tell."""

    name: str
    kind: str
    filter: str | None
    source: str
    licence: str
    notes: list[str]
    seeds: str
    truncation: float | None
    generator_sha256: str
    data: DataIdentity | None  # that the generator was trained on
    device: str
    dtype: str
    versions: dict[str, str]
    commit: str
