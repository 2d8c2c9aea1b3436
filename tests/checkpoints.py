"""Checkpoints as the reference publishes them, and the step ``convert``."""

import argparse
from pathlib import Path
from typing import Any

import torch

from stylenat.steps import convert
from tests.weights import golden_weights


def published(tensors: dict, **entries: Any) -> dict:
    """The arrangement of the published files."""
    return {
        "g": tensors,
        "d": golden_weights("tiny32_published", "d"),
        "g_ema": tensors,
        "g_optim": {"state": {0: {"step": 940_000}, 1: {"step": 940_000}}, "param_groups": []},
        "d_optim": {"state": {}, "param_groups": []},
        "args": argparse.Namespace(size=32, batch=4, lr=2e-4, path=["a"], ckpt=None),
    } | entries


def save(path: Path, content: Any) -> Path:
    torch.save(content, path)
    return path


def run(checkpoint: Path, output: Path, **options: Any) -> Path:
    convert.run(checkpoint=checkpoint, output=output, **options)
    return output
