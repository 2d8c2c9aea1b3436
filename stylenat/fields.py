"""Types of configuration values: what they accept, and one sentence about what they do not."""

import dataclasses
import difflib
import math
import re
from collections.abc import Callable
from typing import Annotated, Any, TypeVar, get_args, get_type_hints

from pydantic import (
    AfterValidator,
    BaseModel,
    PlainValidator,
    TypeAdapter,
    ValidationError,
    WithJsonSchema,
)

T = TypeVar("T")
Key = list[str | int]  # the parts of a dotted key
Check = tuple[PlainValidator, WithJsonSchema]  # of a type, to be unpacked in Annotated

_TYPES = {
    "dataclass_type": "object",
    "dict_type": "object",
    "model_type": "object",
    "none_required": "null",
    "tuple_type": "array",
}
_UNKNOWN = ("extra_forbidden", "unexpected_keyword_argument")


class Complaint(ValueError):
    """What is wrong with a value, or with the one at ``path`` in it."""

    def __init__(self, message: str, *path: str | int):
        super().__init__(message)
        self.path = path


def _type(name: str, value: Any) -> Complaint:
    return Complaint(f"{value!r} is not of type {name}")


def number(
    integer: bool = False,
    minimum: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    maximum: float = math.inf,
) -> Check:
    """A finite number; an integer stays one, as it is written to records."""
    kind = "integer" if integer else "number"

    def check(value: Any) -> int | float:
        if isinstance(value, str) and _is_number(value):
            raise Complaint(f"{value} is text to YAML; write it with a decimal point, as in 1.0e-4")
        if isinstance(value, bool) or not isinstance(value, int if integer else int | float):
            raise _type(kind, value)
        if isinstance(value, float) and not math.isfinite(value):
            raise Complaint(f"{value} is not a finite number")
        for wrong, relation, bound in (
            (value < minimum, "less than", minimum),
            (value <= above, "not greater than", above),
            (value > maximum, "greater than", maximum),
            (value >= below, "not less than", below),
        ):
            if wrong:
                raise Complaint(f"{value} is {relation} {bound}")
        return value

    bounds = {
        "minimum": minimum,
        "exclusiveMinimum": above,
        "maximum": maximum,
        "exclusiveMaximum": below,
    }
    schema = {"type": kind} | {key: v for key, v in bounds.items() if math.isfinite(v)}
    return PlainValidator(check), WithJsonSchema(schema)


def choice(*options: str) -> Check:
    """One of these words."""

    def check(value: Any) -> Any:
        if value not in options:
            raise Complaint(f"{value!r} is not one of {', '.join(options)}")
        return value

    return PlainValidator(check), WithJsonSchema({"enum": list(options)})


