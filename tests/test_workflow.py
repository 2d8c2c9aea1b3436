"""The workflow as Snakemake sees it: format, plans, refusals, and what makes it train again."""

import os
import re
import shlex
import shutil
from pathlib import Path

import pytest
import yaml

from tests.project import ROOT, make_clone, run, snakemake


def plan(*arguments: str, cwd: Path) -> dict[str, int]:
    """Number of jobs per rule that a dry run announces."""
    done = snakemake("--dry-run", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    table = re.search(r"^Job stats:\n.*?^total", done.stdout, re.MULTILINE | re.DOTALL)
    if table is None:
        assert "Nothing to be done" in done.stdout + done.stderr
        return {}
    jobs = re.findall(r"^(\w+) +(\d+)$", table[0], re.MULTILINE)
    return {rule: int(number) for rule, number in jobs}


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    return make_clone(tmp_path_factory.mktemp("clone"))


@pytest.fixture(scope="module")
def finished(clone, tmp_path_factory) -> Path:
    """A copy where everything about faces32 seems to be made: empty files of every output, which
    Snakemake then marks as its own with the parameters of today."""
    folder = tmp_path_factory.mktemp("finished") / "clone"
    shutil.copytree(clone, folder)
    done = snakemake("--dry-run", cwd=folder)
    for outputs in re.findall(r"^    output: (.+)$", done.stdout, re.MULTILINE):
        for output in outputs.replace(" (send to storage)", "").split(", "):
            path = folder / output
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    done = snakemake("--touch", "--forceall", "--cores", "1", cwd=folder)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def edit(finished):
    """Edit the configuration of ``finished`` by text; undone after the test."""
    path = finished / "config/config.yaml"
    original = path.read_text()

    def change(old: str, new: str) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    yield change
    path.write_text(original)


def demo(finished: Path) -> dict:
    return yaml.safe_load((finished / "config/config.yaml").read_text())["experiments"]["faces32"]


# ------------------------------------------------------------------------------ form


def test_snakemake_finds_nothing_to_lint():
    done = snakemake("--lint")
    assert done.returncode == 0 and "good condition" in done.stderr, done.stdout + done.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("snakefmt", "--check", "Snakefile", "workflow"),
        ("ruff", "check", "."),
        ("ruff", "format", "--check", "."),
    ],
    ids=" ".join,
)
def test_the_sources_are_formatted(command):
    done = run(*command)
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_rule_runs_the_module_it_logs_for():
    """Rule = module = folder of logs; a second rule over the same module inherits its command."""
    files = sorted((ROOT / "workflow/rules").glob("*.smk"))
    assert files
    for path in files:
        for rule in re.split(r"^(?=rule |use rule )", path.read_text(), flags=re.MULTILINE)[1:]:
            inherited, own = re.match(r"(?:use rule (\w+) as|rule) (\w+)", rule).groups()
            runs = re.search(r'stylenat\.steps\.(\w+) |step\("(\w+)"\)', rule)
            name = own if runs else inherited or own
            assert not runs or own in runs.groups()
            assert runs or inherited or name == "benchmarks"
            assert f'"results/logs/{name}/' in rule, f"{own} has no log of its own"
            assert "config[" not in rule.partition("shell:")[2]


def test_downloads_run_where_snakemake_runs():
    """Compute nodes rarely see the internet. A rule does not take this over from the one it uses."""
    text = (ROOT / "workflow/rules/data.smk").read_text()
    rules = re.split(r"^(?=rule |use rule )", text, flags=re.MULTILINE)[1:]
    assert len(rules) == 4
    for rule in rules:
        assert ("localrule: True" in rule) != rule.startswith("rule pack"), rule


# ------------------------------------------------------------------------------ plans


def test_the_whole_chain_of_ffhq256_on_a_cluster(clone):
    jobs = plan("--profile", "profiles/slurm", "results/ffhq256_fid.csv", cwd=clone)
    assert jobs == {
        "download": 1,
        "pack": 1,
        "weights": 1,
        "experiment": 1,
        "initialise": 1,
        "train": 40,
        "sample": 43,  # the last snapshot three times
        "statistics": 43,
        "statistics_of_reals": 2,
        "metrics": 82,
        "floor": 2,
        "tables": 1,
    }


