"""Pictures that need a network: what they show is what the generator makes."""

import sys

import numpy as np
import pytest
import torch
from PIL import Image

from stylenat.data.store import ImageStore
from stylenat.data.writer import write_store
from stylenat.errors import UserError
from stylenat.images import to_uint8
from stylenat.io import sha256, write_npz
from stylenat.models import load_generator
from stylenat.models.latents import generate, mean_style, render, styles
from stylenat.pictures import save_animation, tile
from stylenat.steps import attention, copies, latents


@pytest.fixture
def shown(monkeypatch):
    """What the steps pass on to be drawn: positional arguments, then named ones."""
    calls = []
    for module in (latents, copies):
        original = module.draw_mosaic

        def note(*arguments, draw=original, **named):
            calls.append((arguments, named))
            return draw(*arguments, **named)

        monkeypatch.setattr(module, "draw_mosaic", note)
    return calls


def near(found: np.ndarray, expected: np.ndarray) -> bool:
    """Equal but for rounding, which depends on how many images are computed together."""
    return np.abs(found.astype(int) - expected).max() <= 1


def test_truncation_leads_from_the_mean_to_the_sample(weights, shown):
    generator = load_generator(weights)
    _, facts = latents.draw_truncation(generator)
    pictures, rows, columns = shown[0][0]
    assert rows == [f"seed {seed}" for seed in range(6)] and facts["seeds"] == "0-5"
    samples = np.stack(list(generate(generator, range(6))))
    assert near(pictures[:, columns.index("ψ = 1")], samples)
    mean = next(render(generator, mean_style(generator)[None]))
    assert near(pictures[:, columns.index("ψ = 0")], mean)
    half = np.stack(list(generate(generator, range(6), truncation=0.6)))
    assert near(pictures[:, columns.index("ψ = 0.6")], half)


def test_mixing_takes_coarse_styles_from_the_row_and_fine_ones_from_the_column(
    weights,
    shown,
):
    generator = load_generator(weights)
    _, facts = latents.draw_mixing(generator)
    pictures, rows, columns = shown[0][0]
    assert shown[0][1]["sources"] == (1, 1)
    assert (rows[1], columns[1]) == ("seed 0", "seed 4")
    assert (facts["coarse"], facts["fine"]) == (
        "4² to 4², from the row",
        "8² to 16², from the column",
    )
    samples = list(generate(generator, range(10)))
    assert near(pictures[1:, 0], np.stack(samples[:4]))
    assert near(pictures[0, 1:], np.stack(samples[4:]))
    row, column = styles(generator, [2]), styles(generator, [7])
    mixed = torch.cat((row[:, None].expand(1, 2, -1), column[:, None].expand(1, 4, -1)), 1)
    expected = to_uint8(generator.synthesis(mixed))[0].permute(1, 2, 0).numpy()
    assert near(pictures[3, 4], expected)
    assert not near(pictures[3, 4], samples[2]) and not near(pictures[3, 4], samples[7])


