"""The documentation as a site: every page is in its navigation, every name in its reference exists."""

import importlib.util
import re
from pkgutil import resolve_name

import pytest
import yaml

from tests.project import ROOT, run

SITE = yaml.safe_load((ROOT / "mkdocs.yml").read_text())


def entries(nav) -> set[str]:
    if isinstance(nav, str):
        return {nav}
    return set().union(*(entries(it) for it in (nav.values() if isinstance(nav, dict) else nav)))


def test_every_page_is_in_the_navigation():
    there = {str(path.relative_to(ROOT / "docs")) for path in (ROOT / "docs").rglob("*.md")}
    parts = {line for line in SITE["exclude_docs"].splitlines() if line.endswith(".md")}
    outside = set(re.findall(r'": "([\w-]+\.md)"', (ROOT / "docs/pages.py").read_text()))
    assert there - parts == entries(SITE["nav"]) - outside
    assert outside < entries(SITE["nav"]) and parts < there


@pytest.mark.parametrize(
    "page", sorted((ROOT / "docs/reference").glob("*.md")), ids=lambda p: p.stem
)
def test_every_name_of_the_reference_has_a_docstring(page):
    names = re.findall(r"^::: (\S+)$", page.read_text(), re.MULTILINE)
    assert names and all(resolve_name(name).__doc__ for name in names)


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocstrings") is None, reason="pip install '.[docs]'"
)
def test_it_is_built_without_a_warning(tmp_path):
    done = run("python", "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site"))
    assert done.returncode == 0, done.stderr
    page = (tmp_path / "site/reference/library/index.html").read_text()
    assert "stylenat.library.generate" in page and ":class:" not in page
