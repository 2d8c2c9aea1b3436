"""Copies found by pixels: what alteration is seen through, what is left alone, what is said of it."""

import numpy as np
import pytest
from PIL import Image

from stylenat.metrics import METRICS
from stylenat.metrics.moments import Moments, Statistics
from stylenat.metrics.thumbnails import SAME, SHIFTS, Thumbnails, through_jpeg, views
from tests.records import STATISTICS


def pictures(seed: int, count: int) -> np.ndarray:
    """Smooth random pictures uint8 (count, 32, 32, 3)."""
    random = np.random.default_rng(seed)
    small = random.integers(0, 256, (count, 6, 6, 3), dtype=np.uint8)
    size = (32, 32)
    return np.stack([np.asarray(Image.fromarray(s).resize(size, Image.BICUBIC)) for s in small])


@pytest.fixture(scope="module")
def training() -> Thumbnails:
    return Thumbnails.of(pictures(0, 1500), 0.01)


def test_altered_training_images_are_found_and_new_ones_are_not(training):
    images = pictures(0, 1500)[:200]
    noise = np.random.default_rng(1).normal(0, 3, images.shape)
    altered = {
        "mirrored": images[:, :, ::-1],
        "a pixel to the left": np.roll(images, -1, axis=2),
        "a pixel down, mirrored": np.roll(images, 1, axis=1)[:, :, ::-1],
        "JPEG": through_jpeg(images, 75),
        "mirrored, shifted, JPEG": through_jpeg(np.roll(images, (1, -1), (1, 2))[:, :, ::-1], 75),
        "noise": (images + noise).round().clip(0, 255).astype(np.uint8),
    }
    for change, copies in altered.items():
        assert training.copies(copies).all(), change
    assert training.copies(np.roll(images, 16, axis=2)).mean() < 0.05, "shifted far"
    fresh = training.copies(pictures(2, 1000)).mean()
    assert 0 < fresh < 0.03, "about as often as training images resemble each other"


def test_the_views_are_those_of_shifted_and_mirrored_pictures():
    """Shifted in the opposite direction, the middle is where it was."""
    image = pictures(3, 1)
    plain = next(views(image))
    found = list(views(image))
    assert len(found) == 18 and plain.shape == (1, 274)
    for (y, x), one, mirrored in zip(SHIFTS, found[::2], found[1::2], strict=True):
        moved = np.roll(image, (1 - y, 1 - x), axis=(1, 2))
        np.testing.assert_allclose(next(views(moved)), one, atol=0.01)
        np.testing.assert_allclose(next(views(moved[:, :, ::-1])), mirrored, atol=0.01)


def test_twins_and_mirrored_twins_do_not_hide_copies():
    images = pictures(0, 300)
    images[:20] = images[20:40]
    images[40:60] = images[60:80, :, ::-1]
    training = Thumbnails.of(images, 0.01)
    assert training.threshold > 50
    assert training.copies(through_jpeg(images[100:150], 95)).all()


def test_pictures_that_are_all_the_same_are_copies_of_each_other():
    same = np.repeat(pictures(0, 1), 50, axis=0)
    training = Thumbnails.of(same, 0.01)
    assert training.threshold == SAME and training.copies(same).all()


def test_the_metric_says_what_share_of_known_copies_it_finds():
    images = pictures(0, 400)
    vectors = images.reshape(400, -1)[:, :16].astype(np.float32)
    real = Statistics(Moments.of(vectors), STATISTICS, vectors, thumbnails=images)
    half = Statistics(
        Moments.of(vectors),
        STATISTICS,
        vectors,
        thumbnails=np.concatenate([images[:100, :, ::-1], pictures(5, 300)]),
    )
    measure = METRICS["copies"].measure(real)
    by_features, by_pixels = measure(half)
    assert (by_features.metric, by_features.value) == ("copies_lite0", 1)
    assert by_pixels.metric == "copies_pixels"
    assert 0.25 <= by_pixels.value < 0.27
    assert by_pixels.note == (
        "found of altered training images: mirrored 100.0%, shifted by a pixel 100.0%, JPEG of "
        "quality 95 100.0%, JPEG of quality 75 100.0%"
    )
    # Its threshold is a quantile of 400 distances, of which half are independent.
    share = by_pixels.value
    expected = share * (1 - share) / 399 + 2 * 0.01 * 0.99 / 400
    assert by_pixels.uncertainty == pytest.approx(expected**0.5)
    half.thumbnails = None
    assert [one.metric for one in measure(half)] == ["copies_lite0"]
