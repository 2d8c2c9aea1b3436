"""What happens where Triton's kernels are wrong: they are left out, with a warning, and the job goes on.

Without a GPU they run in Triton's interpreter, on a CPU that counts as a GPU here.
"""

import random
import re
from pathlib import Path

import numpy as np
import pytest
import torch

from stylenat.config import ModelConfig
from stylenat.io import read_json
from stylenat.models import Generator, attention, instance_norm, save_generator, self_check
from stylenat.models.attention.requirements import ADAIN, ATTENTION, faults
from stylenat.models.projection import project
from stylenat.models.self_check import AttentionCase, NormCase, check_kernels
from stylenat.records import Provenance
from stylenat.steps import sample, throughput, train
from tests.tiny import experiment
from tests.training_run import Run, make_run
from tests.weights import fill

pytest.importorskip("triton", reason="Triton is not installed")
from stylenat.models import instance_norm_ops
from stylenat.models.attention import triton_ops

DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
MODEL = experiment().model


def forget() -> None:
    faults.clear()
    self_check._check.cache_clear()


@pytest.fixture
def gpu(monkeypatch):
    """Where our kernels serve by default, until found wrong; cases are smaller than a job's."""
    for module in (attention, instance_norm, self_check):
        monkeypatch.setattr(module, "kernels_serve", lambda family, device: family not in faults)
    monkeypatch.setattr(self_check, "SIDE", 8)
    monkeypatch.setattr(self_check, "KERNEL_SIZE", 3)
    forget()
    yield monkeypatch
    forget()


def doubled(y):
    return [2 * part for part in y] if isinstance(y, tuple) else 2 * y


def not_a_number(y):
    return [part * torch.nan for part in y] if isinstance(y, tuple) else y * torch.nan


def refused(y):
    raise RuntimeError("ptxas failed\nwith details")


def spoil(monkeypatch, module, name: str, fault) -> None:
    whole = getattr(module, name)
    monkeypatch.setattr(module, name, lambda *arguments: fault(whole(*arguments)))


# What the operators of the kernels are for, and the first outcome that is wrong if they are.
OPERATORS = {
    "attend_groups": (ATTENTION, triton_ops, "output"),
    "_gradients": (ATTENTION, triton_ops, "gradient of q, k and v"),
    "_bias_gradient": (ATTENTION, triton_ops, "gradient of a bias table"),
    "normalise": (ADAIN, instance_norm_ops, "output"),
    "sums": (ADAIN, instance_norm_ops, "gradient of the map"),
    "gradients": (ADAIN, instance_norm_ops, "gradient of the map"),
}


@pytest.mark.parametrize(
    ("side", "kernel_size", "biased"), [(16, 7, True), (8, 3, False)], ids=["as it is", "no bias"]
)
def test_sound_kernels_are_taken_without_a_word(gpu, caplog, side, kernel_size, biased):
    gpu.setattr(self_check, "SIDE", side)
    gpu.setattr(self_check, "KERNEL_SIZE", kernel_size)
    calls = []
    for name, (_, module, _) in OPERATORS.items():
        spoil(gpu, module, name, lambda y, name=name: calls.append(name) or y)
    values = vars(MODEL) | {"relative_position_bias": biased}
    config = ModelConfig(**values)
    check_kernels(config, DEVICE, "float32", gradients=False)
    assert sorted(calls) == ["attend_groups", "normalise"]
    calls.clear()
    check_kernels(config, DEVICE, "float32", gradients=True)
    assert set(calls) == OPERATORS.keys() - (set() if biased else {"_bias_gradient"})
    assert not faults and not caplog.records
    assert attention.default_backend(DEVICE) == "triton"


@pytest.mark.parametrize(
    ("name", "fault"),
    [(name, doubled) for name in OPERATORS]
    + [(name, fault) for name in ("attend_groups", "sums") for fault in (not_a_number, refused)],
)
def test_wrong_kernels_are_left_out_with_a_warning(gpu, caplog, name, fault):
    family, module, outcome = OPERATORS[name]
    spoil(gpu, module, name, fault)
    for _ in range(2):
        check_kernels(MODEL, DEVICE, "float32", gradients=True)
    (record,) = caplog.records
    assert record.levelname == "WARNING"
    assert f"Triton's kernels of {family} are not used on {DEVICE}" in record.message
    if fault is refused:
        assert "they failed with RuntimeError: ptxas failed; " in record.message
    else:
        said = re.search(
            r"their (.*) differed from that in float64 by (.*) of its l", record.message
        )
        assert said[1] == outcome and (
            said[2] == "nan" if fault is not_a_number else said[2] > "0.1"
        )
        assert "where 0.0001 is allowed" in record.message
    assert "plain PyTorch operators take their place" in record.message
    assert faults.keys() == {family}
    assert attention.default_backend(DEVICE) == ("tiles" if family == ATTENTION else "triton")
    x = torch.ones(1, device=DEVICE)
    assert (instance_norm.kernels(x) is None) == (family == ADAIN)
    said = f"no Triton kernels, because {faults[family]}" in attention.describe("cuda")
    assert said == (family == ATTENTION)


