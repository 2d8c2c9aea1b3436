"""config.yaml: what it resolves to, and the sentence every kind of mistake gives."""

import copy
import json
import math
import subprocess
import sys

import pytest

from stylenat.config import ExperimentConfig
from stylenat.configuration import SCHEMA, json_schema
from stylenat.errors import ConfigError
from stylenat.experiments import refuse_duplicate_keys, resolve
from tests.project import CONFIG, ROOT


def changed(key: str, value: object) -> dict:
    """The shipped configuration with one dotted key set; parents are made where missing."""
    config = copy.deepcopy(CONFIG)
    *parents, last = key.split(".")
    target = config
    for parent in parents:
        target = target.setdefault(parent, {})
    target[last] = value
    return config


def complaint(key: str, value: object) -> str:
    with pytest.raises(ConfigError) as caught:
        resolve(changed(key, value))
    return str(caught.value)


def test_the_shipped_experiments_resolve():
    experiments = resolve(CONFIG)[0]
    assert set(CONFIG["run"]) <= experiments.keys()

    ffhq = experiments["ffhq256"]
    assert ffhq.device == "gpu"
    assert len(ffhq.snapshots) == 41 and ffhq.snapshots[:2] == (0, 25000)
    assert ffhq.config.training.batch_size == 64
    assert ffhq.config.model.dilations[-1] == (1, 32), "the lists are cut at the image size"
    assert ffhq.config.discriminator.image_size == 256

    official = experiments["ffhq256-official"]
    assert official.snapshots == (940000,)
    assert official.config.model == ffhq.config.model


def test_an_experiment_keeps_the_defaults_it_does_not_name():
    experiment = resolve(changed("experiments.ffhq256.training.beta2", 0.9))[0]["ffhq256"]
    assert experiment.config.training.beta2 == 0.9
    assert experiment.config.training.generator_lr == 5e-5


def based(**experiments: dict) -> dict:
    config = copy.deepcopy(CONFIG)
    config["experiments"] |= experiments
    return config


def test_an_experiment_takes_from_its_base_what_it_does_not_name():
    config = based(
        first={"dataset": "ffhq256", "training": {"beta2": 0.9, "batch_size": 32}},
        second={"base": "first", "training": {"beta2": 0.8}},
        third={"base": "second", "run": {"iterations": 50000}},
    )
    third = resolve(config)[0]["third"]
    assert third.config.name == "third" and third.iterations == 50000
    training = third.config.training
    assert (training.beta2, training.batch_size, training.generator_lr) == (0.8, 32, 5e-5)


def test_a_mistake_is_named_where_it_was_made():
    config = based(first={"dataset": "ffhq256", "training": {"beta2": 2}}, a={"base": "first"})
    config["experiments"] = {"a": config["experiments"]["a"]} | config["experiments"]
    with pytest.raises(ConfigError, match=r"^experiments\.first\.training\.beta2: "):
        resolve(config)


@pytest.mark.parametrize(
    ("bases", "message"),
    [
        ({"a": "nothing"}, "experiments.a.base: unknown experiment 'nothing'; there are a, "),
        ({"a": ["b"]}, "experiments.a.base: ['b'] is not the name of an experiment"),
        ({"a": "a"}, "experiments.a.base: 'a' is itself based on this experiment"),
        ({"a": "b", "b": "a"}, "experiments.b.base: 'a' is itself based on this experiment"),
    ],
)
def test_a_base_that_cannot_be_is_refused_by_name(bases, message):
    config = based(**{name: {"dataset": "ffhq256", "base": base} for name, base in bases.items()})
    with pytest.raises(ConfigError) as caught:
        resolve(config)
    assert str(caught.value).startswith(message)


def test_evaluation_and_length_are_not_part_of_what_decides_the_weights():
    before = resolve(CONFIG)[0]["ffhq256"].config
    for key, value in (
        ("run.iterations", 2_000_000),
        ("evaluation.protocols", ["fid50k"]),
        ("evaluation.grid", 4),
        ("device", "any"),
    ):
        after = resolve(changed(f"experiments.ffhq256.{key}", value))[0]["ffhq256"].config
        assert after == before, key


def test_a_resolved_experiment_survives_its_record():
    for experiment in resolve(CONFIG)[0].values():
        config = experiment.config
        assert ExperimentConfig.from_dict(config.to_dict()) == config


