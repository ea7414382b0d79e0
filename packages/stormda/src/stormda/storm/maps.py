"""Fields on maps: the globe in equal areas, regions true at their middle latitude, planes.

Global fields are drawn in Mollweide's projection, which shows areas as they are; regions on a
plane where a degree of longitude is cos(latitude) of a degree of latitude. Coasts are Natural
Earth's (1 : 50 million, public domain) and lie in this package: nothing is fetched for a map.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from stormda.grid import LatLonGrid, PlaneGrid

Floats = NDArray[np.floating[Any]]

DIVERGING, SEQUENTIAL = "PuOr_r", "cividis"
"""Colours that are told apart by everyone: for departures, and for magnitudes."""

_STYLE: dict[Any, Any] = {"font.size": 10, "axes.titlesize": 11}


@dataclass(frozen=True)
class Panel:
    """One map.

    Args:
        title: What it shows.
        values: (rows, cols); not a number where there is none.
        centred: Whether 0 is the middle of the colours.
        own: Whether the colours are those of this map alone.
        points: Latitudes and longitudes to mark, or y and x on a plane, (p, 2).
    """

    title: str
    values: Floats
    centred: bool = False
    own: bool = False
    points: Floats | None = None


@mpl.rc_context(_STYLE)
def draw_fields(grid: LatLonGrid | PlaneGrid, panels: Sequence[Panel], unit: str) -> Figure:
    """Draw fields of one grid, two in a row.

    Args:
        grid: Where they live.
        panels: What to draw; those that are neither centred nor on their own share colours.
        unit: For the colour bars.

    Raises:
        ValueError: Where a field has another shape than the grid.

    Examples:
        >>> from stormda.grid import grid
        >>> globe = grid("5deg")
        >>> figure = draw_fields(globe, [Panel("noise", np.random.rand(*globe.shape))], "K")
        >>> figure.axes[0].name
        'mollweide'
    """
    for panel in panels:
        if panel.values.shape != grid.shape:
            raise ValueError(f"panels: expected shape {grid.shape}, got {panel.values.shape}")
    rows = -(-len(panels) // 2)
    figure = Figure(figsize=(9, rows * _height(grid)), dpi=110, layout="constrained")
    plain = [p.values for p in panels if not (p.centred or p.own)]
    shared = _range(np.stack(plain)) if plain else (0.0, 1.0)
    for place, panel in enumerate(panels):
        ax = figure.add_subplot(rows, min(2, len(panels)), place + 1, projection=_projection(grid))
        _draw(ax, grid, panel, shared, unit)
    return figure


@cache
def coastlines() -> tuple[Floats, ...]:
    """Return the coasts of the Earth as lines of (longitude, latitude) in degrees.

    Source: Natural Earth, land polygons 1 : 50 million, https://www.naturalearthdata.com (public
    domain); `tools/make_coastlines.py` made the file.

    Examples:
        >>> lines = coastlines()
        >>> max(float(abs(line[:, 0]).max()) for line in lines)
        180.0
    """
    with (files("stormda.storm") / "data" / "coastlines.npz").open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        steps, lengths = stored["steps"].astype(np.int64), stored["lengths"]
    lines = np.split(steps, np.cumsum(lengths)[:-1])
    return tuple(np.cumsum(line, axis=0) / 100 for line in lines)


def edges(centres: Floats) -> Floats:
    """Return the borders of cells from their centres, (n,) to (n + 1,).

    Examples:
        >>> edges(np.array([0.0, 1.0, 2.0])).tolist()
        [-0.5, 0.5, 1.5, 2.5]
    """
    middle = (centres[1:] + centres[:-1]) / 2
    borders: Floats = np.r_[2 * centres[0] - middle[0], middle, 2 * centres[-1] - middle[-1]]
    return borders


def _range(values: Floats) -> tuple[float, float]:
    return float(np.nanmin(values)), float(np.nanmax(values))


def _height(grid: LatLonGrid | PlaneGrid) -> float:
    """Return what a row of maps needs [inches], its colour bar included."""
    rows, cols = grid.shape
    if _projection(grid) is not None:
        return 3.3
    width = cols * (np.cos(np.radians(np.mean(grid.lat))) if isinstance(grid, LatLonGrid) else 1)
    return float(np.clip(4.0 * rows / width, 2.0, 5.5)) + 1.0


def _projection(grid: LatLonGrid | PlaneGrid) -> str | None:
    return "mollweide" if isinstance(grid, LatLonGrid) and grid.periodic[1] else None


def _draw(
    ax: Axes,
    grid: LatLonGrid | PlaneGrid,
    panel: Panel,
    shared: tuple[float, float],
    unit: str,
) -> None:
    largest = float(np.nanmax(np.abs(panel.values)))
    chosen = _range(panel.values) if panel.own else shared
    low, high = (-largest, largest) if panel.centred else chosen
    colours: dict[str, Any] = {
        "cmap": DIVERGING if panel.centred else SEQUENTIAL,
        "vmin": low,
        "vmax": high,
        "rasterized": True,
    }
    if isinstance(grid, PlaneGrid):
        image = _draw_plane(ax, grid, panel, colours)
    elif grid.periodic[1]:
        image = _draw_globe(ax, grid, panel, colours)
    else:
        image = _draw_region(ax, grid, panel, colours)
    ax.set_title(panel.title)
    ax.figure.colorbar(image, ax=ax, orientation="horizontal", label=unit, shrink=0.8, pad=0.04)


def _draw_globe(ax: Axes, grid: LatLonGrid, panel: Panel, colours: dict[str, Any]) -> Any:  # noqa: ANN401
    lon = np.mod(grid.lon + 180, 360) - 180
    order = np.argsort(lon)
    x = np.radians(np.clip(edges(lon[order]), -180, 180))
    y = np.radians(np.clip(edges(np.asarray(grid.lat, float)), -90, 90))
    image = ax.pcolormesh(x, y, panel.values[:, order], **colours)
    for line in coastlines():
        ax.plot(*np.radians(line.T), color="black", linewidth=0.5)
    if panel.points is not None:
        at = np.radians(panel.points)
        ax.plot(np.mod(at[:, 1] + np.pi, 2 * np.pi) - np.pi, at[:, 0], "k.", markersize=1.5)
    ax.set(xticks=[], yticks=[])
    return image


def _draw_region(ax: Axes, grid: LatLonGrid, panel: Panel, colours: dict[str, Any]) -> Any:  # noqa: ANN401
    x, y = edges(np.unwrap(np.asarray(grid.lon, float), period=360)), edges(np.asarray(grid.lat))
    image = ax.pcolormesh(x, y, panel.values, **colours)
    west, east = float(x.min()), float(x.max())
    for line in coastlines():
        for turn in (-360, 0, 360):
            lon = line[:, 0] + turn
            if lon.max() > west and lon.min() < east:
                ax.plot(lon, line[:, 1], color="black", linewidth=0.7)
    if panel.points is not None:
        lon = west + np.mod(panel.points[:, 1] - west, 360)
        ax.plot(lon, panel.points[:, 0], "k.", markersize=2)
    middle = np.radians((y.min() + y.max()) / 2)
    ax.set(xlim=(west, east), ylim=(y.min(), y.max()), aspect=1 / max(0.1, np.cos(middle)))
    ax.xaxis.set_major_formatter("{x:g}\N{DEGREE SIGN}")
    ax.yaxis.set_major_formatter("{x:g}\N{DEGREE SIGN}")
    return image


def _draw_plane(ax: Axes, grid: PlaneGrid, panel: Panel, colours: dict[str, Any]) -> Any:  # noqa: ANN401
    x, y = edges(np.asarray(grid.x) / 1000), edges(np.asarray(grid.y) / 1000)
    image = ax.pcolormesh(x, y, panel.values, **colours)
    if panel.points is not None:
        ax.plot(panel.points[:, 1] / 1000, panel.points[:, 0] / 1000, "k.", markersize=2)
    ax.set(aspect="equal", xlabel="x [km]", ylabel="y [km]")
    return image
