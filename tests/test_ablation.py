"""Replicates and ablations: their runs, the paired test, the table, the figure."""

import copy
import json
import math
import re

import pandas as pd
import pytest

from stylenat.ablations import Family
from stylenat.errors import ConfigError, UserError
from stylenat.experiments import resolve
from stylenat.io import write_json
from stylenat.records import MetricRecord, Throughput
from stylenat.report.ablation import Size, ablation_table, holm, paired, require_runs, verdicts
from stylenat.report.page import write_page
from stylenat.report.published import read_published
from tests.project import CONFIG, PUBLISHED_CSV, run
from tests.records import speed
from tests.tiny import experiment


def with_ablation(**changes):
    config = copy.deepcopy(CONFIG)
    block = {
        "base": "faces32",
        "protocol": "fd_lite0",
        "baseline": "same",
        "seeds": [3, 5],
        "variants": {"same": {}, "fast": {"training": {"generator_lr": 0.004}}},
    }
    config["ablations"]["trial"] = block | changes
    return config


# --------------------------------------------------------------------------------- runs


def test_every_variant_is_an_experiment_for_each_seed():
    experiments, families = resolve(with_ablation())
    assert families["trial"].runs == {
        "same": {3: "trial-same-seed3", 5: "trial-same-seed5"},
        "fast": {3: "trial-fast-seed3", 5: "trial-fast-seed5"},
    }
    base = experiments["faces32"].config.training
    for name, rate, seed in (("same", 0.002, 3), ("fast", 0.004, 5)):
        found = experiments[f"trial-{name}-seed{seed}"].config.training
        assert (found.generator_lr, found.seed) == (rate, seed)
        assert found.batch_size == base.batch_size


def test_an_experiment_with_seeds_is_trained_for_each():
    config = copy.deepcopy(CONFIG)
    config["experiments"]["faces32"]["seeds"] = [0, 1]
    del config["experiments"]["faces32-seed1"]
    experiments, families = resolve(config)
    family = families["faces32"]
    assert family.experiments == ["faces32-seed0", "faces32-seed1"]
    assert family.protocol == "fd_lite0"
    without = resolve(CONFIG)[0]["faces32"]
    assert experiments["faces32"] == without  # itself unchanged
    seeded = experiments["faces32-seed1"].config.to_dict()
    assert seeded["training"].pop("seed") == 1
    expected = without.config.to_dict()
    expected["training"].pop("seed")
    assert seeded | {"name": ""} == expected | {"name": ""}


def test_the_two_ladders_have_the_same_steps():
    """Flips apart: these faces are not symmetric, FFHQ's are taken for it."""
    families = resolve(CONFIG)[1]
    small, large = (set(families[name].runs) for name in ("faces32-ladder", "ffhq256-ladder"))
    assert small - {"flips"} == large - {"no-flips"} and len(small) == 8


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"base": "face"}, r"ablations\.trial\.base: unknown experiment 'face'"),
        ({"protocol": "fd"}, r"ablations\.trial\.protocol: unknown protocol 'fd'"),
        ({"protocol": "fid50k"}, r"ablations\.trial\.protocol: 'fid50k' is not measured"),
        ({"baseline": "none"}, r"ablations\.trial\.baseline: there is no variant 'none'"),
        ({"seeds": []}, r"ablations\.trial\.seeds: needs at least 1 entry"),
        ({"seeds": [1, 1]}, r"ablations\.trial\.seeds: 1 is in the list twice"),
        ({"steps": 3}, r"ablations\.trial\.steps: unknown key"),
        (
            {"variants": {"same": {"model": {"kernel": 3}}}},
            r"ablations\.trial\.variants\.same\.model\.kernel: unknown key \(did you mean kernels",
        ),
        (
            {"variants": {"same": {"training": {"beta2": 2}}}},
            r"ablations\.trial\.variants\.same\.training\.beta2: 2 is not less than 1",
        ),
    ],
)
def test_an_ablation_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match="^" + message):
        resolve(with_ablation(**changes))


def test_a_name_made_from_seeds_that_is_there_already():
    config = copy.deepcopy(CONFIG)
    config["experiments"]["faces32"]["seeds"] = [0, 1]
    with pytest.raises(ConfigError, match=r"experiments\.faces32-seed1: is made from seeds"):
        resolve(config)