def text(pattern: str = "") -> Check:
    """A text in which the pattern is found."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise _type("string", value)
        if not re.search(pattern, value):
            raise Complaint(f"{value!r} does not match {pattern!r}")
        return value

    schema = {"type": "string"} | ({"pattern": pattern} if pattern else {})
    return PlainValidator(check), WithJsonSchema(schema)


def _is_boolean(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _type("boolean", value)
    return value


def _sized(least: int) -> Callable[[tuple[T, ...]], tuple[T, ...]]:
    def check(values: tuple[T, ...]) -> tuple[T, ...]:
        if len(values) < least:
            raise Complaint(f"needs at least {least} {'entry' if least == 1 else 'entries'}")
        for index, value in enumerate(values):
            if value in values[:index]:
                raise Complaint(f"{value!r} is in the list twice")
        return values

    return check


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True


Text = Annotated[str, *text()]
Sha256 = Annotated[str, *text("^[0-9a-f]{64}$")]
# Names become parts of file names, where "." and "/" separate them.
Name = Annotated[str, *text("^[A-Za-z0-9][A-Za-z0-9_-]*$")]
Boolean = Annotated[bool, PlainValidator(_is_boolean), WithJsonSchema({"type": "boolean"})]
# Far beyond use; what is larger would exhaust memory or time before it fails.
Count = Annotated[int, *number(integer=True, minimum=1, maximum=10**9)]
# One range for all seeds: those that PyTorch and NumPy take without changing them.
LAST_SEED = 2**32 - 1
Seed = Annotated[int, *number(integer=True, minimum=0, maximum=LAST_SEED)]
Step = Annotated[int, *number(integer=True, minimum=0, maximum=10**9)]
Positive = Annotated[float, *number(above=0)]
Weight = Annotated[float, *number(minimum=0)]
Fraction = Annotated[float, *number(minimum=0, below=1)]
Texts = Annotated[tuple[Text, ...], AfterValidator(_sized(0))]
SomeTexts = Annotated[tuple[Text, ...], AfterValidator(_sized(1))]
SomeCounts = Annotated[tuple[Count, ...], AfterValidator(_sized(1))]
Seeds = Annotated[tuple[Seed, ...], AfterValidator(_sized(0))]
SomeSeeds = Annotated[tuple[Seed, ...], AfterValidator(_sized(1))]
Levels = tuple[tuple[Count, ...], ...]


def explain(error: ValidationError, root: Any) -> tuple[Key, str]:
    """The key that the first error of a validation as ``root`` is about, and a sentence on it."""
    # A misspelt key explains other errors, so it comes first.
    first = min(error.errors(), key=lambda one: one["type"] not in _UNKNOWN)
    path = [part for part in first["loc"] if part != "[key]"]
    value, context = first["input"], first.get("ctx", {})
    match first["type"]:
        case "value_error" if isinstance(context["error"], Complaint):
            return [*path, *context["error"].path], str(context["error"])
        case "value_error":  # a ConfigError, which begins with the rest of the key
            key, _, message = str(context["error"]).partition(": ")
            parts = re.findall(r"\w+", key)
            return [*path, *(int(part) if part.isdigit() else part for part in parts)], message
        case kind if kind in _UNKNOWN:
            return path, f"unknown key{_suggestion(str(path[-1]), _keys(root, path[:-1]))}"
        case "missing" | "missing_argument":
            return path, "is missing"
        case kind if kind in _TYPES:
            return path, f"{value!r} is not of type {_TYPES[kind]}"
        case _:
            return path, first["msg"]


def nested(kind: Any, value: Any) -> Any:
    """The value as ``kind``, inside the check of another type."""
    try:
        return TypeAdapter(kind).validate_python(value)
    except ValidationError as error:
        path, message = explain(error, kind)
        raise Complaint(message, *path) from error


def dotted(path: Key) -> str:
    """``["model", "dilations", 3]`` as ``model.dilations[3]``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{_printable(part)}" for part in path)
    return "".join(parts).lstrip(".")


def _printable(part: str) -> str:
    """A part of a key on one line: line ends and the like as Python writes them."""
    return part if str(part).isprintable() else repr(part)[1:-1]


def _keys(root: Any, path: Key) -> list[str]:
    """The keys that the object at ``path`` in a ``root`` may have."""
    for part in path:
        # Items of a list, and values of a mapping from names, were unwrapped with their container.
        root = _inner(_fields(root).get(part, root))
    return sorted(map(str, _fields(root)))


def _fields(kind: Any) -> dict[str | int, Any]:
    """The types of the fields of a dataclass or model by their names; of nothing else any."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return {name: field.annotation for name, field in kind.model_fields.items()}
    if isinstance(kind, type) and dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        return {field.name: hints[field.name] for field in dataclasses.fields(kind)}
    return {}


def _inner(kind: Any) -> Any:
    """The type with fields in ``X``, ``X | None``, ``tuple[X, ...]`` or ``dict[str, X]``."""
    if _fields(kind):
        return kind
    found = (_inner(argument) for argument in get_args(kind))
    return next((one for one in found if one is not None), None)


def _suggestion(key: str, known: list[str]) -> str:
    """The known keys that look like ``key``, or all of them."""
    short = key.replace("learning_rate", "lr")  # what most other projects call it
    close = difflib.get_close_matches(short, known, n=1, cutoff=0.6)
    close = close or [name for name in known if name.endswith(short)]
    return f" (did you mean {' or '.join(close)}?)" if close else f"; known are {', '.join(known)}"
