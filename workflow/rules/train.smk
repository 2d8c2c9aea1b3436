rule experiment:
    output:
        "results/{experiment}/experiment.json",
    log:
        "results/logs/experiment/{experiment}.log",
    localrule: True
    conda:
        "../../envs/data.yaml"
    params:
        values=experiment_values,
    shell:
        "python -m stylenat.steps.experiment --values {params.values:q} --output {output} --log {log}"


# What training starts from: initial weights, or what training.start_from names.
rule initialise:
    input:
        experiment="results/{experiment}/experiment.json",
        start=start_file,
    output:
        state="results/{experiment}/train/{step}.state",
        weights="results/{experiment}/weights/{step}.safetensors",
    log:
        "results/logs/initialise/{experiment}.{step}.log",
    wildcard_constraints:
        experiment=f"(?={first_files()})({any_of(trained_experiments())})",
        step="[0-9]+",
    conda:
        "../../envs/networks.yaml"
    params:
        start=lambda wildcards, input: f"--start {input.start}" if input.start else "",
    shell:
        "python -m stylenat.steps.initialise --experiment {input.experiment} {params.start}"
        " --state {output.state} --weights {output.weights} --log {log}"


# One job per segment: a failed job costs one segment, and a longer run is one job more.
rule train:
    input:
        experiment="results/{experiment}/experiment.json",
        data=dataset,
        resume=previous_state,
    output:
        state="results/{experiment}/train/{step}.state",
        weights="results/{experiment}/weights/{step}.safetensors",
        records="results/{experiment}/train/{step}.jsonl",
    log:
        "results/logs/train/{experiment}.{step}.log",
    benchmark:
        "results/benchmarks/train/{experiment}.{step}.tsv"
    wildcard_constraints:
        experiment=f"(?!{first_files()})({any_of(trained_experiments())})",
        step="[1-9][0-9]*",
    conda:
        "../../envs/networks.yaml"
    threads: 2
    resources:
        gpu=gpus,
    params:
        launcher=launcher,
        device=device,
        time_limit=time_limit,
        microbatch=microbatch,
        execution=execution,
        tracking=tracking,
        run_iterations=run_iterations,
    shell:
        "{params.launcher} stylenat.steps.train --experiment {input.experiment} --data {input.data}"
        " --resume {input.resume} --until {wildcards.step} --state {output.state}"
        " --weights {output.weights} --records {output.records} --device {params.device}"
        " {params.time_limit} {params.microbatch} {params.execution} {params.run_iterations}"
        " --tracking {params.tracking:q} --log {log}"


# Weights trained elsewhere enter here; everything downstream is the same.
rule convert:
    input:
        experiment="results/{experiment}/experiment.json",
        checkpoint=checkpoint_file,
    output:
        "results/{experiment}/weights/{step}.safetensors",
    log:
        "results/logs/convert/{experiment}.{step}.log",
    wildcard_constraints:
        experiment=any_of(foreign_experiments()),
    conda:
        "../../envs/networks.yaml"
    shell:
        "python -m stylenat.steps.convert --checkpoint {input.checkpoint}"
        " --experiment {input.experiment} --step {wildcards.step} --output {output} --log {log}"
