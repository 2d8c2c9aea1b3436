# What people look at. Rules of one kind differ in little: the first of them has the form, the others name
# what is theirs. Their commands are made by `step` (params.smk), outputs for the report by outputs.smk.


# ------------------------------------------------------------------- drawn with a generator


rule latents:
    input:
        weights=last_weights,
    output:
        truncation=picture("latents/truncation.png", "3 Latent space", "truncation sweep"),
        mixing=picture("latents/mixing.png", "3 Latent space", "style mixing"),
        interpolation=picture("latents/interpolation.gif", "3 Latent space", "interpolation"),
    log:
        "results/logs/latents/{experiment}.log",
    conda:
        "../../envs/networks.yaml"
    resources:
        gpu=gpus,
    params:
        command=step("latents"),
        device=device,
    shell:
        "{params.command} --device {params.device} --log {log}"


use rule latents as attention with:
    output:
        neighbourhoods=picture(
            "attention/neighbourhoods.png", "7 Attention", "weights of one pixel"
        ),
        mean_query=picture("attention/mean_query.png", "7 Attention", "mean query against all keys"),
    log:
        "results/logs/attention/{experiment}.log",
    params:
        command=step("attention"),


use rule latents as reach with:
    output:
        output="results/{experiment}/attention/reach.csv",
        figures=both(picture("attention/reach.svg", "7 Attention", "how far heads look")),
    log:
        "results/logs/reach/{experiment}.log",
    params:
        command=step("reach"),


use rule latents as compare with:
    input:
        weights=last_weights,
        data=shown_reals,
    output:
        output=samples("compare.png", "compare", {"iteration": "last, below real images"}),
    log:
        "results/logs/compare/{experiment}.log",
    params:
        command=step("compare"),


use rule compare as spectrum with:
    output:
        figures=figure("{experiment}/spectrum", "{experiment}: power spectrum", "spectrum"),
    log:
        "results/logs/spectrum/{experiment}.log",
    params:
        command=step("spectrum"),


use rule latents as copies with:
    input:
        neighbours="results/{experiment}/neighbours/{step}.{protocol}.npz",
        weights="results/{experiment}/weights/{step}.safetensors",
        data=dataset,
    output:
        output=shown(
            "results/{experiment}/copies/{step}.{protocol}.png",
            "8 Memorisation",
            "copies",
            protocol="{protocol}",
        ),
    log:
        "results/logs/copies/{experiment}.{step}.{protocol}.log",
    params:
        command=step("copies"),


rule grid:
    input:
        weights="results/{experiment}/weights/{step}.safetensors",
    output:
        output=samples("grids/{step}.png", "grid", snapshot_label),
    log:
        "results/logs/grid/{experiment}.{step}.log",
    conda:
        "../../envs/networks.yaml"
    resources:
        gpu=gpus,
    params:
        command=step("grid"),
        seeds=grid_seeds,
        device=device,
    shell:
        "{params.command} --seeds {params.seeds} --device {params.device} --log {log}"


# The same of the last snapshot, for seeds that somebody picked.
use rule grid as curated with:
    input:
        weights=last_weights,
    output:
        output=samples("grids/curated.png", "curated", {"iteration": "last, curated"}),
    log:
        "results/logs/grid/{experiment}.curated.log",
    params:
        seeds=curated_seeds,


# ------------------------------------------------------------------- of files that are there


rule overview:
    input:
        experiment="results/{experiment}/experiment.json",
        metrics="results/{experiment}_metrics.csv",
        records=training_records,
        data=all_reals,
        picture="results/{experiment}/compare.png",
    output:
        output=shown("results/{experiment}_overview.html", "1 Overview", "overview"),
    log:
        "results/logs/overview/{experiment}.log",
    localrule: True
    conda:
        "../../envs/networks.yaml"
    params:
        command=step("overview"),
    shell:
        "{params.command} --log {log}"


use rule overview as receptive with:
    input:
        experiment="results/{experiment}/experiment.json",
    output:
        outputs=both(picture("receptive.svg", "7 Attention", "receptive fields")),
    log:
        "results/logs/receptive/{experiment}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        command=step("receptive"),


use rule overview as curve with:
    input:
        records=training_records,
        metrics=all_metrics,
    output:
        outputs=both(shown("results/{experiment}/training.svg", "6 Training", "curve")),
    log:
        "results/logs/curve/{experiment}.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        command=step("curve"),


use rule overview as figures with:
    input:
        tables=tables(config["run"]),
        published=PUBLISHED,
    output:
        fid_vs_params=figure("figures/fid_vs_params", "FID vs parameters", "figures"),
        fid_vs_throughput=figure("figures/fid_vs_throughput", "FID vs throughput", "figures"),
        fid_vs_images=figure("figures/fid_vs_images", "FID vs images seen", "progress"),
    log:
        "results/logs/figures/figures.log",
    localrule: True
    conda:
        "../../envs/report.yaml"
    params:
        command=step("figures"),


use rule overview as play with:
    input:
        weights=last_weights,
        runtime="results/weights/onnxruntime-web.tgz",
    output:
        output=picture("play.html", "3 Latent space", "sampling in the browser"),
    log:
        "results/logs/play/{experiment}.log",
    conda:
        "../../envs/onnx.yaml"
    params:
        command=step("play"),


rule tables:
    input:
        records=table_records,
        experiment="results/{experiment}/experiment.json",
        published=ancient(PUBLISHED),
    output:
        output="results/{experiment}_{table}.csv",
        html=shown("results/{experiment}_{table}.html", "4 Tables", "table", table="{table}"),
    log:
        "results/logs/tables/{experiment}_{table}.log",
    localrule: True
    conda:
        "../../envs/networks.yaml"
    params:
        command=step("tables"),
        table="{table}",
        # In place of its time, which says when it was checked out: tables that came from another
        # machine are drawn there, not made again from the beginning.
        published=published_content,
    shell:
        "{params.command} --table {params.table} --log {log}"


use rule tables as tables_side_by_side with:
    input:
        records="results/comparison/throughput.json",
        experiment=compared_experiments(),
        published=ancient(PUBLISHED),
    output:
        output="results/comparison_throughput.csv",
        html="results/comparison_throughput.html",
    log:
        "results/logs/tables/comparison_throughput.log",
    localrule: True
    params:
        table="throughput",


rule ablation_table:
    input:
        metrics=family_metrics,
        training=family_records,
        throughput="results/ablations/{family}.throughput.json",
        experiments=family_generators,
        published=ancient(PUBLISHED),
    output:
        output="results/ablations/{family}.csv",
        html=shown(
            "results/ablations/{family}.html",
            "4 Tables",
            "ablation",
            experiment="{family}",
            table="ablation",
        ),
        figures=figure("ablations/{family}", "{family}", "ablation"),
    log:
        "results/logs/ablation_table/{family}.log",
    wildcard_constraints:
        family=any_of(FAMILIES),
    localrule: True
    conda:
        "../../envs/networks.yaml"
    params:
        command=step("ablation_table"),
        family=family_values,
        published=published_content,
    shell:
        "{params.command} --family {params.family:q} --log {log}"
