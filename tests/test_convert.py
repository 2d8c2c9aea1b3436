"""Checkpoints of the reference: the same numbers, every tensor checked, nothing executed."""

import json
import sys
import types
from collections import OrderedDict, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stylenat import interop
from stylenat.config import ExperimentConfig, ModelConfig
from stylenat.errors import UserError
from stylenat.io import write_json
from stylenat.models import load_generator, read_header, save_generator
from stylenat.models.latents import computed_mean_style
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import load_state, provenance, save_state
from stylenat.training.distributed import World
from tests.checkpoints import published, run, save
from tests.project import CONFIG
from tests.tiny import experiment
from tests.weights import GOLDEN, LAYOUTS, golden_weights, normal

MODEL = CONFIG["defaults"]["model"]
TINY = MODEL | {
    "image_size": 32,
    "mapping_layers": 2,
    "channel_max": 64,
    "channel_base": 2048,
    "min_heads": 2,
}
# What a trainer of a network this wide learns in a moment
SMALL = TINY | {"image_size": 16, "style_dim": 16, "channel_max": 32, "channel_base": 512}


def official(model: dict[str, Any]) -> ExperimentConfig:
    rates = {"generator_lr": 5e-5, "discriminator_lr": 2e-4}
    return experiment("official", "faces", model=model, batch_size=2, r1_interval=2, **rates)


def write_experiment(path: Path, model: dict[str, Any]) -> Path:
    write_json(path, official(model).to_dict())
    return path


# ------------------------------------------------------------------------ the published layout


def test_the_published_layout_gives_the_references_images(published_tensors, tmp_path):
    checkpoint = save(tmp_path / "FFHQ.pt", published(published_tensors))
    path = run(checkpoint, tmp_path / "weights" / "g.safetensors")
    generator = load_generator(path)
    assert sum(p.numel() for p in generator.parameters()) == 1_990_475
    with np.load(GOLDEN / "tiny32_published.npz") as golden:
        w = generator.mapping(normal("z0", (4, 512)))
        for found, expected in ((w, golden["w"]), (generator.synthesis(w), golden["image"])):
            assert np.abs(found.numpy() - expected).max() <= 2e-5 * np.abs(expected).max()
    assert torch.equal(generator.mean_w, computed_mean_style(generator))
    config, origin = read_header(path)
    assert config.dilations == ((1,), (1,), (1, 2), (1, 4))
    assert (origin.checkpoint, origin.step) == ("FFHQ.pt", 940_000)
    assert origin.images_seen is None  # its batch size is not known


@pytest.mark.parametrize("layout", ["generator_published", "generator_current"])
@pytest.mark.parametrize("size", [256, 1024])
def test_the_published_models_are_recognised(size, layout):
    shapes = LAYOUTS[f"ffhq{size}"][layout]
    tensors = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    config = interop.infer_config(tensors, settings={})
    assert config == ModelConfig(**(MODEL | {"image_size": size}))


def test_an_experiment_decides_the_model_and_must_fit(published_tensors, tmp_path):
    checkpoint = save(tmp_path / "c.pt", published(published_tensors))
    own = TINY | {"dilations": [[1], [1], [2], [4]]}  # not in the weights: the experiment's word
    fitting = write_experiment(tmp_path / "fits.json", own)
    path = run(checkpoint, tmp_path / "g.safetensors", experiment=fitting, step=100)
    config, origin = read_header(path)
    assert config == ModelConfig(**own)
    assert (origin.step, origin.experiment_name) == (100, "official")

    other = write_experiment(tmp_path / "other.json", TINY | {"mapping_layers": 3})
    with pytest.raises(UserError, match=r"does not fit the experiment's model.*style\.3\.weight"):
        run(checkpoint, tmp_path / "other.safetensors", experiment=other)
    assert not (tmp_path / "other.safetensors").exists()


def test_the_network_is_a_choice(published_tensors, tmp_path):
    raw = OrderedDict(published_tensors) | {"input.input": published_tensors["input.input"] + 1}
    checkpoint = save(tmp_path / "c.pt", published(published_tensors, g=raw))
    g = load_generator(run(checkpoint, tmp_path / "g.safetensors", network="g"))
    average = load_generator(run(checkpoint, tmp_path / "a.safetensors"))
    assert torch.equal(g.input.input, average.input.input + 1)
    only = save(tmp_path / "only.pt", {"g_ema": published_tensors})
    with pytest.raises(UserError, match="no network g, only g_ema"):
        run(only, tmp_path / "x.safetensors", network="g")


