"""Which grid is this: grids in and out of a checkpoint, and in what two of them differ."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from stormda.grid.curvilinear import CurvilinearGrid
from stormda.grid.healpix import HealpixGrid
from stormda.grid.latlon import LatLonGrid
from stormda.grid.plane import PlaneGrid
from stormda.grid.points import PointGrid
from stormda.grid.projected import ProjectedGrid
from stormda.grid.projection import projection_from_dict
from stormda.grid.protocol import Grid, Lattice, is_lattice
from stormda.grid.reduced import ReducedGaussianGrid
from stormda.grid.sphere import unit_vectors


def _projected(data: Mapping[str, Any]) -> Grid:
    base = BASES[data["base"]["kind"]](data["base"])
    return ProjectedGrid(base, projection_from_dict(data["projection"]))


BASES: dict[str, Callable[[Mapping[str, Any]], Lattice]] = {
    "latlon": LatLonGrid.from_dict,
    "plane": PlaneGrid.from_dict,
}
"""What rebuilds each kind of grid that can lie on a map."""

KINDS: dict[str, Callable[[Mapping[str, Any]], Grid]] = {
    **BASES,
    "reduced_gaussian": ReducedGaussianGrid.from_dict,
    "healpix": HealpixGrid.from_dict,
    "projected": _projected,
    "curvilinear": CurvilinearGrid.from_dict,
    "points": PointGrid.from_dict,
}
"""What rebuilds each kind of grid."""


def grid_from_dict(data: Mapping[str, Any]) -> Grid:
    """Rebuild a grid from what its `to_dict` returned.

    Raises:
        ValueError: The kind of grid is not known.

    Examples:
        >>> import json
        >>> from stormda.grid import grid
        >>> stored = json.dumps(grid("f32").to_dict())
        >>> grid_from_dict(json.loads(stored)) == grid("f32")
        True
    """
    kind = data.get("kind")
    if kind not in KINDS:
        raise ValueError(f"kind: expected one of {', '.join(KINDS)}, got {kind!r}")
    return KINDS[kind](data)


def describe_difference(expected: Grid, got: Grid, *, tolerance: float = 0.01) -> str | None:
    """Say in one line in what `got` differs from `expected`, or None where it does not.

    Coordinates may differ by rounding (files often hold float32) and by whole turns.

    Args:
        expected: The grid to compare with, such as that of a checkpoint.
        got: The grid at hand.
        tolerance: How far cells may lie from their place [cells].

    Examples:
        >>> describe_difference(LatLonGrid([0, 1], [358, 359]), LatLonGrid([0, 1], [-2, -1]))
        >>> describe_difference(LatLonGrid([0, 1], [5, 6]), LatLonGrid([0, 1], [5, 7]))
        'expected lon 6.0 at index 1, got 7.0'
    """
    for name in ("dims", "shape", "borders"):
        wanted, present = getattr(expected, name, None), getattr(got, name, None)
        if wanted != present:
            return f"expected {name} {_plain(wanted)}, got {_plain(present)}"
    if is_lattice(expected) and is_lattice(got):
        return _between_lattices(expected, got, tolerance)
    return _between_lists(expected, got, tolerance)


def _between_lists(expected: Grid, got: Grid, tolerance: float) -> str | None:
    """Compare the points one by one, measured by the size of a cell."""
    distance = np.linalg.norm(unit_vectors(*expected.points) - unit_vectors(*got.points), axis=-1)
    wrong = distance > tolerance * np.sqrt(4 * np.pi * expected.area)
    if not wrong.any():
        return None
    at = int(np.argmax(wrong))
    wanted, present = (", ".join(f"{c[at]:.6g}" for c in g.points) for g in (expected, got))
    return f"expected {', '.join(expected.dims)} {wanted} at index {at}, got {present}"


def _between_lattices(expected: Lattice, got: Lattice, tolerance: float) -> str | None:
    """Compare the coordinates along rows and columns."""
    indices = np.arange(expected.shape[0])[:, None], np.arange(expected.shape[1])[None, :]
    positions = expected.position(*got.place(*indices))
    for direction, (index, position) in enumerate(zip(indices, positions, strict=True)):
        wrong = np.abs(position - index) > tolerance
        if wrong.any():
            at = int(np.argwhere(wrong)[0].max())
            wanted, present = (float(g.place(at, at)[direction]) for g in (expected, got))
            return f"expected {expected.dims[direction]} {wanted} at index {at}, got {present}"
    return None


def _plain(value: Any) -> str:  # noqa: ANN401
    """Return names, sizes and borders as text."""
    if isinstance(value, tuple):
        return f"({', '.join(map(_plain, value))})"
    return str(getattr(value, "value", value))
