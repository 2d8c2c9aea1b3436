# Jobs here take one thread each: on a small machine several side by side are faster than one with
# several threads, and on a GPU it does not matter.


# The images are gone once their statistics exist: 50,000 of 256² are some 4 GB.
rule sample:
    input:
        "results/{experiment}/weights/{step}.safetensors",
    output:
        temp("results/{experiment}/samples/{step}.{samples}.lmdb"),
    log:
        "results/logs/sample/{experiment}.{step}.{samples}.log",
    benchmark:
        "results/benchmarks/sample/{experiment}.{step}.{samples}.tsv"
    conda:
        "../../envs/networks.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        seeds=sample_seeds,
        device=device,
    shell:
        "python -m stylenat.steps.sample --weights {input} --seeds {params.seeds}"
        " --output {output} --device {params.device} --log {log}"


rule statistics:
    input:
        images="results/{experiment}/samples/{step}.{samples}.lmdb",
        weights="results/weights/{extractor}.pth",
    output:
        "results/{experiment}/statistics/{step}.{extractor}.{samples}.npz",
    log:
        "results/logs/statistics/{experiment}.{step}.{extractor}.{samples}.log",
    benchmark:
        "results/benchmarks/statistics/{experiment}.{step}.{extractor}.{samples}.tsv"
    conda:
        "../../envs/networks.yaml"
    threads: 1
    resources:
        gpu=gpus,
    params:
        subset="all",
        device=device,
    shell:
        "python -m stylenat.steps.statistics --images {input.images} --subset {params.subset}"
        " --extractor {wildcards.extractor} --weights {input.weights} --output {output}"
        " --device {params.device} --log {log}"


# The reals that a protocol compares with, and their two halves, whose distance is the floor.
use rule statistics as statistics_of_reals with:
    input:
        images="results/data/{dataset}.lmdb",
        weights="results/weights/{extractor}.pth",
    output:
        "results/data/{dataset}.{extractor}.{subset}.npz",
    log:
        "results/logs/statistics/{dataset}.{extractor}.{subset}.log",
    benchmark:
        "results/benchmarks/statistics/{dataset}.{extractor}.{subset}.tsv"
    params:
        subset="{subset}",
        device=device,


rule metrics:
    input:
        statistics=snapshot_statistics,
        reference=reference_statistics(),
        experiment="results/{experiment}/experiment.json",
        weights="results/{experiment}/weights/{step}.safetensors",
    output:
        "results/{experiment}/metrics/{step}.{protocol}.json",
    log:
        "results/logs/metrics/{experiment}.{step}.{protocol}.log",
    conda:
        "../../envs/networks.yaml"
    params:
        table=protocol_table,
        snapshot=snapshot_option,
    shell:
        "python -m stylenat.steps.metrics --statistics {input.statistics} --reference {input.reference}"
        " --protocol {wildcards.protocol} --table {params.table} --experiment {input.experiment}"
        " {params.snapshot} --output {output} --log {log}"


use rule metrics as metrics_of_reals with:
    input:
        statistics=reference_statistics("half0"),
        reference=reference_statistics("half1"),
        experiment="results/{experiment}/experiment.json",
    output:
        "results/{experiment}/metrics/floor.{protocol}.json",
    log:
        "results/logs/metrics/{experiment}.floor.{protocol}.log",
    params:
        table=protocol_table,
        snapshot="",


# As many threads as there are, so that nothing else runs beside the measurement.
rule throughput:
    input:
        first_weights,
    output:
        "results/{experiment}/throughput.json",
    log:
        "results/logs/throughput/{experiment}.log",
    conda:
        "../../envs/networks.yaml"
    threads: 64
    resources:
        gpu=gpus,
    params:
        batch_sizes=throughput_batch_sizes,
        device=device,
    shell:
        "python -m stylenat.steps.throughput --weights {input} --batch-sizes {params.batch_sizes}"
        " --output {output} --device {params.device} --log {log}"
