"""Parts of pages: numbers rounded by their intervals, tables that fit a phone, small charts.

Pages may stand inside others (the report's), so every rule of the style is about the inside of one
element.
"""

import math
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from stylenat.io import atomic
from stylenat.report.rows import Row

STYLE = """
.results { font: 15px/1.45 system-ui, sans-serif; color: #222; }
.results table { border-collapse: collapse; margin: 0 0 1em; font-size: 1em; }
.results th, .results td { padding: .35em .6em; text-align: left; vertical-align: top;
  border-bottom: 1px solid #ddd; }
.results thead th { border-bottom: 2px solid #222; vertical-align: bottom; }
.results tbody th { font-weight: 400; min-width: 11em; max-width: 24em; }
.results .number { text-align: right; white-space: nowrap; font-variant-numeric: tabular-nums; }
.results small { color: #555; display: block; line-height: 1.3; }
.results dl { display: flex; flex-wrap: wrap; gap: .2em 2em; margin: 0 0 1em; }
.results dt, .results dd { display: inline; margin: 0; overflow-wrap: anywhere; }
.results dt { color: #555; margin-right: .4em; }
.results p { max-width: 60em; margin: 0 0 1em; }
.results h2 { font-size: 1.1em; margin: 1.2em 0 .5em; }
.results svg { display: block; width: 12em; height: 4em; margin-left: auto; }
.results .main, .results .all { overflow-x: auto; }
.results details { margin: 1em 0; }
.results summary { cursor: pointer; color: #0072b2; margin-bottom: .5em; }
.results .all { font-size: .87em; }
.results .all td { white-space: nowrap; max-width: 28em; overflow: hidden; text-overflow: ellipsis; }
.results .snapshot, .results .measured { background: #fdf3ec; }
.results .floor { background: #eef5fb; }
.results .published { color: #555; }
@media (max-width: 48em) {
.results .main thead { display: none; }
.results .main table, .results .main tbody, .results .main tr, .results .main th { display: block; }
.results .main tr { border-bottom: 2px solid #222; padding: .4em 0; }
.results .main th, .results .main td { border: 0; padding: .1em 0; max-width: none; white-space: normal; }
.results .main td { display: flex; justify-content: space-between; gap: 1em; text-align: right; }
.results .main th { min-width: 0; }
.results .main td::before { content: attr(data-head); color: #555; text-align: left; }
.results .main td:empty { display: none; }
}
"""
# Of a number that the interval of another tells apart from it, or doesn't.
APART, NOT_APART = "≠", "≈"

WIDTH, HEIGHT, LEFT, EDGE = 180, 60, 42, 12  # of a chart, and the room for its labels


def rounded(value: float | None, margin: float | None = None) -> str:
    """``624.2 ± 9.3``: to the second digit of the margin; without one, to three digits."""
    if value is None:
        return ""
    if margin is None or margin <= 0:
        plain = f"{value:.1f}" if abs(value) >= 100 else f"{value:#.3g}"
        return plain + (" ± 0" if margin == 0 else "")
    decimals = max(0, 1 - math.floor(math.log10(margin)))
    return f"{value:.{decimals}f} ± {margin:.{decimals}f}"


def mark(difference: float, *margins: float | None) -> str:
    """Whether a difference of values with such margins is one; nothing where a margin isn't known."""
    known = [margin for margin in margins if margin is not None]
    if len(known) < len(margins):
        return ""
    return APART if abs(difference) > math.hypot(*known) else NOT_APART


def table(heads: Mapping[str, str], rows: Sequence[Sequence[str]]) -> str:
    """Rows of HTML, the first cell of each its heading. ``heads`` are the columns' names and classes;
    columns in which no row has anything are left out."""
    kept = [place for place in range(len(heads)) if any(row[place] for row in rows)]
    names = list(heads)
    head = "".join(f'<th class="{heads[names[i]]}">{escape(names[i])}</th>' for i in kept)
    body = []
    for row in rows:
        cells = [
            f'<td class="{heads[names[i]]}" data-head="{escape(names[i])}"><div>{row[i]}</div></td>'
            if row[i]
            else "<td></td>"
            for i in kept[1:]
        ]
        body.append(f'<tr><th scope="row">{row[0]}</th>{"".join(cells)}</tr>')
    return (
        f'<div class="main"><table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n'
        + "\n".join(body)
        + "\n</tbody></table></div>\n"
    )


