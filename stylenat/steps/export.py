"""Write a generator as an ONNX file, for programs without PyTorch.

From z (batch, style_dim) it makes images and their w (batch, style_dim); from w, one style for each of
the generator's blocks (batch, blocks, style_dim), images: float32 (batch, 3, side, side), RGB from 0 to 1.
"""

from pathlib import Path

from stylenat import command
from stylenat.interop.onnx import SOURCES, require_onnx, to_onnx
from stylenat.io import atomic, sha256
from stylenat.models import load_generator


def run(*, weights: Path, output: Path, source: str = "z") -> None:
    require_onnx()
    facts = {"generator_sha256": sha256(weights)}
    content = to_onnx(load_generator(weights), source, facts)
    with atomic(output) as temporary:
        temporary.write_bytes(content)
    command.log.info("%s: images from %s, %.1f MB", output, source, len(content) / 1e6)


def main() -> None:
    options = command.parser(__doc__)
    command.add_weights(options)
    options.add_argument("--from", dest="source", choices=SOURCES, help="what images are made from")
    options.add_argument("--output", type=Path, required=True, help="the ONNX file")
    command.main(options, run)


if __name__ == "__main__":
    main()
