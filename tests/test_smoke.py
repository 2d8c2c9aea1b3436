"""The whole chain at a tiny size, from the embedded data set to the report, through every rule."""

import csv
import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.project import ROOT, make_clone, run, snakemake

CONFIG = str(ROOT / "tests/smoke.yaml")


@pytest.fixture(scope="module")
def chain(tmp_path_factory) -> Path:
    """A clone after `snakemake` and `snakemake --report`."""
    folder = make_clone(tmp_path_factory.mktemp("chain"))
    for arguments in (("--cores", "2", "--max-threads", "1"), ("--report", "results/report.html")):
        done = snakemake(*arguments, "--configfile", CONFIG, cwd=folder)
        assert done.returncode == 0, done.stderr[-5000:]
    return folder


def again(chain: Path, *arguments: str) -> subprocess.CompletedProcess:
    # As many threads per job as before: with others, sums are rounded differently.
    alike = ("--cores", "2", "--max-threads", "1", "--configfile", CONFIG)
    return snakemake(*alike, *arguments, cwd=chain)


def rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def test_every_snapshot_is_in_the_table_beside_the_floor(chain):
    table = rows(chain / "results/faces32_fd_lite0.csv")
    snapshots = {row["step"]: float(row["value"]) for row in table if row["kind"] == "snapshot"}
    floor = [float(row["value"]) for row in table if row["kind"] == "floor"]
    assert list(snapshots) == ["0", "2", "4"]
    assert len(floor) == 1 and 0 < floor[0] < min(snapshots.values())
    sets = [row["sets"] for row in table if row["kind"] == "snapshot"]
    assert sets == ["1", "1", "2"] and "last" in table[2]["selection"]
    assert rows(chain / "results/faces32_throughput.csv")


def test_one_table_holds_every_metric_of_the_last_snapshot(chain):
    table = rows(chain / "results/faces32_metrics.csv")
    colours = [f"{part}Color" for part in ("background", "clothes", "hair", "skin")]
    names = ["fd", "kid", "precision", "recall", "density", "coverage", "copies"]
    metrics = [*(f"{name}_lite0" for name in names), "copies_pixels"]
    metrics += [f"attribute_tv_{colour}_lite0early" for colour in colours]
    accuracies = table[2 * len(metrics) :]
    table = table[: 2 * len(metrics)]
    assert [row["metric"] for row in table[::2]] == metrics
    for measured, floor in zip(table[::2], table[1::2], strict=True):
        assert (measured["kind"], floor["kind"]) == ("snapshot", "floor")
        assert (measured["step"], measured["sets"], measured["n_generated"]) == ("4", "2", "16")
        assert measured["dataset_creator"].startswith("Johan Melin")
        assert measured["dataset_licence"].startswith("CC BY 4.0")
    floors = {row["metric"]: float(row["value"]) for row in table[1::2]}
    assert floors["precision_lite0"] > 0.5 < floors["recall_lite0"]
    assert floors["copies_lite0"] < 0.1
    for measured, floor in zip(table[::2], table[1::2], strict=True):
        assert bool(measured["held_out"]) == (not measured["metric"].startswith("copies"))
        assert floor["method"] == "held-out reals against the reference"
        assert (floor["n_generated"], floor["n_real"], floor["held_out"]) == ("16", "300", "")
    assert [(row["kind"], row["metric"]) for row in accuracies] == [
        ("floor", f"attribute_accuracy_{colour}_lite0early") for colour in colours
    ]
    assert float(accuracies[0]["value"]) > 0.95, "of a background, from 300 images"


def test_samples_are_gone_and_everything_else_stays(chain):
    results = chain / "results"
    assert not list(results.rglob("samples/*.lmdb"))
    for name in (
        "faces32/grids/0.png",
        "faces32/compare.png",
        "faces32/train/4.state",
        "faces32/weights/4.safetensors",
        "faces32/training.svg",
        "faces32/receptive.svg",
        "faces32/attention/mean_query.png",
        "faces32/copies/4.copies_lite0.png",
        "faces32/latents/interpolation.gif",
        "figures/fid_vs_params.png",
        "figures/fid_vs_images.svg",
        "figures/fid_vs_throughput.svg",
    ):
        assert (results / name).stat().st_size > 1000, name
    assert not list(results.rglob("*.part")), "temporary names"


def test_every_log_begins_with_what_it_depends_on(chain):
    logs = sorted((chain / "results/logs").rglob("*.log"))
    assert len(logs) > 20
    for log in logs:
        command, *lines = log.read_text().splitlines()[:5]
        assert f"$ python -m stylenat.steps.{log.parent.name} " in command
        for fact in ("versions: python 3.", "commit: ", "device: ", "attention backend: "):
            assert any(fact in line for line in lines), f"{log}: no {fact}"


def test_a_step_can_be_repeated_by_hand_from_its_log(chain):
    grid = chain / "results/faces32/grids/4.png"
    before = grid.read_bytes()
    grid.unlink()
    first = (chain / "results/logs/grid/faces32.4.log").read_text().splitlines()[0]
    done = run(*shlex.split(first.partition("$ ")[2]), cwd=chain)
    assert done.returncode == 0, done.stderr
    assert grid.read_bytes() == before


