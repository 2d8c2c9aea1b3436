# Where Snakemake runs, not on a compute node: those rarely see the internet.
rule download:
    output:
        "results/data/{dataset}.download.json",
    log:
        "results/logs/download/{dataset}.log",
    localrule: True
    conda:
        "../../envs/data.yaml"
    params:
        sources=dataset_sources,
        # Not an output: Snakemake would delete it with a failed job, and the download could not resume.
        directory="results/data/{dataset}.download",
    shell:
        "python -m stylenat.steps.download --name {wildcards.dataset} --sources {params.sources:q}"
        " --directory {params.directory} --manifest {output} --log {log}"


rule pack:
    input:
        manifest,
    output:
        "results/data/{dataset}.lmdb",
    log:
        "results/logs/pack/{dataset}.log",
    benchmark:
        "results/benchmarks/pack/{dataset}.tsv"
    conda:
        "../../envs/data.yaml"
    threads: 8
    params:
        resolution=lookup("{dataset}/resolution", within=DATASETS),
        filter=lookup("{dataset}/filter", within=DATASETS),
        max_corrupt=lookup("{dataset}/max_corrupt", within=DATASETS, default=0),
        split=split_of,
    shell:
        "python -m stylenat.steps.pack --name {wildcards.dataset} --manifest {input}"
        " --resolution {params.resolution} --filter {params.filter}"
        " --max-corrupt {params.max_corrupt} {params.split} --workers {threads} --output {output} --log {log}"


# Feature networks, and checkpoints trained elsewhere: downloads, too.
rule weights:
    output:
        "results/weights/{weights}.pth",
    log:
        "results/logs/weights/{weights}.log",
    wildcard_constraints:
        weights=any_of([*config["weights"], *downloading_experiments()]),
    localrule: True
    conda:
        "../../envs/data.yaml"
    params:
        source=weights_source,
    shell:
        "python -m stylenat.steps.weights --name {wildcards.weights} --source {params.source:q}"
        " --output {output} --log {log}"


# What runs networks in a browser. Without a network, copy npm's package to this place.
use rule weights as browser_runtime with:
    output:
        "results/weights/{weights}.tgz",
    log:
        "results/logs/weights/{weights}.log",
    wildcard_constraints:
        weights="onnxruntime-web",
    localrule: True
    params:
        source=runtime_source,
