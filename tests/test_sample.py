"""Sampling: what a seed means, and that an image depends on its seed alone."""

from dataclasses import asdict
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from stylenat.config import ModelConfig
from stylenat.data.store import ImageStore
from stylenat.errors import UserError
from stylenat.images import to_uint8
from stylenat.io import sha256
from stylenat.models import load_generator, read_header, save_generator
from stylenat.models.latents import (
    computed_mean_style,
    generate,
    images_per_pass,
    latents,
    parse_seeds,
)
from stylenat.models.weights import save_tensors
from stylenat.records import Provenance
from stylenat.steps import sample
from tests.tiny import MODEL


def run(weights: Path, output: Path, seeds: str, **options) -> Path:
    sample.run(weights=weights, output=output, seeds=seeds, device="cpu", **options)
    return output


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        assert image.format == "PNG" and image.mode == "RGB"
        return np.asarray(image)


@pytest.mark.parametrize(
    ("text", "seeds"),
    [
        ("7", [7]),
        ("0,3,10-13", [0, 3, 10, 11, 12, 13]),
        ("5-5, 2 ,4-5", [5, 2, 4]),
    ],
)
def test_seeds(text, seeds):
    assert parse_seeds(text) == seeds


@pytest.mark.parametrize("text", ["", "1,", "-3", "4-2", "1.5", "1-2-3", "a"])
def test_what_is_no_seed_is_refused(text):
    with pytest.raises(UserError, match=f"^seeds '{text}': .* is neither a seed nor a range"):
        parse_seeds(text)


def test_seeds_that_pytorch_would_change_are_refused():
    for text in (f"{2**32}", "0-1000000000000"):  # the latter before a list of them is made
        with pytest.raises(UserError, match="is not from 0 to 4,294,967,295"):
            parse_seeds(text)
    for seed in (-1, 2**32 + 5, 2**64):
        with pytest.raises(UserError, match=f"seed {seed} is not from 0 to"):
            latents([seed], 8)


def test_z_is_what_the_reference_draws():
    z = latents([5, 0, 2**32 - 1], 512)
    for row, seed in zip(z, (5, 0, 2**32 - 1), strict=True):
        torch.manual_seed(seed)
        assert torch.equal(row[None], torch.randn(1, 512))


class Sociable(nn.Module):
    """A generator whose images depend on their place and company in the batch: a caricature of
    how matrix products round."""

    config = ModelConfig(**MODEL)

    def __init__(self):
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros(1))

    def mapping(self, z):
        return z

    def synthesis(self, w):
        place = torch.arange(len(w)) / len(w)
        return (w[:, 0] + place + w.sum()).cos()[:, None, None, None].expand(-1, 3, 16, 16)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 60), min_size=1, max_size=20, unique=True), st.integers(1, 40))
def test_company_in_a_batch_changes_no_image(seeds, ahead):
    everyone = list(generate(Sociable(), range(61)))
    found = list(generate(Sociable(), seeds, ahead=ahead))
    assert len(found) == len(seeds)
    for seed, image in zip(seeds, found, strict=True):
        np.testing.assert_array_equal(image, everyone[seed])


def test_a_seed_gives_the_same_file_whatever_the_batch(weights, tmp_path):
    everyone = run(weights, tmp_path / "all", "0-20")
    some = run(weights, tmp_path / "some", "19,3,0", batch_size=1)
    assert sorted(p.name for p in everyone.iterdir()) == [f"{seed:06d}.png" for seed in range(21)]
    assert sorted(p.name for p in some.iterdir()) == ["000000.png", "000003.png", "000019.png"]
    for path in some.iterdir():
        assert path.read_bytes() == (everyone / path.name).read_bytes()


def test_an_image_is_the_generators_output_for_its_seed(weights, tmp_path):
    run(weights, tmp_path, "11")
    generator = load_generator(weights)
    torch.manual_seed(11)
    expected = to_uint8(generator(torch.randn(1, 32)))[0].permute(1, 2, 0).numpy()
    # Alone, the same network rounds differently: a level at most, and no watermark.
    assert np.abs(pixels(tmp_path / "000011.png").astype(int) - expected).max() <= 1


