"""Faces drawn from DiceBear's avatar styles: as many as wanted, at any size, without a download."""

import difflib
import hashlib
import io
import re
from collections.abc import Sequence
from importlib import import_module, resources
from importlib.metadata import version
from types import ModuleType
from typing import Any

from PIL import Image

from stylenat.data.sources.base import Source
from stylenat.errors import UserError

PACKAGES = ("dicebear-core", "dicebear-styles", "resvg-py")

_COLOUR = re.compile("[0-9a-fA-F]{6}")

# DiceBear clips every avatar to its canvas, which the edges of the picture do as well. At 256² the
# clipping takes a third of the time.
_CLIP = re.compile(r'<g clip-path="url\(#clip-[^"]*\)">')


class Avatars(Source):
    """Avatars of one style of dicebear-styles, drawn by resvg at ``resolution``.

    Image i has the seed ``str(first_seed + i)``: neighbouring numbers give independent attributes,
    because DiceBear hashes the seed. ``backgrounds`` are colours of six hexadecimal digits, of
    which each image gets one. A missing package, an unknown style, a negative seed, a count below
    one and anything else as a background are a :class:`UserError`.
    """

    def __init__(
        self, style: str, count: int, first_seed: int, backgrounds: Sequence[str], resolution: int
    ) -> None:
        if count < 1:
            raise UserError(f"a data set of {count} avatars is empty; count must be 1 or more.")
        if first_seed < 0:
            raise UserError(f"first_seed of avatars is {first_seed}; it must be 0 or more.")
        for colour in backgrounds:
            if not _COLOUR.fullmatch(colour):
                raise UserError(
                    f"the background {colour!r} of avatars is not a colour of six hexadecimal "
                    "digits such as ffd5dc."
                )
        if not backgrounds:
            raise UserError("avatars need at least one background colour, such as ffd5dc.")
        self.style = style
        self.seeds = range(first_seed, first_seed + count)
        self.backgrounds = list(backgrounds)
        self.resolution = resolution
        self.names = [f"seed {seed}" for seed in self.seeds]
        _import("resvg_py")  # so that a missing one is noticed here
        definition = _definition(style)
        self.sha256 = hashlib.sha256(definition).hexdigest()
        # Checking a definition takes longer than drawing several avatars: once, not in each worker.
        self._style = _import("dicebear").Style.from_json(definition.decode())
        meta = self._style.meta()
        self.licence = _with_url(meta.license()) or "not stated"
        self.creator = _with_url(meta.creator())
        self._last: tuple[int, Any] | None = None  # (index, avatar)

    def read(self, index: int) -> Image.Image:
        svg = _CLIP.sub("<g>", self._avatar(index).to_string(), count=1)
        png = _import("resvg_py").svg_to_bytes(
            svg_string=svg, width=self.resolution, height=self.resolution, skip_system_fonts=True
        )
        with Image.open(io.BytesIO(png), formats=("PNG",)) as image:
            return image.convert("RGB")

    def attributes(self, index: int) -> dict[str, str]:
        """The image's colours and variants, named as DiceBear names them (``hairColor``,
        ``mouthVariant``, …); what is not in the image is not in them."""
        chosen = self._avatar(index).to_json()["options"]
        colours = {key: ",".join(chosen[key]) for key in chosen if key.endswith("Color")}
        variants = {key: chosen[key] for key in chosen if key.endswith("Variant")}
        return {key: value for key, value in sorted((colours | variants).items()) if value}

    def _avatar(self, index: int) -> Any:
        # Kept, because the picture and the attributes of an image are asked for in turn.
        if self._last is None or self._last[0] != index:
            options = {"seed": str(self.seeds[index]), "backgroundColor": self.backgrounds}
            self._last = index, _import("dicebear").Avatar(self._style, options)
        return self._last[1]

    def describe(self) -> str:
        versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
        return (
            f"avatars: style {self.style} (SHA-256 {self.sha256[:16]}), "
            f"seeds {self.seeds[0]}-{self.seeds[-1]}, backgrounds {' '.join(self.backgrounds)}, "
            f"{versions}"
        )


def _definition(style: str) -> bytes:
    """The file of a style; a :class:`UserError` names those that there are."""
    _import("dicebear_styles")
    folder = resources.files("dicebear_styles")
    styles = sorted(
        file.name.removesuffix(".json") for file in folder.iterdir() if file.name.endswith(".json")
    )
    if style not in styles:
        close = difflib.get_close_matches(style, styles, n=3, cutoff=0.5)
        known = (
            f"did you mean {' or '.join(close)}?" if close else f"there are {', '.join(styles)}."
        )
        raise UserError(f"dicebear-styles {version('dicebear-styles')} has no {style!r}; {known}")
    return (folder / f"{style}.json").read_bytes()


def _import(name: str) -> ModuleType:
    try:
        return import_module(name)
    except ImportError:
        raise UserError(
            "drawing avatars needs dicebear-core, dicebear-styles and resvg-py; "
            "pip install 'stylenat[demo]'."
        ) from None


def _with_url(entry: Any) -> str | None:
    """The name of a licence or creator with its address, as far as the style states them."""
    name, url = entry.name(), entry.url()
    return f"{name} ({url})" if name and url else name or url
