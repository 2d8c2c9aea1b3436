"""The Containerfile by hadolint's rules, and what it promises: any uid, no home, Snakemake's container."""

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from stylenat.models import Generator, save_generator
from stylenat.records import Provenance
from tests.project import ROOT, make_clone, snakemake
from tests.tiny import experiment

TEXT = (ROOT / "Containerfile").read_text()


def instructions() -> list[tuple[str, str]]:
    """(name, the rest), without comments and line breaks."""
    lines = [line for line in TEXT.splitlines() if line and not line.startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines()]


def every(name: str) -> list[str]:
    return [rest for found, rest in instructions() if found == name]


def commands(program: str) -> list[str]:
    parts = [part.strip() for run in every("RUN") for part in run.split("&&")]
    return [part for part in parts if part.startswith(program)]


# ------------------------------------------------------------------------------ by hadolint's rules


def test_every_base_has_a_version():
    assert every("FROM") == ["${BASE}"]
    bases = re.findall(r"BASE=(\S+)", TEXT)
    assert len(bases) == 2, "for CPUs and for GPUs"
    for base in bases:  # DL3006, DL3007; the same distribution, so that the same commands work
        assert re.fullmatch(r"docker\.io/[\w./-]+:[\w.-]*(ubuntu)?24\.04", base), base


def test_packages_are_installed_without_leftovers():
    names = {name for name, _ in instructions()}
    assert names <= {
        "ARG",
        "FROM",
        "RUN",
        "ENV",
        "WORKDIR",
        "COPY",
        "USER",
        "CMD",
    }  # DL3020: no ADD
    assert all(path.startswith("/") for path in every("WORKDIR"))  # DL3000
    for run in every("RUN"):
        assert not re.search(r"\b(sudo|cd|upgrade|dist-upgrade|curl|wget)\b", run)  # DL3003 to 3005
        if "apt-get install" in run:
            assert "apt-get update" in run and "rm -rf /var/lib/apt/lists/*" in run  # DL3009
    (apt,) = commands("apt-get install")
    assert "--yes" in apt and "--no-install-recommends" in apt  # DL3014, DL3015
    (pip,) = commands("pip install")
    assert "--no-cache-dir" in pip and "--constraint envs/constraints.txt" in pip  # DL3042, DL3013


def test_nothing_runs_as_root():
    uid, _, group = every("USER")[-1].partition(
        ":"
    )  # DL3002; a number, for Kubernetes' runAsNonRoot
    assert int(uid) > 0 and int(group) > 0
    last = max(i for i, (name, _) in enumerate(instructions()) if name == "USER")
    assert not any(name in ("RUN", "COPY") for name, _ in instructions()[last:])


def test_what_is_copied_is_what_the_builder_is_sent():
    copied = {source for rest in every("COPY") for source in rest.split()[:-1]}
    assert all((ROOT / source).exists() for source in copied)
    ignore = (ROOT / ".dockerignore").read_text().splitlines()
    assert {line[1:] for line in ignore if line.startswith("!")} == copied and "*" in ignore


# ------------------------------------------------------------------------------ what it promises


def test_it_runs_under_any_uid_without_a_home():
    """With the image's own variables and no others, as a user whom the system does not know."""
    unshare = ("unshare", "--user", "--map-user", "12345", "--map-group", "12345")
    if (
        shutil.which("unshare") is None
        or subprocess.run((*unshare, "true"), check=False).returncode
    ):
        pytest.skip("needs util-linux's unshare and user namespaces")
    variables = [it for line in every("ENV")[1:] for it in shlex.split(line)]
    path = f"PATH={Path(sys.executable).parent}:/usr/bin:/bin"
    with tempfile.TemporaryDirectory() as folder:
        save_generator(f"{folder}/x.safetensors", Generator(experiment().model), Provenance())
        for command in (
            (
                "stylenat.cli",
                "sample",
                "--weights",
                "x.safetensors",
                "--seeds",
                "0",
                "--output",
                ".",
            ),
            ("torch._inductor.runtime.cache_dir_utils",),  # asks for the user's name
        ):
            done = subprocess.run(
                (
                    *unshare,
                    "env",
                    "-i",
                    path,
                    f"PYTHONPATH={ROOT}",
                    *variables,
                    "python",
                    "-m",
                    *command,
                ),
                cwd=folder,
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
        assert Path(folder, "000000.png").exists()


APPTAINER = """#!/usr/bin/env python3
import subprocess, sys
if "--version" in sys.argv:
    print("apptainer version 1.3.4")
else:
    open("apptainer.txt", "a").write(" ".join(sys.argv[1:-3]) + chr(10))
    sys.exit(subprocess.run(sys.argv[-3:]).returncode)
"""


def test_snakemake_runs_jobs_in_the_image_of_the_configuration(tmp_path, monkeypatch):
    """A program in place of apptainer notes what it is asked for, and runs the command outside."""
    clone = make_clone(tmp_path)
    apptainer = tmp_path / "bin/apptainer"
    apptainer.parent.mkdir()
    apptainer.write_text(APPTAINER)
    apptainer.chmod(0o755)
    monkeypatch.setenv("PATH", f"{apptainer.parent}{os.pathsep}{os.environ['PATH']}")
    target = "results/faces32/experiment.json"
    done = snakemake("--cores", "1", "--sdm", "apptainer", "--", target, cwd=clone)
    assert done.returncode == 0, done.stderr
    assert " stylenat.sif" in (clone / "apptainer.txt").read_text()

    image = ("--config", "container=docker://example.org/stylenat:1")
    done = snakemake(
        "-n", "--sdm", "apptainer", *image, "--", "results/data/faces32.lmdb", cwd=clone
    )
    assert "docker://example.org/stylenat:1 will be pulled" in done.stdout + done.stderr
