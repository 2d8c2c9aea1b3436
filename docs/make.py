"""Make every number and picture that README and this folder have of the demo.

They come from results/ of one commit: of `make demo`, and of `make demo-seeds` and `make demo-hour` once
these were run.
Numbers become docs/demo.csv, and from that docs/demo.md and docs/hour.md, whose text replaces what is
between `<!-- docs/demo.md -->` and `<!-- end -->` in README.
"""

import csv
import io
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from stylenat.errors import UserError
from stylenat.io import atomic, read_json
from stylenat.report.curves import read_training
from stylenat.report.overview import training_of

ROOT = Path(__file__).parents[1]
DOCUMENT = "README.md"
BLOCK = re.compile(r"(<!-- (docs/[\w.-]+\.md) -->\n).*?(<!-- end -->)", re.DOTALL)
DISTANCE = "fd_lite0"  # the table of every snapshot
SEEDS = ("", "-seed1", "-seed2")  # of the demo: its experiment, and those of the same recipe
HOUR = "-hour"
NO_HOUR = "*Not measured yet: run `make demo-hour docs`.*\n"
COMMANDS = {"": "make demo", "-seed1": "make demo-seeds", "-seed2": "make demo-seeds"}
COMMANDS[HOUR] = "make demo-hour"
COLUMNS = (
    "experiment", "seed", "step", "images_seen", "protocol", "metric", "kind", "value", "std",
    "sets", "held_out", "held_out_std", "n_generated", "n_real", "minutes", "device", "versions", "commit",
)  # fmt: skip


def demo() -> str:
    """The experiment that `make demo` runs."""
    return yaml.safe_load((ROOT / "config/config.yaml").read_text())["run"][0]


def measured(results: Path, name: str) -> list[str]:
    """The suffixes of the experiments that the documents are about: the demo's own, and those of
    its other seeds and its hour that have been measured."""
    others = (*SEEDS[1:], HOUR)
    return ["", *(it for it in others if (results / f"{name}{it}_metrics.csv").exists())]


def pictures(name: str, suffixes: list[str]) -> dict[str, tuple[str, str, str]]:
    """Picture here → its result, that step's log, and which experiment it is of."""
    hour = name + HOUR
    found = {
        "docs/faces.png": (f"{name}/compare.png", f"compare/{name}", ""),
        "docs/faces-hour.png": (f"{hour}/compare.png", f"compare/{hour}", HOUR),
        "docs/interpolation.gif": (f"{name}/latents/interpolation.gif", f"latents/{name}", ""),
        "docs/neighbourhoods.png": (
            f"{name}/attention/neighbourhoods.png",
            f"attention/{name}",
            "",
        ),
        "docs/fid_vs_params.png": ("figures/fid_vs_params.png", "figures/figures", ""),
    }
    return {picture: origin for picture, origin in found.items() if origin[2] in suffixes}


def collect(results: Path, name: str, suffixes: list[str]) -> list[dict[str, Any]]:
    """A row per measurement of the demo with these suffixes. Raises UserError."""
    rows: list[dict[str, Any]] = []
    for suffix in suffixes:
        experiment = name + suffix
        training = _training(results, experiment, suffix)
        frames = [
            pd.read_csv(_existing(results / f"{experiment}_{table}.csv", suffix))
            for table in (DISTANCE, "metrics")
        ]
        # The last snapshot's distance is in both tables.
        for row in pd.concat([frames[0], frames[1][frames[1]["metric"] != DISTANCE]]).to_dict(
            "records"
        ):
            row = {key: None if pd.isna(value) else value for key, value in row.items()}
            rows.append({key: (row | training).get(key) for key in COLUMNS})
    return rows


def _training(results: Path, experiment: str, suffix: str) -> dict[str, Any]:
    """Seed, minutes and device of a training."""
    config = read_json(_existing(results / experiment / "experiment.json", suffix))["training"]
    segments = sorted((results / experiment / "train").glob("*.jsonl"))
    if not segments:
        raise UserError(
            f"{results / experiment}/train holds no records; run {COMMANDS[suffix]} first."
        )
    training = training_of(read_training(segments), config["batch_size"])
    minutes = round(training.seconds / 60, 1)
    return {"seed": config["seed"], "minutes": minutes, "device": training.device}


def _existing(path: Path, suffix: str) -> Path:
    if not path.exists():
        raise UserError(f"{path} is missing; run {COMMANDS[suffix]} first.")
    return path


def one_commit(commits: dict[str, str]) -> str:
    """The commit of all files; several, or one that nobody can check out, is a UserError."""
    (name, commit), *others = commits.items()
    for other, different in others:
        if different != commit:
            raise UserError(
                f"{name} was made by commit {commit}, {other} by {different}; make all results "
                "by one commit: remove results/ and run make demo demo-seeds demo-hour."
            )
    if not re.fullmatch("[0-9a-f]{7,40}", str(commit)):
        raise UserError(
            f"{name} was made by commit {commit}, which nobody can check out; commit the changes "
            "and make the results again."
        )
    return commit


def log_commit(log: Path, suffix: str) -> str:
    """The commit that a step's log names."""
    found = re.search(r"commit: (\S+)", _existing(log, suffix).read_text())
    if found is None:
        raise UserError(f"{log} names no commit; run the step again.")
    return found[1]


# ------------------------------------------------------------------------------------ tables


