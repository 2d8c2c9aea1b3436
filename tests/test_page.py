"""Result tables as people read them: rounding, marks, charts, and what every row has in common."""

import re

import pandas as pd
import pytest

from stylenat.report.markup import chart, mark, rounded
from stylenat.report.page import write_page
from tests.outputs import Text
from tests.records import FFHQ256, fid, floor, lite0, speed, speeds, table
from tests.tiny import experiment

HELD_OUT = {"held_out_values": [2.5], "held_out_uncertainty": 0.04, "n_real_held_out": 852}
FLOOR = {"kind": "floor", "step": None, "floor_of": "held-out", "n_real": 852}


@pytest.fixture
def page(tmp_path):
    """A function that writes a page: its HTML, and its text without the table of everything."""

    def write(frame: pd.DataFrame, title: str = "ffhq256: fid") -> tuple[str, str]:
        write_page(tmp_path / "page.html", frame, title)
        html = (tmp_path / "page.html").read_text()
        return html, str(Text(html.partition('<div class="all">')[0]))

    return write


@pytest.mark.parametrize(
    ("value", "margin", "expected"),
    [
        (624.2086, 9.3053, "624.2 ± 9.3"),
        (0.000911458, 0.0003, "0.00091 ± 0.00030"),
        (271.2, 442.4, "271 ± 442"),
        (2.31, None, "2.31"),
        (0.0, 0.0, "0.00 ± 0"),
        (3536.43, None, "3536.4"),
        (None, 1.0, ""),
    ],
)
def test_values_are_rounded_by_their_intervals(value, margin, expected):
    assert rounded(value, margin) == expected


def test_a_difference_is_told_apart_by_both_intervals():
    assert mark(5.1, 3.0, 4.0) == "≠" and mark(-4.9, 3.0, 4.0) == "≈"
    assert mark(5.1, None, 4.0) == "", "not known"


def test_a_row_is_a_metric_with_marks(page, published):
    sure = {"uncertainty": 0.05}
    records = [lite0(**sure, **HELD_OUT, held_out=2.5), lite0(**FLOOR, **sure, value=2.25)]
    _, text = page(table(*records, published=published, name="metrics"))
    # Twice the standard errors; between two values, the root of both squares.
    assert "2.31 ± 0.10 2.500 ± 0.080 ≠ 2.25 ± 0.10 ≈ 2,048, 852" in text
    assert "held-out reals against the reference" in text
    fewer = HELD_OUT | {"n_real_held_out": 400}
    records = [lite0(**sure, **fewer, held_out=2.5), lite0(**FLOOR | {"n_real": 400}, value=2.0)]
    _, text = page(table(*records, published=published, name="metrics"))
    assert "2.31 ± 0.10 2.500 ± 0.080 2.00 2,048, 852" in text, "other counts are not compared"


def test_common_facts_stand_above_once_and_everything_behind_a_toggle(page, published):
    precision = {"protocol": "prdc50k", "metric": "precision_inception", "better": "higher"}
    frame = table(fid(), fid(**precision), floor(), published=published, name="metrics")
    html, text = page(frame)
    for fact in ("data set ffhq256", "filter lanczos", "commit c0ffee", "iterations 400"):
        assert text.count(fact) == 1
    assert "precision_ inception ↑" in text and "fid ↓" in text
    assert "<script" not in html and 'name="viewport"' in html
    hidden = html.partition('<div class="all">')[2]
    shown = frame.dropna(axis="columns", how="all").columns
    assert all(f"<th>{column}</th>" in hidden for column in shown)


def test_snapshots_are_a_chart_and_say_whether_the_last_is_told_apart(page, published):
    values = {0: 380.0, 200: 2.0, 300: 2.3, 400: 2.31}
    records = [fid(step=s, value=v, uncertainty=0.03) for s, v in values.items()]
    html, text = page(table(*records, published=published))
    assert html.count("<svg") == 1 and html.count("<circle") == 4
    assert "best by this number, 200: 2.000 ± 0.060 ≠ before, 300: 2.300 ± 0.060 ≈" in text
    heights = [float(y) for y in re.findall(r'cy="([\d.]+)"', html)]
    assert heights[0] == min(heights) and heights[1] == max(heights), "up is more"
    assert heights[3] - heights[0] > 0.9 * (heights[1] - heights[0]), "logarithmic"
    assert chart([(400, 2.31, 0.1)]) == ""


def test_weights_from_elsewhere_whose_step_nobody_knows_have_a_page(page, published):
    converted = fid(step=None, images_seen=None, checkpoint="FFHQ256.pt")
    _, text = page(table(converted, floor(), published=published))
    assert "network StyleNAT (published weights)" in text and "2.31 0.800 2.046" in text
    assert "iterations" not in text


def test_published_values_are_marked_where_they_compare(page, published):
    _, text = page(table(fid(uncertainty=0.03), published=published))
    assert "2.310 ± 0.060 2.046 ≠" in text
    assert re.search(r"StyleSwin 2\.81 ≠ .*? as reported, primary", text)
    _, text = page(table(fid(uncertainty=0.03, n_real=70_000), published=published))
    assert "≠" not in text.partition("Published")[2]


def test_generators_side_by_side_are_told_apart_by_their_quartiles(page, published):
    names = ("ffhq256", "other", "third")
    records = [
        speed(images_per_second=v, images_per_second_q25=v - 2, images_per_second_q75=v + 2)
        | {"experiment": name}
        for name, v in zip(names, (50.0, 53.0, 100.0), strict=True)
    ]
    owners = [experiment(name, "ffhq256", 256) for name in names]
    frame = speeds(*records, experiments=owners, published=published)
    _, text = page(frame, "side by side")
    assert "48.0 to 52.0" in text and "× 1.06 ≈" in text and "× 2.00 ≠" in text
    _, text = page(speeds(records[0], experiments=[FFHQ256], published=published))
    assert "×" not in text and "device cuda:0 (NVIDIA A100-SXM4-80GB)" in text