FFHQ = "experiments.ffhq256"
FACES = CONFIG["datasets"]["faces32"]["sources"][0]


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        (
            f"{FFHQ}.training.learning_rate",
            1e-4,
            f"{FFHQ}.training.learning_rate: unknown key (did you mean discriminator_lr or gen",
        ),
        ("defaults.model.dilation", [[1]], "defaults.model.dilation: unknown key"),
        ("experiment", {}, "experiment: unknown key (did you mean experiments?)"),
        ("run", ["ffhq512"], "run[0]: unknown experiment 'ffhq512'; there are ffhq1024, ffhq256,"),
        (f"{FFHQ}.dataset", "ffhq", f"{FFHQ}.dataset: unknown data set 'ffhq'"),
        (
            f"{FFHQ}.evaluation.protocols",
            ["fid50k", "fid10k"],
            f"{FFHQ}.evaluation.protocols[1]: unknown protocol 'fid10k'",
        ),
        (
            f"{FFHQ}.model.dilations",
            [[1], [1], [1, 2], [1, 4], [1, 32], [1], [1]],
            f"{FFHQ}.model.dilations[4]: kernel 7 x dilation 32 is wider than the side 64",
        ),
        (
            f"{FFHQ}.model.min_heads",
            5,
            f"{FFHQ}.model.min_heads: 128 channels at 256² do not divide into 5 heads",
        ),
        (f"{FFHQ}.model.image_size", 512, f"{FFHQ}.model.image_size: 512 does not fit"),
        (
            f"{FFHQ}.run.iterations",
            30_000,
            f"{FFHQ}.run.iterations: 30000 is not a multiple of run.segment, 25000",
        ),
        (f"{FFHQ}.device", "cpu", f"{FFHQ}.device: 'cpu' is not one of any, gpu"),
        (f"{FFHQ}.training.batch_size", 64.0, f"{FFHQ}.training.batch_size: 64.0 is not of type"),
        (f"{FFHQ}.training.beta2", 1, f"{FFHQ}.training.beta2: 1 is not less than 1"),
        (
            f"{FFHQ}.training.generator_lr",
            "1e-4",
            f"{FFHQ}.training.generator_lr: 1e-4 is text to YAML",
        ),
        (
            f"{FFHQ}.training.lr_decay_end",
            None,
            f"{FFHQ}.training.lr_decay_end: needs lr_decay_start",
        ),
        (
            "defaults.model.relative_position_bias",
            "no",
            "defaults.model.relative_position_bias: 'no' is not of type boolean",
        ),
        ("defaults.training.seed", -1, "defaults.training.seed: -1 is less than 0"),
        ("defaults.training", {}, "defaults.training.seed: is missing"),
        ("experiments.data", {"dataset": "ffhq256"}, "experiments.data: results/data is needed"),
        ("datasets.ffhq256.sources", [{"kind": "zip"}], "datasets.ffhq256.sources[0].path: is"),
        (
            "datasets.faces32.sources",
            [FACES | {"first_seed": -1}],
            "datasets.faces32.sources[0].first_seed: -1 is less than 0",
        ),
        (
            "datasets.faces32.sources",
            [FACES | {"count": 0}],
            "datasets.faces32.sources[0].count: 0 is less than 1",
        ),
        (
            "datasets.faces32.sources",
            [FACES | {"backgrounds": ["b6e3f4", "red"]}],
            "datasets.faces32.sources[0].backgrounds[1]: 'red' does not match",
        ),
        (
            "datasets.faces32.sources",
            [{"kind": "avatars", "style": "personas"}],
            "datasets.faces32.sources[0].count: is missing",
        ),
        (
            "datasets.faces32.test",
            [{"kind": "galaxies"}, FACES | {"first_seed": 9_000}],
            "datasets.faces32.test[1].first_seed: seeds 9000 to 9999 of style toon-head are in",
        ),
        ("protocols.fid50k.extractor", "lite0", "protocols.fid50k.extractor: 'lite0' cannot be"),
        (
            "experiments.ffhq256-official.run",
            {"iterations": 25000},
            "experiments.ffhq256-official.run: has no effect",
        ),
        (
            "experiments.ffhq256-official.checkpoint.file",
            "mine.pt",
            "experiments.ffhq256-official.checkpoint: give either file or url",
        ),
        ("run", ["faces32", "faces32"], "run: 'faces32' is in the list twice"),
        (f"{FFHQ}.model.block", [["hydra"]], f"{FFHQ}.model.block: [['hydra']] is neither a word"),
        (f"{FFHQ}.model", 3, f"{FFHQ}.model: 3 is not of type object"),
        (f"{FFHQ}.model.kernels", 7, f"{FFHQ}.model.kernels: 7 is not of type array"),
        (f"{FFHQ}.run.iterations", 10**18, f"{FFHQ}.run.iterations: 1000000000000000000 is gre"),
        (f"{FFHQ}.run.segment", 1, f"{FFHQ}.run.segment: 1 makes more than 100,000 segments"),
        (f"{FFHQ}.training.batch_size", 10**12, f"{FFHQ}.training.batch_size: 1000000000000 is"),
        (f"{FFHQ}.evaluation.repeats", 10**9, f"{FFHQ}.evaluation.repeats: 1000000000 is greater"),
        (f"{FFHQ}.training.seed", 2**32, f"{FFHQ}.training.seed: 4294967296 is greater than"),
        ("comparison.seconds", math.inf, "comparison.seconds: inf is not a finite number"),
        (
            "datasets.church256.sources",
            [{"kind": "urls", "urls": ["a", {"url": 3}]}],
            "datasets.church256.sources[0].urls[1].url: 3 is not of type string",
        ),
        (
            "datasets.church256.sources",
            [{"kind": "urls", "urls": [{"url": "a", "sha": "b"}]}],
            "datasets.church256.sources[0].urls[0].sha: unknown key (did you mean sha256?)",
        ),
        (
            "datasets.church256.sources",
            [{"kind": "urls", "urls": [5]}],
            "datasets.church256.sources[0].urls[0]: 5 is not of type string",
        ),
        ("protocols.fid50k.reals", 1, "protocols.fid50k.reals: 1 is less than 2"),
        ("protocols.fid50k.metric", "kid", "protocols.fid50k.metric: 'kid' cannot be"),
        ("protocols.copies50k.reals", 5, "protocols.copies50k.reals: 5 cannot be; it has to be"),
        ("datasets.a b", {}, "datasets.a b: 'a b' does not match"),
    ],
)
def test_a_mistake_gives_one_sentence_that_names_its_key(key, value, message):
    sentence = complaint(key, value)
    assert sentence.startswith(message)
    assert "\n" not in sentence