def test_held_out_images_are_a_data_set_of_their_own(clone):
    targets = [f"results/data/faces256.test.{it}" for it in ("lmdb", "inception.all.features.npz")]
    out = commands(*targets, cwd=clone)
    assert re.search(r'steps.download --name faces256.test .*"first_seed": 70000', out)
    assert "steps.pack --name faces256.test " in out
    assert re.search(r"steps.statistics --images results/data/faces256.test.lmdb .* cuda", out)


@pytest.mark.parametrize("target", ["demo", "demo-seeds", "demo-hour"])
def test_snakemake_understands_what_make_asks_for(clone, target):
    recipe = run("make", "--dry-run", "--no-print-directory", target).stdout
    line = next(line for line in recipe.splitlines() if line.startswith("snakemake --cores"))
    _, *arguments = shlex.split(line)
    done = snakemake("--dry-run", *arguments, cwd=clone)
    assert done.returncode == 0, done.stderr


def test_features_are_kept_only_where_a_metric_needs_them(clone, tmp_path):
    target = "results/ffhq256_fid.csv"
    out = commands("--profile", "profiles/slurm", "--", target, cwd=clone)
    kept = re.findall(r"steps.statistics (?=.*--features).*--output (\S+)", out)
    samples = sorted(path for path in kept if path.startswith("results/ffhq256/"))
    assert samples == [
        f"results/ffhq256/features/1000000.inception.{seeds}.npz"
        for seeds in ("0-49999", "100000-149999", "50000-99999")
    ]
    path = tmp_path / "overlay.yaml"
    path.write_text("defaults: {evaluation: {final_protocols: [], repeats: 1}}")
    out = commands("--configfile", str(path), "--", target, cwd=clone)
    assert "results/ffhq256/statistics/" in out and "results/ffhq256/features/" not in out


def test_samples_and_the_floor_are_compared_with_the_same_reals(clone):
    out = commands("results/faces32_metrics.csv", cwd=clone)
    for protocol, extractor in (("fd_lite0", "lite0"), ("attributes_lite0", "lite0early")):
        held_out = f"results/data/faces32.test.{extractor}.all.features.npz"
        reference = f"results/data/faces32.{extractor}.all.features.npz"
        snapshot, floor = (
            re.search(rf"steps.{verb} (.*) --output \S+/{step}.{protocol}.json", out)[1]
            for verb, step in (("metrics", "[0-9]+"), ("floor", "floor"))
        )
        for one in (snapshot, floor):
            assert f"--reference {reference}" in one and f"--held-out {held_out}" in one
        assert "--samples 2048" in floor
    assert re.search(
        r"steps.pack --name faces32.test .* --output results/data/faces32.test.lmdb", out
    )

    out = commands("--profile", "profiles/slurm", "results/faces256_fid.csv", cwd=clone)
    whole = "results/data/faces256.test.inception.all.features.npz"
    reference = "results/data/faces256.inception.50000.features.npz"
    assert f"--reference {reference} --held-out {whole}" in out

    out = commands("results/ffhq256_fid.csv", cwd=clone)
    assert "--held-out" not in out and "steps.floor" in out


def test_a_table_of_everything_about_the_last_snapshot(clone):
    jobs = plan("--profile", "profiles/slurm", "results/ffhq256_metrics.csv", cwd=clone)
    assert (jobs["sample"], jobs["statistics"], jobs["train"]) == (3, 3, 40)
    assert jobs["metrics"] == jobs["floor"] == 6


def test_published_weights_are_converted_instead_of_trained(clone):
    jobs = plan("results/ffhq256-official_fid.csv", cwd=clone)
    assert (jobs["convert"], jobs["sample"]) == (1, 3)
    assert jobs["weights"] == 2, "the feature network and the checkpoint"
    assert not {"initialise", "train"} & jobs.keys()


@pytest.mark.parametrize("profile", [[], ["--profile", "profiles/slurm"]], ids=["here", "slurm"])
def test_generators_are_compared_without_training(clone, profile):
    jobs = plan(*profile, "results/comparison_throughput.csv", cwd=clone)
    assert jobs == {"experiment": 3, "throughput_side_by_side": 1, "tables_side_by_side": 1}


