"""What `make site` adds to MkDocs: pages that lie outside this folder, and links to what is no page."""

import logging
import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

log = logging.getLogger("mkdocs.hooks.pages")  # its warnings end a strict build

ROOT = Path(__file__).parents[1]
PAGES = {
    "README.md": "index.md",
    "CONTRIBUTING.md": "contributing.md",
    "CHANGELOG.md": "changelog.md",
    "config/README.md": "configuration.md",
    "results/README.md": "results.md",
    "benchmarks/NOTES.md": "benchmarks.md",
}
LINK = re.compile(r"(?<=\]\()[^)#\s:]+(?=[)#])")
# Sphinx's roles, in which docstrings name other objects.
ROLE = re.compile(r":(?:class|func|data|meth|mod|attr):(?=<code>)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    for source, page in PAGES.items():
        files.append(File.generated(config, page, abs_src_path=str(ROOT / source)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links to files of the repository lead to their pages, or to the repository."""
    source = Path(page.file.abs_src_path).relative_to(ROOT)

    def target(link: re.Match[str]) -> str:
        path = os.path.normpath(source.parent / link[0])
        if not (ROOT / path).exists():
            log.warning("%s links to %s, which is not there", source, link[0])
        uri = PAGES.get(path, path.removeprefix("docs/"))
        file = files.get_file_from_path(uri)
        if uri == path or file is None or file.inclusion.is_excluded():
            return f"{config.repo_url}/blob/main/{path}"
        return os.path.relpath(uri, Path(page.file.src_uri).parent)

    return LINK.sub(target, markdown)


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    return ROLE.sub("", html)
