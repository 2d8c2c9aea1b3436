"""What outputs show: the text of a page, the place of a picture in a larger one."""

import re
from html.parser import HTMLParser

import numpy as np


class Text(HTMLParser):
    """What a page says, without its style and tags."""

    def __init__(self, page: str):
        super().__init__()
        self.parts: list[str] = []
        self.feed(re.sub("<(style|title)>.*?</\\1>", "", page, flags=re.DOTALL))

    def handle_data(self, data: str) -> None:
        self.parts.append(data.strip())

    def __str__(self) -> str:
        return " ".join(part for part in self.parts if part)


def find(picture: np.ndarray, canvas: np.ndarray) -> tuple[int, int]:
    """Where a picture lies in a canvas, pixel for pixel."""
    side = len(picture)
    for y, x in np.argwhere((canvas == picture[0, 0]).all(-1)):
        part = canvas[y : y + side, x : x + side]
        if part.shape == picture.shape and (part == picture).all():
            return int(y), int(x)
    raise AssertionError("the picture is not in the canvas")