def facts(rows: Sequence[Row], names: Mapping[str, str]) -> str:
    """What all rows have in common, of the columns with these names."""
    pairs = []
    for column, name in names.items():
        cells = {getattr(row, column, None) for row in rows}
        if len(cells) == 1 and cells != {None}:
            pairs.append(f"<div><dt>{escape(name)}</dt><dd>{escape(text(cells.pop()))}</dd></div>")
    return f"<dl>{''.join(pairs)}</dl>\n"


def text(value: str | float | None) -> str:
    """A cell in words."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return f"{value:.6g}" if value % 1 else f"{int(value):,}"


def small(*lines: str) -> str:
    """Lines below a cell's main one; empty ones are left out."""
    return "".join(f"<small>{escape(line)}</small>" for line in lines if line)


def chart(points: Sequence[tuple[int, float, float | None]]) -> str:
    """SVG of values with their margins over iterations; logarithmic for more than an order of
    magnitude. Nothing of a single point."""
    if len(points) < 2:
        return ""
    steps, values = [step for step, _, _ in points], [value for _, value, _ in points]
    low, high = min(values), max(values)
    scale = math.log if low > 0 and high / low > 10 else float
    bottom, span = scale(low), (scale(high) - scale(low)) or 1.0

    def x(step: int) -> float:
        return LEFT + (WIDTH - LEFT - EDGE) * (step - steps[0]) / (steps[-1] - steps[0])

    def y(value: float) -> float:
        inside = min(max(value, low), high)
        return EDGE / 2 + (HEIGHT - 2 * EDGE) * (1 - (scale(inside) - bottom) / span)

    line = " ".join(f"{x(step):.1f},{y(value):.1f}" for step, value, _ in points)
    parts = [f'<polyline points="{line}" fill="none" stroke="#0072b2" stroke-width="1.5"/>']
    for step, value, margin in points:
        if margin:
            ends = f'y1="{y(value - margin):.1f}" y2="{y(value + margin):.1f}"'
            parts.append(f'<line x1="{x(step):.1f}" x2="{x(step):.1f}" {ends} stroke="#0072b2"/>')
        parts.append(
            f'<circle cx="{x(step):.1f}" cy="{y(value):.1f}" r="2.5" fill="#0072b2">'
            f"<title>{step:,} iterations: {rounded(value, margin)}</title></circle>"
        )
    for label, place, height, anchor in (
        (rounded(high), LEFT - 6, EDGE / 2 + 4, "end"),
        (rounded(low), LEFT - 6, HEIGHT - 1.5 * EDGE + 4, "end"),
        (f"{steps[0]:,}", LEFT, HEIGHT - 1, "start"),
        (f"{steps[-1]:,}", WIDTH - 1, HEIGHT - 1, "end"),
    ):
        parts.append(
            f'<text x="{place}" y="{height:.0f}" text-anchor="{anchor}" font-size="10" fill="#555">'
            f"{label}</text>"
        )
    summary = (
        f"{rounded(values[0])} at {steps[0]:,} iterations, {rounded(values[-1])} at {steps[-1]:,}"
    )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{summary}">{"".join(parts)}</svg>'


def everything(frame: pd.DataFrame) -> str:
    """Every row and every column that says something, shaded by ``kind``, behind a toggle."""
    shown = frame.dropna(axis="columns", how="all")
    numbers = set(shown.select_dtypes("number").columns)
    head = "".join(f"<th>{escape(name)}</th>" for name in shown.columns)
    body = "\n".join(
        f'<tr class="{escape(row["kind"])}">'
        + "".join(_cell(row[name], name in numbers) for name in shown.columns)
        + "</tr>"
        for row in shown.to_dict("records")
    )
    table = f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}\n</tbody></table>"
    return toggle("All rows and columns, as in the CSV file", f'<div class="all">{table}</div>')


def toggle(summary: str, body: str) -> str:
    """What is shown when somebody asks for it."""
    return f"<details><summary>{escape(summary)}</summary>\n{body}</details>\n"


def _cell(value: Any, number: bool) -> str:
    shown = "" if pd.isna(value) else f"{value:.6g}" if isinstance(value, float) else str(value)
    # The whole text as a tooltip: the style cuts hashes and versions off.
    attribute = 'class="number"' if number else f'title="{escape(shown)}"'
    return f"<td {attribute}>{escape(shown)}</td>"


def write_html(path: str | Path, title: str, body: str, style: str = "") -> None:
    """A page of its own, whole or absent."""
    with atomic(path) as temporary:
        temporary.write_text(
            '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
            '<meta name="viewport" content="width=device-width, initial-scale=1">'
            f"<title>{escape(title)}</title><style>{style}{STYLE}</style></head>\n"
            f"<body>{body}</body></html>\n"
        )
