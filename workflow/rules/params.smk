# From the wildcards of a rule to what its command is told.
from stylenat.report.play import RUNTIME_SHA256, RUNTIME_URL


def experiment_values(wildcards):
    return json.dumps(EXPERIMENTS[wildcards.experiment].config.to_dict())


def dataset_sources(wildcards):
    return json.dumps(DATASETS[wildcards.dataset]["sources"])


def split_of(wildcards):
    """The share of a data set's images that is held out, and which part of it this is."""
    name = wildcards.dataset
    share = DATASETS[name].get("test")
    if not isinstance(share, float):
        return ""
    return f"--test-share {share}{' --held-out' if name.endswith('.test') else ''}"


def weights_source(wildcards):
    """Where a weights file comes from: of a feature network, or of an experiment's checkpoint."""
    name = wildcards.weights
    return json.dumps(config["weights"].get(name) or download_of(EXPERIMENTS[name]))


def runtime_source(wildcards):
    return json.dumps({"url": RUNTIME_URL, "sha256": RUNTIME_SHA256})


def held_out_option(wildcards, input):
    return f"--held-out {input.held_out}" if input.held_out else ""


def grid_seeds(wildcards):
    return f"0-{EXPERIMENTS[wildcards.experiment].grid - 1}"


def curated_seeds(wildcards):
    return ",".join(map(str, EXPERIMENTS[wildcards.experiment].curated))


def published_content(wildcards):
    return sha256(PUBLISHED)


def throughput_batch_sizes(wildcards):
    return EXPERIMENTS[wildcards.experiment].throughput_batch_sizes


def snapshot_label(wildcards):
    """Padded with spaces as wide as digits, because the report sorts labels as text."""
    return {"iteration": f"{int(wildcards.step):,}".rjust(9, "\N{FIGURE SPACE}")}


def step(name):
    """The command of a step whose options are its rule's inputs and outputs, by their names."""

    # Another wording is no reason to run a job again, so it takes `resources` (see devices.smk).
    def command(wildcards, input, output, resources):
        files = {**dict(input.items()), **dict(output.items())}
        options = [f"--{key.replace('_', '-')} {paths}" for key, paths in files.items() if paths]
        return f"python -m stylenat.steps.{name} {' '.join(options)}"

    return command