NUMBERS = {
    "model": ("mapping_lr", "channel_multiplier", "mlp_ratio"),
    "training": (
        *("weight_std", "rgb_gain", "position_scale", "generator_lr", "discriminator_lr", "beta1"),
        *("beta2", "r1_gamma", "bcr_weight", "gradient_clip", "ema_half_life"),
    ),
}


@pytest.mark.parametrize("value", [math.inf, -math.inf, math.nan])
@pytest.mark.parametrize("key", [f"{part}.{key}" for part, keys in NUMBERS.items() for key in keys])
def test_numbers_are_finite(key, value):
    assert complaint(f"{FFHQ}.{key}", value) == f"{FFHQ}.{key}: {value} is not a finite number"


def test_a_key_that_is_there_twice_is_refused_with_its_line(tmp_path):
    path = tmp_path / "config.yaml"
    path.write_text("run: [a]\ndefaults: &d {device: any}\nmine: {<<: *d, <<: *d, x: 1}\n")
    refuse_duplicate_keys(path)
    path.write_text("run: [a]\nexperiments:\n  a:\n    device: any\n    device: gpu\n")
    with pytest.raises(ConfigError, match=r"config.yaml, line 5: device is there twice; keep one"):
        refuse_duplicate_keys(path)
    refuse_duplicate_keys(ROOT / "config/config.yaml")


def test_the_schema_for_editors_is_that_of_the_code():
    assert json.loads(SCHEMA.read_text()) == json_schema(), "run python -m stylenat.configuration"
    first = (ROOT / "config/config.yaml").read_text().split("\n")[0]
    assert (ROOT / "config" / first.partition("schema=")[2]).resolve() == SCHEMA


def test_the_schema_accepts_the_shipped_configuration_and_names_misspelt_keys():
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.validate(CONFIG, json_schema())
    with pytest.raises(jsonschema.ValidationError, match="learning_rate"):
        jsonschema.validate(changed(f"{FFHQ}.training.learning_rate", 1e-4), json_schema())


def test_held_out_seeds_may_touch_and_another_style_may_have_the_same():
    for change in ({"first_seed": 10_000}, {"style": "personas"}):
        resolve(changed("datasets.faces32.test", [FACES | change]))


def test_resolving_needs_neither_torch_nor_snakemake():
    code = "import sys, stylenat.experiments; print(*{'torch', 'snakemake'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""
