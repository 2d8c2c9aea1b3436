"""Colours in plain words, so that a note on hair is read by people and not only by browsers."""

import re

import numpy as np

HEX = re.compile(r"#[0-9a-fA-F]{6}")

# What people call a colour; some names cover more than one point of the space.
NAMED = {
    "black": ("#000000", "#2c1b18"),
    "white": ("#ffffff",),
    "grey": ("#808080", "#b0b0b0", "#505050"),
    "red": ("#b11f1f", "#e53935"),
    "orange": ("#f97316",),
    "yellow": ("#eab308", "#ffeb3b"),
    "green": ("#147f3c", "#66bb6a"),
    "blue": ("#0b3286", "#1d4ed8", "#1e88e5"),
    "light blue": ("#b6e3f4",),
    "purple": ("#731ac3", "#c0aede"),
    "pink": ("#ec4899", "#ffc0cb"),
    "brown": ("#724133", "#a55728", "#a36b4f"),
    "beige": ("#f1c3a5", "#ecdcbf"),
    "blond": ("#d6b370", "#b58143"),
}
NAMES = [name for name, points in NAMED.items() for _ in points]


def is_colour(text: str) -> bool:
    """Whether this is a colour as #rrggbb."""
    return HEX.fullmatch(text) is not None


def colour_name(colour: str) -> str:
    """The name that is nearest in CIELAB to a colour given as #rrggbb."""
    distances = np.linalg.norm(_POINTS - _lab(colour), axis=1)
    return NAMES[int(distances.argmin())]


def _lab(colour: str) -> np.ndarray:
    """CIELAB (3,) of an sRGB colour, white D65 (IEC 61966-2-1, CIE 15)."""
    encoded = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = _XYZ @ linear
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


# From linear red, green and blue to X, Y and Z in units of the white point.
_XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
_XYZ /= _XYZ.sum(1, keepdims=True)
_POINTS = np.array([_lab(point) for points in NAMED.values() for point in points])
