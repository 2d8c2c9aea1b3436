"""Chromium without a window, driven over its own pipe: no driver and no package for it."""

import json
import os
import shutil
import subprocess
from base64 import b64decode
from itertools import count
from pathlib import Path
from typing import Any

CHROMIUM = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)


class Browser:
    """One page. ``profile`` is a folder for what Chromium keeps."""

    def __init__(self, profile: Path):
        (commands, ours), (answers, theirs) = os.pipe(), os.pipe()
        # It reads descriptor 3 and writes 4. Root may not use its sandbox.
        start = f'exec "$0" "$@" 3<&{commands} 4>&{theirs}'
        options = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-pipe")
        self.process = subprocess.Popen(
            ["bash", "-c", start, CHROMIUM, *options, f"--user-data-dir={profile}", "about:blank"],
            pass_fds=(commands, theirs),
            stderr=subprocess.DEVNULL,
        )
        os.close(commands), os.close(theirs)
        self.ours, self.answers, self.waiting = ours, answers, b""
        self.numbers, self.session = count(1), {}
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
        self.session = {"sessionId": attached["sessionId"]}

    def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """A command of the DevTools protocol, and its result."""
        number = next(self.numbers)
        message = {"id": number, "method": method, "params": parameters} | self.session
        os.write(self.ours, json.dumps(message).encode() + b"\0")
        while True:
            answer = json.loads(self._read())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return answer["result"]

    def _read(self) -> bytes:
        while b"\0" not in self.waiting:
            chunk = os.read(self.answers, 1 << 20)
            assert chunk, "Chromium has ended"
            self.waiting += chunk
        message, _, self.waiting = self.waiting.partition(b"\0")
        return message

    def open(self, path: Path, width: int, height: int) -> None:
        """Load a file in a window of so many pixels."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width, height=height, deviceScaleFactor=1, mobile=width < 600,
        )  # fmt: skip
        self.call("Page.navigate", url=path.resolve().as_uri())

    def evaluate(self, expression: str) -> Any:
        """What a JavaScript expression gives, awaited."""
        result = self.call(
            "Runtime.evaluate", expression=expression, awaitPromise=True, returnByValue=True
        )
        assert "exceptionDetails" not in result, result
        return result["result"].get("value")

    def click(self, x: float, y: float) -> None:
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, x=x, y=y, button="left", clickCount=1)

    def screenshot(self, path: Path) -> None:
        """All of the page, as a PNG."""
        result = self.call("Page.captureScreenshot", captureBeyondViewport=True)
        path.write_bytes(b64decode(result["data"]))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        os.close(self.ours), os.close(self.answers)
