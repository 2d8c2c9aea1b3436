"""Every step is a function whose parameters are the options of its command line."""

import argparse
import inspect
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, get_type_hints

import pytest

from stylenat import command
from stylenat.cli import verbs


def parts(verb: str, monkeypatch) -> tuple[argparse.ArgumentParser, Callable[..., None]]:
    """The parser and the function that a step gives to ``command.main``."""
    given = []
    monkeypatch.setattr(command, "main", lambda options, run, **_: given.extend((options, run)))
    import_module(f"stylenat.steps.{verb}").main()
    options, run = given
    return options, run


def expected(action: argparse.Action) -> Any:
    """The type of the parameter for an option; None where the parser does not tell it."""
    of = bool if action.nargs == 0 else action.type or str
    if not isinstance(of, type):
        return None  # what a function returns
    return Sequence[of] if action.nargs else of


@pytest.mark.parametrize("verb", verbs())
def test_the_options_of_a_step_are_the_parameters_of_its_function(verb, monkeypatch):
    options, run = parts(verb, monkeypatch)
    actions = {action.dest: action for action in options._actions}
    assert {"help", "log"} <= actions.keys()
    del actions["help"], actions["log"]
    parameters, hints = inspect.signature(run).parameters, get_type_hints(run)
    assert actions.keys() == parameters.keys()
    for name, action in actions.items():
        parameter = parameters[name]
        assert parameter.kind is parameter.KEYWORD_ONLY, name
        assert action.default in (None, False), f"{name}: the default is that of the function"
        assert action.required == (parameter.default is parameter.empty), name
        if wanted := expected(action):
            optional = parameter.default is None
            assert hints[name] == (wanted | None if optional else wanted), name


def options_of(*names: str) -> argparse.ArgumentParser:
    options = command.parser("A step.")
    for name in names:
        options.add_argument(name, help="an option")
    return options


@pytest.fixture
def quiet(monkeypatch):
    """No log is opened: its handlers would stay."""
    monkeypatch.setattr(command, "_open_log", lambda path: None)


def test_defaults_are_those_of_the_function(quiet):
    seen = []

    def run(*, seed: int = 3, output: Path | None = None, name: str) -> None:
        seen.append((seed, output, name))

    options = options_of("--seed", "--output", "--name")
    command.main(options, run, ["--name", "x", "--log", "y"], keep_memory=False)
    assert seen == [(3, None, "x")]
    assert "an option (default: 3)" in options.format_help()


def test_the_function_gets_the_device_by_name_and_the_header_says_which_it_is(quiet, caplog):
    caplog.set_level("INFO", command.log.name)
    seen = []
    options = command.parser("A step.")
    command.add_device(options)

    def run(*, device: str = "cpu") -> None:
        seen.append(device)

    command.main(options, run, [], keep_memory=False, precision="any")
    assert seen == ["cpu"]
    assert "device: cpu (" in caplog.text and "precision: any" in caplog.messages
