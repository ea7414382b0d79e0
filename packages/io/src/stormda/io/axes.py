"""Which dimension of a file is time, level, member, latitude and longitude.

Each dimension gets a letter as in the CF conventions, E for the ensemble and F for the faces of a
cubed sphere; cells in a list have the letter X. The evidence, from the strongest: standard name,
units, `axis` attribute, the name itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

from stormda.io.units import parse_unit

if TYPE_CHECKING:
    import xarray as xr

Role = Literal["E", "T", "Z", "F", "Y", "X"]
ORDER: tuple[Role, ...] = get_args(Role)
"""The order of the dimensions of everything read: CF's T, Z, Y, X with the rest to the left."""

_STANDARD_NAMES: dict[str, Role] = {
    "realization": "E",
    "time": "T",
    "forecast_reference_time": "T",
    "air_pressure": "Z",
    "altitude": "Z",
    "height": "Z",
    "depth": "Z",
    "model_level_number": "Z",
    "latitude": "Y",
    "grid_latitude": "Y",
    "projection_y_coordinate": "Y",
    "longitude": "X",
    "grid_longitude": "X",
    "projection_x_coordinate": "X",
}

_ALIASES: dict[Role, str] = {
    "E": "realization number member ensemble ens",
    "T": "time valid_time timestep time_counter",
    "Z": "level lev plev pressure_level isobaricinhpa isobaric height depth altitude",
    "Y": "lat latitude nav_lat y ycoord projection_y_coordinate rlat",
    "X": "lon longitude nav_lon x xcoord projection_x_coordinate rlon",
}

_NAMES = {name: role for role, names in _ALIASES.items() for name in names.split()}

_NORTH = {"degrees_north", "degree_north", "degree_n", "degrees_n", "degreen", "degreesn"}
_EAST = {"degrees_east", "degree_east", "degree_e", "degrees_e", "degreee", "degreese"}


def role_of(name: str, attributes: Mapping[str, object]) -> Role | None:
    """Return the role that a coordinate's attributes and name speak for.

    Examples:
        >>> role_of("isobaricInhPa", {"standard_name": "air_pressure"})
        'Z'
        >>> role_of("rows", {}) is None
        True
    """
    standard_name = str(attributes.get("standard_name", ""))
    letter = str(attributes.get("axis", "")).upper()
    return (
        _STANDARD_NAMES.get(standard_name)
        or _role_of_units(str(attributes.get("units", "")))
        or next((role for role in ORDER if role == letter and role not in ("E", "F")), None)
        or _NAMES.get(name.lower())
        or _role_of_pressure(str(attributes.get("units", "")))
    )


def is_angle(variable: xr.Variable, name: str, which: Literal["latitude", "longitude"]) -> bool:
    """Tell whether a variable is a true latitude or longitude, of whatever shape."""
    role: Role = "Y" if which == "latitude" else "X"
    standard_name = str(variable.attrs.get("standard_name", ""))
    if standard_name:
        return standard_name == which
    named = name.lower() in {which, which[:3], f"nav_{which[:3]}"}
    return named or _role_of_units(str(variable.attrs.get("units", ""))) == role


def dimension_roles(dataset: xr.Dataset) -> dict[str, Role]:
    """Return the role of every dimension that has one.

    A dimension takes the role of the coordinate variable of its name, or that of its name alone.
    """
    roles = {}
    for name in (str(dim) for dim in dataset.sizes):
        attributes = dataset.variables[name].attrs if name in dataset.variables else {}
        role = role_of(name, attributes)
        if role is not None:
            roles[name] = role
    return roles


def time_variable(dataset: xr.Dataset, dim: str | None) -> str | None:
    """Return the variable that holds the valid times along a dimension, or the scalar one.

    The standard name `time` wins over the variable that shares the dimension's name, because a
    dimension named `time` can hold the start of the forecasts.
    """
    dims = () if dim is None else (dim,)
    along = {str(name): v for name, v in dataset.variables.items() if v.dims == dims}
    named = [name for name, v in along.items() if v.attrs.get("standard_name") == "time"]
    alike = [name for name in along if name == dim or _NAMES.get(name.lower()) == "T"]
    alike.sort(key=lambda name: name != (dim or "time"))
    return next(iter([*named, *alike]), None)


def _role_of_pressure(units: str) -> Role | None:
    try:
        pressure = bool(units) and parse_unit(units).dimension == {"kg": 1, "m": -1, "s": -2}
    except ValueError:
        pressure = False
    return "Z" if pressure else None


def _role_of_units(units: str) -> Role | None:
    text = "_".join(units.lower().split())
    if "_since_" in text:
        return "T"
    return "Y" if text in _NORTH else "X" if text in _EAST else None
