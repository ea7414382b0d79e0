"""`dataset.stormda`: the grid, area means and ensemble files of xarray data sets.

    import stormda.io.accessor

registers it. It is no part of `import stormda.io`, which does without xarray.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from stormda.grid import Grid, LatLonGrid, PlaneGrid
from stormda.io.axes import ORDER, Role, dimension_roles, time_variable
from stormda.io.coordinates import finite_coordinate
from stormda.io.ensemble import write_ensemble
from stormda.io.horizontal import Horizontal, read_horizontal
from stormda.io.index import LevelAxis

_DESCRIBING = ("units", "standard_name", "long_name", "cell_methods", "comment")
"""The attributes of a variable that an ensemble file keeps."""

_LEVEL = ("units", "standard_name", "positive")


@xr.register_dataset_accessor("stormda")  # type: ignore[no-untyped-call]  # of xarray
@dataclass(frozen=True, eq=False)
class StormdaAccessor:
    """What `dataset.stormda` offers.

    Examples:
        >>> dataset = xr.Dataset(
        ...     {"t": (("realization", "time", "lat", "lon"), np.full((4, 1, 3, 4), 280.0),
        ...            {"units": "K"})},
        ...     {"time": np.array(["2019-03-01"], "datetime64[s]"),
        ...      "lat": [60.0, 0.0, -60.0], "lon": [0.0, 90.0, 180.0, 270.0]})
        >>> dataset.stormda.grid
        LatLonGrid(3 x 4, lat 60 to -60, lon 0 to 270)
        >>> dataset.stormda.area_mean("t").sizes
        Frozen({'realization': 4, 'time': 1})
        >>> import tempfile
        >>> from stormda.io import read_ensemble
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     dataset.stormda.to_ensemble(f"{folder}/t.nc", provenance={"seed": 1})
        ...     read_ensemble(f"{folder}/t.nc").fields["t"].shape
        (4, 1, 3, 4)
    """

    dataset: xr.Dataset
    """The data set, as `xarray.open_dataset` gives it."""

    @property
    def grid(self) -> Grid:
        """The grid that the coordinates make, by the rules of `open_store`.

        Raises:
            ValueError: If there are no coordinates of cells, or several, or they make no grid.
        """
        return self._horizontal[0].grid

    def area_mean(self, name: str) -> xr.DataArray:
        """Return a variable's mean over the grid, each cell counted by its area.

        Missing values are left out; a frame without any valid one is NaN.

        Args:
            name: The variable.

        Returns:
            The mean in float64, along the dimensions that are left.

        Raises:
            ValueError: If the variable does not lie on the grid.
        """
        horizontal, _ = self._horizontal
        field = self._field(name, horizontal)
        sizes = [field.sizes[dim] for dim in horizontal.dims]
        area = xr.DataArray(horizontal.grid.area.reshape(sizes), dims=horizontal.dims)
        return field.astype(np.float64).weighted(area).mean(horizontal.dims, keep_attrs=True)

    def to_ensemble(
        self,
        path: str | Path,
        *,
        provenance: Mapping[str, Any] | None = None,
        compression: int = 0,
        overwrite: bool = False,
    ) -> None:
        """Write the fields with `write_ensemble`: a CF file, complete or not at all.

        Args:
            path: The file.
            provenance: Where the numbers come from.
            compression: The level of gzip, 1 to 9; 0 for none.
            overwrite: Whether an existing file may be replaced.

        Raises:
            FileExistsError: If the file exists and may not be replaced.
            ValueError: If a variable on the grid lacks members, times or units, or something else
                that `write_ensemble` asks for; others, such as static ones, are to be dropped.
        """
        horizontal, roles = self._horizontal
        grid = horizontal.grid
        if not isinstance(grid, LatLonGrid | PlaneGrid):
            raise ValueError(f"dataset: expected a LatLonGrid or a PlaneGrid, got {grid!r}")
        along = {role: dim for dim, role in roles.items()}
        names = [
            str(name)
            for name, variable in self.dataset.data_vars.items()
            if set(horizontal.dims) <= set(variable.dims) and name not in horizontal.coordinates
        ]
        fields = {name: self._ordered(name, horizontal, along) for name in names}
        if not fields:
            raise ValueError(f"dataset: expected a variable along {horizontal.dims}, got none")
        write_ensemble(
            path,
            {name: field.values for name, field in fields.items()},
            times=self._times(along["T"]),
            grid=grid,
            attributes={name: _described(field) for name, field in fields.items()},
            levels=self._levels(along.get("Z")),
            members=self.dataset[along["E"]].values,
            provenance=provenance,
            compression=compression,
            overwrite=overwrite,
        )

    @property
    def _horizontal(self) -> tuple[Horizontal, dict[str, Role]]:
        """The grid with its dimensions, and the role of every dimension."""
        roles = dimension_roles(self.dataset)
        horizontal = read_horizontal(self.dataset, roles)
        others = {dim: role for dim, role in roles.items() if role not in ("Y", "X")}
        return horizontal, others | horizontal.roles

    def _field(self, name: str, horizontal: Horizontal) -> xr.DataArray:
        """Return a variable without columns that come twice, which the grid leaves out."""
        if name not in self.dataset.data_vars:
            known = sorted(str(known) for known in self.dataset.data_vars)
            raise ValueError(f"name: expected one of the variables {known}, got {name!r}")
        field = self.dataset[name]
        if not set(horizontal.dims) <= set(field.dims):
            raise ValueError(
                f"variable {name!r}: expected dimensions {horizontal.dims}, got {field.dims}"
            )
        if len(horizontal.dims) == len(horizontal.grid.shape):
            return field.isel({horizontal.dims[-1]: slice(horizontal.grid.shape[-1])})
        return field

    def _ordered(
        self, name: str, horizontal: Horizontal, along: Mapping[Role, str]
    ) -> xr.DataArray:
        """Return a variable along (member, time, [level,] row, column)."""
        field = self._field(name, horizontal)
        order = [along[role] for role in ORDER if role in along and along[role] in field.dims]
        if set(order) != set(field.dims) or not {along.get("E"), along.get("T")} <= set(order):
            raise ValueError(
                f"variable {name!r}: expected dimensions for member, time, [level,] row and "
                f"column, got {field.dims}"
            )
        return field.transpose(*order)

    def _times(self, dim: str) -> NDArray[np.datetime64]:
        name = time_variable(self.dataset, dim)
        if name is None or self.dataset[name].dtype.kind != "M":
            kind = "none" if name is None else f"values of type {self.dataset[name].dtype}"
            raise ValueError(f"time: expected dates (datetime64) along {dim!r}, got {kind}")
        return self.dataset[name].values

    def _levels(self, dim: str | None) -> LevelAxis | None:
        if dim is None:
            return None
        said = {key: str(self.dataset[dim].attrs.get(key, "")) for key in _LEVEL}
        return LevelAxis(name=dim, values=finite_coordinate(self.dataset, dim), **said)


def _described(field: xr.DataArray) -> dict[str, Any]:
    return {key: field.attrs[key] for key in _DESCRIBING if key in field.attrs}
