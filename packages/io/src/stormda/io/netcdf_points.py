"""Observations from NetCDF: any list of points with time, latitude and longitude.

Without a mapping the CF conventions and usual names say what is what: points, stations,
trajectories, profiles and their ragged forms. Coordinates may be missing in places: those
candidates are refused and counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from stormda.io.argo import is_argo, read_argo
from stormda.io.axes import role_of, time_variable
from stormda.io.choice import in_file, require_among
from stormda.io.columns import require_columns, table_of
from stormda.io.hdf5_groups import open_groups
from stormda.io.hdfeos import is_hdfeos, read_hdfeos
from stormda.io.horizontal import find_angle
from stormda.io.ioda import is_ioda, read_ioda
from stormda.io.mapping import ColumnMapping, Quantity
from stormda.io.observations import PLANE, SPHERE, ObservationTable, Vertical
from stormda.io.point_file_reading import read_point_file
from stormda.io.point_files import OBSERVED
from stormda.io.ragged import spread_instances
from stormda.io.stored_cells import columns_of
from stormda.io.units import parse_unit

if TYPE_CHECKING:
    import xarray as xr

_Layout = Callable[["xr.Dataset", Sequence[str] | None], ObservationTable]

_PLATFORMS = (
    *("platform", "platform_id", "station", "station_id", "station_name"),
    *("trajectory", "profile", "id"),
)

_HEIGHTS: dict[str, Vertical] = {
    "air_pressure": "pressure",
    "sea_water_pressure": "pressure",
    "altitude": "height",
    "height": "height",
    "height_above_mean_sea_level": "height",
    "depth": "depth",
}
"""What a vertical coordinate of a standard name is."""


def read_netcdf(
    path: Path, mapping: ColumnMapping | None, variables: Sequence[str] | None
) -> ObservationTable:
    """Read point observations from NetCDF, converted to SI where their units are known.

    Args:
        path: The file.
        mapping: What its variables mean; None to recognise them.
        variables: The variables to read where there is no mapping; None for all that
            `write_observations` wrote, or for the only one.

    Raises:
        ValueError: If the file is not a list of points, its times cannot be decoded, or a variable
            is not there.
    """
    if mapping is None and is_hdfeos(path):
        return read_hdfeos(path, variables)
    with open_groups(path) as dataset:
        try:
            if mapping is not None:
                return _mapped(dataset, mapping)
            for recognises, reads in _LAYOUTS:
                if recognises(dataset):
                    return reads(dataset, variables)
            return _mapped(dataset, _recognised(spread_instances(dataset), variables))
        except ValueError as error:
            raise in_file(error, path) from error


def _mapped(dataset: xr.Dataset, mapping: ColumnMapping) -> ObservationTable:
    points = spread_instances(dataset)
    require_columns(mapping, [str(name) for name in points.variables])
    return table_of(columns_of(points, mapping.columns), mapping)


def _is_point_file(dataset: xr.Dataset) -> bool:
    return OBSERVED in dataset.variables


_LAYOUTS: tuple[tuple[Callable[[xr.Dataset], bool], _Layout], ...] = (
    (_is_point_file, read_point_file),
    (is_ioda, read_ioda),
    (is_argo, read_argo),
)
"""Layouts that are recognised, each with what reads it."""


def _recognised(dataset: xr.Dataset, variables: Sequence[str] | None) -> ColumnMapping:
    """Return the mapping that the variables' attributes and names suggest."""
    kinds, places = _place_variables(dataset)
    dims = _point_dimensions(dataset, places)
    time = _time(dataset, dims)
    height, kind = _height(dataset, (*dims, *map(str, dataset[time].dims)))
    used = {*places, time, *([] if height is None else [height])}
    along = {str(dim) for name in used for dim in dataset[name].dims}
    candidates = _candidates(dataset, along, {*places, time})
    names = _choice(candidates, variables)
    return ColumnMapping(
        time=time,
        quantities={name: _quantity(dataset, name) for name in names},
        z=height if height not in names else None,
        z_kind=kind if height not in names else "",
        platform=_platform(dataset, along),
        lat=places[0] if kinds == SPHERE else None,
        lon=places[1] if kinds == SPHERE else None,
        y=places[0] if kinds == PLANE else None,
        x=places[1] if kinds == PLANE else None,
    )