def test_the_lmdb_holds_the_images_in_the_order_of_the_seeds(weights, tmp_path):
    run(weights, tmp_path / "png", "0-9")
    store = ImageStore(run(weights, tmp_path / "samples.lmdb", "9,0-3"))
    assert len(store) == 5
    for index, seed in enumerate((9, 0, 1, 2, 3)):
        expected = pixels(tmp_path / "png" / f"{seed:06d}.png")
        np.testing.assert_array_equal(store.read(index), expected)
    described = {
        "name": "tiny",
        "kind": "generated",
        "seeds": "9,0-3",
        "filter": "lanczos",
        "resolution": 16,
        "generator_sha256": sha256(weights),
    }
    assert described.items() <= store.metadata.to_dict().items()
    assert store.metadata.to_dict()["data"]["name"] == "photos"


def test_samples_of_weights_of_unknown_origin_claim_no_filter(weights, tmp_path):
    foreign = tmp_path / "foreign.safetensors"
    save_generator(foreign, load_generator(weights), Provenance())
    metadata = ImageStore(run(foreign, tmp_path / "samples.lmdb", "0")).metadata
    assert (metadata.name, metadata.filter) == ("foreign", None)


def test_truncation_moves_w_towards_the_mean(weights):
    generator = load_generator(weights)
    seeds = range(4)
    full, none = list(generate(generator, seeds)), list(generate(generator, seeds, 0.0))
    mean = generator.mapping(latents(range(10_000), 32)).mean(0, keepdim=True)
    expected = to_uint8(generator.synthesis(mean))[0].permute(1, 2, 0).numpy()
    for image in none:  # all the way: everyone is the mean
        assert np.abs(image.astype(int) - expected).max() <= 1
    for image, original in zip(generate(generator, seeds, 1.0), full, strict=True):
        assert np.abs(image.astype(int) - original).max() <= 1
    half = np.stack(list(generate(generator, seeds, 0.5))).astype(int)
    assert 0 < np.abs(half - expected).mean() < np.abs(np.stack(full).astype(int) - expected).mean()


def with_tensors(weights, tensors, path):
    """A file with the header of ``weights``."""
    model, provenance = read_header(weights)
    record = {"model": asdict(model), "provenance": provenance.to_dict()}
    save_tensors(path, tensors, "stylenat", record)
    return path


def test_the_mean_w_is_stored_and_computed_where_it_is_not(weights, tmp_path, monkeypatch):
    generator = load_generator(weights)
    tensors = load_file(weights)
    mean = tensors.pop("mean_w")
    assert torch.equal(mean, computed_mean_style(generator))
    assert tensors.keys() == generator.state_dict().keys(), "the reference's names, nothing else"
    old = with_tensors(weights, tensors, tmp_path / "old.safetensors")
    expected = list(generate(load_generator(old), range(4), 0.5))
    monkeypatch.setattr("stylenat.models.latents.computed_mean_style", None)  # not called
    assert np.array_equal(list(generate(generator, range(4), 0.5)), expected)


def test_a_network_that_was_changed_is_saved_with_its_own_mean_w(weights, tmp_path):
    generator = load_generator(weights)
    generator.load_state_dict({k: 2 * v for k, v in generator.state_dict().items()})
    save_generator(tmp_path / "x.safetensors", generator, Provenance())
    found = load_generator(tmp_path / "x.safetensors")
    assert torch.equal(found.mean_w, computed_mean_style(generator))
    assert not torch.allclose(found.mean_w, load_generator(weights).mean_w)


def test_a_mean_w_of_another_length_is_refused(weights, tmp_path):
    tensors = load_file(weights) | {"mean_w": torch.zeros(31)}
    path = with_tensors(weights, tensors, tmp_path / "x.safetensors")
    with pytest.raises(UserError, match=r"mean_w is \(31,\), not \(32,\)"):
        load_generator(path)


def test_an_image_that_cannot_be_written_stops_the_step(weights, tmp_path, monkeypatch):
    def full_disk(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Image.Image, "save", full_disk)
    with pytest.raises(UserError, match="No space left"):
        run(weights, tmp_path, "0-30", batch_size=2)
    assert not list(tmp_path.iterdir())


def test_a_fault_of_the_network_reaches_the_caller():
    class Broken(Sociable):
        def synthesis(self, w):
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        list(generate(Broken(), range(100)))


def test_a_pass_is_small_for_large_images():
    sizes = {
        size: images_per_pass(SimpleNamespace(image_size=size)) for size in (32, 256, 512, 1024)
    }
    assert sizes == {32: 8, 256: 4, 512: 1, 1024: 1}
