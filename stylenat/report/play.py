"""The page that samples in a browser: a model, the program that runs it and styles, all in one file."""

import gzip
import json
import tarfile
from base64 import b64encode
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from stylenat.errors import UserError
from stylenat.io import atomic, described, sha256

TEMPLATE = Path(__file__).with_suffix(".html")
MARK = "<!-- data -->"

# Microsoft's runtime as npm has it. It is pinned, because the page was written and tested for it.
VERSION = "1.30.0"
RUNTIME_URL = f"https://registry.npmjs.org/onnxruntime-web/-/onnxruntime-web-{VERSION}.tgz"
RUNTIME_SHA256 = "d2228df7e4616bc3348bf504ee888f3bec43789a273f0a63f3e68d203ce3bf71"
FILES = {
    "runtime": "package/dist/ort.wasm.bundle.min.mjs",
    "wasm": "package/dist/ort-wasm-simd-threaded.wasm",
}


@dataclass(frozen=True)
class Facts:
    """What the page needs to know of a generator."""

    title: str
    about: str  # a sentence
    side: int  # pixels
    dim: int  # of w
    levels: tuple[int, ...]  # their sides; each has two styles
    seeds: int


def read_runtime(path: Path) -> dict[str, bytes]:
    """The files of onnxruntime-web that go into a page, from its npm package (tgz). Another file, or
    another version, is a :class:`UserError`."""
    how = f"get it with `npm pack onnxruntime-web@{VERSION}`, or from {RUNTIME_URL}"
    try:
        found = sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); {how}.") from error
    if found != RUNTIME_SHA256:
        raise UserError(
            f"{path} is not the npm package onnxruntime-web {VERSION} (its sha256 is {found}, not "
            f"{RUNTIME_SHA256}; {described(path)}); {how}."
        )
    files = {}
    with tarfile.open(path) as archive:
        for name, member in FILES.items():
            file = archive.extractfile(member)
            assert file is not None  # the digest is that of an archive in which this is a file
            files[name] = file.read()
    return files


def write_play(
    path: Path,
    facts: Facts,
    model: bytes,
    w: np.ndarray,
    mean: np.ndarray,
    runtime: dict[str, bytes],
) -> None:
    """``model`` is ONNX and makes ``images`` from ``w`` (1, 2 × levels, dim); w (seeds, dim) are the
    styles of seeds 0, 1, …, and truncation moves towards their ``mean`` (dim,), both float32."""
    arrays = {"w": w, "mean": mean}
    parts = runtime | {"model": model} | {k: v.astype("<f4").tobytes() for k, v in arrays.items()}
    # Escaped, so that no name in it can end the element.
    text = json.dumps(asdict(facts)).replace("<", "\\u003c")
    elements = [f'<script type="application/json" id="facts">{text}</script>']
    for name, content in parts.items():
        packed = b64encode(gzip.compress(content, 9, mtime=0)).decode()
        elements.append(f'<script type="text/plain" id="{name}">{packed}</script>')
    with atomic(path) as temporary:
        page = TEMPLATE.read_text(encoding="utf-8").replace(MARK, "\n".join(elements))
        temporary.write_text(page, encoding="utf-8")
