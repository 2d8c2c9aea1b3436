"""For tests of the workflow: a copy of it to run in, and the commands to run there."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import yaml

ROOT = Path(__file__).parents[1]
# As it is shipped; to be copied before it is changed.
CONFIG = yaml.safe_load((ROOT / "config/config.yaml").read_text())
PUBLISHED_CSV = ROOT / "config/published.csv"
PARTS = ("Snakefile", "workflow", "config", "profiles", "envs", "stylenat")


def make_clone(folder: Path) -> Path:
    """Copy the workflow to ``folder``, without any results, as `git clone` would."""
    for name in PARTS:
        if (ROOT / name).is_dir():
            ignore = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, folder / name)
    return folder


def run(*command: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    """Run a program of this Python's environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        command,
        cwd=cwd,
        env={**os.environ, "PATH": path},
        capture_output=True,
        text=True,
        check=False,
    )


def snakemake(*arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess:
    return run("snakemake", *arguments, cwd=cwd)
