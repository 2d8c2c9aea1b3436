"""Tables and figures: what they say, what they refuse to compare, and that they need no torch."""

import itertools
import json
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from stylenat.errors import UserError
from stylenat.report import style
from stylenat.report.curves import draw_training, read_training
from stylenat.report.measured import read_measured
from stylenat.report.page import write_page
from stylenat.report.published import Reference, read_published, reference
from stylenat.report.scatter import PARAMETERS, THROUGHPUT, draw_fid_scatter
from tests.project import PUBLISHED_CSV
from tests.records import CPU, FFHQ256, fid, floor, lite0, speed, speeds, table
from tests.tiny import experiment


@pytest.fixture
def result_tables(tmp_path, published) -> list[Path]:
    """Tables of a model on FFHQ-256 and of one on the embedded data, as files."""
    demo = experiment("galaxies32", "galaxies32", 32)
    cpu = {"experiment": "galaxies32", "device": CPU, "parameters": 240_000}
    frames = {
        "ffhq256_fid": table(fid(value=4.0, step=200), fid(), floor(), published=published),
        "ffhq256_throughput": speeds(speed(), experiments=[FFHQ256], published=published),
        "galaxies32_fd_lite0": table(
            lite0(value=1600.0, step=0), lite0(value=300.0), lite0(kind="floor", step=None, value=24.0),
            published=published,
        ),
        "galaxies32_throughput": speeds(
            speed(**cpu, protocol="upstream", batch_size=1), speed(**cpu, batch_size=16),
            speed(**cpu, timed="w to image", batch_size=16),
            experiments=[demo], published=published,
        ),
    }  # fmt: skip
    for name, frame in frames.items():
        frame.to_csv(tmp_path / f"{name}.csv", index=False)
    return [tmp_path / f"{name}.csv" for name in frames]


def test_published_values_of_stylenat(published):
    assert reference(published, "ffhq256", 256) == Reference(fid=2.046, below=2.10)
    assert reference(published, "ffhq1024", 1024) == Reference(fid=4.174, below=None)
    assert reference(published, "church256", 256) == Reference(fid=3.400, below=None)
    assert reference(published, "celebahq256", 256) is None
    assert reference(published, "ffhq256", 1024) is None


def test_fid_table_in_full(published):
    frame = table(
        floor(),
        fid(protocol="fid50k_full", n_real=70_000, value=2.25),
        fid(),
        fid(step=200, images_seen=3200, value=4.0),
        published=published,
    )
    ours = frame[frame["kind"] != "published"]
    shown = [
        "kind",
        "protocol",
        "step",
        "images_seen",
        "value",
        "published",
        "difference",
        "verdict",
    ]
    assert ours[shown].astype(object).where(ours[shown].notna(), None).values.tolist() == [
        ["snapshot", "fid50k", 200, 3200, 4.0, 2.046, 1.954, "comparable"],
        ["snapshot", "fid50k", 400, 6400, 2.31, 2.046, 0.264, "comparable"],
        ["snapshot", "fid50k_full", 400, 6400, 2.25, None, None,
         "not comparable: 70,000 real images, published with 50,000"],
        ["floor", "fid50k", None, None, 0.8, None, None,
         "floor: 35,000 reals against 35,000 reals, what this protocol gives for real images alone"],
    ]  # fmt: skip
    row = ours.iloc[1]
    assert row["params_m"] == 48.921
    assert row["versions"] == "python 3.12.0, torch 2.6.0"
    assert row["method"] == "StyleNAT (ours)"
    literature = frame[frame["kind"] == "published"]
    known = [row for row in published if row.trust != "low"]
    assert len(literature) == sum(row.dataset_name == "ffhq256" for row in known)
    assert literature["value"].is_monotonic_increasing
    assert literature["source"].str.len().min() > 0
    assert literature["published"].isna().all()


@pytest.mark.parametrize(
    ("value", "verdict"),
    [
        (2.0999, "not told apart from the bound of upstream's claim (< 2.10)"),
        (2.08, "within upstream's claim (< 2.10)"),
        (2.12, "outside upstream's claim (< 2.10)"),
    ],
)
def test_verdict_on_published_weights(published, value, verdict):
    several = [value - 0.005, value + 0.005]
    record = fid(checkpoint="FFHQ256.pt", value=value, values=several)
    row = table(record, published=published).iloc[0]
    assert row["verdict"] == verdict
    assert row["method"] == "StyleNAT (published weights)"
    assert row["source"] == "measured here, weights from FFHQ256.pt"


