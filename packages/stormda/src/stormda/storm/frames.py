"""Fields at successive times, held in memory, and the calendar that goes with them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormda.grid import LatLonGrid, PlaneGrid, time_features
from stormda.storm.level_fields import find_field, units_of

if TYPE_CHECKING:
    from stormda.io import Store

Times = NDArray[np.datetime64]
Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Frames:
    """Fields at successive times, in physical units."""

    variables: tuple[str, ...]
    """Their names."""

    units: tuple[str, ...]
    """Their units."""

    grid: LatLonGrid | PlaneGrid
    """Where they live."""

    times: Times
    """The valid times, (time,), increasing."""

    values: Tensor
    """float32, (time, variables, rows, cols); 0 where missing."""

    valid: Tensor
    """True where known, (time, variables, rows, cols)."""

    def select(self, index: Indices) -> Frames:
        """Return some of the frames."""
        chosen = torch.from_numpy(index)
        return Frames(
            variables=self.variables,
            units=self.units,
            grid=self.grid,
            times=self.times[index],
            values=self.values[chosen],
            valid=self.valid[chosen],
        )

    def step_hours(self) -> float:
        """Return the usual time between frames [h].

        Raises:
            ValueError: Where there are fewer than two frames.
        """
        return usual_step(self.times)


def usual_step(times: Times) -> float:
    """Return the most frequent time between successive times [h].

    Raises:
        ValueError: Where there are fewer than two.
    """
    if len(times) < 2:
        raise ValueError(f"times: expected at least 2 frames, got {len(times)}")
    steps, counts = np.unique(np.diff(times), return_counts=True)
    return float(steps[counts.argmax()] / np.timedelta64(1, "h"))


def read_frames(
    store: Store,
    variables: Sequence[str],
    *,
    start: np.datetime64 | None = None,
    end: np.datetime64 | None = None,
) -> Frames:
    """Read the frames of a store with start <= time <= end.

    Args:
        store: Open files.
        variables: Names of fields (time, rows, cols), with their level where variables have
            several (`level_fields`).
        start: First time; None for the first there is.
        end: Last time; None for the last there is.

    Raises:
        ValueError: Where a variable is unknown or has levels or members, or no frame is left.
    """
    after = np.datetime64("0001-01-01") if start is None else start
    before = np.datetime64("9999-12-31") if end is None else end
    chosen = np.flatnonzero((after <= store.times) & (store.times <= before))
    if not len(chosen):
        raise ValueError(
            f"{store.paths[0]}: expected frames between {start or 'the start'} and "
            f"{end or 'the end'}, got none (it has {span(store.times)})"
        )
    fields = [_read(store, name, slice(chosen[0], chosen[-1] + 1)) for name in variables]
    return Frames(
        variables=tuple(variables),
        units=tuple(units_of(store, name) for name in variables),
        grid=grid_of(store),
        times=store.times[chosen],
        values=torch.stack([values for values, _ in fields], 1),
        valid=torch.stack([valid for _, valid in fields], 1),
    )


def grid_of(store: Store) -> LatLonGrid | PlaneGrid:
    """Return the grid of a store, if it is one that the network knows.

    Raises:
        ValueError: If it is another one.
    """
    if not isinstance(store.grid, LatLonGrid | PlaneGrid):
        raise ValueError(
            f"{store.paths[0]}: expected a latitude-longitude grid or a plane, got {store.grid!r}"
        )
    return store.grid


def _read(store: Store, name: str, time: slice) -> tuple[Tensor, Tensor]:
    field = find_field(store, name)
    values, valid = field.read(store, time)
    if values.shape[1:] != store.grid.shape:
        raise ValueError(
            f"{store.paths[0]}: variable {name!r}: expected dimensions "
            f"('time', *{store.grid.dims}), or a level such as {field.variable}_850, "
            f"got {store.variables[field.variable].dims}"
        )
    return values, valid


def span(times: Times) -> str:
    """Say which frames there are, for messages."""
    return f"{len(times)} frames from {times[0]} to {times[-1]}" if len(times) else "no time"


def clock_features(times: Times, grid: LatLonGrid | PlaneGrid, *, season: bool) -> Tensor:
    """Return the calendar at the middle of a grid, (time, 6).

    Args:
        times: Valid times, UTC.
        grid: Its mean longitude gives the local solar time; on a plane that is UTC.
        season: Whether the phase of the year is told; else its sine and cosine are 0.

    Examples:
        >>> noon, canada = np.array(["2019-03-01T12"], "datetime64[s]"), [-91.0, -89.0]
        >>> grid = LatLonGrid([50.0, 51.0], canada)
        >>> clock_features(noon, grid, season=False).round(decimals=2) + 0
        tensor([[ 0.,  0.,  1.,  0., -1.,  0.]])
    """
    lon = float(np.mean(np.unwrap(grid.lon, period=360))) if isinstance(grid, LatLonGrid) else 0.0
    features = torch.from_numpy(time_features(times, lon)).float()
    if not season:
        features[:, [0, 3]] = 0.0
    return features