def test_the_report_is_one_file_that_needs_no_network(chain):
    report = (chain / "results/report.html").read_text()
    assert len(report) < 10_000_000
    assert not re.search(r"<(script|link|img|iframe)[^>]*(src|href)=[\"']?https?:", report)
    for category in (
        *("1 Overview", "2 Samples", "3 Latent space", "4 Tables"),
        *("5 Figures", "6 Training", "7 Attention", "8 Memorisation"),
    ):
        assert f'"{category}"' in report
    for result in ("grids/4.png", "training.svg", "faces32_fd_lite0.html", "fid_vs_params.svg"):
        assert f"{result}" in report


def test_the_report_opens_on_the_overview(chain):
    report = (chain / "results/report.html").read_text()
    opening = re.search(r"var workflow_desc = (.*);", report)[1]
    assert re.search(r"faces32: StyleNAT \(ours\) at 32", opening)
    assert "data:image/png" in opening
    assert "Johan Melin" in opening and "CC BY 4.0" in opening
    assert ":has(.overview)" in report, "the style that puts it above the graph"


def test_a_second_run_does_nothing(chain):
    done = again(chain)
    assert done.returncode == 0
    assert "Nothing to be done" in done.stdout + done.stderr


# ------------------------------------------------------------------ empty, as after a power cut

# Every kind of result, and the log of a step that reads it.
READERS = {
    "data/faces32.download.json": "pack/faces32.log",
    "data/faces32.lmdb": "train/faces32.4.log",
    "data/faces32.lite0.all.features.npz": "metrics/faces32.4.fd_lite0.log",
    "weights/lite0.pth": "statistics/faces32.lite0.all.log",
    "faces32/experiment.json": "initialise/faces32.0.log",
    "faces32/train/2.state": "train/faces32.4.log",
    "faces32/train/4.jsonl": "curve/faces32.log",
    "faces32/weights/4.safetensors": "grid/faces32.4.log",
    "faces32/statistics/2.lite0.0-15.npz": "metrics/faces32.2.fd_lite0.log",
    "faces32/features/4.lite0.0-15.npz": "metrics/faces32.4.fd_lite0.log",
    "faces32/metrics/4.fd_lite0.json": "tables/faces32_fd_lite0.log",
    "faces32/neighbours/4.copies_lite0.npz": "copies/faces32.4.copies_lite0.log",
    "faces32/throughput.json": "tables/faces32_throughput.log",
    "faces32/compare.png": "overview/faces32.log",
    "faces32_metrics.csv": "overview/faces32.log",
    "faces32_fd_lite0.csv": "figures/figures.log",
}
# Pictures and pages, which nobody but people reads; and what a restart alone needs, or nobody.
UNREAD = r".*\.(png|svg|gif|html)|.*\.state\.(rolling|records)|.*/reach.csv|(logs|benchmarks)/.*"


def folder_and_suffix(name: str) -> tuple[Path, str]:
    return Path(name).parent, Path(name).suffix


def test_an_empty_file_of_any_kind_is_named_by_the_step_that_reads_it(chain):
    results = chain / "results"
    names = (str(it.relative_to(results)) for it in results.rglob("*") if it.is_file())
    kinds = {folder_and_suffix(name) for name in names if not re.fullmatch(UNREAD, name)}
    assert kinds <= {folder_and_suffix(name) for name in READERS}
    before = {path: path.read_bytes() for path in results.rglob("*.*") if path.is_file()}
    done = subprocess.run(
        [sys.executable, "-m", "tests.emptied", str(chain)],
        input=json.dumps(READERS),
        capture_output=True,
        text=True,
        cwd=ROOT,
        check=True,
    )
    for name, (status, line) in json.loads(done.stdout).items():
        assert status == 1 and "error: " in line, (name, line)
        assert name in line and "it is empty" in line, (name, line)
    for path, content in before.items():
        assert path.suffix == ".log" or path.read_bytes() == content, f"{path} was written anew"


def test_empty_files_are_named_and_made_again(chain):
    grid = chain / "results/faces32/grids/4.png"
    before = grid.read_bytes()
    grid.write_bytes(b"")
    # Of a dry run, Snakemake writes everything to standard output.
    warned = snakemake("--dry-run", "--configfile", CONFIG, cwd=chain).stdout
    assert "1 results are empty, as after a power cut (results/faces32/grids/4.png)" in warned
    run(*re.search("`(find .*)`", warned)[1].split(), cwd=chain)
    assert again(chain).returncode == 0 and grid.read_bytes() == before


@pytest.mark.slow
def test_everything_is_made_again(chain):
    results = chain / "results"
    paths = {path for path in results.rglob("*.*") if path.is_file() and "logs" not in path.parts}
    kept = {it: it.read_bytes() for it in paths if it.suffix in (".lmdb", ".state", ".npz", ".gif")}
    for path in paths:
        path.write_bytes(b"")
    run("find", "results/", "-type", "f", "-empty", "-delete", cwd=chain)
    assert again(chain).returncode == 0
    for path in paths - {results / "report.html"}:
        assert path.stat().st_size > 0 and path.read_bytes() == kept.get(path, path.read_bytes())
