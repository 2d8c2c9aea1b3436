"""What a machine with a GPU may lack: said once, in a sentence, and done without."""

import os
from pathlib import Path

import pytest
import torch

from stylenat import runtime
from stylenat.models import attention
from stylenat.models.attention import requirements


@pytest.fixture
def gpu(monkeypatch):
    """A machine with a GPU of this name and everything that Triton needs."""
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda *device: (9, 0))
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda *device: "NVIDIA T4")
    monkeypatch.setattr(requirements, "find_spec", lambda name: name)
    monkeypatch.setattr(requirements.shutil, "which", lambda name: name if name == "gcc" else None)
    monkeypatch.setattr(Path, "exists", lambda path: True)
    forget()
    yield monkeypatch
    forget()


def forget():
    requirements.triton_fault.cache_clear()
    attention._available_backends.cache_clear()


def test_a_complete_machine_uses_triton(gpu):
    assert attention.default_backend("cuda") == "triton"
    assert "no Triton" not in attention.describe("cuda")


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            lambda m: m.setattr(torch.cuda, "get_device_capability", lambda *device: (7, 5)),
            "NVIDIA T4 is older than compute capability 8.0",
        ),
        (
            lambda m: m.setattr(requirements.shutil, "which", lambda name: None),
            "there is no C compiler (install gcc",
        ),
        (lambda m: m.setenv("CC", "/no/such/compiler"), "there is no C compiler (install gcc"),
        (lambda m: m.setattr(Path, "exists", lambda path: False), "has no Python.h (install"),
        (
            lambda m: m.setattr(requirements, "find_spec", lambda name: None),
            "triton is not installed",
        ),
    ],
    ids=["old GPU", "no compiler", "wrong CC", "no headers", "no Triton"],
)
def test_what_is_missing_is_said_and_done_without(gpu, change, sentence):
    change(gpu)
    assert attention.default_backend("cuda") == "tiles"
    assert f"no Triton kernels, because {sentence}" in attention.describe("cuda").replace(
        str(requirements.sysconfig.get_path("include")) + " ", ""
    )


def test_kernels_are_kept_on_the_node_in_a_folder_of_ones_own(monkeypatch, tmp_path):
    folder = tmp_path / f"stylenat-kernels-{os.getuid()}"
    monkeypatch.setattr(runtime.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setenv("TRITON_CACHE_DIR", "chosen")
    runtime.keep_kernels_on_this_node()
    assert os.environ["TRITON_CACHE_DIR"] == "chosen"
    monkeypatch.delenv("TRITON_CACHE_DIR")
    runtime.keep_kernels_on_this_node()
    assert os.environ["TRITON_CACHE_DIR"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700

    monkeypatch.delenv("TRITON_CACHE_DIR")
    folder.chmod(0o777)  # as another user might have made it
    runtime.keep_kernels_on_this_node()
    folder.rmdir()
    folder.symlink_to(tmp_path)
    runtime.keep_kernels_on_this_node()
    assert "TRITON_CACHE_DIR" not in os.environ
