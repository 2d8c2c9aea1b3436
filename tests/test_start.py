"""Starting from what was trained before: every kind of file, and one sentence for what does not fit."""

import copy
import json
import logging
import shutil

import pytest
import torch

from stylenat.config import StartConfig
from stylenat.errors import ConfigError, UserError
from stylenat.experiments import resolve
from stylenat.interop import write_checkpoint
from stylenat.interop.styleswin import to_styleswin
from stylenat.models import save_generator
from stylenat.records import Provenance
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import load_state, save_state
from stylenat.training.start import start
from tests.project import CONFIG, ROOT, run
from tests.tiny import experiment
from tests.training_run import ALONE, advance, everything, make_run


def sized(size: int, width: int = 8, block: str = "hydra", **training):
    """The tiny experiment at another size or width."""
    model = {"channel_max": width, "block": block}
    if block == "windows":
        model |= {"kernels": [[4]] * 9, "dilations": [[1]] * 9}
    return experiment(size=size, model=model, **training)


def begin(path, config, **keys):
    """A trainer of ``config`` after starting from ``path``."""
    trainer = build_trainer(config, ALONE)
    start(trainer, path, StartConfig(file=str(path), **keys))
    return trainer


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(trainer, state, reference's checkpoint) after 3 iterations of the tiny experiment."""
    folder = tmp_path_factory.mktemp("trained")
    config = experiment()
    trainer = build_trainer(config, ALONE)
    advance(trainer, 3)
    save_state(folder / "3.state", trainer, config, None)
    return trainer, folder / "3.state", reference(folder / "3.pt", trainer)


def reference(path, trainer, rename=lambda key: key, cast=lambda value: value):
    networks = {
        "g": trainer.generator.state_dict(),
        "d": trainer.discriminator.state_dict(),
        "g_ema": trainer.generator_ema.state_dict(),
    }
    networks = {
        name: {rename(key): cast(value) for key, value in tensors.items()}
        for name, tensors in networks.items()
    }
    optimizers = {
        "g_optim": trainer.generator_optimizer.state_dict(),
        "d_optim": trainer.discriminator_optimizer.state_dict(),
    }
    write_checkpoint(path, trainer.generator.config, networks, optimizers)
    return path


def same(found, expected, but=()):
    found, expected = everything(found), everything(expected)
    assert found.keys() == expected.keys()
    for key, value in expected.items():
        assert torch.equal(found[key], value) != key.startswith(but or ("nothing",)), key


@pytest.mark.parametrize("kind", ["state", "reference"])
def test_continued_as_if_never_interrupted(trained, kind):
    _, state, checkpoint = trained
    path = state if kind == "state" else checkpoint
    continued = begin(path, experiment(), mode="continue", step=3)
    assert continued.step == 3
    advance(continued, 6)
    undisturbed = build_trainer(experiment(), ALONE)
    advance(undisturbed, 6)
    same(continued, undisturbed)


def test_fine_tuning_takes_the_networks_and_starts_anew(trained):
    before, state, _ = trained
    tuned = begin(state, experiment(seed=8), mode="finetune")
    assert tuned.step == 0 and not tuned.generator_optimizer.state
    for name in ("generator", "discriminator", "generator_ema"):
        found, expected = (getattr(one, name).state_dict() for one in (tuned, before))
        for key, value in expected.items():
            assert torch.equal(found[key], value), key


def test_weights_alone_serve_as_generator_and_average(trained, tmp_path, caplog):
    before, _, _ = trained
    save_generator(tmp_path / "w.safetensors", before.generator_ema, Provenance())
    initial = build_trainer(experiment(), ALONE)
    with caplog.at_level(logging.WARNING):
        tuned = begin(tmp_path / "w.safetensors", experiment(), mode="finetune")
    for name in ("generator", "generator_ema"):
        for key, value in before.generator_ema.state_dict().items():
            assert torch.equal(getattr(tuned, name).state_dict()[key], value), key
    for key, value in initial.discriminator.state_dict().items():
        assert torch.equal(tuned.discriminator.state_dict()[key], value), key
    assert "has no generator; its average stands for it" in caplog.text
    assert "has no discriminator: it starts from its initial weights" in caplog.text


def test_a_continued_run_says_what_the_file_lacks(trained, tmp_path, caplog):
    before, _, _ = trained
    save_generator(tmp_path / "w.safetensors", before.generator_ema, Provenance())
    with caplog.at_level(logging.WARNING):
        continued = begin(tmp_path / "w.safetensors", experiment(), mode="continue", step=3)
    assert continued.step == 3
    for network in ("generator", "discriminator"):
        assert f"has no optimiser of the {network}: Adam's moments start at zero" in caplog.text


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module."]
)
def test_names_that_wrappers_made_longer(trained, tmp_path, prefix, caplog):
    before, _, _ = trained
    path = reference(tmp_path / "p.pt", before, rename=lambda key: prefix + key)
    with caplog.at_level(logging.INFO):
        same(begin(path, experiment(), mode="continue", step=3), before)
    assert "names without module. and _orig_mod." in caplog.text


