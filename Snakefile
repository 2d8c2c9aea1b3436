# StyleNAT, from a data set to the published tables: see README.md, config/config.yaml and profiles/.
from pathlib import Path

from snakemake.utils import min_version

min_version("9.5")

ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
CONFIG = Path("config/config.yaml")


configfile: str(CONFIG if CONFIG.exists() else ROOT / CONFIG)


report: "workflow/report/workflow.rst"


# Used with --sdm apptainer alone.
container: config.get("container")


include: "workflow/rules/common.smk"
include: "workflow/rules/targets.smk"
include: "workflow/rules/inputs.smk"
include: "workflow/rules/params.smk"
include: "workflow/rules/outputs.smk"
include: "workflow/rules/devices.smk"
include: "workflow/rules/sources.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/throughput.smk"
include: "workflow/rules/report.smk"
include: "workflow/rules/benchmarks.smk"
include: "workflow/rules/cost.smk"


# `snakemake figures` stops at the figures; without a target everything about the experiments in `run`.
rule all:
    default_target: True
    input:
        overviews(config["run"]),
        rules.figures.output,
        tables(config["run"]),
        grids(config["run"]),
        pictures(config["run"]),
        pages(config["run"]),
        curves(config["run"]),


# Every ablation whose base does without a GPU.
rule ablation:
    input:
        expand("results/ablations/{family}.csv", family=local_families()),


onstart:
    require_gpu()
