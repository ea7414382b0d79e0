"""Well-known grids by name."""

import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from stormda.grid.latlon import LatLonGrid
from stormda.grid.sphere import gaussian_latitudes


def grid(name: str) -> LatLonGrid:
    """Return a global grid by its name; rows run from north to south, columns start at Greenwich.

    | name | grid |
    |---|---|
    | `0.25deg`, `1/120deg` | regular, cells of that size, no cell centre at a pole (720 x 1440) |
    | `0.25deg-poles` | regular, first and last row at the poles (721 x 1440, as ERA5) |
    | `f32` | full Gaussian, 32 latitudes between pole and equator (64 x 128) |

    Raises:
        ValueError: The name is none of these, or cells of the size do not fill the sphere.

    Examples:
        >>> grid("0.25deg-poles")
        LatLonGrid(721 x 1440, lat 90 to -90, lon 0 to 359.75)
    """
    for pattern, build in FORMS.items():
        if match := re.fullmatch(pattern, name):
            return build(match[1])
    raise ValueError(f"name: expected a form like 0.25deg, 0.25deg-poles or f32, got {name!r}")


def _cell_centred(size: str) -> LatLonGrid:
    rows = _rows(size)
    spacing = 180 / rows
    return LatLonGrid(
        90 - spacing * (np.arange(rows) + 0.5), spacing * (np.arange(2 * rows) + 0.5)
    )


def _with_poles(size: str) -> LatLonGrid:
    rows = _rows(size)
    spacing = 180 / rows
    return LatLonGrid(90 - spacing * np.arange(rows + 1), spacing * np.arange(2 * rows))


def _full_gaussian(number: str) -> LatLonGrid:
    rows = 2 * int(number)
    return LatLonGrid(gaussian_latitudes(rows)[0], 180 / rows * np.arange(2 * rows))


def _rows(size: str) -> int:
    """Return how many cells of `size` [degrees] lie between the poles."""
    rows = 180 / Fraction(size) if Fraction(size) else Fraction(0)
    if rows.denominator != 1 or rows < 2:
        raise ValueError(f"name: expected a size that divides 180 degrees, got {size}")
    return int(rows)


FORMS: dict[str, Callable[[str], LatLonGrid]] = {
    r"(\d+(?:\.\d+|/[1-9]\d*)?)deg": _cell_centred,
    r"(\d+(?:\.\d+|/[1-9]\d*)?)deg-poles": _with_poles,
    r"f([1-9]\d*)": _full_gaussian,
}
"""The forms of a name, each with what builds the grid from its number."""