@pytest.mark.parametrize("wrap", [lambda bare: bare, lambda bare: {"state_dict": bare}])
def test_a_bare_state_dict_is_a_generator(trained, tmp_path, wrap, caplog):
    before, _, _ = trained
    torch.save(wrap(before.generator_ema.state_dict()), tmp_path / "bare.pt")
    with caplog.at_level(logging.INFO):
        tuned = begin(tmp_path / "bare.pt", experiment(), mode="finetune")
    for key, value in before.generator_ema.state_dict().items():
        assert torch.equal(tuned.generator.state_dict()[key], value), key
    assert "taken for the generator" in caplog.text


def test_half_precision_is_read(trained, tmp_path):
    before, _, _ = trained
    path = reference(
        tmp_path / "h.pt",
        before,
        cast=lambda value: value.half() if value.is_floating_point() else value,
    )
    tuned = begin(path, experiment(), mode="finetune")
    for key, value in before.discriminator.state_dict().items():
        found = tuned.discriminator.state_dict()[key]
        torch.testing.assert_close(found, value.half().float())


def test_styleswins_checkpoint_with_its_optimisers(tmp_path):
    config = sized(16, block="windows")
    before = build_trainer(config, ALONE)
    advance(before, 2)
    networks = {
        name: to_styleswin(getattr(before, ours).state_dict())
        for name, ours in (("g", "generator"), ("g_ema", "generator_ema"))
    }
    networks["d"] = before.discriminator.state_dict()
    names = [name for name, _ in before.generator.named_parameters()]
    own = before.generator_optimizer.state_dict()["state"]
    moments = {}
    for moment in ("exp_avg", "exp_avg_sq"):
        theirs = to_styleswin({name: own[i][moment] for i, name in enumerate(names)})
        kept = [key for key in networks["g"] if key in theirs]
        kept = [key for key in kept if not key.endswith(("_index", "attn_mask2"))]
        for number, key in enumerate(kept):
            moments.setdefault(number, {"step": torch.tensor(2.0)})[moment] = theirs[key]
    optimizers = {
        "g_optim": {"state": moments, "param_groups": []},
        "d_optim": before.discriminator_optimizer.state_dict(),
    }
    torch.save(networks | optimizers | {"args": None}, tmp_path / "swin.pt")
    same(begin(tmp_path / "swin.pt", config, mode="continue", step=2), before)


def test_from_one_size_to_the_next_the_shared_levels_are_taken_over(trained, caplog):
    before, state, checkpoint = trained
    for path in (state, checkpoint):
        caplog.clear()
        with caplog.at_level(logging.INFO):
            grown = begin(path, sized(32), mode="finetune", missing="initialise")
        fresh = build_trainer(sized(32), ALONE)
        for key, value in grown.generator.state_dict().items():
            shared = before.generator.state_dict().get(key)
            expected = fresh.generator.state_dict()[key] if shared is None else shared
            assert torch.equal(value, expected), key
        # The discriminator's first level is its finest, so its second is the first of before.
        for name in ("from_rgbs.{}.conv.0.weight_orig", "convs.{}.conv1.0.weight_orig"):
            new, old = grown.discriminator.state_dict(), before.discriminator.state_dict()
            assert torch.equal(new[name.format(1)], old[name.format(0)])
        assert "are new: " in caplog.text and "layers.3.blocks.0.norm1.style.weight" in caplog.text


# ------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize("kind", ["state", "reference"])
@pytest.mark.parametrize("other", [{"size": 32}, {"size": 16, "width": 16}])
def test_another_size_or_width_is_refused_by_its_first_tensor(trained, kind, other):
    path = trained[1] if kind == "state" else trained[2]
    with pytest.raises(UserError, match=r"(style|input|layers|to_rgbs)\.[\w.]+"):
        begin(path, sized(**other), mode="finetune")


def test_the_step_of_the_file_is_checked(trained):
    with pytest.raises(UserError, match=r"is at step 3, training.start_from.step is 5"):
        begin(trained[1], experiment(), mode="continue", step=5)


