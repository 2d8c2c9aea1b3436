# A snapshot's weights → sample → statistics → metrics, against statistics_of_reals; floor: what metrics are
# of real images. Which statistics a protocol needs is in inputs.smk.
#
# Jobs here take one thread each: on a small machine several side by side are faster than one with
# several threads, and on a GPU it does not matter.


# The images are gone once their statistics exist: 50,000 of 256² are some 4 GB.
rule sample:
    input:
        "results/{experiment}/weights/{step}.safetensors",
    output:
        temp("results/{experiment}/samples/{step}.{seeds}.lmdb"),
    log:
        "results/logs/sample/{experiment}.{step}.{seeds}.log",
    benchmark:
        "results/benchmarks/sample/{experiment}.{step}.{seeds}.tsv"
    conda:
        "../../envs/networks.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        device=device,
    shell:
        "python -m stylenat.steps.sample --weights {input} --seeds {wildcards.seeds}"
        " --output {output} --device {params.device} --log {log}"


# Moments alone (`statistics`), or the features of every image with them (`features`: 400 MB for 50,000
# of Inception's), where a metric needs those: one pass either way. Features are kept, so that
# another metric needs no sampling.
rule statistics:
    input:
        images="results/{experiment}/samples/{step}.{seeds}.lmdb",
        weights="results/weights/{extractor}.pth",
    output:
        "results/{experiment}/{kind}/{step}.{extractor}.{seeds}.npz",
    log:
        "results/logs/statistics/{experiment}.{step}.{extractor}.{seeds}.{kind}.log",
    benchmark:
        "results/benchmarks/statistics/{experiment}.{step}.{extractor}.{seeds}.{kind}.tsv"
    conda:
        "../../envs/networks.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        subset="all",
        features=lambda wildcards: "--features" if wildcards.kind == "features" else "",
        device=device,
    shell:
        "python -m stylenat.steps.statistics --images {input.images} --subset {params.subset}"
        " --extractor {wildcards.extractor} --weights {input.weights} {params.features}"
        " --output {output} --device {params.device} --log {log}"


# The reals that a protocol compares with, and those that are held out of training.
use rule statistics as statistics_of_reals with:
    input:
        images="results/data/{dataset}.lmdb",
        weights="results/weights/{extractor}.pth",
    output:
        "results/data/{dataset}.{extractor}.{subset}.features.npz",
    log:
        "results/logs/statistics/{dataset}.{extractor}.{subset}.log",
    benchmark:
        "results/benchmarks/statistics/{dataset}.{extractor}.{subset}.tsv"
    params:
        subset="{subset}",
        features="--features",
        device=device,


rule metrics:
    input:
        statistics=snapshot_statistics,
        reference=reference_statistics,
        held_out=held_out_statistics,
        experiment="results/{experiment}/experiment.json",
        weights="results/{experiment}/weights/{step}.safetensors",
    output:
        "results/{experiment}/metrics/{step}.{protocol}.json",
    log:
        "results/logs/metrics/{experiment}.{step}.{protocol}.log",
    conda:
        "../../envs/networks.yaml"
    params:
        metric=lookup("{protocol}/metric", within=config["protocols"]),
        held_out=held_out_option,
    shell:
        "python -m stylenat.steps.metrics --statistics {input.statistics} --reference {input.reference}"
        " --metric {params.metric} --protocol {wildcards.protocol} --experiment {input.experiment}"
        " --weights {input.weights} {params.held_out} --output {output} --log {log}"


# What real images reach: held-out ones against the reference, or halves of the reference.
rule floor:
    input:
        reference=reference_statistics,
        held_out=held_out_statistics,
        experiment="results/{experiment}/experiment.json",
    output:
        "results/{experiment}/metrics/floor.{protocol}.json",
    log:
        "results/logs/floor/{experiment}.{protocol}.log",
    conda:
        "../../envs/networks.yaml"
    params:
        metric=lookup("{protocol}/metric", within=config["protocols"]),
        samples=lookup("{protocol}/samples", within=config["protocols"]),
        held_out=held_out_option,
    shell:
        "python -m stylenat.steps.floor --reference {input.reference} {params.held_out}"
        " --samples {params.samples} --metric {params.metric} --protocol {wildcards.protocol}"
        " --experiment {input.experiment} --output {output} --log {log}"


# The training images nearest to the first samples, for a figure.
rule neighbours:
    input:
        statistics=first_statistics,
        reference=reference_statistics,
        experiment="results/{experiment}/experiment.json",
    output:
        "results/{experiment}/neighbours/{step}.{protocol}.npz",
    log:
        "results/logs/neighbours/{experiment}.{step}.{protocol}.log",
    conda:
        "../../envs/networks.yaml"
    shell:
        "python -m stylenat.steps.neighbours --statistics {input.statistics}"
        " --reference {input.reference} --protocol {wildcards.protocol} --step {wildcards.step}"
        " --experiment {input.experiment} --output {output} --log {log}"
