"""The throughput table: what compares with what, and why not."""

import json
import subprocess
import sys

import pandas as pd
import pytest

from stylenat.config import ExperimentConfig
from stylenat.errors import UserError
from stylenat.report.rows import model_name
from tests.project import PUBLISHED_CSV
from tests.records import CPU, FFHQ256, speed, speeds
from tests.tiny import experiment

WINDOWS = {"block": "windows", "kernels": [[4], *[[8]] * 8], "dilations": [[1]] * 9}
MIXED = {"block": ["full"] * 3 + ["hydra"] * 4}


def variant(name: str, change: dict) -> ExperimentConfig:
    return experiment(name, "ffhq256", 256, model=change)


def test_methods_are_named_after_their_blocks():
    names = [model_name(variant("x", change).model) for change in ({}, WINDOWS, MIXED)]
    assert names == ["StyleNAT", "StyleSwin", "full 4² to 16², hydra 32² to 256²"]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({}, "with StyleNAT (naive NA kernels, batch 64), StyleNAT (GEMM NA kernels, batch 64), "),
        ({"batch_size": 1}, "no published row: the nearest has batch size 64"),
        ({"dtype": "tf32"}, "no published row: the nearest is in float32"),
        ({"timed": "w to image"}, "no published row: the nearest times z to image"),
        (
            {"device": CPU, "batch_size": 1},
            "no published row: the nearest is on A100, has batch size 64",
        ),
    ],
)
def test_a_measured_row_says_what_keeps_it_from_the_nearest(published, change, reason):
    frame = speeds(speed(**change), experiments=[FFHQ256], published=published)
    assert frame["comparable"].iloc[0].startswith(reason)


def test_nothing_published_is_said(published):
    own = experiment("mine", "mine64", 64)
    frame = speeds(speed(experiment="mine"), experiments=[own], published=published)
    assert frame["comparable"].tolist() == ["no published value for this data set and resolution"]


def test_several_experiments_share_a_table(published):
    experiments = [FFHQ256, variant("swin", WINDOWS), variant("full16", MIXED)]
    records = [
        speed(experiment=it.name, device=CPU, step=None, parameters=48_000_000 + n)
        for n, it in enumerate(experiments)
    ]
    frame = speeds(*records, experiments=experiments, published=published)
    ours = frame[frame["kind"] == "measured"]
    assert ours["experiment"].tolist() == ["ffhq256", "swin", "full16"]
    assert ours["method"].tolist()[:2] == ["StyleNAT (ours)", "StyleSwin (ours)"]
    assert ours["comparable"].str.startswith("with the other experiments: one run; no pub").all()
    assert ours["gflops"].tolist() == [189.371971584] * 3
    literature = frame[frame["kind"] == "published"]
    assert not literature["method"].duplicated().any() and "StyleSwin" in set(literature["method"])
    assert literature["experiment"].isna().all()
    with pytest.raises(UserError, match="experiment is 'swin', not 'ffhq256' or 'full16'"):
        speeds(*records, experiments=[experiments[0], experiments[2]], published=published)


def test_a_record_of_an_older_version_is_refused(published):
    old = {key: value for key, value in speed().items() if key not in ("timed", "flops")}
    with pytest.raises(UserError, match="0.json: its flops: is missing"):
        speeds(old, experiments=[FFHQ256], published=published)


def test_the_step_joins_several_experiments(tmp_path):
    experiments = [FFHQ256, variant("swin", WINDOWS)]
    paths = [tmp_path / f"{it.name}.json" for it in experiments]
    for path, it in zip(paths, experiments, strict=True):
        path.write_text(json.dumps(it.to_dict()))
    records = [speed(experiment=it.name) for it in experiments]
    (tmp_path / "throughput.json").write_text(json.dumps(records))
    command = [
        sys.executable, "-m", "stylenat.steps.tables", "--table", "throughput",
        "--experiment", *paths, "--records", tmp_path / "throughput.json",
        "--published", PUBLISHED_CSV, "--output", tmp_path / "t.csv", "--html", tmp_path / "t.html",
    ]  # fmt: skip
    subprocess.run(command, check=True, capture_output=True)
    frame = pd.read_csv(tmp_path / "t.csv")
    assert frame["experiment"].dropna().tolist() == ["ffhq256", "swin"]
    assert "ffhq256, swin: throughput" in (tmp_path / "t.html").read_text()