# -------------------------------------------------------------------------- the current layout


@pytest.fixture
def omegaconf(monkeypatch):
    """Builds objects that pickle like OmegaConf's, while that is not installed."""
    classes = {}
    for module, name in (
        ("dictconfig", "DictConfig"),
        ("listconfig", "ListConfig"),
        ("nodes", "AnyNode"),
        ("base", "ContainerMetadata"),
        ("base", "Metadata"),
    ):
        full = f"omegaconf.{module}"
        stand_in = type(name, (), {"__module__": full})
        if full not in sys.modules:
            monkeypatch.setitem(sys.modules, full, types.ModuleType(full))
        monkeypatch.setattr(sys.modules[full], name, stand_in, raising=False)
        classes[name] = stand_in
    monkeypatch.setitem(sys.modules, "omegaconf", types.ModuleType("omegaconf"))

    def instance(name: str, **state: Any) -> Any:
        made = classes[name]()
        made.__dict__.update(state)
        return made

    def build(value: Any, parent: Any = None) -> Any:
        if not isinstance(value, dict | list):
            metadata = instance("Metadata", ref_type=Any, object_type=None, optional=True)
            return instance("AnyNode", _metadata=metadata, _parent=parent, _val=value)
        kind = type(value)
        metadata = instance(
            "ContainerMetadata",
            ref_type=Any,
            object_type=kind,
            element_type=Any,
            key_type=Any if kind is dict else int,
            flags={"struct": True},
            resolver_cache=defaultdict(dict, {"env": {"HOME": "/"}}),
        )
        name = "DictConfig" if kind is dict else "ListConfig"
        made = instance(name, _metadata=metadata, _parent=parent)
        if kind is dict:
            made._content = {key: build(entry, made) for key, entry in value.items()}
        else:
            made._content = [build(entry, made) for entry in value]
        return made

    return build


ARGUMENTS = {
    "type": "train",
    "runs": {
        "size": 32,
        "generator": {
            "n_mlp": 2,
            "lr_mlp": 0.02,
            "qk_scale": None,
            "dilations": [[1], [1], [2, 1], [1, 3], [1, 8]],
        },
    },
}


def current(arguments: Any) -> dict:
    tensors = golden_weights("tiny32", "g")
    return {
        "args": arguments,
        "state_dicts": {"g": tensors, "d": golden_weights("tiny32", "d"), "g_ema": tensors},
        "optim_dicts": {
            "g_optim": {"state": {0: {"step": torch.tensor(16.0)}}, "param_groups": []},
            "d_optim": {"state": {}, "param_groups": []},
        },
        "lr_dicts": {"G_lr": 5e-5, "D_lr": 2e-4},
        "eval_info": {"fid @ 0.1M imgs": np.float64(3.5)},
    }


@pytest.mark.parametrize("containers", ["plain", "omegaconf"])
def test_the_current_layout_brings_its_arguments(tmp_path, omegaconf, containers, monkeypatch):
    arguments = ARGUMENTS if containers == "plain" else omegaconf(ARGUMENTS)
    checkpoint = save(tmp_path / "c.pt", current(arguments))
    for name in [name for name in sys.modules if name.startswith("omegaconf")]:
        monkeypatch.delitem(sys.modules, name)
    config, origin = read_header(run(checkpoint, tmp_path / "g.safetensors"))
    assert config.dilations == ((1,), (1,), (2, 1), (1, 3))
    assert (config.mapping_lr, config.mapping_layers) == (0.02, 2)
    assert origin.step == 16


def test_the_current_layout_without_arguments_has_the_published_dilations(tmp_path):
    path = run(save(tmp_path / "c.pt", current(None)), tmp_path / "g.safetensors")
    generator = load_generator(path)
    with np.load(GOLDEN / "tiny32.npz") as golden:
        image = generator(normal("z0", (4, 512))).numpy()
        assert np.abs(image - golden["image"]).max() <= 2e-5 * np.abs(golden["image"]).max()


