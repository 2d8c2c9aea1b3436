"""The step ``pack``, killed while it works."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from stylenat.data.writer import partial_path
from stylenat.io import write_json


def killed_twice(
    source: dict[str, Any], resolution: int, folder: Path, transaction: int, growth: int
) -> Path:
    """Pack ``source``, killed twice and started again; assert that the bytes are those of an
    undisturbed run, and return the data set.

    Transactions are of ``transaction`` bytes, so that a few images make many of them, and a kill
    comes when the partial file has grown by ``growth`` bytes since the last.
    """
    manifest = folder / "x.json"
    write_json(manifest, {"source": source, "directory": "x", "files": []})
    output = folder / "x.lmdb"
    script = (
        f"from stylenat.data import writer; writer._TRANSACTION = {transaction};"
        "from stylenat.steps.pack import main; main()"
    )

    def start(output: Path, workers: int = 2) -> subprocess.Popen:
        arguments = f"--name x --resolution {resolution} --filter none --workers {workers}".split()
        return subprocess.Popen(
            [sys.executable, "-c", script, *arguments, "--manifest", manifest, "--output", output],
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    sizes = [0]
    for _ in range(2):
        target = sizes[-1] + growth  # the second kill comes when the first has been made good
        process = start(output)
        deadline = time.monotonic() + 120
        partial = partial_path(output)
        while not (partial.exists() and partial.stat().st_size > target):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        sizes.append(partial.stat().st_size)
        deadline = time.monotonic() + 120
        while _group_alive(process.pid):
            assert time.monotonic() < deadline, "workers outlived their parent"
            time.sleep(0.05)
    assert sizes[1] < sizes[2]
    assert start(output).wait(timeout=240) == 0
    straight = folder / "straight.lmdb"
    assert start(straight, workers=1).wait(timeout=240) == 0
    assert output.read_bytes() == straight.read_bytes()
    return output


def _group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True
