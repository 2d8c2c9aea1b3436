"""Copy the ablations that results/ holds into this folder, and their tables into the documents.

Every ablation comes from the results of one commit, which its table names.
"""

import shutil
import sys
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from docs.make import ROOT, fill, markdown, number, one_commit, write
from stylenat.errors import UserError
from stylenat.io import atomic
from stylenat.models import load_generator
from stylenat.models.latents import generate
from stylenat.report.ablation import verdicts
from stylenat.report.mosaic import draw_mosaic
from stylenat.report.rows import AblationRow, p_value
from stylenat.report.style import save, styled

DOCUMENTS = ("README.md", "docs/small-data.md", "docs/ladder.md")
SAMPLES = 12  # of every variant


def block(frame: pd.DataFrame) -> str:
    """The table of an ablation, its verdicts and its origin, in Markdown."""
    measured = frame[frame["kind"] == "measured"].astype({"step": int, "n": int})
    steps = sorted(measured["step"].unique())
    last = measured[measured["step"] == steps[-1]]
    first = last.iloc[0]
    head = [
        f"`{first['protocol']}`, {first['against']} images",
        *(f"{step:,} iterations" for step in steps),
        "difference (95 %)",
        "p",
    ]
    lines = [head, ["---"] * len(head)]
    for row in last.to_dict("records"):
        mine = measured[measured["variant"] == row["variant"]].set_index("step")
        values = [f"{number(mine.loc[s, 'value'])} ± {number(mine.loc[s, 'std'])}" for s in steps]
        compared = ["baseline", ""]
        if not pd.isna(row["difference"]):
            interval = f"{number(row['low'])} to {number(row['high'])}"
            compared = [
                f"{row['difference']:+.1f} ({interval})",
                p_value(row["p_holm"]).removeprefix("= "),
            ]
        lines.append([row["variant"], *values, *compared])
    sentences = "".join(f"- {sentence}\n" for sentence in verdicts(frame))
    origin = (
        f"Mean ± standard deviation over {first['n']} trainings; differences are paired by seed, p is "
        f"corrected for the number of variants (Holm). {first['device']}, commit `{first['commit']}`.\n"
    )
    return f"{markdown(lines)}\n{sentences}\n{origin}"


def draw_samples(results: Path, frame: pd.DataFrame) -> Figure:
    """The same uncurated samples of every variant, from the last weights of its first seed."""
    last = frame[frame["kind"] == "measured"].drop_duplicates("variant", keep="last")
    pictures = []
    for row in last.to_dict("records"):
        runs = sorted(results.glob(f"{row['ablation']}-{row['variant']}-seed*"))
        if not runs:
            raise UserError(f"{results} holds no run of {row['variant']}; run snakemake again.")
        weights = runs[0] / f"weights/{int(row['step'])}.safetensors"
        pictures.append(list(generate(load_generator(weights), range(SAMPLES))))
    with styled():
        return draw_mosaic(np.array(pictures), last["variant"].tolist(), [""] * SAMPLES)


def make(root: Path) -> list[str]:
    """Write what there is; the names of the ablations."""
    tables = sorted((root / "results/ablations").glob("*.csv"))
    if not tables:
        raise UserError("results/ablations holds no table; run snakemake ablation first.")
    texts = {}
    for path in tables:
        frame = pd.read_csv(path, dtype=AblationRow.texts())
        commits = frame[frame["kind"] == "measured"].set_index("variant")["commit"]
        one_commit(commits.to_dict())
        name = path.stem
        texts[f"docs/{name}.md"] = block(frame)
        write(root / f"docs/{name}.md", texts[f"docs/{name}.md"])
        for suffix in (".csv", ".png"):
            with atomic(root / f"docs/{name}{suffix}") as temporary:
                shutil.copyfile(path.with_suffix(suffix), temporary)
        save(draw_samples(root / "results", frame), [root / f"docs/{name}-samples.png"], {})
    for document in DOCUMENTS:
        write(root / document, fill((root / document).read_text(), texts))
    return [path.stem for path in tables]


if __name__ == "__main__":
    try:
        print(f"docs/: {', '.join(make(ROOT))}")
    except UserError as error:
        sys.exit(f"error: {error}")
