"""The sample grid: places, enlargement, and what it says of itself."""

import numpy as np
import pytest
from PIL import Image

from stylenat.models import load_generator
from stylenat.models.latents import generate
from stylenat.pictures import tile
from stylenat.steps import grid


@pytest.mark.parametrize(
    ("count", "side", "shape"),
    [
        (25, 32, (5 * 130 + 2, 5 * 130 + 2)),  # 32 × 4 = 128, and 2 of margin
        (5, 32, (2 * 130 + 2, 3 * 130 + 2)),
        (1, 256, (260, 260)),
        (2, 96, (100, 198)),  # 96 × 2 would be beyond 128
    ],
)
def test_rows_columns_and_enlargement(count, side, shape):
    assert tile(np.zeros((count, side, side, 3), np.uint8)).shape == (*shape, 3)


def test_every_picture_is_where_it_belongs():
    pictures = np.random.default_rng(0).integers(0, 255, (5, 64, 64, 3), dtype=np.uint8)
    canvas = tile(pictures)
    for index, picture in enumerate(pictures):
        row, column = divmod(index, 3)
        y, x = 2 + row * 130, 2 + column * 130
        assert (canvas[y : y + 128, x : x + 128] == np.kron(picture, np.ones((2, 2, 1)))).all()
    assert (canvas[:2] == 255).all() and (canvas[:, :2] == 255).all()
    assert (canvas[132:260, 262:] == 255).all()  # the place left over


def test_the_step(weights, tmp_path):
    output = tmp_path / "grids" / "400.png"
    grid.run(weights=weights, seeds="0-3", output=output, truncation=0.7, device="cpu")
    with Image.open(output) as image:
        assert image.text == {"seeds": "0-3", "truncation": "0.7"}
        canvas = np.asarray(image)
    pictures = list(generate(load_generator(weights), range(4), 0.7))
    assert (canvas == tile(np.stack(pictures))).all()
