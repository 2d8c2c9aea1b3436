"""Fixtures that more than one module of tests asks for."""

import signal
from collections import OrderedDict
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from stylenat import fetch
from stylenat.config import ModelConfig
from stylenat.models import Generator, save_generator
from stylenat.records import DataIdentity, Provenance
from stylenat.report.published import PublishedResult, read_published
from tests.project import PUBLISHED_CSV
from tests.server import Server, serving
from tests.tiny import MODEL
from tests.weights import LAYOUTS, fill, golden_weights


@pytest.fixture(scope="session")
def weights(tmp_path_factory) -> Path:
    """A file of weights of a generator of 16² images, as training leaves it."""
    path = tmp_path_factory.mktemp("weights") / "400.safetensors"
    generator = Generator(ModelConfig(**MODEL))
    generator.load_state_dict(fill(generator.state_dict()))
    data = DataIdentity(name="photos", filter="lanczos", content_sha256="ab" * 32)
    provenance = Provenance(experiment={"name": "tiny"}, step=400, images_seen=6400, data=data)
    save_generator(path, generator, provenance)
    return path


@pytest.fixture(scope="module")
def published_tensors() -> OrderedDict[str, torch.Tensor]:
    """A generator's tensors in the published layout, in the reference's own order."""
    return golden_weights("tiny32_published", "g")


@pytest.fixture(scope="module")
def inception_tensors() -> dict[str, torch.Tensor]:
    """Weights of the FID Inception, filled from their names."""
    return fill({key: torch.empty(shape) for key, shape in LAYOUTS["inception"].items()})


@pytest.fixture(scope="session")
def published() -> list[PublishedResult]:
    return read_published(PUBLISHED_CSV)


@pytest.fixture
def host(monkeypatch) -> Iterator[Server]:
    """A web server, which downloads do not wait for when it fails."""
    monkeypatch.setattr(fetch.time, "sleep", lambda seconds: None)
    with serving() as server:
        yield server


@pytest.fixture
def handlers() -> Iterator[None]:
    """Training takes over the process's signals; they are given back."""
    kept = {number: signal.getsignal(number) for number in (15, 2, signal.SIGUSR2)}
    yield
    for number, handler in kept.items():
        signal.signal(number, handler)
