"""Compare the variants of an ablation, or report the seeds of an experiment: a table and a figure."""

import argparse
import json
from typing import Any

import torch

from stylenat import command
from stylenat.ablations import Family
from stylenat.config import ExperimentConfig, ModelConfig
from stylenat.io import atomic, read_json
from stylenat.metrics.flops import mapping_flops, synthesis_flops
from stylenat.models import Generator
from stylenat.report import style
from stylenat.report.ablation import Size, ablation_table, draw_ablation, require_runs, verdicts
from stylenat.report.curves import read_training
from stylenat.report.page import write_page
from stylenat.report.published import read_published


def run(args: argparse.Namespace) -> None:
    family = args.family
    metrics = [record for path in args.metrics for record in read_json(path)]
    require_runs(family, metrics)
    training: dict[str, Any] = {
        name: read_training(
            path for path in args.training if path.parent.parent.name == name
        ).to_dict("records")
        for name in family.experiments
    }
    experiments = [ExperimentConfig.from_dict(read_json(path)) for path in args.experiments]
    frame = ablation_table(
        family,
        metrics,
        training,
        read_json(args.throughput),
        experiments,
        [_size(experiment.model) for experiment in experiments],
        read_published(args.published),
    )
    with atomic(args.output) as temporary:
        frame.to_csv(temporary, index=False)
    sentences = verdicts(frame)
    write_page(args.html, frame, f"{family.name}: {family.protocol}", sentences)
    with style.styled():
        style.save(draw_ablation(frame), args.figures)
    for sentence in sentences:
        command.log.info("%s", sentence)


def _size(model: ModelConfig) -> Size:
    with torch.device("meta"):
        parameters = dict(Generator(model).named_parameters())
    counts = {name: parameter.numel() for name, parameter in parameters.items()}
    without_bias = sum(count for name, count in counts.items() if ".rpb" not in name)
    flops = mapping_flops(model) + synthesis_flops(model)
    return Size(sum(counts.values()), without_bias, flops)


def _family(text: str) -> Family:
    values = json.loads(text)
    runs = {
        variant: {int(seed): name for seed, name in by_seed.items()}
        for variant, by_seed in values["runs"].items()
    }
    return Family(**values | {"runs": runs})


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--family", type=_family, required=True, help="its runs as JSON")
    command.add_files(options, many=True, metrics="records of every run, and the floor")
    command.add_files(options, many=True, training="training records of every run")
    command.add_files(options, throughput="sampling speeds")
    command.add_files(options, many=True, experiments="the first run of every variant")
    command.add_files(options, published="published results (CSV)", output="the table (CSV)")
    command.add_files(options, html="the same table as a page")
    command.add_files(options, many=True, figures=style.FORMATS)
    command.main(options, run)


if __name__ == "__main__":
    main()