def test_one_sampling_set_has_no_interval(published):
    row = table(fid(checkpoint="FFHQ256.pt", value=2.05), published=published).iloc[0]
    assert row["verdict"] == "within upstream's claim (< 2.10), by one sampling set"


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"filter": "box"}, "filtered by box"),
        ({"n_generated": 10_000}, "10,000 generated images"),
        ({"dataset": "mine256"}, "no published StyleNAT value"),
    ],
)
def test_other_protocols_get_no_difference(published, changes, reason):
    row = table(fid(checkpoint="FFHQ256.pt", **changes), published=published).iloc[0]
    assert reason in row["verdict"]
    assert pd.isna(row["published"]) and pd.isna(row["difference"])


def test_fd_lite0_is_never_compared_with_fid(published):
    # Even on a data set for which FID is published.
    frame = table(lite0(dataset="ffhq256", resolution=256), published=published)
    assert frame["kind"].tolist() == ["snapshot"]
    assert frame["published"].isna().all() and frame["difference"].isna().all()
    assert frame["verdict"].tolist() == ["fd_lite0 is not FID: no published value"]


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (fid(step=800, filter="box"), "filter is 'lanczos' in 0.json but 'box' in 1.json"),
        (fid(step=800, weights_sha256="00"), "weights_sha256 is '67' in 0.json"),
        (fid(step=800, dataset_sha256="00"), "dataset_sha256 is 'da' in 0.json"),
        (fid(step=800, extractor="lite0"), "1.json: extractor is 'lite0'"),
        (fid(step=800, metric="fd_lite0"), "1.json: metric is 'fd_lite0'"),
        (fid(step=800, dataset="church256"), "1.json: dataset is 'church256'"),
        (fid(step=800, resolution=1024), "1.json: resolution is 1024"),
        (fid(step=800, experiment="other"), "1.json: experiment is 'other'"),
        (fid(step=800, value=float("nan")), "1.json: value is nan"),
        (fid(value=2.0), "1.json and 0.json are the same measurement"),
        ({"experiment": "ffhq256"}, "1.json: its dataset: is missing; measure again."),
    ],
)
def test_mismatching_records_are_refused(published, second, message):
    with pytest.raises(UserError, match=re.escape(message)):
        table(fid(), second, published=published)


def test_throughput_says_what_is_comparable(published):
    records = [speed(), speed(batch_size=1), speed(dtype="tf32"), speed(device=CPU)]
    frame = speeds(*records, experiments=[FFHQ256], published=published)
    ours = frame[frame["kind"] == "measured"]
    assert ours["batch_size"].tolist() == [64, 1, 64, 64]
    assert ours["params_m"].tolist() == [48.921] * 4
    assert ours["comparable"].str.startswith("with StyleNAT (naive NA kernels").tolist() == [
        True, False, False, False,
    ]  # fmt: skip
    literature = frame[frame["kind"] == "published"].set_index("method")
    assert literature.loc["StyleNAT", "comparable"] == "no: hardware not stated"
    fused = literature.loc["StyleNAT (fused NA kernels, batch 64)"]
    assert fused["comparable"] == "yes: same device, dtype and batch size"
    assert (fused["device"], fused["dtype"], fused["batch_size"]) == ("A100", "float32", 64)
    assert fused["images_per_second"] == 45.5
    elsewhere = speeds(speed(device=CPU), experiments=[FFHQ256], published=published)
    assert not elsewhere["comparable"].str.startswith(("yes", "with")).any()


def test_throughput_of_another_experiment_is_refused(published):
    with pytest.raises(UserError, match="experiment is 'other', not 'ffhq256'"):
        speeds(speed(experiment="other"), experiments=[FFHQ256], published=published)


def test_a_published_table_that_is_not_one_is_refused(tmp_path):
    text = PUBLISHED_CSV.read_text()
    path = tmp_path / "published.csv"
    path.write_text(text.replace("fid,params_m", "fid,parameters"))
    with pytest.raises(UserError, match="not a table of published results"):
        read_published(path)
    path.write_text(text.replace(",primary,", ",hearsay,"))
    with pytest.raises(UserError, match="trust is 'hearsay'"):
        read_published(path)
    path.write_text(text.replace('"A100, FP32, batch 64"', "a fast one"))
    with pytest.raises(UserError, match="'a fast one' cannot be read"):
        speeds(speed(), experiments=[FFHQ256], published=read_published(path))


def test_page_shows_every_row_and_escapes(tmp_path, published):
    frame = table(fid(commit="<script>"), floor(), published=published)
    write_page(tmp_path / "page.html", frame, "ffhq256: fid")
    text = (tmp_path / "page.html").read_text()
    assert text.count("<tr class=") == len(frame)
    assert "&lt;script&gt;" in text and "<script>" not in text
    assert ">6400<" in text and ">nan<" not in text and ">&lt;NA&gt;<" not in text


