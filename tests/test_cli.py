"""The console script runs the steps."""

import subprocess
import sys
from pathlib import Path

import pytest

from stylenat.cli import verbs


def stylenat(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "stylenat.cli", *map(str, arguments)]
    return subprocess.run(command, check=False, capture_output=True, text=True)


def test_help_lists_every_step_with_a_line_and_imports_none():
    code = "import sys; from stylenat.cli import verbs; verbs(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
    output = stylenat("--help").stdout
    assert {"pack", "train", "sample", "metrics", "tables"} <= verbs().keys()
    assert all(line and f"  {verb} " in output for verb, line in verbs().items())
    assert stylenat().stdout == output


@pytest.mark.parametrize(
    "verb, hint", [("smaple", "did you mean sample?"), ("xyz", "stylenat --help lists the verbs.")]
)
def test_an_unknown_verb_is_one_sentence(verb, hint):
    result = stylenat(verb)
    assert (result.returncode, result.stdout) == (1, "")
    assert result.stderr == f"error: stylenat has no verb {verb!r}; {hint}\n"


def test_help_of_a_verb_is_that_of_the_step():
    assert "usage: stylenat sample [-h]" in stylenat("sample", "--help").stdout


def test_a_verb_runs_its_step_and_logs_how_to_repeat_it(weights, tmp_path):
    arguments = ("--weights", weights, "--seeds", "4", "--output", tmp_path)
    result = stylenat("sample", *arguments)
    assert result.returncode == 0, result.stderr
    assert f"$ python -m stylenat.steps.sample --weights {weights}" in result.stderr
    assert (tmp_path / "000004.png").exists()


def test_a_failure_of_the_step_is_its_exit_status(tmp_path):
    missing = tmp_path / "none.safetensors"
    result = stylenat("verify", missing)
    assert result.returncode == 1 and "Traceback" not in result.stderr