def test_interpolation_passes_the_seeds_and_returns(weights):
    generator = load_generator(weights)
    frames, comment = latents.interpolate(generator)
    walks = 4
    assert len(frames) == latents.STOPS * latents.FRAMES and "seeds of 0-15" in comment
    samples = np.stack(list(generate(generator, range(16))))
    for stop in range(latents.STOPS):
        expected = tile(samples[stop :: latents.STOPS], walks)
        assert near(frames[stop * latents.FRAMES], expected)
    w = styles(generator, [3, 0])
    between = next(render(generator, torch.lerp(w[0], w[1], 0.5)[None]))
    last_leg = frames[3 * latents.FRAMES + latents.FRAMES // 2]
    assert near(last_leg[:, :132], tile(between[None], 1))


def test_seeds_psi_layers_walks_and_frames_are_chosen(weights, shown):
    generator = load_generator(weights)
    samples = dict(zip((3, 7, 11), generate(generator, [3, 7, 11]), strict=True))
    _, facts = latents.draw_truncation(generator, "7,3", [1.0, -0.5])
    pictures, rows, columns = shown[0][0]
    assert (rows, columns) == (["seed 7", "seed 3"], ["ψ = 1", "ψ = -0.5"])
    assert near(pictures[:, 0], np.stack((samples[7], samples[3])))
    assert facts == {"seeds": "7,3", "truncation": "1.0, -0.5"}

    _, facts = latents.draw_mixing(generator, "3", "7,11", [8])
    pictures = shown[1][0][0]
    assert near(pictures[0, 1:], np.stack((samples[7], samples[11])))
    w = styles(generator, [3]).repeat(6, 1)
    w[2:4] = styles(generator, [11])
    assert near(pictures[1, 2], next(render(generator, w[None])))
    assert facts["layers"] == "8², from the column" and facts["seeds"] == "3 (rows), 7,11 (columns)"
    latents.draw_mixing(generator, "3", "7", [16, 4, 8])
    assert near(shown[2][0][0][1, 1], samples[7]), "all levels from the column"

    frames, comment = latents.interpolate(generator, ["3,7", "11,3"], 2)
    assert len(frames) == 4 and "each through 2 seeds of 3,7 11,3 and back" in comment
    for frame, left, right in ((0, 3, 11), (2, 7, 3)):
        assert near(frames[frame], tile(np.stack((samples[left], samples[right])), 2))


@pytest.mark.parametrize(
    ("draw", "message"),
    [
        (lambda g: latents.draw_truncation(g, psi=[0.5, float("nan")]), "--psi has 0.5, nan; give"),
        (lambda g: latents.draw_mixing(g, layers=[8, 5]), "--layers 5: .* some of 4, 8, 16"),
        (lambda g: latents.draw_mixing(g, columns="x"), "seeds 'x': 'x' is neither"),
        (lambda g: latents.interpolate(g, ["1,2", "3"]), "--walks 1,2 3: they pass different"),
        (lambda g: latents.interpolate(g, frames=0), "--frames is 0; give 1 or more"),
    ],
)
def test_what_cannot_be_drawn_is_one_sentence(weights, draw, message):
    with pytest.raises(UserError, match=message):
        draw(load_generator(weights))


def step(monkeypatch, *arguments) -> None:
    monkeypatch.setattr(sys, "argv", ["latents", "--device", "cpu", *map(str, arguments)])
    latents.main()


def test_the_latents_step_draws_what_has_an_output(weights, tmp_path, monkeypatch, caplog):
    path = tmp_path / "x.gif"
    step(
        monkeypatch, "--weights", weights, "--interpolation", path, "--walks", "5,6", "--frames", 3
    )
    assert list(tmp_path.iterdir()) == [path]
    with Image.open(path) as image:
        assert image.n_frames == 6
    with pytest.raises(SystemExit):
        step(monkeypatch, "--weights", weights)
    assert "nothing is to be drawn; give --truncation" in caplog.text


def test_the_latents_step_writes_its_facts(weights, tmp_path, monkeypatch):
    kinds = {"truncation": "png", "mixing": "png", "interpolation": "gif"}
    paths = {name: tmp_path / f"{name}.{kind}" for name, kind in kinds.items()}
    options = [part for name, path in paths.items() for part in (f"--{name}", path)]
    step(monkeypatch, "--weights", weights, *options)
    with Image.open(paths["truncation"]) as image:
        assert image.text["seeds"] == "0-5" and image.text["truncation"].startswith("0.0, 0.2")
    with Image.open(paths["mixing"]) as image:
        assert image.text["seeds"] == "0-3 (rows), 4-9 (columns)"
    with Image.open(paths["interpolation"]) as image:
        assert image.is_animated and b"linear in w" in image.info["comment"]


def gradient(frame: int) -> np.ndarray:
    """uint8 (64, 96, 3) without edges, which half as many colours as pixels would blur."""
    y, x = np.mgrid[:64, :96]
    return np.stack((2 * x, 3 * y, np.full_like(x, 40 * frame)), -1).astype(np.uint8)


def test_an_mp4_shows_the_frames(tmp_path):
    reader = pytest.importorskip("imageio_ffmpeg", reason="MP4 needs imageio-ffmpeg")
    frames = [gradient(number) for number in range(5)]
    save_animation(tmp_path / "x.mp4", frames, 100, "seeds 0-3; ψ")
    header, *found = reader.read_frames(tmp_path / "x.mp4")
    assert (header["codec"], header["size"], header["fps"]) == ("h264", (96, 64), 10)
    found = [np.frombuffer(frame, np.uint8).reshape(64, 96, 3) for frame in found]
    assert len(found) == 5
    for frame, expected in zip(found, frames, strict=True):
        assert np.abs(frame.astype(int) - expected).mean() < 4
    assert "seeds 0-3; ψ".encode() in (tmp_path / "x.mp4").read_bytes()


def test_an_mp4_without_its_package_is_one_sentence_first(tmp_path, monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(SystemExit):
        step(monkeypatch, "--weights", tmp_path / "none", "--interpolation", tmp_path / "x.mp4")
    assert "error: MP4 needs the package imageio-ffmpeg; install it with pip install" in caplog.text


def test_an_mp4_that_cannot_be_encoded_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr("stylenat.pictures.encoder", lambda: "false")
    with pytest.raises(UserError, match="x.mp4 could not be written"):
        save_animation(tmp_path / "x.mp4", [gradient(0)], 100, "")
    assert not list(tmp_path.iterdir())


def test_the_attention_step(weights, tmp_path):
    options = {
        "weights": weights, "device": "cpu", "seed": 2, "mean_query": tmp_path / "m.png",
        "neighbourhoods": tmp_path / "n.png",
    }  # fmt: skip
    attention.run(pixel=[0, 15], **options)
    with Image.open(tmp_path / "n.png") as image:
        assert image.text["seed"] == "2" and image.text["pixel"] == "row 0, column 15"
    assert (tmp_path / "m.png").stat().st_size > 1000
    with pytest.raises(UserError, match="--pixel 0 16: outside of an image of 16 × 16"):
        attention.run(pixel=[0, 16], **options)


@pytest.fixture
def found(weights, tmp_path):
    """A training set that holds sample 1, and neighbours that say so."""
    generator = load_generator(weights)
    training = [np.full((16, 16, 3), level, np.uint8) for level in (10, 20, 30, 40, 50)]
    training.append(next(generate(generator, [1])))
    metadata = {"name": "tiny", "kind": "real", "filter": "none", "source": "", "licence": ""}
    write_store(tmp_path / "data.lmdb", training, metadata | {"notes": []})
    record = {
        "dataset_sha256": ImageStore(tmp_path / "data.lmdb").metadata.content_sha256,
        "generator_sha256": sha256(weights), "extractor": "lite0", "quantile": 0.01,
        "threshold": 0.5, "copies": 0.25, "n_generated": 4, "n_real": 6, "experiment": "tiny",
        "dataset": "tiny", "resolution": 16, "step": 4, "protocol": "copies", "seeds": "0-3",
        "weights_sha256": "57", "versions": {}, "commit": "",
    }  # fmt: skip
    indices = np.array([[0, 1, 2, 3, 4], [5, 0, 1, 2, 3], [1, 2, 3, 4, 0]])
    distances = np.array([[2.0, 3, 4, 5, 6], [0.0, 3, 4, 5, 6], [1.0, 3, 4, 5, 6]])
    arrays = {"seeds": np.array([0, 1, 2]), "indices": indices, "distances": distances}
    write_npz(tmp_path / "n.npz", arrays, record)
    return {
        "neighbours": tmp_path / "n.npz", "weights": weights, "data": tmp_path / "data.lmdb",
        "output": tmp_path / "copies.png", "device": "cpu",
    }  # fmt: skip


def test_a_copy_is_framed_beside_its_original(found, shown):
    copies.run(**found)
    (pictures, rows, _), named = shown[0]
    assert rows == ["seed 1", "seed 2", "seed 0"], "the nearest first"
    assert named["framed"] == {(0, 0)}
    assert (pictures[0, 0] == pictures[0, 1]).all()
    assert (pictures[1, 1] == 20).all() and named["notes"][1] == ["", "1", "3", "4", "5", "6"]
    assert "25.00% of all 4 samples are copies" in named["footer"]


def test_neighbours_of_other_weights_or_data_are_refused(found, tmp_path):
    other = tmp_path / "other.safetensors"
    other.write_bytes(found["weights"].read_bytes() + b" ")
    with pytest.raises(UserError, match="generator_sha256 differs"):
        copies.run(**found | {"weights": other})
