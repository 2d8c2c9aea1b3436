"""``faces256`` trained for the time that is left, from faces that are drawn here."""

import json
import math
import os
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu_check.check import Check
from benchmarks.gpu_check.parts.training import training
from benchmarks.iteration import experiment
from stylenat.config import ExperimentConfig
from stylenat.data.pack import PackSettings, pack
from stylenat.data.sources import open_source
from stylenat.errors import UserError
from stylenat.io import write_json
from stylenat.models import Generator
from stylenat.models.latents import generate
from stylenat.pictures import save_grid
from stylenat.training.build import build_trainer
from stylenat.training.checkpoint import load_state, save_state
from stylenat.training.distributed import World
from stylenat.training.interruption import EXIT_CODE

QUESTION = "Does faces256 train?"
ENDLESS = 1_000_000
RESERVED = 25.0  # seconds for the start, the last state and the grid
LINES = 20  # of the loss curve, in the table


def run(check: Check) -> None:
    name, batch, count = ("faces32", 4, 64) if check.dry else ("faces256", 8, 1000)
    config = experiment(name, batch)
    # Over minutes, the average of the whole run would be that of its beginning.
    config = replace(config, training=replace(config.training, ema_rampup=0.05))
    folder = check.folder
    try:
        _draw(config, count, folder / "faces.lmdb")
    except UserError as error:  # the packages that draw are not installed
        check.verdict(QUESTION, None, str(error))
        return
    write_json(folder / "experiment.json", config.to_dict())
    start, state = folder / "0.state", folder / f"{ENDLESS}.state"
    save_state(start, build_trainer(config, World(0, 1, torch.device("cpu"))), config, None)
    # In time for the end; a toy is stopped when it has begun.
    seconds = max(5.0, check.left() - RESERVED)
    named = {
        "experiment": folder / "experiment.json",
        "data": folder / "faces.lmdb",
        "resume": start,
        "until": ENDLESS,
        "state": state,
        "weights": folder / "weights.safetensors",
        "records": folder / "records.jsonl",
        "device": check.device.type,
        "workers": 2,
        "save-every": 0 if check.dry else 10,
    }
    words = [text for key, value in named.items() for text in (f"--{key}", str(value))]
    with training(folder, "faces", "stylenat.steps.train", *words) as process:
        if check.dry:
            saved = state.with_name(state.name + ".rolling")
            status = None if process.until(saved.exists, seconds) else process.wait(1.0)
        else:
            status = process.wait(seconds)
        if status is None:
            process.process.terminate()
            status = process.wait(max(RESERVED, check.left()))
    lines = _records(folder / f"{ENDLESS}.state.records")
    for line in lines[:: max(1, math.ceil(len(lines) / LINES))]:
        keys = ("step", "loss_d", "loss_g", "r1", "grad_norm_d", "images_per_second", "skipped")
        check.row("losses", **{key: line[key] for key in keys if key in line})
    stopped = re.search(r"stopped at step (\d+)", process.text)
    losses = [line[key] for line in lines for key in ("loss_d", "loss_g") if key in line]
    skipped = sum(line["skipped"] for line in lines)
    good = status == EXIT_CODE and stopped is not None and bool(losses) and not skipped
    good = good and all(map(math.isfinite, losses))
    answer = f"Status {status}; {process.said('stopped at|error')}; {skipped} steps skipped."
    check.verdict(QUESTION.replace("faces256", name), good, answer)
    if stopped:
        _grid(check, config, state.with_name(state.name + ".rolling"))


def _draw(config: ExperimentConfig, count: int, output: Path) -> None:
    entry = {"kind": "avatars", "style": "toon-head", "count": count, "first_seed": 0}
    entry["backgrounds"] = ["b6e3f4", "c0aede", "d1d4f9", "ffd5dc", "ffdfbf"]
    side = config.model.image_size
    settings = PackSettings(config.dataset, side, "none")
    workers = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    pack(open_source(entry, side), settings, output, min(workers, 16))


def _records(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def _grid(check: Check, config: ExperimentConfig, state: Path) -> None:
    """Sixteen samples of the running average, as a picture beside the results."""
    found = load_state(state)
    generator = Generator(config.model).eval().requires_grad_(False)
    prefix = "average."
    generator.load_state_dict(
        {k.removeprefix(prefix): v for k, v in found.tensors.items() if k.startswith(prefix)}
    )
    pictures = np.stack(list(generate(generator.to(check.device), range(16))))
    save_grid(check.folder / "faces.png", pictures, "0-15", None)
    check.row("samples", step=found.step, deviation=float(pictures.std()))
