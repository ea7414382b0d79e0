"""Reduced Gaussian grids: Gaussian latitudes with fewer points towards the poles."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from importlib.resources import files
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from stormda.grid.axis import Floats, Ints
from stormda.grid.cells import sphere_coordinates
from stormda.grid.curve import along_curve
from stormda.grid.encoding import SCALES, sphere_features
from stormda.grid.protocol import Coordinate
from stormda.grid.rings import Rings
from stormda.grid.runs import joined
from stormda.grid.sphere import gaussian_latitudes
from stormda.grid.stencil import Rule, Stencil


@dataclass(frozen=True, repr=False)
class ReducedGaussianGrid:
    """Points on Gaussian latitudes, from north to south, the first of each at Greenwich.

    Fields on it are lists (..., n), parallel after parallel, as in GRIB files.

    Raises:
        ValueError: There are not two latitudes, or one has no points.

    Examples:
        >>> octahedral(96).shape, classical(320).shape
        ((40320,), (542080,))
    """

    counts: tuple[int, ...]
    """The number of points on each latitude, north to south."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if len(self.counts) < 2 or min(self.counts) < 1:
            raise ValueError(
                f"counts: expected at least 2 positive numbers, got {_short(self.counts)}"
            )

    @property
    def shape(self) -> tuple[int]:
        """The number of points."""
        return (sum(self.counts),)

    @property
    def dims(self) -> tuple[str, str]:
        """The names of the two coordinates."""
        return "lat", "lon"

    @property
    def periodic(self) -> tuple[bool, bool]:
        """Latitudes do not close on themselves, longitudes do."""
        return False, True

    @cached_property
    def rings(self) -> Rings:
        """The parallels."""
        rows = len(self.counts)
        return Rings(gaussian_latitudes(rows)[0], np.array(self.counts), np.zeros(rows))

    @cached_property
    def lat(self) -> Floats:
        """The latitude of every point (n,) [degrees_north]."""
        return np.repeat(self.rings.lat, self.rings.counts)

    @cached_property
    def lon(self) -> Floats:
        """The longitude of every point (n,) [degrees_east]."""
        return self.rings.lon

    @property
    def points(self) -> tuple[Floats, Floats]:
        """Latitude and longitude of every point, (n,) each."""
        return self.lat, self.lon

    @cached_property
    def area(self) -> NDArray[np.float64]:
        """The share of the sphere of each point (n,): its latitude's quadrature weight, dealt."""
        weight = gaussian_latitudes(len(self.counts))[1] / 2
        return np.repeat(weight / self.rings.counts, self.rings.counts)

    @property
    def coordinates(self) -> dict[str, Coordinate]:
        """`lat` and `lon` along `cell`, with their CF attributes."""
        return sphere_coordinates(("cell",), self.lat, self.lon)

    def stencil(self, first: Floats, second: Floats, rule: Rule) -> Stencil:
        """Weigh the points around latitudes `first` and longitudes `second` (m,)."""
        return self.rings.stencil(first, second, rule)

    def curve(self, cells: int) -> Ints:
        """Return the points in an order in which runs of any length are compact (n,)."""
        return np.argsort(along_curve(self.lat, self.lon), kind="stable")

    def neighbours(self, cells: int = 1) -> Ints:
        """Return the runs of `cells` points along the curve that touch each run (runs, k).

        Single points are numbered as the grid is.
        """
        around = self.rings.neighbours()
        return around if cells == 1 else joined(around, self.curve(cells), cells)

    def encode(
        self, first: ArrayLike, second: ArrayLike, scales: tuple[int, ...] = SCALES
    ) -> Floats:
        """Return `sphere_features` of latitude `first` and longitude `second`."""
        return sphere_features(first, second, scales)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers of points, for `grid_from_dict`."""
        return {"kind": "reduced_gaussian", "counts": list(self.counts)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> "ReducedGaussianGrid":
        """Rebuild a grid from `to_dict`.

        Examples:
            >>> ReducedGaussianGrid.from_dict(octahedral(4).to_dict()) == octahedral(4)
            True
        """
        return cls(tuple(data["counts"]))

    def __repr__(self) -> str:
        """Return the size."""
        return f"ReducedGaussianGrid({len(self.counts)} latitudes, {self.shape[0]} points)"


def octahedral(number: int) -> ReducedGaussianGrid:
    """Return the octahedral grid O`number`: 20 points on the outermost latitudes, 4 more on each.

    Source: Malardel et al. (2016), ECMWF Newsletter 146, 23.

    Args:
        number: The latitudes between a pole and the equator, N.

    Raises:
        ValueError: `number` is not positive.

    Examples:
        >>> octahedral(2).counts
        (20, 24, 24, 20)
    """
    if number < 1:
        raise ValueError(f"number: expected a positive number of latitudes, got {number}")
    half = tuple(range(20, 20 + 4 * number, 4))
    return ReducedGaussianGrid(half + half[::-1])


def classical(number: int) -> ReducedGaussianGrid:
    """Return the reduced Gaussian grid N`number` of ECMWF.

    Source: Hortal and Simmons (1991), Mon. Wea. Rev. 119, 1057; numbers of points as in ecCodes.

    Args:
        number: The latitudes between a pole and the equator, N.

    Raises:
        ValueError: There is no table of it.

    Examples:
        >>> classical(32).counts[:4]
        (20, 27, 36, 40)
    """
    tables = _tables()
    if number not in tables:
        known = ", ".join(map(str, tables))
        raise ValueError(f"number: expected one of {known}, got {number}")
    half = tables[number]
    return ReducedGaussianGrid(half + half[::-1])


@lru_cache(maxsize=1)
def _tables() -> dict[int, tuple[int, ...]]:
    """Return the points on each latitude from pole to equator, by N."""
    text = files("stormda.grid").joinpath("reduced_gaussian.txt").read_text("utf-8")
    lines = (line.split() for line in text.splitlines() if not line.startswith("#"))
    return {int(number): _expand(counts) for number, *counts in lines}


def _expand(counts: Sequence[str]) -> tuple[int, ...]:
    """Turn ["18", "20x2"] into (18, 20, 20)."""
    pairs = (count.partition("x") for count in counts)
    return tuple(int(n) for n, _, times in pairs for _ in range(int(times or 1)))


def _short(counts: Sequence[int]) -> str:
    text = str(tuple(counts[:4]))
    return text if len(counts) <= 4 else f"{text[:-1]}, ...)"