def test_a_checkpoint_that_is_there_is_not_downloaded(clone):
    (clone / "mine.pt").touch()
    source = "{file: mine.pt, url: null, step: 940000}"
    overlay = clone / "overlay.yaml"
    overlay.write_text(f"experiments: {{own: {{dataset: ffhq256, checkpoint: {source}}}}}")
    target = "results/own/weights/940000.safetensors"
    refused = snakemake("--dry-run", "--configfile", "overlay.yaml", "--", target, cwd=clone)
    assert "experiments.own.checkpoint.url: None is not of type string" in refused.stderr

    overlay.write_text(overlay.read_text().replace("url: null, ", ""))
    jobs = plan("--configfile", "overlay.yaml", "--", target, cwd=clone)
    assert jobs == {"experiment": 1, "convert": 1}


def test_tables_from_another_machine_are_drawn_and_not_made_again(clone, tmp_path):
    tables = re.search(r"--tables (.*?) --published", commands("figures", cwd=clone))[1].split()
    folder = make_clone(tmp_path)
    for table in tables:
        path = folder / table
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, (0, 0))  # older than anything that was checked out
    assert plan("figures", cwd=folder) == {"figures": 1}


def test_pictures_follow_what_an_experiment_has(clone, tmp_path):
    path = tmp_path / "overlay.yaml"
    path.write_text("experiments: {faces32: {evaluation: {curated: [7, 3]}}}")
    out = commands("--configfile", str(path), cwd=clone)
    assert re.search(r"steps.grid .* --output results/faces32/grids/curated.png --seeds 7,3", out)
    path.write_text("experiments: {faces32: {model: {block: full}}}")
    jobs = plan("--configfile", str(path), cwd=clone)
    assert jobs["latents"] == jobs["receptive"] == jobs["copies"] == 1
    assert not {"attention", "curated"} & jobs.keys()


def commands(*arguments: str, cwd: Path) -> str:
    done = snakemake("--dry-run", "--printshellcmds", *arguments, cwd=cwd)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_one_process_for_each_gpu(clone):
    target = "results/ffhq256/train/25000.state"
    assert "python -m stylenat.steps.train" in commands(target, cwd=clone)

    out = commands("--set-resources", "train:gpu=4", "--", target, cwd=clone)
    assert "stylenat.training.launch --nproc-per-node=4 --standalone -m -- stylenat.steps" in out

    out = commands("--set-resources", "train:gpu=16", "train:nodes=2", "--", target, cwd=clone)
    assert re.search(r"srun --ntasks=2 .*--nproc-per-node=8 --nnodes=2 --node-rank=\$SLURM", out)
    assert "SLURM_JOB_ID % 10000" in out, "a port of its own on nodes that jobs share"

    assert "--microbatch" not in out and "--execution" not in out
    settings = ("train:microbatch=4", "train:execution=graph")
    out = commands("--set-resources", *settings, "--", target, cwd=clone)
    assert "stylenat.steps.train" in out and " --microbatch 4 --execution graph " in out


