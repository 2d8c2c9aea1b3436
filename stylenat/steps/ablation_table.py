"""Compare the variants of an ablation, or report the seeds of an experiment: a table and a figure."""

import json
from collections.abc import Sequence
from pathlib import Path

import torch

from stylenat import command
from stylenat.ablations import Family
from stylenat.config import ExperimentConfig, ModelConfig
from stylenat.io import atomic, read_json
from stylenat.metrics.flops import mapping_flops, synthesis_flops
from stylenat.models import Generator
from stylenat.records import MetricRecord, Throughput
from stylenat.report import style
from stylenat.report.ablation import Size, ablation_table, draw_ablation, require_runs, verdicts
from stylenat.report.curves import read_training
from stylenat.report.page import write_page
from stylenat.report.published import read_published


def run(
    *,
    family: Family,
    metrics: Sequence[Path],
    training: Sequence[Path],
    throughput: Path,
    experiments: Sequence[Path],
    published: Path,
    output: Path,
    html: Path,
    figures: Sequence[Path],
) -> None:
    remedy = "delete it and run its step again"
    records = list(MetricRecord.read_lists(metrics, remedy).values())
    require_runs(family, records)
    rates = {}
    for name in family.experiments:
        paths = (path for path in training if path.parent.parent.name == name)
        rates[name] = read_training(paths)["images_per_second"].tolist()
    configs = [ExperimentConfig.from_dict(read_json(path)) for path in experiments]
    frame = ablation_table(
        family,
        records,
        rates,
        list(Throughput.read_lists([throughput], remedy).values()),
        configs,
        [_size(config.model) for config in configs],
        read_published(published),
    )
    with atomic(output) as temporary:
        frame.to_csv(temporary, index=False)
    sentences = verdicts(frame)
    write_page(html, frame, f"{family.name}: {family.protocol}", sentences)
    with style.styled():
        style.save(draw_ablation(frame), figures)
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