def test_the_ladder_for_a_cluster_can_be_planned(tmp_path):
    done = run(
        *("snakemake", "-n", "--profile", "profiles/slurm", "--"),
        "results/ablations/ffhq256-ladder.csv",
    )
    assert done.returncode == 0, done.stderr
    assert re.search(
        rf"^train +{8 * 3 * 40}$", done.stdout, re.MULTILINE
    )  # variants, seeds, segments


# ---------------------------------------------------------------------------- the test


def test_the_paired_test_against_its_formula():
    values = {0: 10.0, 1: 14.0, 2: 12.5, 3: 9.0}
    baseline = {0: 11.0, 1: 16.5, 2: 12.0, 3: 12.0, 9: 100.0}  # one without its pair
    found = paired(values, baseline)
    differences = [-1.0, -2.5, 0.5, -3.0]
    mean = sum(differences) / 4
    error = math.sqrt(sum((d - mean) ** 2 for d in differences) / 3 / 4)
    assert found.difference == pytest.approx(mean)
    t_975 = 3.182446305  # of Student's distribution with 3 degrees of freedom, from a table
    assert found.low == pytest.approx(mean - t_975 * error)
    assert found.high == pytest.approx(mean + t_975 * error)
    # P(|t| > x) for 3 degrees of freedom, in closed form
    x = abs(mean / error)
    angle = math.atan(x / math.sqrt(3))
    p = 1 - 2 / math.pi * (angle + math.sin(angle) * math.cos(angle))
    assert found.p == pytest.approx(p)


def test_one_pair_tells_nothing():
    assert paired({0: 1.0, 1: 2.0}, {1: 3.0, 2: 4.0}) is None


def test_holms_correction():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([]) == []


# --------------------------------------------------------------------------- the table


FAMILY = Family(
    "trial",
    "fd_lite0",
    "same",
    {"same": {0: "a0", 1: "a1"}, "better": {0: "b0", 1: "b1"}, "other": {0: "c0", 1: "c1"}},
)


COMMON = {
    "dataset": "dots", "resolution": 16, "protocol": "fd_lite0", "metric": "fd_lite0", "better": "lower",
    "n_generated": 100, "n_real": 50, "n_real_held_out": 60, "device": "cpu", "extractor": "lite0",
    "weights_sha256": "67", "filter": "lanczos", "dataset_sha256": "da",
}  # fmt: skip


def record(name, value, held_out=None, step=8, **more):
    return MetricRecord(
        experiment=name,
        value=value,
        values=[value - 1, value + 1],
        held_out=held_out,
        held_out_values=held_out and [held_out] * 2,
        step=step,
        **{"kind": "snapshot", "commit": "abc"} | COMMON | more,
    )


def table(metrics):
    configs = [experiment()] * 3
    training = {name: [10.0, 30.0] for name in FAMILY.experiments}
    timed = Throughput(**speed(experiment="b0", images_per_second=5.0))
    published = read_published(PUBLISHED_CSV)
    sizes = [Size(1000, 900, 2_000_000), Size(1000, 900, 2_000_000), Size(1013, 900, 3_000_000)]
    return ablation_table(FAMILY, metrics, training, [timed], configs, sizes, published)


def test_the_table_of_an_ablation():
    metrics = [
        *(record("a0", 100.0), record("a1", 110.0)),
        *(record("b0", 90.0), record("b1", 100.1)),
        *(record("c0", 130.0), record("c1", 90.0)),
        record("a0", 2.0, kind="floor"),
    ]
    frame = table(metrics).set_index("variant")
    assert frame.loc["same", "value"] == 105
    assert frame.loc["same", "std"] == pytest.approx(math.sqrt(50))
    assert frame.loc["same", "std_of_sets"] == pytest.approx(math.sqrt(2))
    assert pd.isna(frame.loc["same", "difference"])
    assert frame.loc["better", "difference"] == pytest.approx(-9.95)
    assert frame.loc["better", "p"] < frame.loc["better", "p_holm"] < 0.05
    assert frame.loc["better", "verdict"] == (
        "better against same: -9.95 ± 0.635 over 2 seeds, p = 0.0064: told apart"
    )
    assert frame.loc["other", "verdict"].endswith(": not told apart")
    assert frame.loc["better", "sampling_images_per_second"] == 5
    assert frame.loc["same", "training_images_per_second"] == 20
    assert frame.loc["floor", "value"] == 2
    assert frame.loc["other", "size_note"] == "+1.3%: position biases alone"
    assert pd.isna(frame.loc["better", "size_note"])
    assert len(verdicts(frame.reset_index())) == 2