def test_kubernetes_is_asked_for_the_resources_of_slurm(clone):
    """Memory, CPUs and GPUs, rule by rule; no time limit, because a pod's rolling state is lost."""
    for plugin in ("executor_plugin_kubernetes", "storage_plugin_fs"):
        pytest.importorskip(
            f"snakemake_{plugin}", reason="pip install snakemake-" + plugin.replace("_", "-")
        )
    target = ("--", "results/faces256_metrics.csv", "results/faces256_throughput.csv")
    asked, threads = {}, {}
    for name in ("slurm", "kubernetes"):
        out = commands("--profile", f"profiles/{name}", *target, cwd=clone)
        asked[name] = {
            (rule, key, value)
            for rule, text in re.findall(
                r"^(?:local)?rule (\w+):\n(?:    .*\n)*?    resources: (.*)$", out, re.MULTILINE
            )
            for key, value in re.findall(r"\b(mem_mb|gpu|runtime)=(\d+)", text)
        }
        profile = yaml.safe_load((clone / f"profiles/{name}/config.yaml").read_text())
        threads[name] = profile["set-threads"]
    limits = {it for it in asked["slurm"] if it[1] == "runtime"}
    assert limits and asked["kubernetes"] == asked["slurm"] - limits
    assert {("train", "gpu", "8"), ("train", "mem_mb", "200000")} < asked["kubernetes"]
    assert threads["kubernetes"] == threads["slurm"]
    assert "--time-limit" not in out
    assert "gpu_manufacturer=nvidia, scale=0" in out, "without limits no pod is given a GPU"


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("overlay", "message"),
    [
        (
            "experiments: {ffhq256: {training: {learning_rate: 0.1}}}",
            "experiments.ffhq256.training.learning_rate: unknown key (did you mean",
        ),
        ("run: [celeba]", "run[0]: unknown experiment 'celeba'; there are"),
        (
            "experiments: {faces32: {model: {dilations: [[1], [1], [1, 4], [1]]}}}",
            "experiments.faces32.model.dilations[2]: ",
        ),
        (
            "experiments: {faces32: {model: {min_heads: 7}}}",
            "experiments.faces32.model.min_heads: ",
        ),
        (
            "experiments: {ffhq256: {run: {iterations: 10}}}",
            "experiments.ffhq256.run.iterations: 10 is not a multiple of run.segment, 25000",
        ),
        ("protocols: {kid50k: {metric: mean}}", "protocols.kid50k.metric: 'mean' is not one of"),
    ],
    ids=["unknown key", "unknown experiment", "dilation", "heads", "iterations", "metric"],
)
def test_a_wrong_configuration_is_refused_in_one_sentence(clone, tmp_path, overlay, message):
    path = tmp_path / "wrong.yaml"
    path.write_text(overlay)
    done = snakemake("--dry-run", "--configfile", str(path), cwd=clone)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {message}")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("results/ffhq256/train/30000.state", "experiments.ffhq256.run.segment: there is no"),
        ("results/ffhq256_fd_lite0.csv", "experiments.ffhq256.evaluation.protocols: none of"),
    ],
)
def test_a_target_that_the_configuration_has_not_is_refused(clone, target, message):
    done = snakemake("--dry-run", target, cwd=clone)
    assert done.returncode == 1
    assert done.stderr.strip().splitlines()[-1].startswith(f"error: {message}")


def test_results_on_a_disk_that_is_not_mounted_are_refused(clone, tmp_path):
    (tmp_path / "results").symlink_to("/nowhere/results")
    arguments = ("--dry-run", "--snakefile", clone / "Snakefile", "--directory", tmp_path)
    done = snakemake(*map(str, arguments), cwd=clone)
    last = done.stderr.strip().splitlines()[-1]
    assert (
        last == "error: results is a link to /nowhere/results, which is not there; mount or make it"
    )


def test_it_runs_in_another_directory_with_the_configuration_beside_it(clone, tmp_path):
    target = "results/faces32/experiment.json"
    arguments = ("--cores", "1", "--snakefile", clone / "Snakefile", "--directory", tmp_path)
    done = snakemake(*map(str, arguments), "--", target, cwd=tmp_path.parent)
    assert done.returncode == 0, done.stderr
    assert (tmp_path / target).exists() and not (clone / target).exists()


def test_a_configuration_in_that_directory_counts(clone, tmp_path):
    (tmp_path / "config").mkdir()
    text = (clone / "config/config.yaml").read_text()
    (tmp_path / "config/config.yaml").write_text(text.replace("run: [faces32]", "run: [mine]"))
    arguments = ("--dry-run", "--snakefile", clone / "Snakefile", "--directory", tmp_path)
    done = snakemake(*map(str, arguments), cwd=tmp_path.parent)
    assert "unknown experiment 'mine'" in done.stderr