# -------------------------------------------------------------------------- and back again


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(trainer, state file, weights file) after two iterations."""
    directory = tmp_path_factory.mktemp("train")
    settings = official(SMALL)
    trainer = build_trainer(settings, World(0, 1, torch.device("cpu")))
    for step in range(2):
        z = normal(f"z{step}", (2, SMALL["style_dim"]))
        trainer.iteration(
            normal(f"real{step}", (2, 3, 16, 16)), z, -z, lambda images, *_: images / 2
        )
    save_state(directory / "2.state", trainer, settings, None)
    origin = provenance(trainer, settings, None)
    save_generator(directory / "2.safetensors", trainer.generator_ema, origin)
    return trainer, directory / "2.state", directory / "2.safetensors"


def test_a_training_state_comes_back_with_the_same_bytes(trained, tmp_path):
    trainer, state, _ = trained
    reference = run(state, tmp_path / "2.pt", to_reference=True)
    for network, expected in (("g", trainer.generator), ("g_ema", trainer.generator_ema)):
        path = run(reference, tmp_path / f"{network}.safetensors", network=network)
        config, origin = read_header(path)
        assert (config.dilations, origin.step) == (((1,), (1,), (1, 2)), 2)
        found = load_generator(path).state_dict()
        assert found.keys() == expected.state_dict().keys()
        for key, value in expected.state_dict().items():
            assert found[key].numpy().tobytes() == value.numpy().tobytes(), key
    everything = torch.load(reference, weights_only=True)  # nothing but plain containers
    state_tensors = load_state(state).tensors
    for name, prefix in (("g", "generator"), ("d", "discriminator"), ("g_ema", "average")):
        for key, value in everything["state_dicts"][name].items():
            assert torch.equal(value, state_tensors[f"{prefix}.{key}"])


def test_the_references_optimisers_load_their_states(trained, tmp_path):
    trainer, state, _ = trained
    content = torch.load(run(state, tmp_path / "2.pt", to_reference=True), weights_only=True)
    rates = {"g_optim": 5e-5, "d_optim": 2e-4 * 2 / 3}  # D's with its lazy correction
    betas = {"g_optim": (0.0, 0.99), "d_optim": (0.0, 0.99 ** (2 / 3))}
    for name, network, ours in (
        ("g_optim", trainer.generator, trainer.generator_optimizer),
        ("d_optim", trainer.discriminator, trainer.discriminator_optimizer),
    ):
        # The reference's parameters have the order of its keys.
        layout = content["state_dicts"][name[0]]
        names = {key for key, _ in network.named_parameters()}
        parameters = [network.get_parameter(key) for key in layout if key in names]
        copies = [torch.nn.Parameter(p.detach().clone()) for p in parameters]
        theirs = torch.optim.Adam(copies, lr=1.0)
        theirs.load_state_dict(content["optim_dicts"][name])
        assert theirs.param_groups[0]["lr"] == pytest.approx(rates[name])
        assert theirs.param_groups[0]["betas"] == pytest.approx(betas[name])
        for copy, parameter in zip(copies, parameters, strict=True):
            for moment in ("step", "exp_avg", "exp_avg_sq"):
                assert torch.equal(theirs.state[copy][moment], ours.state[parameter][moment])


def test_the_order_of_keys_is_the_references(trained, tmp_path):
    golden = json.loads((GOLDEN / "tiny32.layout.json").read_text())
    trainer = build_trainer(official(TINY), World(0, 1, torch.device("cpu")))
    save_state(tmp_path / "0.state", trainer, official(TINY), None)
    path = run(tmp_path / "0.state", tmp_path / "0.pt", to_reference=True)
    found = torch.load(path, weights_only=True)["state_dicts"]
    assert list(found["g"]) == list(golden["g"]) and list(found["d"]) == list(golden["d"])


def test_weights_alone_give_the_average_alone(trained, tmp_path):
    trainer, _, weights = trained
    reference = run(weights, tmp_path / "2.pt", to_reference=True)
    assert interop.read_checkpoint(reference).networks.keys() == {"g_ema"}
    found = load_generator(run(reference, tmp_path / "2.safetensors")).state_dict()
    for key, value in trainer.generator_ema.state_dict().items():
        assert torch.equal(found[key], value)
