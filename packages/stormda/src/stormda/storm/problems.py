"""What is doubtful in a file that can be read, and what to do about it.

A reader refuses what it cannot make sense of. What is found here reads well and may still be
wrong: gaps in time, values that are no temperature, observations that say nothing of their error.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormda.io import ObservationTable, Store
from stormda.storm.frames import Times

RANGES: dict[str, tuple[float, float]] = {
    "K": (100.0, 400.0),
    "Pa": (1.0, 120_000.0),
    "m s-1": (-200.0, 200.0),
    "kg kg-1": (-1e-6, 0.1),
}
"""Values that the Earth's atmosphere and surface have, by unit."""

FRAMES = 3
"""Frames of a variable that are looked at: the first, the middle one and the last."""


@dataclass(frozen=True)
class Problem:
    """Something doubtful, and what to do about it.

    Examples:
        >>> print(Problem("t2m", "2 gaps in time", "fill them"))
        t2m: 2 gaps in time; fill them
    """

    where: str
    """The variable or axis."""

    what: str
    """What was found."""

    remedy: str
    """What to do."""

    def __str__(self) -> str:
        return f"{self.where}: {self.what}; {self.remedy}"


def problems_of_fields(store: Store) -> list[Problem]:
    """Return what is doubtful in gridded files; of each variable three frames are read."""
    found = problems_of_times(store.times)
    for name, meta in store.variables.items():
        if not meta.units:
            found.append(Problem(name, "no units", "set the attribute `units`"))
        if store.members.size == 1:
            found.append(Problem(name, "an ensemble of 1", "scores of spread need 2 members"))
        found += _problems_of_values(store, name, meta.units)
    return found


def problems_of_times(times: Times) -> list[Problem]:
    """Return gaps and irregular steps.

    Examples:
        >>> hours = np.datetime64("2019-03-01T00", "s") + 3600 * np.array([0, 1, 2, 5])
        >>> problems_of_times(hours)[0].what
        '1 step other than the usual 1 h, the first after 2019-03-01T02:00:00'
    """
    if len(times) < 3:
        return []
    steps = np.diff(times)
    kinds, counts = np.unique(steps, return_counts=True)
    usual = kinds[counts.argmax()]
    odd = np.flatnonzero(steps != usual)
    if not len(odd):
        return []
    hours = usual / np.timedelta64(1, "h")
    what = (
        f"{len(odd)} step{'s' * (len(odd) > 1)} other than the usual {hours:g} h, "
        f"the first after {times[odd[0]]}"
    )
    return [Problem("time", what, "training leaves out windows that span one")]


def problems_of_observations(table: ObservationTable) -> list[Problem]:
    """Return what is doubtful in a table of observations."""
    found = []
    for reason, count in sorted(table.rejected.items()):
        found.append(Problem("rows", f"{count} refused: {reason}", "see whether that is meant"))
    for name in dict.fromkeys(table.variable.tolist()):
        rows = table.variable == name
        unknown = int(np.isnan(table.error[rows]).sum())
        if unknown:
            found.append(Problem(name, f"{unknown} without an error", "pass --error"))
        if not table.units.get(name):
            found.append(
                Problem(name, "no units", "they are taken to be those of the prior's variable")
            )
        found += _out_of_range(name, table.units.get(name, ""), table.value[rows])
    return found


def _problems_of_values(store: Store, name: str, units: str) -> list[Problem]:
    count = max(1, len(store.times))
    frames = sorted({0, count // 2, count - 1})[:FRAMES]
    try:
        values, valid = store.read(name, time=frames if len(store.times) else None)
    except ValueError as error:
        return [Problem(name, f"cannot be read ({error})", "leave it out of --variables")]
    known = values[valid].astype(np.float64)
    if not len(known):
        return [Problem(name, f"no valid value in frames {frames}", "leave those times out")]
    found = _out_of_range(name, units, known)
    share = 1 - valid.mean()
    if share:
        what = f"{100 * share:.1f} % missing in frames {frames}"
        found.append(Problem(name, what, "cells that miss once are left out of a prior"))
    if known.min() == known.max():
        found.append(Problem(name, f"one value only, {known[0]:g}", "it cannot be learned from"))
    return found


def _out_of_range(name: str, units: str, values: NDArray[np.floating]) -> list[Problem]:
    low, high = RANGES.get(units, (-np.inf, np.inf))
    outside = int(((values < low) | (values > high)).sum())
    if not outside:
        return []
    what = f"{outside} value{'s' * (outside > 1)} outside {low:g} to {high:g} {units}"
    return [Problem(name, what, "check the units, the packing and the fill value")]
