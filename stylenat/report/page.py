"""A table as one self-contained page, for the report: a CSV there is only a download."""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from stylenat.io import atomic

STYLE = """
body { font: 14px/1.4 system-ui, sans-serif; margin: 1.5em; color: #222; }
h1 { font-size: 1.2em; }
div { overflow-x: auto; }
table { border-collapse: collapse; }
th, td { padding: .3em .7em; text-align: left; white-space: nowrap; }
th { border-bottom: 2px solid #222; }
td { border-bottom: 1px solid #ddd; max-width: 28em; overflow: hidden; text-overflow: ellipsis; }
.number { text-align: right; font-variant-numeric: tabular-nums; }
.snapshot, .measured { background: #fdf3ec; }
.floor { background: #eef5fb; }
.published { color: #555; }
"""


def write_page(
    path: str | Path, frame: pd.DataFrame, title: str, sentences: Sequence[str] = ()
) -> None:
    """Every row of ``frame``, shaded by its ``kind``, below ``sentences``; columns that say nothing
    are left out."""
    shown = frame.dropna(axis="columns", how="all")
    numbers = set(shown.select_dtypes("number").columns)
    head = "".join(f"<th>{escape(name)}</th>" for name in shown.columns)
    body = "\n".join(
        f'<tr class="{escape(row["kind"])}">'
        + "".join(_cell(row[name], name in numbers) for name in shown.columns)
        + "</tr>"
        for row in shown.to_dict("records")
    )
    with atomic(path) as temporary:
        temporary.write_text(
            f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            f"<title>{escape(title)}</title><style>{STYLE}</style></head>\n"
            f"<body><h1>{escape(title)}</h1>"
            + "".join(f"<p>{escape(sentence)}.</p>" for sentence in sentences)
            + f"<div><table>\n<thead><tr>{head}</tr></thead>\n"
            f"<tbody>\n{body}\n</tbody></table></div></body></html>\n"
        )


def _cell(value: Any, number: bool) -> str:
    text = "" if pd.isna(value) else f"{value:.6g}" if isinstance(value, float) else str(value)
    # The whole text as a tooltip: the style cuts hashes and versions off.
    attribute = 'class="number"' if number else f'title="{escape(text)}"'
    return f"<td {attribute}>{escape(text)}</td>"
