"""The first page of the report, and the picture on it."""

import re

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from stylenat.data.writer import write_store
from stylenat.errors import UserError
from stylenat.models import load_generator
from stylenat.models.latents import generate
from stylenat.pictures import fit
from stylenat.records import Dataset
from stylenat.report import markup
from stylenat.report.overview import STYLE, Training, training_of, write_overview
from stylenat.report.rows import MetricRow
from stylenat.steps import compare
from tests.outputs import Text, find
from tests.records import FFHQ256, fid, floor, table

DATA = Dataset(
    name="faces32", count=10000, source="avatars <b>", creator="Somebody", licence="CC BY 4.0",
    resolution=32, codec="raw", content_sha256="ab",
)  # fmt: skip
HELD_OUT = DATA.model_copy(update={"name": "faces32.test", "count": 900})
TRAINED = Training(1800, 28800, 282.0, "2 × cpu (Some, 1 threads)")


@pytest.fixture
def page(tmp_path, published):
    """A function that writes a page and says what is on it."""
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")

    def write(training=TRAINED, datasets=(DATA,), **columns) -> str:
        metrics = table(fid(values=[2.2, 2.42]), floor(), published=published).assign(**columns)
        path = tmp_path / "page.html"
        picture = tmp_path / "picture.png"
        write_overview(path, FFHQ256, MetricRow.of(metrics), training, datasets, picture)
        return path.read_text()

    return write


def test_the_page_says_what_was_trained_for_how_long_on_what(page):
    text = str(Text(page()))
    assert "ffhq256: StyleNAT (ours) at 256²" in text
    assert (
        "48.9 M parameters, trained for 1,800 iterations (28,800 images seen, batches of 16) in "
        "4.7 minutes on 2 × cpu (Some, 1 threads), seed 0. Commit c0ffee." in text
    )
    assert (
        "Data set faces32: 10,000 images, avatars <b>. Made by Somebody. Licence: CC BY 4.0."
        in text
    )
    assert "Above: images of the data set. Below: samples" in text


def test_numbers_stand_beside_their_floor(page):
    text = str(Text(page()))
    assert (
        "fid ↓ protocol fid50k distance between the distributions of images 2.31 ± 0.31 0.800 2.046 ≈ "
        "50,000 × 2, 50,000" in text
    )
    assert (
        "Real images are the floor, what a perfect generator would get: halves of the reals."
        in text
    )
    assert "to held-out" not in text
    assert " 2.31 ± 0.31 2.50 0.800 " in str(Text(page(held_out=2.5)))


def test_an_attribute_says_how_well_it_can_be_read_and_what_is_missing(tmp_path, published):
    metrics = table(fid(), floor(), published=published).head(2).astype(object)
    metrics.loc[0, ["metric", "note"]] = ["attribute_tv_hairColor_inception", "no white hair"]
    metrics.loc[1, ["metric", "value"]] = ["attribute_accuracy_hairColor_inception", 0.755]
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    path = tmp_path / "page.html"
    rows = MetricRow.of(metrics)
    write_overview(path, FFHQ256, rows, TRAINED, [DATA], tmp_path / "picture.png")
    text = str(Text(path.read_text()))
    assert "right for 76% of real images no white hair 2.31 2.046" in text
    assert "accuracy" not in text


def test_a_table_without_a_snapshot_is_refused(page):
    with pytest.raises(UserError, match="ffhq256: the table of metrics holds no snapshot"):
        page(kind="floor")


def test_held_out_images_are_said_to_be(page):
    text = str(Text(page(datasets=(DATA, HELD_OUT))))
    assert "images of the data set, none of which was trained on." in text
    assert "Held out: 900 more, from the same source." in text


def test_weights_from_elsewhere_have_no_training(page):
    text = str(Text(page(training=None)))
    assert "48.9 M parameters, measured here; measured with commit c0ffee." in text
    assert "trained for" not in text


def test_the_page_can_be_put_into_another(page):
    text = page()
    assert "<script" not in text and not re.search(r"(src|href)=\"(?!data:)", text)
    selectors = re.findall(r"^([^{}@\n]+)\{", STYLE + markup.STYLE, re.MULTILINE)
    inside = (".overview", ".results")
    assert all(one.strip().startswith(inside) for s in selectors for one in s.split(","))


def test_the_length_of_a_training_is_that_of_its_iterations():
    lines = [
        {"images_seen": 800, "images_per_second": 100.0},
        {"images_seen": 1600, "images_per_second": 50.0},
    ]
    assert training_of(pd.DataFrame(lines), 16) == Training(100, 1600, 24.0, None)
    lines = [line | {"device": "cpu", "processes": 2} for line in lines]
    assert training_of(pd.DataFrame(lines), 16).device == "2 × cpu"


def images(path, count: int, side: int) -> np.ndarray:
    made = np.random.default_rng(0).integers(0, 255, (count, side, side, 3), dtype=np.uint8)
    write_store(path, list(made), {"name": "reals"})
    return made


def test_the_picture_shows_the_first_reals_above_the_first_samples(weights, tmp_path):
    generator = load_generator(weights)
    side = generator.config.image_size
    reals = images(tmp_path / "r.lmdb", 40, side)
    output = tmp_path / "compare.png"
    arguments = {"weights": weights, "output": output, "device": "cpu"}
    compare.run(data=tmp_path / "r.lmdb", **arguments)
    with Image.open(output) as image:
        assert image.text["seeds"] == "0-31" and image.text["reals"] == "reals 0-31"
        canvas = np.asarray(image.convert("RGB"))
    samples = list(generate(generator, range(32)))
    first, last = (find(fit(picture), canvas) for picture in (reals[0], reals[31]))
    below, end = (find(fit(picture), canvas) for picture in (samples[0], samples[31]))
    assert first[1] == below[1] < last[1] == end[1], "columns"
    assert first[0] < last[0] < below[0] < end[0], "rows"


def test_too_few_reals_are_refused(weights, tmp_path):
    images(tmp_path / "r.lmdb", 3, 16)
    with pytest.raises(UserError, match="holds 3 images; the picture needs 32"):
        compare.run(
            data=tmp_path / "r.lmdb", weights=weights, output=tmp_path / "x.png", device="cpu"
        )