def test_a_file_that_is_missing_or_something_else(tmp_path):
    with pytest.raises(UserError, match="does not exist; check training.start_from"):
        begin(tmp_path / "none.pt", experiment(), mode="finetune")
    (tmp_path / "text.pt").write_text("<html>")
    with pytest.raises(UserError, match=r"text\.pt"):
        begin(tmp_path / "text.pt", experiment(), mode="finetune")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ({"mode": "finetune"}, r"start_from: give one of file, url and experiment"),
        ({"mode": "finetune", "file": "a", "url": "b"}, r"start_from: give one of"),
        (
            {"mode": "copy", "file": "a"},
            r"start_from.mode: 'copy' is not one of continue, finetune",
        ),
        ({"mode": "continue", "file": "a"}, r"start_from: needs step"),
        ({"mode": "finetune", "experiment": "faces32"}, r"start_from: needs step"),
        ({"mode": "finetune", "experiment": "face", "step": 0}, r"unknown experiment 'face'"),
        ({"mode": "finetune", "experiment": "faces32", "step": 7}, r"no state of step 7"),
        ({"mode": "finetune", "experiment": "tuned", "step": 0}, r"itself starts from this one"),
        (
            {"mode": "continue", "file": "a", "step": 500, "missing": "initialise"},
            r"start_from.missing: a run that is continued needs the whole network",
        ),
        ({"mode": "continue", "file": "a", "step": 700}, r"run.iterations: .* beyond the 700"),
    ],
)
def test_a_start_that_cannot_be(keys, message):
    config = copy.deepcopy(CONFIG)
    config["experiments"]["tuned"] = {"base": "faces32", "training": {"start_from": keys}}
    with pytest.raises(ConfigError, match=r"^experiments\.tuned\..*" + message):
        resolve(config)


# ------------------------------------------------------------------------- in the workflow


def test_steps_of_a_continued_experiment():
    config = copy.deepcopy(CONFIG)
    where = {"mode": "continue", "experiment": "faces32", "step": 1000}
    config["experiments"]["longer"] = {"base": "faces32", "training": {"start_from": where}}
    config["experiments"]["longer"]["run"] = {"iterations": 2000}
    found = resolve(config)[0]["longer"]
    assert found.snapshots == (1000, 1500, 2000)


def test_what_is_started_from_is_an_input_of_the_workflow(tmp_path):
    """A dry run: the base is trained first; a continued run has no step 0."""
    where = {"experiment": "faces32", "step": 500}
    experiments = {
        "longer": {
            "base": "faces32",
            "training": {"start_from": {"mode": "continue"} | where},
        },
        "tuned": {"base": "faces32", "training": {"start_from": {"mode": "finetune"} | where}},
        "fetched": {
            "base": "faces32",
            "training": {"start_from": {"mode": "finetune", "url": "http://localhost/x.pt"}},
        },
    }
    (tmp_path / "more.yaml").write_text(json.dumps({"experiments": experiments}))
    targets = [f"results/{name}/train/1000.state" for name in experiments]
    done = run("snakemake", "-n", "--configfile", tmp_path / "more.yaml", "--", *targets)
    assert done.returncode == 0, done.stderr
    plan = done.stdout
    assert "results/faces32/train/500.state" in plan and "results/faces32/train/1000" not in plan
    assert "results/tuned/train/0.state" in plan and "results/longer/train/0.state" not in plan
    assert "results/weights/fetched.pth" in plan


def test_the_example_for_own_images_can_be_planned():
    example = ROOT / "config/own-images.yaml"
    done = run("snakemake", "-n", "--configfile", example, "--", "results/mine256_fid.csv")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "results/weights/mine256.pth" in done.stdout
    assert "results/data/mine256.test.lmdb" in done.stdout


def test_the_step_starts_a_run_that_training_goes_on_from(trained, tmp_path):
    """`initialise` and `train`, as the workflow calls them: 3 + 2 iterations are 5."""
    whole, split = make_run(tmp_path / "whole"), tmp_path / "split"
    process = whole.start("-m", *whole.arguments(0, 3))
    assert process.wait() == 0, process.stderr.read()
    process = whole.start("-m", *whole.arguments(3, 5))
    assert process.wait() == 0, process.stderr.read()
    shutil.copytree(whole.folder, split)
    shutil.rmtree(split / "train")
    config = json.loads((split / "experiment.json").read_text())
    config["training"]["start_from"] = {"mode": "continue", "file": "x", "step": 3}
    (split / "experiment.json").write_text(json.dumps(config))
    second = type(whole)(split)
    second.file("").mkdir()
    process = second.start(
        *("-m", "stylenat.steps.initialise", "--experiment", str(split / "experiment.json")),
        *("--start", str(whole.file("3.state")), "--state", str(second.file("3.state"))),
        *("--weights", str(split / "3.safetensors")),
    )
    assert process.wait() == 0, process.stderr.read()
    process = second.start("-m", *second.arguments(3, 5))
    assert process.wait() == 0, process.stderr.read()
    expected, found = (load_state(one.file("5.state")).tensors for one in (whole, second))
    assert all(torch.equal(found[key], value) for key, value in expected.items())
