"""What convert refuses: tensors that do not fit, damaged files, pickles that want more."""

import os
import pickle
import zipfile
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from stylenat import interop
from stylenat.errors import ConfigError, UserError
from tests.checkpoints import published, run, save

# --------------------------------------------------------------------------------- faulty tensors


def faulty(tensors: dict, change: dict[str, Any]) -> interop.Checkpoint:
    """A checkpoint with some tensors replaced, or taken away (None)."""
    changed = {k: v for k, v in (tensors | change).items() if v is not None}
    return interop.Checkpoint(Path("c.pt"), {"g_ema": changed}, {}, {}, None)


INDEX = "layers.0.blocks.0.attn.relative_position_index"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"layers.1.blocks.0.attn.rpb1": None}, r"missing: layers\.1\.blocks\.0\.attn\.rpb1\."),
        ({"input.input": None}, r"missing: input\.input\."),
        ({"style.1.weight": None}, r"missing: style\.1\.weight\."),
        (
            {"layers.0.blocks.0.attn.proj.bias": None, "module.proj.bias": torch.zeros(64)},
            r"missing: layers\.0\.blocks\.0\.attn\.proj\.bias; extra: module\.proj\.bias\.",
        ),
        (
            {"layers.0.blocks.0.mlp.fc1.bias": torch.zeros(255)},
            r"shape: layers\.0\.blocks\.0\.mlp\.fc1\.bias \(float32 \[255\] instead of .*\[256\]\)",
        ),
        (
            {"layers.3.blocks.1.attn.rpb0": torch.zeros(1, 11, 11)},
            r"shape: layers\.3\.blocks\.1\.attn\.rpb0 \(float32 \[1, 11, 11\] instead",
        ),
        ({"style.2.bias": torch.zeros(512).half()}, r"style\.2\.bias \(float16 \[512\] instead"),
        ({"style.2.bias": torch.full((512,), torch.inf)}, r"not finite: style\.2\.bias\."),
        ({INDEX: torch.zeros(16, 16, dtype=torch.int64)}, r"another value: layers\.0\.blocks\.0"),
    ],
)
def test_a_tensor_that_does_not_fit_is_named(published_tensors, change, message):
    with pytest.raises(UserError, match=message):
        interop.generator_from(faulty(published_tensors, change))


def test_a_single_nan_is_found(published_tensors, tmp_path):
    table = published_tensors["layers.2.blocks.1.attn.rpb0"].clone()
    table[0, 5, 5] = torch.nan
    damaged = published_tensors | {"layers.2.blocks.1.attn.rpb0": table}
    checkpoint = save(tmp_path / "c.pt", published(damaged))
    with pytest.raises(UserError, match=r"not finite: layers\.2\.blocks\.1\.attn\.rpb0"):
        run(checkpoint, tmp_path / "g.safetensors")
    assert not (tmp_path / "g.safetensors").exists()


def test_long_lists_are_cut(published_tensors):
    with pytest.raises(UserError, match=r"missing: .* and \d+ more"):
        interop.generator_from(
            faulty(
                published_tensors, dict.fromkeys(k for k in published_tensors if "blocks.1" in k)
            )
        )


def test_memory_that_the_reference_never_wrote_may_hold_anything(published_tensors):
    key = "layers.0.upsample.sin_pos_embed._float_tensor"
    interop.generator_from(faulty(published_tensors, {key: torch.tensor([torch.nan])}))


def test_other_networks_are_refused():
    checkpoint = faulty({}, {"conv.weight": torch.zeros(3)})
    with pytest.raises(UserError, match="not a generator of StyleNAT"):
        interop.generator_from(checkpoint)


def test_groups_that_no_argument_explains_need_an_experiment(published_tensors):
    tables = {
        f"layers.1.blocks.{b}.attn.rpb.{i}": torch.zeros(1, 13, 13)
        for b in range(2)
        for i in range(4)
    }
    old = {k: None for k in published_tensors if ".attn.rpb0" in k or ".attn.rpb1" in k}
    rest = {k.replace("rpb0", "rpb.0").replace("rpb1", "rpb.1"): published_tensors[k] for k in old}
    with pytest.raises(UserError, match="--experiment"):
        interop.generator_from(faulty(published_tensors, old | rest | tables))


# ------------------------------------------------------------------------------- faulty files


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_truncated_file_is_refused(published_tensors, tmp_path, share):
    path = save(tmp_path / "c.pt", {"g_ema": published_tensors})
    os.truncate(path, int(path.stat().st_size * share))
    with pytest.raises(UserError, match="c.pt is truncated"):
        interop.read_checkpoint(path)


def test_what_torch_says_of_a_damaged_tensor_is_one_line(tmp_path):
    whole = save(tmp_path / "whole.pt", {"g_ema": {"a": torch.ones(3)}})
    path = tmp_path / "c.pt"
    with zipfile.ZipFile(whole) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            # The offset 0 that follows a tensor's storage becomes None.
            new.writestr(name, old.read(name).replace(b"QK\0", b"QN"))
    with pytest.raises(UserError, match="c.pt is truncated or not a PyTorch.*set_") as error:
        interop.read_checkpoint(path)
    assert "\n" not in str(error.value)


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(UserError, match="does not exist"):
        interop.read_checkpoint(tmp_path / "c.pt")


@pytest.mark.parametrize("content", [[1, 2], {"weights": {}}, {"g_ema": {"a": 1}}, {"g_ema": 3}])
def test_other_contents_are_refused(tmp_path, content):
    with pytest.raises(UserError, match="not a checkpoint of the reference"):
        interop.read_checkpoint(save(tmp_path / "c.pt", content))


class Runs:
    """Unpickled, it calls a function."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [2, 4])
@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize(("function", "name"), [(os.mkdir, "mkdir"), (exec, "exec")])
@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_code_is_not_run(tmp_path, function, name, archive, protocol):
    trace = tmp_path / "trace"
    argument = str(trace) if function is os.mkdir else f"open({str(trace)!r}, 'w')"
    content = {"g_ema": {}, "args": Runs(function, argument)}
    path = tmp_path / "evil.pt"
    if archive:
        torch.save(content, path, pickle_protocol=protocol)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(UserError, match=name if protocol == 2 else "evil.pt asks for") as error:
        run(path, tmp_path / "g.safetensors")
    assert "weights_only" not in str(error.value)  # no advice to load it regardless
    assert not trace.exists() and not (tmp_path / "g.safetensors").exists()


@pytest.mark.parametrize("value", [Path("a"), defaultdict(Path), np.zeros(3), ConfigError])
def test_what_a_checkpoint_does_not_need_is_refused_by_name(tmp_path, value):
    with pytest.raises(UserError, match=r"asks for `(pathlib|numpy|stylenat)\."):
        interop.read_checkpoint(save(tmp_path / "c.pt", {"g_ema": {}, "args": value}))
