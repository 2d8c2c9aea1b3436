"""Metric tables: sampling sets, selected snapshots, and every metric of the last one."""

import pandas as pd
import pytest

from stylenat.errors import UserError
from stylenat.report.measured import read_measured, read_table
from stylenat.report.progress import draw_progress
from stylenat.report.rows import MetricRow
from stylenat.report.scatter import PARAMETERS, draw_fid_scatter
from stylenat.report.style import styled
from tests.records import fid, floor, lite0, table


def test_several_sampling_sets_are_a_mean_with_its_spread(published):
    frame = table(
        fid(step=200, value=2.5), fid(value=2.2, values=[2.1, 2.2, 2.3], seeds=["a", "b", "c"]),
        published=published,
    )  # fmt: skip
    one, three = frame[frame["kind"] == "snapshot"].to_dict("records")
    assert (one["value"], one["minimum"], one["sets"]) == (2.5, 2.5, 1) and pd.isna(one["std"])
    assert (three["value"], three["minimum"], three["sets"]) == (2.2, 2.1, 3)
    assert three["std"] == pytest.approx(0.1), "divided by n - 1"
    assert three["difference"] == pytest.approx(0.154), "of the mean, not of the luckiest set"
    assert three["seeds"] == "a; b; c"


def test_the_snapshot_selected_by_its_value_is_said_to_be(published):
    steps = {100: 5.0, 200: 2.0, 300: 3.0}
    # The last one's first set alone is comparable with the single sets of the others.
    records = [fid(step=step, value=value) for step, value in steps.items()]
    records[-1] |= {"values": [3.0, 1.0], "value": 2.0}
    frame = table(*records, floor(), published=published).set_index("step", drop=False)
    assert frame["selection"].dropna().to_dict() == {
        200: "best of 3, selected by this metric", 300: "last",
    }  # fmt: skip
    falling = [fid(step=step, value=5 - step / 100) for step in steps]
    frame = table(*falling, published=published)
    assert frame["selection"].dropna().tolist() == ["last, and the best of 3"]
    frame = table(fid(checkpoint="FFHQ256.pt"), published=published)
    assert frame["selection"].dropna().tolist() == ["by its authors"]


def test_fid_of_images_resized_in_another_way_is_not_held_against_published_values(published):
    other = fid(protocol="fid50k_tf1", extractor="inception_tf1", weights_sha256="67", value=2.4)
    frame = table(fid(), other, published=published)
    assert frame["verdict"].tolist()[:2] == [
        "comparable",
        "not comparable: in the features of inception_tf1",
    ]


def test_the_highest_recall_is_the_best(published):
    names = {"protocol": "prdc_lite0", "metric": "recall_lite0", "better": "higher"}
    records = [lite0(**names, step=s, value=v) for s, v in ((1, 0.2), (2, 0.7), (3, 0.5))]
    frame = table(*records, published=published, name="metrics")
    best = frame[frame["selection"].str.startswith("best", na=False)]
    assert best["value"].tolist() == [0.7]


def test_one_table_of_everything_about_the_last_snapshot(published):
    precision = {"protocol": "prdc_lite0", "metric": "precision_lite0", "better": "higher"}
    kid = {"protocol": "kid_lite0", "metric": "kid_lite0"}
    of_floor = {"kind": "floor", "step": None}
    records = [
        lite0(), lite0(**of_floor, value=24.0), lite0(**precision, value=0.5),
        lite0(**kid, value=0.1), lite0(**kid, **of_floor, value=0.01),
        lite0(**precision, **of_floor, value=0.8),
    ]  # fmt: skip
    frame = table(*records, published=published, name="metrics")
    assert frame[["metric", "kind", "value", "better"]].values.tolist() == [
        ["fd_lite0", "snapshot", 2.31, "lower"], ["fd_lite0", "floor", 24.0, "lower"],
        ["precision_lite0", "snapshot", 0.5, "higher"], ["precision_lite0", "floor", 0.8, "higher"],
        ["kid_lite0", "snapshot", 0.1, "lower"], ["kid_lite0", "floor", 0.01, "lower"],
    ]  # fmt: skip
    assert set(frame["table"]) == {"metrics"} and set(frame["protocol"]) > {"prdc_lite0"}
    dinov2 = {"metric": "fd_dinov2", "extractor": "dinov2", "weights_sha256": "d1"}
    table(lite0(), lite0(**dinov2), published=published, name="metrics")
    with pytest.raises(UserError, match="weights_sha256 is 'd1' in 1.json but '67' in 2.json"):
        other = lite0(**dinov2 | {"protocol": "p", "weights_sha256": "67"})
        table(lite0(), lite0(**dinov2), other, published=published, name="metrics")
    with pytest.raises(UserError, match="0.json: extractor is 'dinov2'.* the table fd_dinov2"):
        table(lite0(extractor="dinov2"), published=published, name="fd_lite0")


