"""A generator as ONNX: onnxruntime beside PyTorch, on a CPU with as many threads.

Says how far apart the images are, in the network's units, how large the file is, and the images per
second of processor time of both, in turn: with OMP_NUM_THREADS=1 that is what a quiet core does, whatever
else runs. Weights are random, but larger than those that training starts from, so that attention and
styles matter. Needs onnx and onnxruntime.
"""

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime
import torch

from benchmarks.generator import build
from benchmarks.harness import Program, Row, ffhq, markdown, parser, record, summary, write
from stylenat import command
from stylenat.images import STD, to_pixels
from stylenat.interop.onnx import to_onnx
from stylenat.models import Generator, load_generator
from stylenat.runtime import select_device

ROUNDS = 3


def random_generator(image_size: int) -> Generator:
    """FFHQ's generator of this size with weights that keep the variance of most layers."""
    generator = build(ffhq(image_size), torch.device("cpu"))
    generator.initialise(1 / math.sqrt(generator.config.style_dim), 1.0, 1.0)
    return generator


def session_of(content: bytes) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])


def run(
    *, device: str, output: Path, image_size: int, weights: Path | None, batch_sizes: Sequence[int]
) -> None:
    selected = select_device(device)
    about = record(selected)
    generator = load_generator(weights) if weights else random_generator(image_size)
    content = to_onnx(generator, "z", {})
    session = session_of(content)
    about |= {"image_size": generator.config.image_size, "file_mb": len(content) / 1e6}
    about["versions"] |= {"onnxruntime": onnxruntime.__version__}
    rows = []
    for batch in batch_sizes:
        z = torch.randn(batch, generator.config.style_dim)

        def ours(z: torch.Tensor = z) -> np.ndarray:
            with torch.inference_mode():
                return to_pixels(generator(z)).numpy() / 255

        def theirs(z: torch.Tensor = z) -> np.ndarray:
            return session.run(["images"], {"z": z.numpy()})[0]

        expected = ours()
        difference = np.abs(theirs() - expected.clip(0, 1)).max()
        rows.append(
            {
                "batch_size": batch,
                # In units of what the generator puts out.
                "difference": float(difference / min(STD)),
                "inside": float(((expected > 0) & (expected < 1)).mean()),
                "times": processor_times({"PyTorch": ours, "onnxruntime": theirs}),
            }
        )
    write(output, "onnx", about, rows, table(rows, about))


def processor_times(programs: dict[str, Program]) -> dict[str, Row]:
    times: dict[str, list[float]] = {name: [] for name in programs}
    for _ in range(ROUNDS):
        for name, program in programs.items():
            start = time.process_time()
            program()
            times[name].append(time.process_time() - start)
    return {name: summary(np.array(values)) for name, values in times.items()}


def table(rows: list[dict], about: dict) -> str:
    """One line for each batch size."""
    header = ["batch", "PyTorch, images/s", "onnxruntime, images/s", "largest difference"]
    header += ["pixels not clipped", "file, MB"]
    lines = [
        [
            str(row["batch_size"]),
            *(f"{1e3 * row['batch_size'] / it['ms']:.3g}" for it in row["times"].values()),
            f"{row['difference']:.2g}",
            f"{row['inside']:.0%}",
            f"{about['file_mb']:.1f}",
        ]
        for row in rows
    ]
    return markdown(header, lines)


def main() -> None:
    options = parser(__doc__)
    options.add_argument(
        "--image-size", type=int, default=256, help="FFHQ's generator of this size"
    )
    options.add_argument(
        "--weights", type=Path, help="this generator, not FFHQ's with random weights"
    )
    options.add_argument("--batch-sizes", type=int, nargs="+", default=[1, 4], help="to sweep")
    options.set_defaults(device="cpu")
    command.main(options, run)


if __name__ == "__main__":
    main()