def test_held_out_images_are_what_counts_where_there_are_some():
    metrics = [record(name, 100.0, 200.0 + index) for index, name in enumerate(FAMILY.experiments)]
    frame = table(metrics).set_index("variant")
    assert frame.loc["same", "value"] == 200.5
    assert (frame["against"] == "held-out").all() and (frame["n_real"] == 60).all()


def test_earlier_snapshots_have_rows_of_their_own():
    metrics = [
        record(name, 100.0 + index * step, step=step)
        for index, name in enumerate(FAMILY.experiments)
        for step in (4, 8)
    ]
    frame = table(metrics)
    assert list(frame["step"]) == [4] * 3 + [8] * 3
    assert all("over 2 seeds" in sentence for sentence in verdicts(frame))
    assert frame[frame["step"] == 4]["parameters"].isna().all()


def test_the_page_marks_what_is_told_apart_from_the_baseline(tmp_path):
    offsets = {"same": (0.0, 0.0), "better": (-50.0, -50.5), "other": (5.0, -4.0)}
    metrics = [
        record(name, 100.0 + seed + offsets[variant][place])
        for variant, runs in FAMILY.runs.items()
        for place, (seed, name) in enumerate(runs.items())
    ]
    write_page(tmp_path / "page.html", table(metrics), "trial")
    rows = (tmp_path / "page.html").read_text().partition("<details>")[0].split("<tr>")[2:]
    found = {
        name: [sign for sign in "≠≈" if sign in row.partition("</tr>")[0]]
        for row in rows
        for name in offsets
        if f"<b>{name}</b>" in row
    }
    assert found == {"same": [], "better": ["≠"], "other": ["≈"]}


def test_records_of_another_run_are_refused():
    with pytest.raises(UserError, match="experiment is 'z9' in a record"):
        require_runs(FAMILY, [record("z9", 1.0)])


def test_low_trust_is_for_ablations_alone(published):
    low = [row for row in published if row.trust == "low"]
    assert all(row.ablation for row in low) and len(low) == 7
    assert {row.fid for row in published if row.ablation == "two-views"} == {2.046, 23.33}


def test_the_step_writes_table_page_and_figures(tmp_path):
    metrics = [record(name, 100.0 + i, 120.0 + i) for i, name in enumerate(FAMILY.experiments)]
    write_json(tmp_path / "metrics.json", [one.to_dict() for one in metrics])
    write_json(tmp_path / "speed.json", [])
    configs = []
    for name in ("a0", "b0", "c0"):
        config = experiment(name)
        write_json(tmp_path / f"{name}.json", config.to_dict())
        configs.append(tmp_path / f"{name}.json")
    records = []
    for name in FAMILY.experiments:
        records.append(tmp_path / name / "train/8.jsonl")
        records[-1].parent.mkdir(parents=True)
        line = {"step": 8, "images_seen": 64, "images_per_second": 10.0}
        records[-1].write_text(json.dumps(line) + "\n")
    outputs = [tmp_path / name for name in ("t.csv", "t.html", "t.svg", "t.png")]
    done = run(
        *("python", "-m", "stylenat.steps.ablation_table", "--metrics", tmp_path / "metrics.json"),
        *("--family", json.dumps(FAMILY.__dict__), "--training", *records),
        *("--throughput", tmp_path / "speed.json", "--experiments", *configs),
        *("--published", PUBLISHED_CSV, "--output", outputs[0], "--html", outputs[1]),
        *("--figures", *outputs[2:]),
    )
    assert done.returncode == 0, done.stderr
    assert "better against same: +2 ± " in done.stderr
    assert "better against same: +2 ± " in outputs[1].read_text()
    assert len(pd.read_csv(outputs[0])) == 3 and outputs[2].read_text().startswith("<?xml")