def test_what_was_compared_is_not_compared_again(gpu):
    cases = []
    gpu.setattr(self_check, "_fault", lambda case, *_: cases.append(case))
    for _ in range(2):
        for precision in ("float32", "tf32"):
            check_kernels(MODEL, DEVICE, precision, gradients=False)
    heads = {"heads": 2, "head_dim": 4, "biased": True}
    attentions = [AttentionCase(**heads, precision=p) for p in ("float32", "tf32")]
    assert cases == [attentions[0], NormCase(8), attentions[1]]


def test_there_is_a_case_for_every_width_of_heads_with_the_heads_of_a_level():
    width = {"image_size": 128, "channel_max": 64, "channel_base": 1024, "channel_multiplier": 1}
    levels = {"block": "hydra", "kernels": [[7]] * 6, "dilations": [[1]] * 6}
    config = ModelConfig(**vars(MODEL) | width | levels)
    shapes = [(config.heads(side), config.width(side)) for side in config.resolutions[1:]]
    assert shapes == [(2, 64), (2, 64), (2, 32), (2, 16), (2, 8)]
    *attentions, norm = self_check._cases(config, "bf16")
    assert attentions == [AttentionCase(2, head_dim, True, "bf16") for head_dim in (32, 16, 8, 4)]
    assert norm == NormCase(64)


def test_models_without_neighbourhoods_have_a_norm_only():
    values = vars(MODEL) | {"block": "full", "kernels": [[3]] * 3, "dilations": [[1]] * 3}
    assert self_check._cases(ModelConfig(**values), "float32") == [NormCase(8)]


def test_nothing_is_checked_where_plain_pytorch_computes(monkeypatch):
    monkeypatch.setattr(self_check, "_fault", lambda *_: pytest.fail("checked"))
    check_kernels(MODEL, "cpu", "float32", gradients=True)


def test_random_numbers_and_modes_stay_as_they_were(gpu):
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(5)
    states = torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate()
    with torch.inference_mode():
        check_kernels(MODEL, DEVICE, "float32", gradients=True)
        assert torch.is_inference_mode_enabled() and not torch.is_grad_enabled()
    assert not faults
    assert torch.equal(states[0], torch.get_rng_state())
    assert np.array_equal(states[1], np.random.get_state()[1])
    assert states[2] == random.getstate()


# ------------------------------------------------------------------------------ jobs go on


def break_both(monkeypatch) -> None:
    spoil(monkeypatch, triton_ops, "attend_groups", doubled)
    spoil(monkeypatch, instance_norm_ops, "normalise", not_a_number)


def trained(run: Run) -> tuple[bytes, bytes]:
    """The state and the weights after five iterations."""
    state, weights = run.file("5.state"), run.folder / "5.safetensors"
    train.run(
        experiment=run.folder / "experiment.json",
        data=run.folder / "dots.lmdb",
        resume=run.file("0.state"),
        until=5,
        state=state,
        weights=weights,
        records=run.file("5.jsonl"),
        device="cpu",
        workers=0,
    )
    return state.read_bytes(), weights.read_bytes()


@pytest.mark.skipif(DEVICE.type == "cuda", reason="a GPU's training is not repeatable bit for bit")
def test_training_goes_on_as_it_would_without_the_kernels(gpu, tmp_path, caplog):
    runs = [make_run(tmp_path / name) for name in ("broken", "plain")]
    break_both(gpu)
    found = trained(runs[0])
    warned = [r.message for r in caplog.records if "Triton's kernels of" in r.message]
    assert [ATTENTION in message for message in warned] == [True, False]
    gpu.undo()
    assert found == trained(runs[1])


def make_weights(folder: Path) -> Path:
    generator = Generator(MODEL)
    generator.load_state_dict(fill(generator.state_dict()))
    save_generator(folder / "g.safetensors", generator, Provenance(step=0, images_seen=0))
    return folder / "g.safetensors"


def test_sampling_goes_on_as_it_would_without_the_kernels(gpu, tmp_path, caplog):
    weights = make_weights(tmp_path)

    def sampled(name: str) -> list[bytes]:
        sample.run(weights=weights, seeds="0-2", output=tmp_path / name, device=str(DEVICE))
        return [path.read_bytes() for path in sorted((tmp_path / name).iterdir())]

    break_both(gpu)
    found = sampled("broken")
    assert caplog.text.count("Triton's kernels of") == 2
    gpu.undo()
    assert found == sampled("plain")


def test_throughput_says_what_it_measured(gpu, tmp_path):
    break_both(gpu)
    output = tmp_path / "throughput.json"
    weights = [make_weights(tmp_path)]
    throughput.run(weights=weights, output=output, batch_sizes=[1], seconds=0.1, device=str(DEVICE))
    assert {record["backend"] for record in read_json(output)} == {"tiles"}


def test_projecting_has_gradients_compared(gpu):
    asked = []
    gpu.setattr(
        "stylenat.models.projection.check_kernels",
        lambda *arguments, gradients: asked.append(gradients),
    )
    generator = Generator(MODEL).to(DEVICE).requires_grad_(False)
    w = torch.zeros(MODEL.style_dim, device=DEVICE)
    project(generator, lambda image: image.sum(), w, noise=0, steps=0, seed=0)
    assert asked == [True]
