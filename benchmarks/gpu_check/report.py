"""The findings of all parts as one page."""

from typing import Any

from benchmarks.harness import markdown


def page(record: dict[str, Any]) -> str:
    """Markdown: a verdict for each question, then the tables of every part."""
    text = f"# {record['name']}\n\n"
    text += f"{record['device']}; torch {record['versions']['torch']}, commit {record['commit']}; "
    text += f"{record['seconds']:.0f} s"
    text += "; toy sizes, whose times mean nothing\n" if record["dry"] else "\n"
    lines = [
        [cell(v["question"]), v["verdict"], cell(v["answer"])]
        for part in record["parts"]
        for v in part["verdicts"]
    ]
    text += "\n" + plain(["question", "verdict", "answer"], lines)
    for part in record["parts"]:
        text += f"\n## {part['title']}\n\n{part['seconds']:.0f} s"
        text += f"; {part['end']}\n" if part["end"] else "\n"
        for name, rows in part["tables"].items():
            columns = list(dict.fromkeys(key for row in rows for key in row))
            cells = [[cell(row.get(column, "")) for column in columns] for row in rows]
            text += f"\n{name}\n\n{markdown(columns, cells)}"
    return text


def plain(header: list[str], lines: list[list[str]]) -> str:
    """A table of words."""
    rows = (header, ["---"] * len(header), *lines)
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def cell(value: Any) -> str:
    """A value as a table shows it."""
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text.replace("|", "\\|").replace("\n", " ")
