"""What networks compute in: one decision for products, convolutions, kernels and autocast."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from stylenat.errors import ConfigError, UserError
from stylenat.models.cpu import PixelLinear
from stylenat.models.layers import EqualLinear
from stylenat.precision import products, resolve
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import provenance
from stylenat.training.losses import r1_penalty
from stylenat.training.trainer import Trainer
from tests.tiny import experiment
from tests.training_run import ALONE, CPU, advance, everything, reals

CUDA = torch.device("cuda")
# Those of the mapping network add their bias, in float32, themselves.
LAYERS = (nn.Linear, PixelLinear, nn.Conv2d, EqualLinear)


@pytest.mark.parametrize(
    ("capability", "expected"), [((9, 0), "tf32"), ((8, 0), "tf32"), ((7, 5), "float32")]
)
def test_the_default_is_what_the_device_has(monkeypatch, capability, expected):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert resolve("auto", CUDA) == expected
    assert resolve("auto", CPU) == "float32"
    assert resolve("float32", CUDA) == "float32"


@pytest.mark.parametrize("wanted", ["tf32", "bf16"])
def test_what_a_device_has_not_is_refused(monkeypatch, wanted):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: (7, 5))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda device: "Tesla T4")
    with pytest.raises(UserError, match=f"{wanted} needs a GPU of .* 8.0 or more, and Tesla T4"):
        resolve(wanted, CUDA)


def test_tf32_on_a_cpu_is_refused():
    with pytest.raises(UserError, match="TF32 needs a GPU"):
        build_trainer(replace(experiment(), precision="tf32"), ALONE)
    with pytest.raises(ConfigError, match="precision: 'fp16' is not one of auto, float32, tf32"):
        type(experiment()).from_dict(experiment().to_dict() | {"precision": "fp16"})


@pytest.mark.parametrize(
    ("precision", "product", "kernel"),
    [("float32", "highest", "tf32x3"), ("tf32", "high", "tf32"), ("bf16", "high", "tf32")],
)
def test_one_decision_for_products_convolutions_and_kernels(precision, product, kernel):
    def state():
        cudnn = torch.backends.cudnn
        return torch.get_float32_matmul_precision(), cudnn.allow_tf32, cudnn.deterministic

    before = state()
    with products(precision, CUDA, deterministic=True):
        assert state() == (product, precision != "float32", True)
        ops = pytest.importorskip("stylenat.models.attention.triton_ops", exc_type=ImportError)
        assert ops._options(torch.zeros(1, 1, 4, 4, 32))["PRECISION"] == kernel
    assert state() == before


def trainer(precision: str) -> Trainer:
    return build_trainer(replace(experiment(weight_std=0.2), precision=precision), ALONE)


def test_bf16_computes_the_layers_of_both_networks_in_bfloat16(monkeypatch):
    """Of every pass but R1's; what comes out, gradients and state are float32."""
    run = trainer("bf16")
    found: dict[str, set[torch.dtype]] = {"layers": set(), "R1": set(), "networks": set()}
    where = ["layers"]
    for network in (run.generator, run.discriminator):
        network.register_forward_hook(lambda *a: found["networks"].add(a[2].dtype))
        for layer in network.modules():
            if type(layer) in LAYERS:
                layer.register_forward_hook(lambda *a: found[where[0]].add(a[2].dtype))

    def penalty(*arguments):
        where[0] = "R1"
        result = r1_penalty(*arguments)
        where[0] = "layers"
        return result

    monkeypatch.setattr("stylenat.training.trainer.r1_penalty", penalty)
    advance(run, 1)
    assert found == {
        "layers": {torch.bfloat16},
        "R1": {torch.float32},
        "networks": {torch.float32},
    }
    assert {value.dtype for value in everything(run).values()} <= {torch.float32, torch.int64}


def test_bf16_is_float32_but_for_its_rounding():
    """Another result, near by; the first penalty differs by one Adam step alone."""
    records, after = [], []
    for precision in ("float32", "bf16"):
        run = trainer(precision)
        size = (run.config.batch_size, run.generator.config.style_dim)
        z = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
        records.append(
            run.iteration(reals(0, len(z[0])), *z, lambda images, *_: 0.5 * images.flip(3))
        )
        after.append(everything(run))
    exact, rounded = records
    for key in ("loss_d", "loss_g", "d_real", "d_fake", "grad_norm_d", "r1", "grad_norm_g"):
        assert float(rounded[key]) == pytest.approx(float(exact[key]), rel=0.05, abs=0.01), key
        assert float(rounded[key]) != float(exact[key]), key


def test_spectral_norms_keep_their_precision_under_autocast():
    networks = [trainer("float32").discriminator for _ in range(2)]
    images = reals(0, 4)
    networks[0](images)
    with torch.autocast("cpu", torch.bfloat16):
        networks[1](images)
    for (name, exact), found in zip(
        networks[0].named_buffers(), networks[1].buffers(), strict=True
    ):
        assert torch.equal(found, exact), name


def test_the_default_on_a_cpu_is_float32_bit_for_bit():
    states = []
    for precision in ("auto", "float32"):
        run = trainer(precision)
        advance(run, 3)
        assert run.precision == "float32"
        assert provenance(run, experiment(), None).precision == "float32"
        states.append(everything(run))
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
