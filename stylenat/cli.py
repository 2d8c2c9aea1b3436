"""``stylenat VERB …``: what ``python -m stylenat.steps.VERB …`` does, for every step."""

import ast
import difflib
import runpy
import sys
from pathlib import Path

STEPS = Path(__file__).parent / "steps"


def verbs() -> dict[str, str]:
    """Every step and the first sentence of its docstring, without importing any."""
    found = {}
    for path in sorted(STEPS.glob("[!_]*.py")):
        text = ast.get_docstring(ast.parse(path.read_text())) or ""
        found[path.stem] = " ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".")
    return found


def main() -> None:
    """Run the step that the first argument names, with the other arguments."""
    known = verbs()
    name, *arguments = sys.argv[1:] or ["--help"]
    if name in ("-h", "--help"):
        width = max(map(len, known))
        lines = [f"  {verb:{width}}  {text}" for verb, text in known.items()]
        print("usage: stylenat VERB …", "", *lines, "", "stylenat VERB --help", sep="\n")
        return
    if name not in known:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]}?" if close else "stylenat --help lists the verbs."
        sys.exit(f"error: stylenat has no verb {name!r}; {hint}")
    sys.argv = [f"stylenat {name}", *arguments]
    runpy.run_module(f"stylenat.steps.{name}", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
