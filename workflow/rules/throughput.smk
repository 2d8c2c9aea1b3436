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
        source="--weights",
        batch_sizes=throughput_batch_sizes,
        device=device,
        seconds="",
    shell:
        "python -m stylenat.steps.throughput {params.source} {input}"
        " --batch-sizes {params.batch_sizes} {params.seconds}"
        " --output {output} --device {params.device} --log {log}"


# The variants of an ablation, side by side.
use rule throughput as throughput_of_family with:
    input:
        family_generators,
    output:
        "results/ablations/{family}.throughput.json",
    log:
        "results/logs/throughput/ablation.{family}.log",
    wildcard_constraints:
        family=any_of(FAMILIES),
    resources:
        gpu=0,
    params:
        source="--experiments",
        batch_sizes=16,
        device="auto",
        seconds="",


# Untrained, on a GPU if there is one.
use rule throughput as throughput_side_by_side with:
    input:
        compared_experiments(),
    output:
        "results/comparison/throughput.json",
    log:
        "results/logs/throughput/comparison.log",
    resources:
        gpu=0,
    params:
        source="--experiments",
        batch_sizes=config["comparison"]["batch_sizes"],
        device="auto",
        seconds=f"--seconds {config['comparison']['seconds']}",
