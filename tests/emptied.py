"""Results emptied in turn, as a power cut may leave them, and what the step that reads them says.

``python -m tests.emptied FOLDER`` reads from its standard input a JSON mapping of results below the
folder to the logs of steps that read them, and prints one of results to [exit status, last line].
Steps run in children of one process, which spares each the time of its imports.
"""

import json
import os
import runpy
import shlex
import sys
import tempfile
import traceback
from pathlib import Path

# What they import, so that children have it.
import stylenat.steps.evaluate
import stylenat.steps.figures
import stylenat.steps.initialise
import stylenat.steps.overview
import stylenat.steps.train  # noqa: F401


def repeat(log: Path) -> tuple[int, str]:
    """The command that a log begins with, run again: (exit status, last line)."""
    with tempfile.TemporaryFile("w+") as said:
        child = os.fork()
        if child == 0:
            os.dup2(said.fileno(), 1)
            os.dup2(said.fileno(), 2)
            command = shlex.split(log.read_text().partition("\n")[0].partition("$ ")[2])
            _, _, module, *sys.argv[1:] = command
            status = 0
            try:
                runpy.run_module(module, run_name="__main__", alter_sys=True)
            except SystemExit as end:
                status = end.code
            except BaseException:  # noqa: BLE001 - whatever it is, it is reported
                traceback.print_exc()
                status = 70
            sys.stderr.flush()
            os._exit(status)
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        said.seek(0)
        return status, said.read().strip().rpartition("\n")[2]


def main(folder: str) -> None:
    os.chdir(folder)
    said = {}
    for name, log in json.load(sys.stdin).items():
        path = Path("results", name)
        kept = path.rename(f"{path}.kept")
        path.touch()
        said[name] = repeat(Path("results/logs", log))
        kept.replace(path)
    print(json.dumps(said))


if __name__ == "__main__":
    main(*sys.argv[1:])
