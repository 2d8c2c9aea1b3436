# The report sorts categories by name; hence the numbers.
rule overview:
    input:
        experiment="results/{experiment}/experiment.json",
        metrics="results/{experiment}_metrics.csv",
        records=training_records,
        data=all_reals,
        picture="results/{experiment}/compare.png",
    output:
        report(
            "results/{experiment}_overview.html",
            caption="../report/overview.rst",
            category="1 Overview",
            labels={"experiment": "{experiment}"},
        ),
    log:
        "results/logs/overview/{experiment}.log",
    localrule: True
    conda:
        "../../envs/networks.yaml"
    shell:
        "python -m stylenat.steps.overview --experiment {input.experiment} --metrics {input.metrics}"
        " --records {input.records} --data {input.data} --picture {input.picture}"
        " --output {output} --log {log}"


rule compare:
    input:
        weights=last_weights,
        data=shown_reals,
    output:
        report(
            "results/{experiment}/compare.png",
            caption="../report/compare.rst",
            category="2 Samples",
            subcategory="{experiment}",
            labels={"iteration": "last, below real images"},
        ),
    log:
        "results/logs/compare/{experiment}.log",
    conda:
        "../../envs/networks.yaml"
    resources:
        gpu=gpus,
    params:
        device=device,
    shell:
        "python -m stylenat.steps.compare --weights {input.weights} --data {input.data}"
        " --output {output} --device {params.device} --log {log}"


