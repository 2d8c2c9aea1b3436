rule grid:
    input:
        "results/{experiment}/weights/{step}.safetensors",
    output:
        report(
            "results/{experiment}/grids/{step}.png",
            caption="../report/grid.rst",
            category="Samples",
            subcategory="{experiment}",
            labels=snapshot_label,
        ),
    log:
        "results/logs/grid/{experiment}.{step}.log",
    conda:
        "../../envs/networks.yaml"
    resources:
        gpu=gpus,
    params:
        seeds=grid_seeds,
        device=device,
    shell:
        "python -m stylenat.steps.grid --weights {input} --seeds {params.seeds} --output {output}"
        " --device {params.device} --log {log}"


rule curve:
    input:
        records=training_records,
        metrics=all_metrics,
    output:
        report(
            "results/{experiment}/training.svg",
            caption="../report/curve.rst",
            category="Training",
            labels={"experiment": "{experiment}"},
        ),
        "results/{experiment}/training.png",
    log:
        "results/logs/curve/{experiment}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "python -m stylenat.steps.curve --records {input.records} --metrics {input.metrics}"
        " --outputs {output} --log {log}"


rule tables:
    input:
        records=table_records,
        experiment="results/{experiment}/experiment.json",
        published="config/published.csv",
    output:
        csv="results/{experiment}_{table}.csv",
        html=report(
            "results/{experiment}_{table}.html",
            caption="../report/table.rst",
            category="Tables",
            labels={"experiment": "{experiment}", "table": "{table}"},
        ),
    log:
        "results/logs/tables/{experiment}_{table}.log",
    localrule: True
    conda:
        "../../envs/networks.yaml"
    shell:
        "python -m stylenat.steps.tables --table {wildcards.table} --experiment {input.experiment}"
        " --records {input.records} --published {input.published}"
        " --output {output.csv} --html {output.html} --log {log}"


rule figures:
    input:
        tables=tables(config["run"]),
        published="config/published.csv",
    output:
        fid_vs_params=report(
            "results/figures/fid_vs_params.svg",
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "FID vs parameters"},
        ),
        fid_vs_params_png="results/figures/fid_vs_params.png",
        fid_vs_throughput=report(
            "results/figures/fid_vs_throughput.svg",
            caption="../report/figures.rst",
            category="Figures",
            labels={"figure": "FID vs throughput"},
        ),
        fid_vs_throughput_png="results/figures/fid_vs_throughput.png",
    log:
        "results/logs/figures/figures.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "python -m stylenat.steps.figures --tables {input.tables} --published {input.published}"
        " --fid-vs-params {output.fid_vs_params} {output.fid_vs_params_png}"
        " --fid-vs-throughput {output.fid_vs_throughput} {output.fid_vs_throughput_png} --log {log}"
