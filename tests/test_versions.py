"""One set of versions: pyproject's ranges, the pinned constraints and the conda environments agree."""

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
ENVIRONMENTS = sorted((ROOT / "envs").glob("*.yaml"))


def pins(lines: list[str]) -> dict[str, str]:
    """``name==version`` lines as {canonical name: version}."""
    requirements = [Requirement(line) for line in lines if line and not line.startswith("#")]
    for requirement in requirements:
        assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), f"{requirement}: not pinned"
    return {canonicalize_name(r.name): str(r.specifier)[2:] for r in requirements}


CONSTRAINTS = pins((ROOT / "envs/constraints.txt").read_text().splitlines())


def pip_section(environment: Path) -> list[str]:
    dependencies = yaml.safe_load(environment.read_text())["dependencies"]
    return next(entry["pip"] for entry in dependencies if isinstance(entry, dict))


def test_the_constraints_lie_in_pyprojects_ranges():
    extras = PROJECT["optional-dependencies"].values()
    for line in sum(extras, PROJECT["dependencies"]):
        requirement = Requirement(line)
        pinned = CONSTRAINTS[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pinned), f"{line}: constraints.txt has {pinned}"


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_has_the_constraints_versions(environment):
    pinned = pins(pip_section(environment))
    assert pinned and pinned == {name: CONSTRAINTS.get(name) for name in pinned}


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_has_a_python_the_project_supports(environment):
    dependencies = yaml.safe_load(environment.read_text())["dependencies"]
    python = next(re.fullmatch(r"python =([\d.]+)", d) for d in dependencies if "python" in d)
    assert Requirement(f"python{PROJECT['requires-python']}").specifier.contains(python[1])


def steps_of(environment: Path) -> set[str]:
    """The steps whose rules name this environment, or inherit it."""
    steps, environments = set(), {}
    for rules in (ROOT / "workflow/rules").glob("*.smk"):
        for rule in re.split(r"^(?=rule |use rule )", rules.read_text(), flags=re.MULTILINE)[1:]:
            inherited, name = re.match(r"(?:use rule (\w+) as|rule) (\w+)", rule).groups()
            named = re.search(r"envs/([\w.]+)", rule)
            environments[name] = named[1] if named else environments.get(inherited)
            if environments[name] == environment.name:
                steps |= set(re.findall(r'(?:stylenat\.steps\.|step\(")(\w+)', rule))
    return steps


def source(module: str) -> Path | None:
    """The file of one of our modules; None for a name inside a module."""
    path = ROOT / module.replace(".", "/")
    candidates = (path.with_suffix(".py"), path / "__init__.py")
    return next((file for file in candidates if file.exists()), None)


def third_party(step: str) -> set[str]:
    """Top-level packages of others that a step imports when it starts, through our modules."""
    waiting, seen, found = {f"stylenat.steps.{step}"}, set(), set()
    while waiting:
        module = waiting.pop()
        seen.add(module)
        for node in ast.parse(source(module).read_text()).body:
            names = set()
            if isinstance(node, ast.Import):
                names = {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
            for name in names:
                if not name.startswith("stylenat"):
                    found.add(name.partition(".")[0])
                elif source(name) and name not in seen:
                    waiting.add(name)
    return found - sys.stdlib_module_names


@pytest.mark.parametrize("environment", ENVIRONMENTS, ids=lambda path: path.stem)
def test_an_environment_has_what_its_steps_import(environment):
    steps = steps_of(environment)
    assert steps, "no rule uses it"
    distributions = packages_distributions()
    needed = {canonicalize_name(distributions[p][0]) for s in steps for p in third_party(s)}
    assert needed <= pins(pip_section(environment)).keys()
