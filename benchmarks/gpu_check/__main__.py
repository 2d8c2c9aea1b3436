"""What this GPU makes of the project, within 8 minutes and without a download.

Every part runs in a process of its own and under its own time limit; one that fails, hangs or
crashes does not stop the others. The results are a page and a JSON file, named like the GPU. With
--dry the same list runs at toy sizes, on a CPU too.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.gpu_check.plan import (
    MINUTES,
    PLAN,
    STARTING,
    TOY_MINUTES,
    TOY_SECONDS,
    Part,
)
from benchmarks.gpu_check.report import page
from benchmarks.harness import ROOT
from stylenat import command, runtime
from stylenat.errors import UserError
from stylenat.io import atomic, read_json, write_json

FOLDERS = {False: Path("benchmarks/results"), True: Path("results/gpu-check")}
LEAST = 5.0  # seconds without which a part is not begun
LOG_LINES = 40  # of a part that failed, in the results


def run(
    *,
    device: str = "auto",
    dry: bool = False,
    minutes: float | None = None,
    only: Sequence[str] | None = None,
    output: Path | None = None,
) -> None:
    selected = runtime.select_device(device)
    if selected.type != "cuda" and not dry:
        raise UserError(
            "make gpu-check needs an NVIDIA GPU, and PyTorch sees none here; make gpu-check DRY=1 "
            "runs the same list at toy sizes on a CPU."
        )
    name = _name(selected, dry)
    folder = output or FOLDERS[dry]
    record = {
        "name": name,
        "device": runtime.describe_device(selected),
        "versions": runtime.versions(),
        "commit": runtime.commit(),
        "dry": dry,
        "seconds": 0.0,
        "parts": [],
    }
    minutes = minutes or (TOY_MINUTES if dry else MINUTES)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="stylenat-gpu-check-") as parts:
        for part in PLAN:
            if only and part.name not in only:
                continue
            left = 60 * minutes - (time.monotonic() - begun)
            command.log.info("%s", part.title)
            found = _part(part, Path(parts), selected, dry, left)
            for verdict in found["verdicts"]:
                command.log.info("  %(verdict)s: %(question)s %(answer)s", verdict)
            record["parts"].append(found)
            record["seconds"] = time.monotonic() - begun
            # Now, not at the end: whoever is in a hurry has what there is.
            write_json(folder / f"{name}.json", record)
            with atomic(folder / f"{name}.md") as temporary:
                temporary.write_text(page(record))
            _keep_pictures(Path(parts) / part.name, folder, name)
    failures = [v for p in record["parts"] for v in p["verdicts"] if v["verdict"] == "NO"]
    command.log.info("%d questions were answered with NO", len(failures))
    command.log.info("please send us %s and %s", folder / f"{name}.md", folder / f"{name}.json")


def _part(part: Part, folder: Path, device: torch.device, dry: bool, left: float) -> dict[str, Any]:
    """Run a part within ``left`` seconds at most; what it found, however it ended."""
    common = {"name": part.name, "title": part.title}
    seconds, limit = _times(part, left, dry)
    if seconds < LEAST:
        answer = "No time was left."
        verdict = {"question": f"{part.title}?", "verdict": "not asked", "answer": answer}
        return {**common, "seconds": 0.0, "end": answer, "verdicts": [verdict], "tables": {}}
    file, log = folder / f"{part.name}.json", folder / f"{part.name}.log"
    # A cache of its own, so that compilation is part of what is tried.
    environment = {**os.environ, "TRITON_CACHE_DIR": str(folder / "kernels")}
    begun = time.monotonic()
    with log.open("w") as text:
        process = subprocess.Popen(
            _words(part, file, device, dry, seconds),
            cwd=ROOT,
            env=environment,
            stdout=text,
            stderr=text,
            start_new_session=True,
        )
        try:
            end = _ending(process.wait(limit))
        except subprocess.TimeoutExpired:
            end = f"was ended after its time limit of {limit:.0f} s"
        finally:
            _end_group(process)
    found = read_json(file) if file.exists() else {"verdicts": [], "tables": {}}
    if end:
        lines = log.read_text(errors="replace").splitlines()
        last = next((line for line in reversed(lines) if line.strip()), "nothing")
        question = f"Does the part '{part.name}' end well?"
        answer = f"It {end}; its last line: {last}"
        found["verdicts"].append({"question": question, "verdict": "NO", "answer": answer})
        found["log"] = lines[-LOG_LINES:]
    return {**common, "seconds": time.monotonic() - begun, "end": end, **found}


def _times(part: Part, left: float, dry: bool) -> tuple[float, float]:
    """Seconds after which a part begins nothing new, and after which it is ended."""
    if dry:
        return min(TOY_SECONDS, left), min(2 * TOY_SECONDS, left)
    most = left - STARTING
    if part.seconds is None:
        return most, left
    return min(part.seconds, most), min(1.5 * part.seconds + STARTING, left)


def _words(part: Part, file: Path, device: torch.device, dry: bool, seconds: float) -> list[str]:
    """The command line of a part's process."""
    words = [sys.executable, "-m", "benchmarks.gpu_check.part", part.name, "--file", str(file)]
    words += ["--device", str(device), "--seconds", f"{seconds:.1f}"]
    return words + (["--dry"] if dry else [])


def _ending(status: int) -> str | None:
    """How a process ended, unless it ended well."""
    if status == 0:
        return None
    if status < 0:
        return f"was ended by {signal.Signals(-status).name}"
    return f"failed with status {status}"


def _end_group(process: subprocess.Popen) -> None:
    """End what is left of a part: itself, and the processes that it started."""
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass
    process.wait()


def _keep_pictures(folder: Path, output: Path, name: str) -> None:
    for picture in sorted(folder.glob("*.png")):
        with atomic(output / f"{name}-{picture.name}") as temporary:
            temporary.write_bytes(picture.read_bytes())


def _name(device: torch.device, dry: bool) -> str:
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    return re.sub("[^a-z0-9]+", "-", name.lower()).strip("-") + ("-dry" if dry else "")


def main() -> None:
    options = command.parser(__doc__)
    command.add_device(options)
    options.add_argument("--dry", action="store_true", help="toy sizes, to try the check itself")
    options.add_argument(
        "--minutes", type=float, help=f"for all parts together; {MINUTES:.0f}, unless --dry"
    )
    options.add_argument(
        "--only", nargs="+", choices=[part.name for part in PLAN], help="these parts alone"
    )
    options.add_argument(
        "--output", type=Path, help="folder of the results; benchmarks/results, unless --dry"
    )
    command.main(options, run)


if __name__ == "__main__":
    main()
