"""The FID Inception: golden features, keys, independence of the batch, faulty weights."""

import contextlib
from pathlib import Path

import numpy as np
import pytest
import torch

from stylenat.errors import UserError
from stylenat.metrics.extractors import Inception
from stylenat.metrics.extractors.base import read_state_dict, resize_as_tf1
from stylenat.metrics.extractors.inception import InceptionTF1
from tests.weights import GOLDEN, LAYOUTS


@pytest.fixture(scope="module")
def inception(inception_tensors):
    return Inception(inception_tensors)


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "inception.npz") as arrays:
        images = torch.from_numpy(arrays["i32.images"]).permute(0, 3, 1, 2)
        return images, torch.from_numpy(arrays["i32.pool3"])


def test_golden_features(inception, golden):
    images, expected = golden
    features = inception(images)
    assert features.dtype == torch.float32
    torch.testing.assert_close(features, expected, rtol=0, atol=1e-4)


def test_its_head_is_the_classifier_without_its_bias(inception, inception_tensors):
    assert inception.head.shape == (1008, inception.dimension)
    torch.testing.assert_close(inception.head, inception_tensors["fc.weight"])


def tf1_weights(size, side):
    """(side, size): what each pixel of a line is made of."""
    matrix = np.zeros((side, size))
    for row in range(side):
        low = int(row * size / side)
        matrix[row, low] += 1 - (row * size / side - low)
        matrix[row, min(low + 1, size - 1)] += row * size / side - low
    return matrix


@pytest.mark.parametrize(("height", "width", "side"), [(3, 4, 5), (32, 32, 299), (40, 30, 16)])
def test_resizing_as_tensorflow_1_is_its_definition(height, width, side):
    image = np.random.default_rng(0).integers(0, 256, (height, width)).astype(np.float32)
    expected = tf1_weights(height, side) @ image @ tf1_weights(width, side).T
    found = resize_as_tf1(torch.from_numpy(image)[None, None], side)[0, 0]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)


def test_resizing_as_tensorflow_1_is_torch_fidelitys():
    """Numbers of interpolate_bilinear_2d_like_tensorflow1x in torch-fidelity 0.4.0."""
    image = [[217, 163, 130, 69], [78, 10, 19, 4], [44, 208, 166, 233]]
    expected = [
        [217.0, 173.8000030517578, 143.1999969482422, 105.59999084472656, 69.0],
        [133.60000610351562, 83.67999267578125, 66.5199966430664, 50.03999328613281, 30.0],
        [71.19999694824219, 53.920005798339844, 48.88001251220703, 48.96000671386719, 49.800010681152344],
        [50.79999542236328, 144.8800048828125, 149.32000732421875, 156.8400115966797, 187.20001220703125],
        [44.0, 175.1999969482422, 182.8000030517578, 192.8000030517578, 233.0],
    ]  # fmt: skip
    found = resize_as_tf1(torch.tensor(image, dtype=torch.float32)[None, None], 5)
    np.testing.assert_array_equal(found[0, 0], np.array(expected, np.float32))


def test_features_of_images_resized_as_by_tensorflow_1_differ_a_little(inception_tensors, golden):
    images, expected = golden
    features = InceptionTF1(inception_tensors)(images)
    difference = (features - expected).norm() / expected.norm()
    assert 1e-3 < difference < 0.2
    pixels = torch.full((1, 3, 299, 299), 51.0)
    for network, value in ((Inception, 51 / 127.5 - 1), (InceptionTF1, -77 / 128)):
        scaled = network(inception_tensors).scaled(pixels)
        torch.testing.assert_close(scaled, torch.full_like(pixels, value))


def test_keys_and_shapes_are_those_of_the_published_file(inception):
    shapes = {key: list(value.shape) for key, value in inception.state_dict().items()}
    assert shapes == LAYOUTS["inception"]


def test_one_image_alone_has_the_features_it_has_in_a_batch(inception, golden):
    images, _ = golden
    together = inception(images)
    alone = torch.cat([inception(image[None]) for image in images])
    torch.testing.assert_close(alone, together, rtol=0, atol=1e-5)


def test_autocast_around_it_changes_nothing(inception, golden):
    images, expected = golden
    with torch.autocast("cpu", dtype=torch.bfloat16):
        features = inception(images[:1])
    torch.testing.assert_close(features, expected[:1], rtol=0, atol=1e-4)


def test_images_that_are_not_uint8_are_refused(inception):
    with pytest.raises(TypeError, match="uint8"):
        inception(torch.rand(1, 3, 32, 32))


def test_weights_that_do_not_fit_are_refused(inception_tensors):
    missing = {key: value for key, value in inception_tensors.items() if key != "fc.bias"}
    with pytest.raises(UserError, match="1 missing keys, such as fc.bias"):
        Inception(missing)
    with pytest.raises(UserError, match="1 unknown keys, such as AuxLogits.fc.bias"):
        Inception(inception_tensors | {"AuxLogits.fc.bias": torch.zeros(1000)})
    with pytest.raises(UserError, match=r"fc.bias is \(1000,\), not \(1008,\)"):
        Inception(inception_tensors | {"fc.bias": torch.zeros(1000)})


def test_files_that_are_not_plain_weights_are_refused(tmp_path):
    path = tmp_path / "weights.pth"
    with pytest.raises(UserError, match="does not exist"):
        Inception(path)
    torch.save({"fc.bias": torch.zeros(1008)}, path)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(UserError, match="truncated"):
        Inception(path)
    torch.save([torch.zeros(3)], path)
    with pytest.raises(UserError, match="does not hold a state dict"):
        Inception(path)


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0", "Git LFS pointer"),
        (b"<!DOCTYPE html><html>", "HTML page"),
        (b"", "empty"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path, content, kind):
    (tmp_path / "weights.pth").write_bytes(content)
    with pytest.raises(UserError, match=kind):
        Inception(tmp_path / "weights.pth")


def test_any_damage_to_a_file_of_weights_is_one_sentence(tmp_path):
    path, random = tmp_path / "weights.pth", np.random.default_rng(0)
    torch.save({"fc.bias": torch.zeros(8), "fc.weight": torch.ones(4, 2)}, path)
    whole = path.read_bytes()
    for _ in range(300):
        damaged = bytearray(whole[: random.integers(1, len(whole) + 1)])
        for place in random.integers(0, len(damaged), random.integers(1, 6)):
            damaged[place] = random.integers(256)
        path.write_bytes(damaged)
        with contextlib.suppress(UserError):
            read_state_dict(path)


def test_a_pickle_that_would_run_code_does_not(tmp_path):
    class Touch:
        def __reduce__(self):
            return Path.touch, (tmp_path / "executed",)

    path = tmp_path / "weights.pth"
    torch.save({"fc.bias": Touch()}, path)
    with pytest.raises(UserError, match="not a file of plain weights"):
        Inception(path)
    assert not (tmp_path / "executed").exists()
