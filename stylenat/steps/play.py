"""Write a page that samples in a browser, offline: seeds, truncation, two seeds mixed level by level.

It holds the generator as ONNX, the styles of the first seeds and onnxruntime-web, npm's package, which
--runtime names.
"""

from pathlib import Path

from stylenat import command
from stylenat.interop.onnx import require_onnx, to_onnx
from stylenat.io import sha256
from stylenat.models import load_generator, read_header
from stylenat.models.latents import mean_style, styles
from stylenat.report.play import VERSION, Facts, read_runtime, write_play

SEEDS = range(100)


def run(*, weights: Path, runtime: Path, output: Path) -> None:
    require_onnx()
    library = read_runtime(runtime)
    config, provenance = read_header(weights)
    name, step = provenance.experiment_name or weights.stem, provenance.step
    generator = load_generator(weights)
    facts = Facts(
        title=f"{name}: pictures made in the browser",
        about=f"{name}{f' after {step:,} iterations' if step else ''}, "
        f"{config.image_size} × {config.image_size} pixels.",
        side=config.image_size,
        dim=config.style_dim,
        levels=config.resolutions,
        seeds=len(SEEDS),
    )
    model = to_onnx(generator, "w", {"generator_sha256": sha256(weights)})
    w, mean = styles(generator, SEEDS), mean_style(generator)
    write_play(output, facts, model, w.numpy(), mean.numpy(), library)
    command.log.info("%s: %.1f MB", output, output.stat().st_size / 1e6)


def main() -> None:
    options = command.parser(__doc__)
    command.add_weights(options)
    options.add_argument(
        "--runtime",
        type=Path,
        required=True,
        help=f"onnxruntime-web {VERSION} (tgz), as `npm pack onnxruntime-web@{VERSION}` fetches it",
    )
    options.add_argument("--output", type=Path, required=True, help="the page (HTML)")
    command.main(options, run)


if __name__ == "__main__":
    main()