def test_held_out_reals_are_a_column_and_the_floor_says_what_it_compares(published):
    against = {
        "held_out": 2.5,
        "held_out_values": [2.4, 2.6],
        "held_out_uncertainty": 0.1,
        "n_real_held_out": 10_000,
    }
    of_floor = {"kind": "floor", "step": None, "value": 0.6, "n_generated": 10_000}
    frame = table(
        lite0(**against), lite0(**of_floor, floor_of="held-out", n_real=8000), published=published
    )
    columns = [*frame.columns]
    assert columns.index("held_out") == columns.index("value") + 1
    snapshot, floor = frame.to_dict("records")
    assert (snapshot["value"], snapshot["held_out"], snapshot["n_real_held_out"]) == (
        2.31, 2.5, 10_000,
    )  # fmt: skip
    assert snapshot["held_out_std"] == pytest.approx(0.2 / 2**0.5)
    assert snapshot["held_out_uncertainty"] == 0.1
    assert floor["method"] == "held-out reals against the reference"
    assert floor["verdict"] == (
        "floor: 10,000 held-out reals against 8,000 reals, "
        "what this protocol gives for real images alone"
    )
    assert pd.isna(floor["held_out"]) and pd.isna(floor["n_real_held_out"])

    halves = table(lite0(), lite0(**of_floor, floor_of="halves"), published=published)
    assert halves["method"].tolist()[1] == "halves of the reals"
    assert halves["verdict"].tolist()[1].startswith("floor: 10,000 reals against 852 reals, ")
    assert halves["held_out"].isna().all()


def test_figures_say_which_floor_they_draw(published, tmp_path):
    of_floor = {"kind": "floor", "step": None, "images_seen": None}
    for name, floor_of in (("a", "held-out"), ("b", "halves")):
        frame = table(lite0(), lite0(**of_floor, floor_of=floor_of), published=published)
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    held_out, halves = read_measured([tmp_path / "a.csv", tmp_path / "b.csv"])
    for ours, label in (
        (held_out, "floor: held-out reals against the reference"),
        (halves, "floor: halves of the reals"),
    ):
        with styled():
            (ax,) = draw_progress([ours], published).axes
            figure = draw_fid_scatter(PARAMETERS, published, [ours])
        assert label in [line.get_label() for line in ax.lines]
        legend = " ".join(text.get_text() for text in figure.legends[0].texts)
        assert label in " ".join(legend.split())


def test_notes_of_attributes_are_in_the_table(published):
    names = {"protocol": "attributes_lite0", "metric": "attribute_tv_hairColor_lite0"}
    note = "no samples with hair colour white (#e8e1e1; 3.2 % of the reals)"
    accuracy = names | {"metric": "attribute_accuracy_hairColor_lite0", "better": "higher"}
    floor = {"kind": "floor", "step": None, "floor_of": "held-out"}
    frame = table(
        lite0(**names, note=note), lite0(**names, **floor), lite0(**accuracy, **floor),
        published=published, name="metrics",
    )  # fmt: skip
    assert frame["note"].dropna().tolist() == [note]
    assert frame[["metric", "kind"]].values.tolist() == [
        [names["metric"], "snapshot"], [names["metric"], "floor"], [accuracy["metric"], "floor"],
    ]  # fmt: skip


def test_fid_is_held_against_the_published_value_wherever_it_is_listed(published):
    infinity = fid(protocol="fid50k_infinity", metric="fid_infinity", value=2.1)
    frame = table(fid(), infinity, published=published, name="metrics").set_index("metric")
    assert frame.loc["fid", "difference"] == 0.264
    assert pd.isna(frame.loc["fid_infinity", "published"])
    assert frame.loc["fid_infinity", "verdict"] == "fid_infinity is not FID: no published value"


def test_a_table_without_rows_is_refused(published, tmp_path):
    table(fid(), published=published).head(0).to_csv(tmp_path / "a.csv", index=False)
    with pytest.raises(UserError, match="a.csv is not a result table of ours"):
        read_measured([tmp_path / "a.csv"])


def test_a_commit_that_looks_like_a_number_stays_text(published, tmp_path):
    table(fid(commit="012e45"), published=published).to_csv(tmp_path / "a.csv", index=False)
    assert MetricRow.of(read_table(tmp_path / "a.csv"))[0].commit == "012e45"


def test_figures_take_no_values_from_the_table_of_all_metrics(published, tmp_path):
    table(fid(), published=published).to_csv(tmp_path / "a.csv", index=False)
    table(fid(), published=published, name="metrics").to_csv(tmp_path / "b.csv", index=False)
    assert len(read_measured([tmp_path / "a.csv", tmp_path / "b.csv"])) == 1
