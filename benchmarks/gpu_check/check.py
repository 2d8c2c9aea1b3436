"""What a part of the check is given, and how it hands over what it finds."""

import time
from pathlib import Path
from typing import Any

import torch

from stylenat.io import write_json


class Check:
    """The device, the time, and a file that always holds what was found so far.

    A part that is killed loses nothing but its last measurement.
    """

    def __init__(self, file: Path, device: torch.device, dry: bool, seconds: float):
        self.file, self.device, self.dry = file, device, dry
        self.end = time.monotonic() + seconds
        self.found: dict[str, Any] = {"verdicts": [], "tables": {}}
        self._save()

    @property
    def gpu(self) -> bool:
        return self.device.type == "cuda"

    @property
    def folder(self) -> Path:
        """A folder for files of this part, which come along with the results."""
        folder = self.file.with_suffix("")
        folder.mkdir(exist_ok=True)
        return folder

    def left(self) -> float:
        """Seconds in which something new may begin; negative afterwards."""
        return self.end - time.monotonic()

    def verdict(self, question: str, good: bool | None, answer: str) -> None:
        """Answer a question in one line; None: it could not be asked, and why."""
        verdict = {True: "yes", False: "NO", None: "not asked"}[good]
        self.found["verdicts"].append({"question": question, "verdict": verdict, "answer": answer})
        print(f"{verdict}: {question} {answer}", flush=True)
        self._save()

    def row(self, table: str, **values: Any) -> None:
        """Add a line to one of this part's tables."""
        self.found["tables"].setdefault(table, []).append(values)
        print(table, values, flush=True)
        self._save()

    def _save(self) -> None:
        write_json(self.file, self.found)


def first_line(error: BaseException) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