def numbers(rows: list[dict[str, Any]]) -> str:
    """docs/demo.csv."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def blocks(text: str, name: str) -> dict[str, str]:
    """docs/demo.csv → the tables in Markdown, by file."""
    frame = pd.read_csv(io.StringIO(text))
    ours = frame[frame["experiment"] != name + HOUR]
    hour = frame[frame["experiment"] == name + HOUR]
    return {
        "docs/demo.md": _tables(ours),
        "docs/hour.md": NO_HOUR if hour.empty else _tables(hour),
    }


def _tables(frame: pd.DataFrame) -> str:
    return f"{_distances(frame)}\n{_last(frame)}\n{_origin(frame)}"


def _distances(frame: pd.DataFrame) -> str:
    """A row per seed, a column per snapshot."""
    chosen = frame[(frame["metric"] == DISTANCE) & (frame["kind"] == "snapshot")]
    steps = sorted(chosen["step"].unique())
    head = [f"`{DISTANCE}`, seed", *(f"{int(step):,} iterations" for step in steps)]
    lines = [head, ["---"] * len(head)]
    for seed, rows in chosen.groupby("seed"):
        values = {row["step"]: row for row in rows.to_dict("records")}
        lines.append([str(seed), *(_value(values[step]) for step in steps)])
    return markdown(lines)


def _last(frame: pd.DataFrame) -> str:
    """Everything measured of the last snapshots: a row per metric, a column per seed."""
    last = frame[(frame["kind"] == "snapshot") & (frame["step"] == frame["step"].max())]
    floors = frame[frame["kind"] == "floor"].drop_duplicates("metric").set_index("metric")["value"]
    seeds = sorted(last["seed"].unique())
    held_out = last["held_out"].notna().any()
    head = ["after the last iteration", *(f"seed {seed}" for seed in seeds), "real images"]
    lines = [head, ["---"] * len(head)]
    for metric, rows in last.groupby("metric", sort=False):
        by_seed = rows.set_index("seed")
        floor = number(floors[metric]) if metric in floors else ""
        values = [_value(by_seed.loc[seed]) for seed in seeds]
        lines.append([f"`{metric}`", *values, floor])
        if held_out and by_seed["held_out"].notna().any():
            others = [_value(by_seed.loc[seed], "held_out", "held_out_std") for seed in seeds]
            lines.append([f"`{metric}` against held-out images", *others, floor])
    return markdown(lines)


def _origin(frame: pd.DataFrame) -> str:
    """What was measured, where, by which code."""
    first = frame.iloc[0]
    minutes = frame.groupby("seed")["minutes"].first()
    spent = " to ".join(dict.fromkeys(f"{value:g}" for value in (minutes.min(), minutes.max())))
    sets = frame.loc[frame["kind"] == "snapshot", "sets"].max()
    images = frame[frame["kind"] == "snapshot"]["n_generated"].max()
    torch = re.search(r"torch [^,]+", first["versions"])
    return (
        f"{spent} minutes of training on {first['device']}; {int(images):,} samples, ± is the "
        f"standard deviation over {int(sets)} sets of them. "
        f"{torch[0] if torch else first['versions']}, commit `{first['commit']}`.\n"
    )


def _value(row: Any, value: str = "value", std: str = "std") -> str:
    spread = "" if pd.isna(row.get(std)) else f" ± {number(row[std])}"
    return number(row[value]) + spread


def number(value: float) -> str:
    """Four digits of large numbers, three of small ones."""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def markdown(lines: list[list[str]]) -> str:
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


# ------------------------------------------------------------------------------------ documents


def fill(document: str, texts: dict[str, str]) -> str:
    """The document with the blocks of these files replaced by their text."""
    return BLOCK.sub(
        lambda found: f"{found[1]}{texts[found[2]]}{found[3]}" if found[2] in texts else found[0],
        document,
    )


def make(root: Path, name: str) -> str:
    """Write everything, or nothing; the commit that it is all from."""
    results = root / "results"
    suffixes = measured(results, name)
    rows = collect(results, name, suffixes)
    commits = {
        f"{row['experiment']}, {row['metric']}, {row['step']}": row["commit"] for row in rows
    }
    copied = pictures(name, suffixes)
    for made, log, suffix in copied.values():
        _existing(results / made, suffix)
        path = results / f"logs/{log}.log"
        commits[str(path.relative_to(root))] = log_commit(path, suffix)
    for log in sorted(results.glob("logs/train/*.log")):
        if log.name.rpartition(".")[0].rpartition(".")[0] in {name + suffix for suffix in suffixes}:
            commits[str(log.relative_to(root))] = log_commit(log, "")
    commit = one_commit(commits)
    text = numbers(rows)
    texts = blocks(text, name)
    for path, content in {"docs/demo.csv": text, **texts}.items():
        write(root / path, content)
    for path, (made, _, _) in copied.items():
        with atomic(root / path) as temporary:
            shutil.copyfile(results / made, temporary)
    document = root / DOCUMENT
    write(document, fill(document.read_text(), texts))
    return commit


def write(path: Path, text: str) -> None:
    with atomic(path) as temporary:
        temporary.write_text(text)


if __name__ == "__main__":
    try:
        print(f"docs/, {DOCUMENT}: made from results of commit {make(ROOT, demo())}")
    except UserError as error:
        sys.exit(f"error: {error}")