def test_figures_keep_our_distances_apart_from_fid(published, result_tables):
    measured = read_measured(result_tables)
    for quantity in (PARAMETERS, THROUGHPUT):
        with style.styled():
            figure = draw_fid_scatter(quantity, published, measured)
        panels = {
            ax.get_title(loc="left"): " ".join(text.get_text() for text in ax.texts)
            for ax in figure.axes
        }
        own = "Our models on galaxies32 (32²)\nfd_lite0, not FID"
        assert [title for title, text in panels.items() if "galaxies32" in text] == [own]
        assert [title for title, text in panels.items() if "ffhq256" in text] == ["FFHQ 256²"]
        for name in ("StyleNAT", "StyleSwin", "HiT-L", "StyleGAN-XL"):
            assert name in panels["FFHQ 256²"]
            assert name not in panels[own]


def test_figures_show_the_last_snapshot_where_it_was_measured(published, result_tables):
    measured = {ours.experiment: ours for ours in read_measured(result_tables)}
    assert measured["ffhq256"].values == (4.0, 2.31)
    assert measured["ffhq256"].comparable and not measured["galaxies32"].comparable
    assert measured["galaxies32"].floor.value == 24.0
    assert measured["galaxies32"].params_m == 0.24
    assert [s.batch_size for s in measured["galaxies32"].speeds] == [16]  # not upstream's protocol
    with style.styled():
        figure = draw_fid_scatter(PARAMETERS, published, [measured["ffhq256"]])
    points = [tuple(line.get_xydata()[0]) for line in figure.axes[0].lines]
    assert (48.921, 2.31) in points and (48.92, 2.046) in points
    assert not any(y == 4.0 for _, y in points)


def test_a_panel_needs_two_methods_or_ours(published, tmp_path):
    """FFHQ-1024's published throughput is StyleNAT's alone."""
    names = {"experiment": "big", "dataset": "ffhq1024", "resolution": 1024}
    table(fid(**names, value=4.17), published=published).to_csv(tmp_path / "f.csv", index=False)
    speeds(
        speed(experiment="big"), experiments=[experiment(*names.values())], published=published
    ).to_csv(tmp_path / "t.csv", index=False)
    measured = read_measured([tmp_path / "f.csv", tmp_path / "t.csv"])
    for ours, titles in (([], ["FFHQ 256²"]), (measured, ["FFHQ 256²", "FFHQ 1024²"])):
        with style.styled():
            figure = draw_fid_scatter(THROUGHPUT, published, ours)
        assert [ax.get_title(loc="left") for ax in figure.axes] == titles


def test_a_model_whose_parameters_nobody_counted_is_left_out(published, tmp_path):
    frame = table(fid(parameters=None), published=published)
    frame.to_csv(tmp_path / "ffhq256_fid.csv", index=False)
    with style.styled():
        figure = draw_fid_scatter(
            PARAMETERS, published, read_measured([tmp_path / "ffhq256_fid.csv"])
        )
    assert not any("ffhq256" in text.get_text() for ax in figure.axes for text in ax.texts)


@pytest.mark.parametrize("quantity", [PARAMETERS, THROUGHPUT], ids=lambda q: q.column)
@pytest.mark.parametrize("own", [False, True], ids=["published", "with ours"])
def test_labels_overlap_nothing(published, result_tables, quantity, own):
    with style.styled():
        figure = draw_fid_scatter(quantity, published, read_measured(result_tables) if own else [])
    renderer = figure.canvas.get_renderer()
    for ax in figure.axes:
        boxes = {
            text.get_text(): text.get_window_extent(renderer)
            for text in ax.texts
            if text.get_text()
        }
        assert boxes
        frame = ax.get_window_extent(renderer)
        for name, box in boxes.items():
            assert frame.x0 <= box.x0 and box.x1 <= frame.x1, name
            assert frame.y0 <= box.y0 and box.y1 <= frame.y1, name
        for (name, first), (other, second) in itertools.combinations(boxes.items(), 2):
            assert not first.overlaps(second), f"{name!r} on {other!r}"


def test_figure_files_from_published_rows_alone(tmp_path):
    outputs = [tmp_path / f"{name}.{kind}" for name in "pt" for kind in ("svg", "png")]
    command = [
        "--published", PUBLISHED_CSV, "--tables", "--fid-vs-params", *outputs[:2],
        "--fid-vs-throughput", *outputs[2:],
    ]  # fmt: skip
    run_step("figures", *command)
    for path in outputs[1::2]:
        assert path.read_bytes().startswith(b"\x89PNG")
    params, throughput = (path.read_text() for path in outputs[::2])
    for text in (params, throughput):
        assert {"StyleNAT", "StyleSwin", "HiT-L", "StyleGAN-XL"} <= labels_of(text)
    assert {"FFHQ 256²", "FFHQ 1024²", "HDiT-85M", "FID 53.52"} <= labels_of(params)
    assert {"fused NA kernels", "area of a bubble: 50 M parameters"} <= labels_of(throughput)
    first = outputs[0].read_bytes()
    run_step("figures", *command)
    assert outputs[0].read_bytes() == first