def test_it_is_a_module_of_another_workflow(clone, tmp_path):
    (tmp_path / "Snakefile").write_text(
        f"""
configfile: "{clone}/config/config.yaml"
module stylenat:
    snakefile: "{clone}/Snakefile"
    config: config
use rule * from stylenat
rule mine:
    input: "results/faces32_fd_lite0.csv"
"""
    )
    done = snakemake("--dry-run", "mine", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "rule tables:" in done.stdout and "rule mine:" in done.stdout


def test_it_is_deployed_from_a_repository(tmp_path, monkeypatch):
    """As snakedeploy does it: a copy of config/, and a module of what a tag of the repository has.
    Git is told to look for the host's repositories on the disk."""
    repository = tmp_path / "host/owner/stylenat"
    repository.mkdir(parents=True)
    make_clone(repository)
    name = ("-c", "user.name=x", "-c", "user.email=x")
    for command in (("init", "-q"), ("add", "."), (*name, "commit", "-qm", "x"), ("tag", "v1")):
        done = run("git", *command, cwd=repository)
        assert done.returncode == 0, done.stderr
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")
    monkeypatch.setenv("GIT_CONFIG_KEY_0", f"url.file://{tmp_path}/host/.insteadOf")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", "https://github.com/")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    folder = tmp_path / "deployed"
    for part in ("config", "profiles"):
        shutil.copytree(ROOT / part, folder / part)
    (folder / "workflow").mkdir()
    (folder / "workflow/Snakefile").write_text(
        """
configfile: "config/config.yaml"
module stylenat:
    snakefile: github("owner/stylenat", path="workflow/Snakefile", tag="v1")
    config: config
use rule * from stylenat
"""
    )
    out = commands("results/faces32_fd_lite0.csv", cwd=folder)
    assert "steps.train --experiment results/faces32/experiment.json" in out
    assert "--published config/published.csv" in out


def test_without_a_gpu_nothing_of_a_gpu_experiment_starts(clone, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    done = snakemake("--cores", "1", "results/ffhq256_fid.csv", cwd=clone)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: experiments.ffhq256: ") and "profiles/slurm" in last
    assert not (clone / "results").exists(), "not even the download has begun"


# ------------------------------------------------------------------------------ running again


def test_a_finished_run_has_nothing_to_do(finished):
    assert plan(cwd=finished) == {}


def test_a_comment_retrains_nothing(finished, edit):
    edit("# The experiments that", "# Which experiments")
    assert plan(cwd=finished) == {}


def test_where_it_runs_is_no_reason_to_run_again(finished, edit):
    edit("device: any", "device: gpu")
    assert plan("--set-resources", "train:gpu=4", cwd=finished) == {}


def test_a_training_key_retrains_that_experiment(finished, edit):
    edit("\n  ffhq256:\n    dataset: ffhq256\n", "\n  ffhq256:\n    dataset: ffhq256\n    x: 1\n")
    edit("    x: 1\n", "    training: {generator_lr: 0.1}\n")
    assert plan(cwd=finished) == {}, "another experiment's learning rate"

    edit("      batch_size: 16\n", "      batch_size: 8\n")
    jobs = plan(cwd=finished)
    run = demo(finished)["run"]
    assert jobs["experiment"] == jobs["initialise"] == 1
    assert jobs["train"] == run["iterations"] // run["segment"]
    assert not {"download", "pack", "weights", "statistics_of_reals"} & jobs.keys()


def test_another_tracker_retrains_nothing(finished, edit):
    edit("tensorboard: false", "tensorboard: true")
    edit("wandb: null", "wandb: {project: faces, tags: [x]}")
    assert plan(cwd=finished) == {}


def test_a_longer_run_trains_the_new_segment_only(finished, edit):
    run = demo(finished)["run"]
    iterations, segment = run["iterations"], run["segment"]
    edit(
        f"      iterations: {iterations}\n      segment",
        f"      iterations: {iterations + segment}\n      segment",
    )
    jobs = plan(cwd=finished)
    assert jobs["train"] == jobs["grid"] == 1
    assert not {"experiment", "initialise"} & jobs.keys()


def test_more_samples_retrain_nothing(finished, edit):
    edit(
        "metric: frechet, extractor: lite0, samples: 2048",
        "metric: frechet, extractor: lite0, samples: 64",
    )
    jobs = plan(cwd=finished)
    assert "sample" in jobs and not {"experiment", "initialise", "train"} & jobs.keys()


def test_published_numbers_count_by_what_they_say(finished):
    path = finished / "config/published.csv"
    original = path.read_text()
    path.write_text(original)  # checked out again
    assert "tables" not in plan(cwd=finished)
    try:
        path.write_text(original.replace("2.046", "2.05"))
        jobs = plan(cwd=finished)
    finally:
        path.write_text(original)
    assert jobs["tables"] == 3 and jobs["figures"] == 1
    assert set(jobs) <= {"tables", "tables_side_by_side", "figures", "overview", "all"}


def test_old_states_may_be_deleted(finished):
    states = sorted((finished / "results/faces32/train").glob("*.state"))
    last = max(states, key=lambda path: int(path.stem))
    for state in states:
        if state != last:
            state.unlink()
    assert plan(cwd=finished) == {}