rule grid:
    input:
        "results/{experiment}/weights/{step}.safetensors",
    output:
        report(
            "results/{experiment}/grids/{step}.png",
            caption="../report/grid.rst",
            category="2 Samples",
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


# The same of the last snapshot, for seeds that somebody picked.
use rule grid as curated with:
    input:
        last_weights,
    output:
        report(
            "results/{experiment}/grids/curated.png",
            caption="../report/curated.rst",
            category="2 Samples",
            subcategory="{experiment}",
            labels={"iteration": "last, curated"},
        ),
    log:
        "results/logs/grid/{experiment}.curated.log",
    params:
        seeds=curated_seeds,
        device=device,


rule latents:
    input:
        last_weights,
    output:
        truncation=report(
            "results/{experiment}/latents/truncation.png",
            caption="../report/truncation.rst",
            category="3 Latent space",
            labels={"experiment": "{experiment}", "picture": "truncation sweep"},
        ),
        mixing=report(
            "results/{experiment}/latents/mixing.png",
            caption="../report/mixing.rst",
            category="3 Latent space",
            labels={"experiment": "{experiment}", "picture": "style mixing"},
        ),
        interpolation=report(
            "results/{experiment}/latents/interpolation.gif",
            caption="../report/interpolation.rst",
            category="3 Latent space",
            labels={"experiment": "{experiment}", "picture": "interpolation"},
        ),
    log:
        "results/logs/latents/{experiment}.log",
    conda:
        "../../envs/networks.yaml"
    resources:
        gpu=gpus,
    params:
        device=device,
    shell:
        "python -m stylenat.steps.latents --weights {input} --truncation {output.truncation}"
        " --mixing {output.mixing} --interpolation {output.interpolation}"
        " --device {params.device} --log {log}"


rule play:
    input:
        weights=last_weights,
        runtime="results/weights/onnxruntime-web.tgz",
    output:
        report(
            "results/{experiment}/play.html",
            caption="../report/play.rst",
            category="3 Latent space",
            labels={"experiment": "{experiment}", "picture": "sampling in the browser"},
        ),
    log:
        "results/logs/play/{experiment}.log",
    conda:
        "../../envs/onnx.yaml"
    shell:
        "python -m stylenat.steps.play --weights {input.weights} --runtime {input.runtime}"
        " --output {output} --log {log}"


rule attention:
    input:
        last_weights,
    output:
        neighbourhoods=report(
            "results/{experiment}/attention/neighbourhoods.png",
            caption="../report/neighbourhoods.rst",
            category="7 Attention",
            labels={"experiment": "{experiment}", "picture": "weights of one pixel"},
        ),
        mean_query=report(
            "results/{experiment}/attention/mean_query.png",
            caption="../report/mean_query.rst",
            category="7 Attention",
            labels={"experiment": "{experiment}", "picture": "mean query against all keys"},
        ),
    log:
        "results/logs/attention/{experiment}.log",
    conda:
        "../../envs/networks.yaml"
    resources:
        gpu=gpus,
    params:
        device=device,
    shell:
        "python -m stylenat.steps.attention --weights {input} --mean-query {output.mean_query}"
        " --neighbourhoods {output.neighbourhoods} --device {params.device} --log {log}"


rule reach:
    input:
        last_weights,
    output:
        csv="results/{experiment}/attention/reach.csv",
        svg=report(
            "results/{experiment}/attention/reach.svg",
            caption="../report/reach.rst",
            category="7 Attention",
            labels={"experiment": "{experiment}", "picture": "how far heads look"},
        ),
        png="results/{experiment}/attention/reach.png",
    log:
        "results/logs/reach/{experiment}.log",
    conda:
        "../../envs/networks.yaml"
    resources:
        gpu=gpus,
    params:
        device=device,
    shell:
        "python -m stylenat.steps.reach --weights {input} --output {output.csv}"
        " --figures {output.svg} {output.png} --device {params.device} --log {log}"


rule spectrum:
    input:
        weights=last_weights,
        data=shown_reals,
    output:
        report(
            "results/{experiment}/spectrum.svg",
            caption="../report/spectrum.rst",
            category="5 Figures",
            labels={"figure": "{experiment}: power spectrum"},
        ),
        "results/{experiment}/spectrum.png",
    log:
        "results/logs/spectrum/{experiment}.log",
    conda:
        "../../envs/networks.yaml"
    resources:
        gpu=gpus,
    params:
        device=device,
    shell:
        "python -m stylenat.steps.spectrum --weights {input.weights} --data {input.data}"
        " --figures {output} --device {params.device} --log {log}"


rule receptive:
    input:
        "results/{experiment}/experiment.json",
    output:
        report(
            "results/{experiment}/receptive.svg",
            caption="../report/receptive.rst",
            category="7 Attention",
            labels={"experiment": "{experiment}", "picture": "receptive fields"},
        ),
        "results/{experiment}/receptive.png",
    log:
        "results/logs/receptive/{experiment}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "python -m stylenat.steps.receptive --experiment {input} --outputs {output} --log {log}"


rule copies:
    input:
        neighbours="results/{experiment}/neighbours/{step}.{protocol}.npz",
        weights="results/{experiment}/weights/{step}.safetensors",
        data=dataset,
    output:
        report(
            "results/{experiment}/copies/{step}.{protocol}.png",
            caption="../report/copies.rst",
            category="8 Memorisation",
            labels={"experiment": "{experiment}", "protocol": "{protocol}"},
        ),
    log:
        "results/logs/copies/{experiment}.{step}.{protocol}.log",
    conda:
        "../../envs/networks.yaml"
    resources:
        gpu=gpus,
    params:
        device=device,
    shell:
        "python -m stylenat.steps.copies --neighbours {input.neighbours} --weights {input.weights}"
        " --data {input.data} --output {output} --device {params.device} --log {log}"


rule curve:
    input:
        records=training_records,
        metrics=all_metrics,
    output:
        report(
            "results/{experiment}/training.svg",
            caption="../report/curve.rst",
            category="6 Training",
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
        published=ancient(PUBLISHED),
    output:
        csv="results/{experiment}_{table}.csv",
        html=report(
            "results/{experiment}_{table}.html",
            caption="../report/table.rst",
            category="4 Tables",
            labels={"experiment": "{experiment}", "table": "{table}"},
        ),
    log:
        "results/logs/tables/{experiment}_{table}.log",
    localrule: True
    conda:
        "../../envs/networks.yaml"
    params:
        table="{table}",
        # In place of its time, which says when it was checked out: tables that came from another
        # machine are drawn there, not made again from the beginning.
        published=published_content,
    shell:
        "python -m stylenat.steps.tables --table {params.table} --experiment {input.experiment}"
        " --records {input.records} --published {input.published}"
        " --output {output.csv} --html {output.html} --log {log}"


use rule tables as tables_side_by_side with:
    input:
        records="results/comparison/throughput.json",
        experiment=compared_experiments(),
        published=ancient(PUBLISHED),
    output:
        csv="results/comparison_throughput.csv",
        html="results/comparison_throughput.html",
    log:
        "results/logs/tables/comparison_throughput.log",
    localrule: True
    params:
        table="throughput",
        published=published_content,


rule ablation_table:
    input:
        metrics=family_metrics,
        training=family_records,
        throughput="results/ablations/{family}.throughput.json",
        experiments=family_generators,
        published=ancient(PUBLISHED),
    output:
        csv="results/ablations/{family}.csv",
        html=report(
            "results/ablations/{family}.html",
            caption="../report/ablation.rst",
            category="4 Tables",
            labels={"experiment": "{family}", "table": "ablation"},
        ),
        svg=report(
            "results/ablations/{family}.svg",
            caption="../report/ablation.rst",
            category="5 Figures",
            labels={"figure": "{family}"},
        ),
        png="results/ablations/{family}.png",
    log:
        "results/logs/ablation_table/{family}.log",
    wildcard_constraints:
        family=any_of(FAMILIES),
    localrule: True
    conda:
        "../../envs/networks.yaml"
    params:
        family=family_values,
        published=published_content,
    shell:
        "python -m stylenat.steps.ablation_table --family {params.family:q} --metrics {input.metrics}"
        " --training {input.training} --throughput {input.throughput}"
        " --experiments {input.experiments} --published {input.published}"
        " --output {output.csv} --html {output.html} --figures {output.svg} {output.png} --log {log}"


rule figures:
    input:
        tables=tables(config["run"]),
        published=PUBLISHED,
    output:
        fid_vs_params=report(
            "results/figures/fid_vs_params.svg",
            caption="../report/figures.rst",
            category="5 Figures",
            labels={"figure": "FID vs parameters"},
        ),
        fid_vs_params_png="results/figures/fid_vs_params.png",
        fid_vs_throughput=report(
            "results/figures/fid_vs_throughput.svg",
            caption="../report/figures.rst",
            category="5 Figures",
            labels={"figure": "FID vs throughput"},
        ),
        fid_vs_throughput_png="results/figures/fid_vs_throughput.png",
        fid_vs_images=report(
            "results/figures/fid_vs_images.svg",
            caption="../report/progress.rst",
            category="5 Figures",
            labels={"figure": "FID vs images seen"},
        ),
        fid_vs_images_png="results/figures/fid_vs_images.png",
    log:
        "results/logs/figures/figures.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    shell:
        "python -m stylenat.steps.figures --tables {input.tables} --published {input.published}"
        " --fid-vs-params {output.fid_vs_params} {output.fid_vs_params_png}"
        " --fid-vs-throughput {output.fid_vs_throughput} {output.fid_vs_throughput_png}"
        " --fid-vs-images {output.fid_vs_images} {output.fid_vs_images_png} --log {log}"
