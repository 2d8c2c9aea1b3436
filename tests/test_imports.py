"""Imports point down: a lower layer never knows what is built on it."""

import ast
import re
from pathlib import Path

from tests.project import ROOT

PACKAGE = ROOT / "stylenat"

# From the foundation upwards. Parts of one layer do not import each other, except in the foundation.
LAYERS = (
    {
        *(
            "errors",
            "io",
            "records",
            "images",
            "pictures",
            "runtime",
            "precision",
            "torch_types",
            "config",
            "experiments",
            "fetch",
            "pins",
            "hub",
        ),
        "neighbourhood",
        "fields",
        "configuration",
        "ablations",
        "blocks",
    },
    {"data", "models"},
    {"interop", "natten"},
    {"metrics"},
    {"training", "report"},
    {"command", "library"},
    {"steps"},
    {"cli"},
)
LEVEL = {part: level for level, parts in enumerate(LAYERS) for part in parts}


def part(module: str) -> str | None:
    """The layered part that a dotted module name belongs to; None for other packages."""
    names = module.split(".")
    return names[1] if names[0] == "stylenat" and len(names) > 1 else None


def imports(path: Path) -> set[tuple[str, str]]:
    """(module, first imported part) of every import of ours in a file, inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {(alias.name, part(alias.name)) for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            if node.module == "stylenat":
                found |= {(f"stylenat.{a.name}", a.name) for a in node.names if a.name in LEVEL}
            else:
                found.add((node.module, part(node.module)))
    return {(module, name) for module, name in found if name}


def test_every_part_has_a_layer():
    names = {path.name for path in PACKAGE.iterdir() if not path.name.startswith("__")}
    parts = {name.removesuffix(".py") for name in names - {"py.typed"}}
    assert parts == LEVEL.keys()


def test_imports_point_down():
    wrong = []
    for path in sorted(PACKAGE.rglob("*.py")):
        relative = path.relative_to(PACKAGE)
        own = relative.parts[0].removesuffix(".py")
        if own == "__init__":
            continue
        for module, other in imports(path):
            inside = other == own and own != "steps"
            if not (inside or LEVEL[other] < LEVEL[own] or LEVEL[other] == LEVEL[own] == 0):
                wrong.append(f"{relative} imports {module}")
    assert not wrong


def test_the_foundation_has_no_cycles():
    needs = {
        name: {
            other
            for path in (PACKAGE / f"{name}.py", *(PACKAGE / name).glob("*.py"))
            if path.exists()
            for _, other in imports(path)
            if LEVEL[other] == 0 and other != name
        }
        for name in LAYERS[0]
    }
    while needs:
        free = {name for name, others in needs.items() if not others & needs.keys()}
        assert free, f"import cycle among {sorted(needs)}"
        needs = {name: others for name, others in needs.items() if name not in free}


def test_no_module_of_tests_imports_another():
    """What they share is in conftest.py and in modules that hold no tests."""
    files = sorted((ROOT / "tests").rglob("*.py"))
    assert Path(__file__) in files
    wrong = re.compile(r"^ *(?:from|import) tests\b.*\btest_\w+", re.MULTILINE)
    found = [f"{path.name}: {line}" for path in files for line in wrong.findall(path.read_text())]
    assert found == []
