"""Random and damaged input: whatever it is, a function succeeds or raises a UserError of one sentence.

Every test has a quick form with always the same inputs, and one with 25 times as many, or as
``FUZZ`` says, others each time: ``FUZZ=5 python -m pytest -m slow tests/fuzz``.
"""

import copy
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stylenat.errors import UserError

LONGER = int(os.environ.get("FUZZ", "25"))


def fuzzed(count: int, **strategies: st.SearchStrategy) -> Callable[[Callable], Callable]:
    """Make a test of ``count`` inputs, and a slow one of :data:`LONGER` times as many, of a function
    that raises an error where it should not."""

    def decorate(check: Callable[..., None]) -> Callable[[int], None]:
        @pytest.mark.parametrize(
            "count", [count, pytest.param(LONGER * count, marks=pytest.mark.slow)]
        )
        def test(count: int, quick: int = count) -> None:
            settings(
                max_examples=count,
                deadline=None,
                derandomize=count == quick,
                database=None,
                suppress_health_check=list(HealthCheck),
            )(given(**strategies)(check))()

        test.__name__, test.__doc__ = check.__name__, check.__doc__
        return test

    return decorate


def outcome(function: Callable[..., Any], *arguments: Any) -> Any:
    """What the function returns, or the sentence of its UserError; anything else is raised."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return function(*arguments)
    except UserError as error:
        return sentence(error)


def sentence(error: UserError) -> str:
    """The message of an error, if it can be printed as one line of bearable length."""
    text = str(error)
    assert text and "\n" not in text and "Traceback" not in text, text
    assert len(text) < 2000, f"{len(text)} characters: {text[:500]}"
    text.encode()  # no lone surrogates
    return text


@st.composite
def damages(draw: st.DrawFn, content: bytes, boundaries: tuple[int, ...] = ()) -> bytes:
    """The content with bytes flipped, cut off, cut out, doubled or overwritten, at random or beside one of the
    boundaries between its parts."""
    places = st.integers(0, len(content))
    if boundaries:
        beside = st.tuples(st.sampled_from(boundaries), st.integers(-2, 2)).map(sum)
        places = st.one_of(beside.map(lambda n: min(max(n, 0), len(content))), places)
    data = bytearray(content)
    for _ in range(draw(st.integers(1, 3))):
        place = min(draw(places), len(data))
        kind = draw(st.sampled_from(("flip", "truncate", "remove", "insert", "zero", "ones")))
        length = draw(st.sampled_from((1, 2, 4, 8, 100, 4096)))
        if kind == "flip" and place < len(data):
            data[place] ^= 1 << draw(st.integers(0, 7))
        elif kind == "truncate":
            del data[place:]
        elif kind == "remove":
            del data[place : place + length]
        elif kind == "insert":
            data[place:place] = draw(st.binary(min_size=1, max_size=8))
        elif kind in ("zero", "ones"):
            end = min(place + length, len(data))
            data[place:end] = (b"\0" if kind == "zero" else b"\xff") * (end - place)
    return bytes(data)


Place = tuple[Any, ...]  # in a tree of mappings and lists: keys and positions


def places(tree: Any, place: Place = ()) -> Iterator[Place]:
    """Where every value of a tree is, those that hold others included."""
    if place:
        yield place
    if isinstance(tree, dict | list):
        for key, inner in tree.items() if isinstance(tree, dict) else enumerate(tree):
            yield from places(inner, (*place, key))


def replaced(tree: Any, place: Place, value: Any) -> Any:
    """A copy of the tree with another value at this place."""
    tree = copy.deepcopy(tree)
    target = tree
    for part in place[:-1]:
        target = target[part]
    target[place[-1]] = value
    return tree