def test_tables_step_writes_csv_and_page(tmp_path):
    (tmp_path / "experiment.json").write_text(json.dumps(FFHQ256.to_dict()))
    for name, record in (("400", fid()), ("floor", floor())):
        (tmp_path / f"{name}.json").write_text(json.dumps([record]))
    run_step(
        "tables", "--table", "fid", "--experiment", tmp_path / "experiment.json",
        "--records", tmp_path / "floor.json", tmp_path / "400.json",
        "--published", PUBLISHED_CSV, "--output", tmp_path / "t.csv", "--html", tmp_path / "t.html",
    )  # fmt: skip
    first = (tmp_path / "t.csv").read_text().splitlines()[1]
    assert first.startswith(
        "ffhq256,ffhq256,256,fid,StyleNAT (ours),snapshot,400,6400,last,fid50k,fid,lower,2.31,,,2.31,1"
        ",,,,,,50000,50000,,2.046,0.264,comparable,48.921,0-49999,inception,67,lanczos,da,9e,"
    )
    assert "<td" in (tmp_path / "t.html").read_text()


def write_segment(path: Path, steps: range) -> Path:
    lines = [
        {
            "step": step, "images_seen": 16 * step, "loss_d": 1.2, "loss_g": 0.9, "d_real": 0.3,
            "d_fake": -0.3, "bcr": 0.01, "grad_norm_d": 2.0, "images_per_second": 90.0,
        } | ({"r1": 0.1} if step % 100 == 0 else {})
        for step in steps
    ]  # fmt: skip
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_training_records_join_segments_and_tolerate_missing_keys(tmp_path):
    later = write_segment(tmp_path / "400.jsonl", range(250, 401, 50))
    earlier = write_segment(tmp_path / "200.jsonl", range(50, 201, 50))
    training = read_training([later, earlier])
    assert training["step"].tolist() == list(range(50, 401, 50))
    assert training["r1"].notna().sum() == 4
    with style.styled():
        figure = draw_training(training.drop(columns="bcr"), [])
    titles = [ax.get_title(loc="left") for ax in figure.axes]
    assert titles == [
        "Losses", "Discriminator's logits", "Penalties, unweighted", "Gradient norm",
        "Training speed (images/s)",
    ]  # fmt: skip


def test_curve_step_shows_the_snapshots_above_the_floor(tmp_path):
    records = write_segment(tmp_path / "400.jsonl", range(50, 401, 50))
    metrics = []
    for name, record in {
        "0": lite0(step=0, images_seen=0, value=1600.0),
        "400": lite0(value=300.0),
        "floor": lite0(kind="floor", step=None, images_seen=None, value=24.0),
    }.items():
        metrics.append(tmp_path / f"{name}.json")
        metrics[-1].write_text(json.dumps([record]))
    outputs = [tmp_path / "training.svg", tmp_path / "training.png"]
    run_step("curve", "--records", records, "--metrics", *metrics, "--outputs", *outputs)
    assert {"fd_lite0 of snapshots", "floor", "Losses", "real", "R1"} <= labels_of(
        outputs[0].read_text()
    )
    assert outputs[1].read_bytes().startswith(b"\x89PNG")


def test_a_broken_training_record_is_named(tmp_path):
    path = write_segment(tmp_path / "200.jsonl", range(50, 201, 50))
    path.write_text(path.read_text() + '{"step": 25')
    with pytest.raises(UserError, match=r"200\.jsonl, line 5"):
        read_training([path])
    path.write_text("")
    with pytest.raises(UserError, match="empty"):
        read_training([path])
    with pytest.raises(UserError, match="300.jsonl does not exist"):
        read_training([tmp_path / "300.jsonl"])


def labels_of(svg: str) -> set[str]:
    """Texts of a figure: matplotlib notes each beside its outlines."""
    return set(re.findall(r"<!-- (.*?) -->", svg))


def run_step(name: str, *arguments) -> None:
    """Run a step in a process of its own, which must not have loaded torch at the end."""
    code = (
        f"import sys; from stylenat.steps import {name}; {name}.main();"
        "assert 'torch' not in sys.modules, 'torch was imported'"
    )
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], check=True)