def _place_variables(dataset: xr.Dataset) -> tuple[tuple[str, str], tuple[str, str]]:
    """Return which two coordinates a file has, and the names of their variables."""
    lat, lon = (find_angle(dataset, which, fixed=True) for which in ("latitude", "longitude"))
    if lat is not None and lon is not None:
        return SPHERE, (lat, lon)
    if all(name in dataset and dataset[name].attrs.get("units") == "m" for name in PLANE):
        return PLANE, PLANE
    raise ValueError(
        "expected latitude and longitude, or y and x in metres, "
        f"got variables {sorted(str(name) for name in dataset.variables)}"
    )


def _point_dimensions(dataset: xr.Dataset, places: tuple[str, str]) -> tuple[str, ...]:
    """Return the dimension that positions run along; for a fixed station, time."""
    dims = {str(dim) for name in places for dim in dataset[name].dims}
    if len(dims) > 1 or any(dataset[name].ndim > 1 for name in places):
        raise ValueError(
            f"expected a list of points, got positions along {sorted(dims)} "
            "(fields are opened by open_store)"
        )
    found = (*dims,) or ("time",)
    if not set(found) <= set(dataset.sizes):
        raise ValueError(f"expected points along {found[0]!r}, got dimensions {[*dataset.sizes]}")
    return found


def _time(dataset: xr.Dataset, dims: tuple[str, ...]) -> str:
    """Return the variable of the times: of each point, of all, or along a dimension of its own."""
    for dim in (*dims, None, "time"):
        name = time_variable(dataset, dim)
        if name is not None and role_of(name, dataset[name].attrs) == "T":
            return name
    raise ValueError(f"time: expected a variable along {dims[0]!r}, got none")


def _height(dataset: xr.Dataset, dims: tuple[str, ...]) -> tuple[str | None, Vertical]:
    """Return the only variable that says how high or deep points are, and what it is."""
    found = [
        (str(name), _HEIGHTS[str(v.attrs["standard_name"])])
        for name, v in dataset.variables.items()
        if v.attrs.get("standard_name") in _HEIGHTS
        and ("axis" in v.attrs or "positive" in v.attrs or not v.ndim)
        and len(set(map(str, v.dims)) - set(dims)) <= 1
        and _fits(str(v.attrs.get("units", "")), _HEIGHTS[str(v.attrs["standard_name"])])
    ]
    return found[0] if len(found) == 1 else (None, "")


def _fits(units: str, kind: Vertical) -> bool:
    """Tell whether units are those of a pressure, or of a length."""
    try:
        dimension = parse_unit(units).dimension
    except ValueError:
        return False
    return dimension == parse_unit("Pa" if kind == "pressure" else "m").dimension


def _platform(dataset: xr.Dataset, dims: set[str]) -> str | None:
    """Return the variable that says who measured; None where the file does not say."""
    for name in _PLATFORMS:
        variable = dataset.variables.get(name)
        if variable is not None and variable.dims and str(variable.dims[0]) in dims:
            text = variable.dtype.kind in "SUO"
            if len(variable.dims) == 1 or (text and variable.ndim == 2):
                return name
    return None


def _choice(candidates: list[str], variables: Sequence[str] | None) -> list[str]:
    """Return the variables to read, checked to be there."""
    if variables is None and len(candidates) != 1:
        raise ValueError(f"variable: expected the name of one of {candidates}, got none")
    require_among(variables, candidates)
    return list(variables or candidates)


def _candidates(dataset: xr.Dataset, dims: set[str], coordinates: set[str]) -> list[str]:
    """Return what was measured at the points: no coordinates, errors, flags or text."""
    ancillary = {
        name
        for variable in dataset.variables.values()
        for name in str(variable.attrs.get("ancillary_variables", "")).split()
    }
    return [
        str(name)
        for name, variable in dataset.variables.items()
        if {str(dim) for dim in variable.dims} == dims
        and variable.dtype.kind in "iuf"
        and name not in coordinates | ancillary
        and "flag_values" not in variable.attrs
        and not str(name).startswith("qc_")
    ]


def _quantity(dataset: xr.Dataset, name: str) -> Quantity:
    ancillary = str(dataset[name].attrs.get("ancillary_variables", "")).split()
    errors = [n for n in ancillary if n in dataset and _is_error(dataset[n], n, name)]
    return Quantity(column=name, error_column=errors[0] if errors else None)


def _is_error(variable: xr.DataArray, name: str, of: str) -> bool:
    return name == f"{of}_error" or str(variable.attrs.get("standard_name", "")).endswith(
        "standard_error"
    )
