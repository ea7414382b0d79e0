"""Observations from a table, as what the sampler needs: values, an operator, errors.

A field is compared with an observation where it was made: the operator interpolates bilinearly
between the cells around it. Whatever cannot be compared is refused under a reason and counted.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormda.assimilation import DiagonalError, Observation, interpolate
from stormda.grid import Grid, locate
from stormda.io import ObservationTable, VariableNotFound, convert, read_observations
from stormda.storm.level_fields import at_level

BETWEEN = "between levels"
MISSING = "on missing cells"
GROSS = "background check"


def read_matching(
    path: str | Path, observed: Mapping[str, str], *, error: float | None = None
) -> ObservationTable:
    """Read those observations of a file that are of fields; not all fields need be among them.

    Args:
        path: The file.
        observed: What each field is called in it.
        error: One standard deviation of observations that state none [SI units].

    Raises:
        ValueError: Where no name is there, or the file cannot be read.
    """
    names = list(dict.fromkeys(observed.values()))
    try:
        return read_observations(path, variable=names, error=error)
    except VariableNotFound as problem:
        there = [name for name in names if name in problem.available]
        if not there:
            raise
        return read_observations(path, variable=there, error=error)


def match_variables(
    table: ObservationTable, observed: Mapping[str, str], units: Mapping[str, str]
) -> ObservationTable:
    """Give observations the names and units of the fields that they measure.

    Args:
        table: Observations.
        observed: What each variable is called in the table, by the name of the field. A field
            whose own name is not there was not observed; any other name must be there. Several
            fields may be one variable on several levels (`level_fields`): an observation with a
            pressure belongs to the level that it was made on.
        units: The units of each field, by its name. A table without units is in these already.

    Raises:
        ValueError: Where a field is unknown, nothing of a name was observed, one observation would
            be of two fields, or units do not convert.

    Examples:
        >>> from stormda.io import observation_table
        >>> table = observation_table(time="2019-03-01", lat=[51.0], lon=[0.0], value=[7.0],
        ...                           error=0.5, variable="temp", units={"temp": "degC"})
        >>> match_variables(table, {"t2m": "temp"}, {"t2m": "K"}).value
        array([280.15])
    """
    value, error = table.value.copy(), table.error.copy()
    names = np.full(len(table), "", object)
    for name, theirs in _present(table, observed, units).items():
        rows = (table.variable == theirs) & at_level(table, name)
        if twice := set(names[rows]) - {""}:
            raise ValueError(
                f"observed: expected one field for {theirs!r}, got {name!r} and {twice.pop()!r}"
            )
        names[rows] = name
        if source := table.units.get(theirs, ""):
            try:
                value[rows] = convert(value[rows], source, units[name])
            except ValueError as wrong:
                where = table.source or "observations"
                raise ValueError(f"{where}: variable {theirs!r} for {name!r}: {wrong}") from wrong
            error[rows] *= np.diff(convert([0.0, 1.0], source, units[name]))[0]
    other = ~np.isin(table.variable, list(observed.values()))
    table = replace(
        table, value=value, error=error, variable=names.astype(np.str_), units=dict(units)
    )
    named = table.where(~other, "other variable")
    return named.where(named.variable != "", BETWEEN)


def _present(
    table: ObservationTable, observed: Mapping[str, str], units: Mapping[str, str]
) -> dict[str, str]:
    """Return what is observed, refusing names that are nowhere."""
    known = set(table.variable.tolist())
    for name, theirs in observed.items():
        if name not in units:
            raise ValueError(f"observed: expected a field among {sorted(units)}, got {name!r}")
        if theirs not in known and (name != theirs or known.isdisjoint(observed.values())):
            raise ValueError(
                f"observed: expected a variable among {sorted(known)}, got {theirs!r}"
            )
    return {name: theirs for name, theirs in observed.items() if theirs in known}


def usable(
    table: ObservationTable, grid: Grid, variables: Sequence[str], mask: Tensor | None
) -> ObservationTable:
    """Return the observations whose cells all have values, counting the others.

    Args:
        table: Observations, named as the fields.
        grid: Where the fields live.
        variables: The fields' names.
        mask: Where they have values, (variables, rows, cols); None for everywhere.
    """
    inside = table.within(grid)
    if mask is None:
        return inside
    operator = cells_of(inside, grid, variables)
    flat = mask.flatten().cpu()
    known = (flat[operator.cells] | (operator.weights == 0)).all(1)
    return inside.where(known.numpy(), MISSING)


def cells_of(
    table: ObservationTable,
    grid: Grid,
    variables: Sequence[str],
    device: torch.device | str = "cpu",
) -> interpolate:
    """Return the operator from states (m, variables, rows, cols) to the observations (m, p).

    Args:
        table: Usable observations.
        grid: Where the fields live.
        variables: The fields' names.
        device: Where the states are.
    """
    stencil = locate(grid, table.position[:, 0], table.position[:, 1])
    which = np.array([list(variables).index(name) for name in table.variable.tolist()], np.int64)
    offset = which * (grid.shape[0] * grid.shape[1])
    return interpolate(
        torch.from_numpy(stencil.cells + offset[:, None]).to(device),
        torch.from_numpy(stencil.weights).to(device),
    )


def as_observation(
    table: ObservationTable, grid: Grid, variables: Sequence[str]
) -> Observation | None:
    """Return a table as one observation, or None where it is empty."""
    return observation_of_window([table], grid, variables)


def observation_of_window(
    tables: Sequence[ObservationTable],
    grid: Grid,
    variables: Sequence[str],
    device: torch.device | str = "cpu",
) -> Observation | None:
    """Return what is seen of several frames as one observation, or None where nothing is.

    Args:
        tables: Of every frame.
        grid: Where the fields live.
        variables: The fields' names.
        device: Where the states are.

    Returns:
        An observation of states (members, frames * variables, rows, cols).
    """
    if not any(len(table) for table in tables):
        return None
    size = len(variables) * math.prod(grid.shape)
    each = [cells_of(table, grid, variables, device) for table in tables]
    cells = torch.cat([one.cells + frame * size for frame, one in enumerate(each)])
    return Observation(
        torch.cat([torch.from_numpy(table.value) for table in tables]).float().to(device),
        interpolate(cells, torch.cat([one.weights for one in each])),
        DiagonalError(
            torch.cat([torch.from_numpy(table.error) for table in tables]).float().to(device)
        ),
    )


@dataclass(frozen=True, eq=False)
class Expected:
    """What is expected of the fields before they are observed."""

    ensemble: Tensor
    """Expected fields, (members, variables, rows, cols)."""

    std: Tensor
    """Standard deviation that is allowed for beside the spread of `ensemble`,
    (variables, rows, cols)."""


def background_check(
    table: ObservationTable,
    grid: Grid,
    variables: Sequence[str],
    expected: Expected,
    limit: float,
) -> ObservationTable:
    """Refuse observations that are not credible, counting them; see `credibility`."""
    return table.where(credibility(table, grid, variables, expected, limit), GROSS)


def credibility(
    table: ObservationTable,
    grid: Grid,
    variables: Sequence[str],
    expected: Expected,
    limit: float,
) -> NDArray[np.bool_]:
    """Tell which observations are credible, (p).

    An observation passes where |y - <H x>|^2 <= limit^2 (error^2 + std^2 + var H x).

    Source: Ingleby and Huddleston (2007), J. Mar. Syst. 65, section 3.1 (background check).

    Args:
        table: Usable observations.
        grid: Where the fields live.
        variables: The fields' names.
        expected: What is expected of the fields.
        limit: Largest departure, in standard deviations.
    """
    if not len(table):
        return np.zeros(0, bool)
    operator = cells_of(table, grid, variables, expected.ensemble.device)
    predicted = operator(expected.ensemble).double().cpu()
    allowed = operator(expected.std[None])[0].double().cpu()
    variance = predicted.var(0) + allowed**2 + torch.from_numpy(table.error) ** 2
    departure = torch.from_numpy(table.value) - predicted.mean(0)
    return np.asarray((departure.square() <= limit**2 * variance).numpy())
