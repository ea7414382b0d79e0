"""Gathering one variable's statistics, a block of frames at a time.

Values are weighted by cell area and summed over time, members and cells; levels stay apart.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from functools import reduce
from typing import Any

import numpy as np
from einops import rearrange
from numpy.typing import NDArray

from stormda.io.axes import Role
from stormda.io.moments import Moments, moments
from stormda.io.selection import TimeSelection
from stormda.io.store import Store

_BLOCK_VALUES = 2**22
"""Values of a variable that are held at once: 32 MB in float64."""


@dataclass(frozen=True, eq=False, kw_only=True)
class VariableStatistics:
    """The statistics of one variable; shapes () or, with levels, (level,)."""

    units: str
    """The units of the values."""

    values: Moments
    """The moments of the values."""

    tendency: Moments
    """The moments of the change from one frame to the next."""

    step_seconds: int
    """The time between frames that `tendency` is for [s]; 0 for a single frame."""


def gather(store: Store, name: str, time: TimeSelection) -> VariableStatistics:
    """Gather one variable's statistics block by block."""
    frames = store.frames(name, time)
    step = _usual_step(store, frames)
    blocks = [
        _block(store, name, frames[start - overlap : stop], step, overlap)
        for start, stop, overlap in _blocks(len(frames), _frames_at_once(store, name))
    ]
    values, tendency = (reduce(Moments.merge, parts) for parts in zip(*blocks, strict=True))
    if not values.count.all():
        raise ValueError(
            f"{store.paths[0]}: variable {name!r}: expected at least one valid value, got none in "
            f"{len(frames)} frames"
        )
    units = store.variables[name].units
    return VariableStatistics(units=units, values=values, tendency=tendency, step_seconds=step)


def _block(
    store: Store, name: str, frames: NDArray[np.int64], step: int, overlap: int
) -> tuple[Moments, Moments]:
    """Return the moments of the values and of the changes of some frames.

    The values of the first `overlap` frames were counted before.
    """
    axes = store.axes(name)
    x, valid = (_levels_last(array, axes) for array in store.read(name, time=frames))
    area = store.grid.area.ravel()[:, None]
    change = np.diff(x.astype(np.float64), axis=0)
    usual = np.asarray(_steps(store, frames) == step)[:, None, None, None]
    paired = valid[1:] & valid[:-1] & usual
    parts = ((x[overlap:], valid[overlap:]), (change, paired))
    values, tendency = (moments(v, m, area, axis=(0, 1, 2)) for v, m in parts)
    return (values, tendency) if "Z" in axes else (_squeeze(values), _squeeze(tendency))


def _levels_last(array: NDArray[Any], axes: tuple[Role, ...]) -> NDArray[Any]:
    """Return `([member,] time, [level,] rows, columns)` as (time, member, cell, level)."""
    names = dict(zip("ETZYX", "mtzyx", strict=True))
    m, z = ("m" if "E" in axes else "1"), ("z" if "Z" in axes else "1")
    return rearrange(array, f"{' '.join(names[axis] for axis in axes)} -> t {m} (y x) {z}")


def _squeeze(block: Moments) -> Moments:
    """Drop the level axis of a variable that has none."""
    return Moments(**{f.name: getattr(block, f.name)[0] for f in fields(Moments)})


def _blocks(frames: int, at_once: int) -> list[tuple[int, int, int]]:
    """Return where each block starts and stops, and how many frames before it are read again."""
    starts = range(0, frames, at_once)
    return [(start, min(start + at_once, frames), min(start, 1)) for start in starts]


def _frames_at_once(store: Store, name: str) -> int:
    sizes = [n for a, n in zip(store.axes(name), store.shape(name), strict=True) if a != "T"]
    return max(1, _BLOCK_VALUES // math.prod(sizes))


def _usual_step(store: Store, frames: NDArray[np.int64]) -> int:
    """Return the commonest time between neighbouring frames [s]; 0 if there is none."""
    steps, counts = np.unique(_steps(store, frames), return_counts=True)
    return int(steps[np.argmax(counts)]) if len(steps) else 0


def _steps(store: Store, frames: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the time between neighbouring frames [s]; none for a static variable."""
    return np.diff(store.times[frames]).astype(np.int64) if len(frames) > 1 else np.zeros(0, int)


def merge(name: str, one: VariableStatistics, two: VariableStatistics) -> VariableStatistics:
    """Return the statistics of a variable over both samples.

    Raises:
        ValueError: If units or time steps differ.
    """
    if one.units != two.units:
        raise ValueError(f"statistics: expected {name!r} in {one.units!r}, got {two.units!r}")
    steps = {one.step_seconds, two.step_seconds} - {0}
    if len(steps) > 1:
        raise ValueError(
            f"statistics: expected steps of {one.step_seconds} s for {name!r}, "
            f"got {two.step_seconds} s"
        )
    return VariableStatistics(
        units=one.units,
        values=one.values.merge(two.values),
        tendency=one.tendency.merge(two.tendency),
        step_seconds=max(one.step_seconds, two.step_seconds),
    )
