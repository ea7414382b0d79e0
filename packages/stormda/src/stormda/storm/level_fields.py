"""Fields on one level of a variable that has several, by name: `temperature_850`.

The number is a pressure in hPa where the levels are pressures, else in the units of the axis, as
in the tables of WeatherBench. A variable whose own name ends like that is itself.

Source: Rasp et al. (2024), WeatherBench 2, table 1, https://arxiv.org/abs/2308.15560
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, from_numpy

if TYPE_CHECKING:
    from stormda.io import ObservationTable, Store

LEVEL_TOLERANCE = 0.01
"""How far from a level, of its pressure, an observation may be made: 1 % are about 80 m."""


@dataclass(frozen=True)
class LevelField:
    """Where a field is found."""

    variable: str
    """The variable in the files."""

    level: int | None = None
    """The index of the level; None where there are no levels."""

    def read(self, store: Store, time: slice) -> tuple[Tensor, Tensor]:
        """Return values and where they are valid, (time, *grid.shape)."""
        values, valid = store.read(self.variable, time=time, level=self.level)
        return from_numpy(values), from_numpy(valid)


def level_of(name: str) -> int | None:
    """Return the number that a field's name ends with.

    Examples:
        >>> level_of("temperature_850"), level_of("t2m")
        (850, None)
    """
    found = re.fullmatch(r".+_(\d+)", name)
    return int(found[1]) if found else None


def find_field(store: Store, name: str) -> LevelField:
    """Return where files hold a field.

    Raises:
        ValueError: Where they do not.
    """
    variable, number = name.rpartition("_")[0], level_of(name)
    if name in store.variables or number is None or variable not in store.variables:
        return LevelField(store.resolve(name))
    dims = store.variables[variable].dims
    pressures = any(d in store.levels and store.levels[d].units == "Pa" for d in dims)
    return LevelField(variable, store.level(variable, number, "hPa" if pressures else ""))


def holds(store: Store, name: str) -> bool:
    """Return whether files hold a field."""
    try:
        find_field(store, name)
    except ValueError:
        return False
    return True


def units_of(store: Store, name: str) -> str:
    """Return the units of a field.

    Raises:
        ValueError: Where files do not hold it.
    """
    return store.variables[find_field(store, name).variable].units


def attributes_of(store: Store, name: str, units: str) -> dict[str, str]:
    """Return the CF attributes of a field, with given units.

    Raises:
        ValueError: Where files do not hold it.
    """
    found = find_field(store, name)
    meta = store.variables[found.variable]
    known = {"standard_name": meta.standard_name, "long_name": meta.long_name}
    if found.level is not None:
        known["long_name"] = f"{meta.long_name or found.variable} at level {level_of(name)}"
    return {"units": units} | {key: text for key, text in known.items() if text}


def at_level(table: ObservationTable, name: str) -> NDArray[np.bool_]:
    """Return which observations are made on the level of a field, (n,).

    All are, if they have no pressure, or the field has no level.

    Examples:
        >>> from stormda.io import observation_table
        >>> table = observation_table(time="2019-03-01", lat=[0.0, 1.0], lon=[0.0, 0.0],
        ...                           value=[280.0, 270.0], z=[85_300.0, 70_000.0],
        ...                           z_kind="pressure")
        >>> at_level(table, "temperature_850")
        array([ True, False])
    """
    number = level_of(name)
    has_pressure = table.z_kind == "pressure"
    if number is None:
        return np.ones(len(table), bool)
    near = np.abs(table.z - 100.0 * number) <= LEVEL_TOLERANCE * 100.0 * number
    here: NDArray[np.bool_] = ~has_pressure | near
    return here
