"""Steps that are stopped at their n-th write, rename or sync: killed, or told that the disk is full.

``python -m tests.crash STEP FOLDER POINT …`` tries these points (or all, without any) of one step,
each in a process of its own, runs the step again and compares its files with those of an undisturbed run. It
prints a JSON list of what was found.
"""

import builtins
import errno
import io
import json
import logging
import os
import shutil
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import lmdb
import numpy as np
import torch
from PIL import Image

from stylenat.data import writer
from stylenat.errors import UserError
from stylenat.io import write_json
from stylenat.metrics.extractors import features
from stylenat.models import Generator
from stylenat.models.weights import save_generator
from stylenat.records import Provenance
from stylenat.steps import experiment, pack, sample, statistics, tables
from tests import records, tiny
from tests.colours import Colours
from tests.project import PUBLISHED_CSV

DONE, REFUSED, DEFECT = 0, 10, 70  # exit codes of a child


class Points:
    """Counts calls that change files; at the ``at``-th the process is killed or the disk is full."""

    def __init__(self, at: int | None, full: bool) -> None:
        self.at, self.full, self.names = at, full, []

    def reach(self, name: str, begin: Callable[[], None] = lambda: None) -> None:
        """A call is about to be made; ``begin`` does a part of it, as a kill in the middle would."""
        self.names.append(name)
        if len(self.names) - 1 != self.at:
            return
        if self.full:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        begin()
        os.kill(os.getpid(), signal.SIGKILL)

    def install(self) -> None:
        """Wrap the calls, in this process, for good."""
        for name in ("replace", "rename", "fsync"):
            setattr(os, name, self._before(f"os.{name}", getattr(os, name)))
        opened = io.open

        def open_counted(file: Any, mode: str = "r", *rest: Any, **named: Any) -> Any:
            result = opened(file, mode, *rest, **named)
            ours = isinstance(file, str | os.PathLike) and not str(file).startswith("/dev/")
            return _Counted(result, self) if ours and set(mode) & set("wax+") else result

        builtins.open = io.open = open_counted
        environment = lmdb.open

        def open_lmdb(*arguments: Any, **named: Any) -> Any:
            if not named.get("readonly"):
                try:
                    self.reach("lmdb")
                except OSError as error:
                    raise lmdb.DiskError(str(error)) from error
            return environment(*arguments, **named)

        lmdb.open = open_lmdb

    def _before(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def counted(*arguments: Any, **named: Any) -> Any:
            self.reach(name)
            return call(*arguments, **named)

        return counted


class _Counted:
    """A file whose writes are points."""

    def __init__(self, file: Any, points: Points) -> None:
        self._file, self._points = file, points

    def write(self, data: Any) -> int:
        def half() -> None:
            self._file.write(data[: len(data) // 2])
            self._file.flush()

        self._points.reach("write", half)
        return self._file.write(data)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def __iter__(self) -> Any:
        return iter(self._file)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


# ------------------------------------------------------------------------------------- steps


def _pack(folder: Path) -> None:
    writer._TRANSACTION = 1 << 14  # several of them
    settings = {"resolution": 32, "filter": "none", "max_corrupt": 1}
    output = folder / "out/x.lmdb"
    pack.run(name="x", manifest=folder / "x.json", output=output, workers=1, **settings)


def _sample(folder: Path, output: str = "out/x.lmdb") -> None:
    sample.run(
        weights=folder / "x.safetensors",
        seeds="0-3",
        device="cpu",
        batch_size=2,
        output=folder / output,
    )


def _statistics(folder: Path) -> None:
    features.NETWORKS["colours"] = Colours
    statistics.run(
        images=[folder / "reals.lmdb"],
        extractor="colours",
        weights=folder / "colours.pth",
        device="cpu",
        features=True,
        output=folder / "out/x.npz",
    )


def _experiment(folder: Path) -> None:
    values = json.dumps(tiny.experiment().to_dict())
    experiment.run(values=values, output=folder / "out/experiment.json")


def _tables(folder: Path) -> None:
    tables.run(
        table="fid",
        experiment=[folder / "experiment.json"],
        records=[folder / "fid50k.json"],
        published=PUBLISHED_CSV,
        output=folder / "out/x.csv",
        html=folder / "out/x.html",
    )


STEPS = {
    "pack": _pack,
    "sample": _sample,
    "sample-png": lambda folder: _sample(folder, "out"),
    "statistics": _statistics,
    "tables": _tables,
    "experiment": _experiment,
}


def prepare(folder: Path) -> None:
    """What the steps read."""
    random = np.random.default_rng(0)
    for index in range(12):
        path = folder / f"images/{index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(random.integers(0, 256, (32, 32, 3), np.uint8)).save(path)
    (folder / "images/5.png").write_bytes(b"no image")
    source = {"kind": "folder", "path": str(folder / "images")}
    write_json(folder / "x.json", {"source": source, "directory": "x", "files": []})
    torch.manual_seed(0)
    save_generator(folder / "x.safetensors", Generator(tiny.experiment().model), Provenance(step=0))
    torch.save({"scale": torch.tensor([1.0, 0.5, 2.0])}, folder / "colours.pth")
    write_json(folder / "experiment.json", records.FFHQ256.to_dict())
    write_json(folder / "fid50k.json", [records.fid(), records.floor()])
    images = random.integers(0, 256, (9, 8, 8, 3), np.uint8)
    values = {"name": "photos", "filter": "none", "source": "", "licence": "", "notes": []}
    writer.write_store(folder / "reals.lmdb", images, values)


# ------------------------------------------------------------------------------------ trying


def attempt(step: str, folder: Path, at: int | None, full: bool) -> tuple[int, list[str]]:
    """Run a step in a child; (its exit code, or minus its signal; the points it reached)."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reading)
        points, code = Points(at, full), DEFECT
        try:
            points.install()
            STEPS[step](folder)
            code = DONE
        except UserError as error:
            code = REFUSED if "\n" not in str(error) else DEFECT
        except BaseException:  # noqa: BLE001 - whatever it is, it is reported as a defect
            traceback.print_exc()
        os.write(writing, json.dumps(points.names).encode())
        os._exit(code)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        names = json.loads(pipe.read() or b"[]")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), names


def files(folder: Path) -> dict[str, bytes]:
    """What a step has left in its folder."""
    out = folder / "out"
    paths = (path for path in sorted(out.rglob("*")) if path.is_file())
    return {str(path.relative_to(out)): path.read_bytes() for path in paths}


def main(step: str, where: str, *chosen: str) -> None:
    logging.disable(logging.CRITICAL)
    folder = Path(where)
    prepare(folder)
    code, names = attempt(step, folder, None, False)
    assert code == DONE, code
    expected, found = files(folder), []
    for at in map(int, chosen) if chosen else range(len(names)):
        at %= len(names)
        for full in (False, True):
            shutil.rmtree(folder / "out")
            code, _ = attempt(step, folder, at, full)
            left = files(folder)
            again, _ = attempt(step, folder, None, False)
            after = files(folder)
            found.append(
                {
                    "point": at,
                    "call": names[at],
                    "how": "full" if full else "killed",
                    "ended": code,
                    "again": again,
                    # Whole or absent, under the name of a result
                    "whole": all(left.get(name) in (None, it) for name, it in expected.items()),
                    "same": all(after.get(name) == it for name, it in expected.items()),
                    "left": sorted(after.keys() - expected.keys()),
                }
            )
    print(json.dumps({"calls": names, "found": found}))


if __name__ == "__main__":
    main(*sys.argv[1:])
