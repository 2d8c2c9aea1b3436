"""Trackers get what the JSON lines hold; one that fails or hangs never stops training."""

import json
import logging
import sys
import threading
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from tqdm import tqdm

from stylenat.training import tracking
from stylenat.training.build import build_trainer
from stylenat.training.recorder import Recorder
from stylenat.training.tracking import Trackers
from tests.tiny import SIZE, experiment
from tests.training_run import ALONE

SETTINGS = {
    "tensorboard": True,
    "wandb": {
        "project": "faces",
        "entity": "lab",
        "name": "first",
        "tags": ["a", "b"],
        "description": "a try",
        "mode": "offline",
    },
}


@pytest.fixture(autouse=True)
def warnings(caplog):
    caplog.set_level(logging.WARNING)
    return caplog


class FakeWandb(ModuleType):
    """Remembers what it is told; ``failing`` names a call that raises."""

    def __init__(self, failing: str = ""):
        super().__init__("wandb")
        self.failing, self.inits, self.logged, self.finished = failing, [], [], False

    def Image(self, picture):
        return ("image", picture.shape)

    def init(self, **options):
        self._call("init")
        self.inits.append(options)
        return SimpleNamespace(log=self.log, finish=self.finish)

    def log(self, values, step):
        self._call("log")
        self.logged.append((step, values))

    def finish(self):
        self.finished = True

    def _call(self, name):
        if name == self.failing:
            raise RuntimeError(f"no {name} without a network")


class FakeWriter:
    """TensorBoard's SummaryWriter."""

    def __init__(self, folder, purge_step):
        self.folder, self.purge_step, self.calls = folder, purge_step, []
        type(self).last = self

    def __getattr__(self, name):
        return lambda *arguments, **named: self.calls.append((name, arguments, named))


def install(monkeypatch, wandb=None, writer=FakeWriter) -> None:
    module = ModuleType("torch.utils.tensorboard")
    module.SummaryWriter = writer
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", module)
    monkeypatch.setitem(sys.modules, "wandb", wandb)


def follow(folder, settings=SETTINGS, step: int = 0) -> Trackers:
    """Trackers of a run: two lines of numbers, and samples."""
    trainer = build_trainer(experiment(), ALONE)
    trackers = Trackers(settings, folder, experiment())
    trackers.start(step)
    recorder = Recorder(folder / "x.jsonl", trainer, trackers)
    for trainer.step in (step + 1, step + 2):
        recorder.add({"loss_d": 0.5, "loss_g": float("nan"), "skipped": 0}, tqdm(disable=True))
        recorder.flush()
    recorder.close()
    trackers.samples(step + 2, trainer.generator_ema)
    trackers.close()
    return trackers


def test_trackers_get_the_records_and_samples(tmp_path, monkeypatch, warnings):
    wandb = FakeWandb()
    install(monkeypatch, wandb)
    follow(tmp_path, step=10)

    lines = [json.loads(line) for line in (tmp_path / "x.jsonl").open()]
    for line in lines:  # where it ran is no curve
        assert line.pop("device").startswith("cpu") and line.pop("processes") == 1
        assert line.pop("precision") == "float32"
    assert wandb.logged[:2] == [(11, lines[0]), (12, lines[1])]
    assert wandb.logged[2] == (12, {"samples": [("image", (SIZE, SIZE, 3))] * 16})
    assert wandb.finished

    writer = FakeWriter.last
    assert (writer.folder, writer.purge_step) == (tmp_path / "tensorboard", 11)
    scalars = [arguments for name, arguments, _ in writer.calls if name == "add_scalar"]
    assert ("loss_d", 0.5, 11) in scalars and ("images_seen", 12 * 8, 12) in scalars
    (pictures,) = [arguments for name, arguments, _ in writer.calls if name == "add_images"]
    assert pictures[1].shape == (16, SIZE, SIZE, 3) and pictures[1].dtype == np.uint8
    assert writer.calls[-1][0] == "close"
    assert not warnings.text


def test_a_restart_continues_the_run_and_another_experiment_does_not(tmp_path, monkeypatch):
    wandb = FakeWandb()
    install(monkeypatch, wandb)
    follow(tmp_path)
    follow(tmp_path, step=2)
    first, second = wandb.inits
    assert first == second
    assert first["resume"] == "allow" and first["dir"] == tmp_path
    expected = {"project": "faces", "entity": "lab", "name": "first", "notes": "a try"}
    assert expected.items() <= first.items()
    assert (first["tags"], first["mode"]) == (["a", "b"], "offline")
    assert first["config"]["training"]["batch_size"] == 8
    other = tracking.WeightsAndBiases(tmp_path, experiment(seed=4), {"project": "faces"})
    assert other.run and wandb.inits[-1]["id"] != first["id"]
    assert wandb.inits[-1]["name"] == "tiny"


def test_nothing_is_imported_that_was_not_asked_for(tmp_path, monkeypatch, warnings):
    install(monkeypatch, None, None)
    follow(tmp_path, settings={"tensorboard": False})
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 2
    assert not warnings.text


def test_a_tracker_that_is_not_installed_is_reported_once(tmp_path, monkeypatch, warnings):
    install(monkeypatch, None)
    trackers = follow(tmp_path)
    assert list(trackers.active) == ["TensorBoard"]
    assert warnings.text.count("training goes on without Weights & Biases") == 1
    assert len((tmp_path / "x.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("failing", ["init", "log"])
def test_a_tracker_that_fails_is_reported_once(tmp_path, monkeypatch, warnings, failing):
    install(monkeypatch, FakeWandb(failing))
    follow(tmp_path)
    assert warnings.text.count("training goes on without Weights & Biases") == 1
    assert f"no {failing} without a network" in warnings.text
    assert sum(name == "add_scalar" for name, _, _ in FakeWriter.last.calls) > 4


def test_a_tracker_that_hangs_is_left_behind(tmp_path, monkeypatch, warnings):
    hung = threading.Event()
    wandb = FakeWandb()
    wandb.finish = hung.wait
    install(monkeypatch, wandb)
    monkeypatch.setattr(tracking, "CLOSING_SECONDS", 0.2)
    follow(tmp_path)
    assert "did not finish in time" in warnings.text
    hung.set()
