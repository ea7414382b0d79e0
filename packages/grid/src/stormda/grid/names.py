"""Well-known grids by name."""

import re
from collections.abc import Callable
from fractions import Fraction

import numpy as np

from stormda.grid.healpix import HealpixGrid, Order
from stormda.grid.latlon import LatLonGrid
from stormda.grid.reduced import ReducedGaussianGrid, classical, octahedral
from stormda.grid.sphere import gaussian_latitudes

GlobalGrid = LatLonGrid | ReducedGaussianGrid | HealpixGrid
"""What a name can stand for."""


def grid(name: str) -> GlobalGrid:
    """Return a global grid by its name; it runs from north to south, parallels from Greenwich on.

    | name | grid |
    |---|---|
    | `0.25deg`, `1/120deg` | regular, cells of that size, no cell centre at a pole (720 x 1440) |
    | `0.25deg-poles` | regular, first and last row at the poles (721 x 1440, as ERA5) |
    | `f32` | full Gaussian, 32 latitudes between pole and equator (64 x 128) |
    | `n320` | reduced Gaussian, 320 latitudes between pole and equator (542,080 points) |
    | `o96` | octahedral reduced Gaussian (40,320 points) |
    | `healpix64`, `healpix64-ring` | HEALPix, 64 cells along a face, nested or ring order |

    Raises:
        ValueError: The name is none of these, cells of the size do not fill the sphere, or there
            is no such grid.

    Examples:
        >>> grid("0.25deg-poles")
        LatLonGrid(721 x 1440, lat 90 to -90, lon 0 to 359.75)
    """
    for pattern, build in FORMS.items():
        if match := re.fullmatch(pattern, name):
            return build(match[1])
    raise ValueError(
        "name: expected a form like 0.25deg, 0.25deg-poles, f32, n320, o96, healpix64 or "
        f"healpix64-ring, got {name!r}"
    )


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


FORMS: dict[str, Callable[[str], GlobalGrid]] = {
    r"(\d+(?:\.\d+|/[1-9]\d*)?)deg": _cell_centred,
    r"(\d+(?:\.\d+|/[1-9]\d*)?)deg-poles": _with_poles,
    r"f([1-9]\d*)": _full_gaussian,
    r"n([1-9]\d*)": lambda number: classical(int(number)),
    r"o([1-9]\d*)": lambda number: octahedral(int(number)),
    r"healpix([1-9]\d*)": lambda nside: HealpixGrid(int(nside)),
    r"healpix([1-9]\d*)-ring": lambda nside: HealpixGrid(int(nside), Order.RING),
}
"""The forms of a name, each with what builds the grid from its number."""
