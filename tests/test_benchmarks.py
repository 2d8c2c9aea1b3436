"""The benchmarks run and say what they measured; how fast anything is, no test asks."""

import json

import numpy as np
import pytest
import torch

from benchmarks import iteration
from benchmarks.formulations import dense, gather
from benchmarks.sensitivity import CHANGES
from stylenat.models.attention import neighborhood_attention
from tests.project import run

ARGUMENTS = {
    "attention": ("--largest", "16", "--product", "64", "--seconds", "0"),
    "cpu": ("--cases", "faces32:2", "--threads", "1", "--seconds", "0"),
    "generator": ("--image-size", "8", "--batch-sizes", "2", "--seconds", "0"),
    "iteration": ("--cases", "faces32:4", "--seconds", "0"),
    "onnx": ("--image-size", "8", "--batch-sizes", "2"),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_a_benchmark_leaves_a_record_and_a_table(name, tmp_path):
    if name == "onnx":
        pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    done = run(
        *("python", "-m", f"benchmarks.{name}", *ARGUMENTS[name]),
        *("--device", "cpu", "--output", str(tmp_path)),
    )
    assert done.returncode == 0, done.stderr
    record = json.loads((tmp_path / f"{name}.json").read_text())
    assert {"device", "threads", "load_before", "versions", "commit"} <= record.keys()
    for row in record["rows"]:
        timings = row["times"].values() if "times" in row else [row]
        for timing in timings:
            assert 0 < timing["ms_q25"] <= timing["ms"] <= timing["ms_q75"]
            assert timing["rounds"] >= 3
    lines = (tmp_path / f"{name}.md").read_text().splitlines()
    assert sum(line.startswith("| ") for line in lines) > len(record["rows"]) / 4


def test_a_case_that_does_not_fit_is_left_out(monkeypatch, tmp_path, caplog):
    def iterations(config, device):
        batch = config.training.batch_size

        def run():
            if batch == 8:
                raise torch.OutOfMemoryError("CUDA out of memory")

        if batch == 16:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return {"plain": lambda: None, "with R1": run}

    monkeypatch.setattr(iteration, "iterations", iterations)
    monkeypatch.setattr(iteration, "peak_memory", lambda *arguments: 1.0)
    cases = [f"faces32:{batch}" for batch in (4, 8, 16, 12)]
    iteration.run(cases=cases, device="cpu", seconds=0, output=tmp_path)
    record = json.loads((tmp_path / "iteration.json").read_text())
    assert [row["batch_size"] for row in record["rows"]] == [4, 12]
    assert {row["precision"] for row in record["rows"]} == {"float32"}
    assert "faces32:16 left out: CUDA out of memory" in caplog.messages


def test_every_formulation_gives_the_same_output_and_gradients():
    torch.manual_seed(0)
    inputs = [torch.randn(2, 3, 9, 11, 4, dtype=torch.float64) for _ in range(3)]
    inputs.append(torch.randn(3, 5, 5, dtype=torch.float64))
    inputs = [x.requires_grad_() for x in inputs]
    grad = torch.randn(inputs[0].shape, dtype=torch.float64)

    def outcome(attend):
        out = attend(*inputs, 3, 2)
        return out, *torch.autograd.grad(out, inputs, grad)

    expected = outcome(neighborhood_attention)
    for attend in (gather, dense):
        torch.testing.assert_close(outcome(attend), expected)


def test_changes_of_held_out_images_are_what_they_are_called():
    images = np.random.default_rng(1).integers(0, 256, (64, 32, 32, 3)).astype(np.float32)
    assert np.array_equal(CHANGES["mirrored"](images)[:, :, 0], images[:, :, -1])
    added = CHANGES["noise, σ 2 grey levels"](images) - images
    assert added.std() == pytest.approx(2, rel=0.02) and abs(added.mean()) < 0.05
    blurred = CHANGES["blur, σ 1 pixel"](images)
    # Along both axes of the image and not across images or channels: Σ of the squared weights.
    kept = np.exp(-(np.arange(-4, 5) ** 2) / 2)
    kept = ((kept / kept.sum()) ** 2).sum() ** 2
    assert blurred[:, 6:-6, 6:-6].var() == pytest.approx(kept * images.var(), rel=0.1)
