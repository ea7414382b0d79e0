"""Gathering one variable's statistics, a block of frames at a time.

Values are weighted by cell area and summed over time, members and cells; levels stay apart.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import partial, reduce
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

    dataset: str = ""
    """The `fingerprint` of the store; empty for a merge of several."""

    start: str = ""
    """The first date; empty for a static variable."""

    end: str = ""
    """The last date."""

    cell_dims: int = 2
    """How many axes the cells have: rows and columns, or one of a list."""


@dataclass(frozen=True, eq=False, kw_only=True)
class GatheredBlock:
    """What one rank gathered of one block of frames of one variable."""

    variable: str
    """The variable."""

    number: int
    """The number of the block, from 0."""

    blocks: int
    """How many blocks there are of the variable."""

    found: VariableStatistics
    """The statistics of the block."""


def gather_blocks(
    store: Store,
    names: Sequence[str],
    time: TimeSelection = None,
    *,
    rank: int = 0,
    ranks: int = 1,
) -> list[GatheredBlock]:
    """Gather a rank's share of the statistics of some variables.

    The blocks do not depend on the number of ranks: rank r takes every `ranks`-th of them.

    Args:
        store: The fields.
        names: The variables.
        time: The frames, as in `Store.read`.
        rank: The number of this rank, from 0.
        ranks: How many there are.

    Raises:
        ValueError: If there is no such rank, or a variable cannot be read.

    Examples:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from stormda.grid import LatLonGrid
        >>> from stormda.io import open_store, write_fields
        >>> x = np.array([280.0, 282.0]).reshape(2, 1, 1) + np.zeros((2, 2, 3))
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     write_fields(Path(folder, "t.nc"), {"t2m": x}, attributes={"t2m": {"units": "K"}},
        ...                  times=np.array(["2019-03-01", "2019-03-02"], "datetime64[s]"),
        ...                  grid=LatLonGrid([50.0, 51.0], [0.0, 1.0, 2.0]))
        ...     blocks = gather_blocks(open_store(Path(folder, "t.nc")), ["t2m"], rank=0, ranks=2)
        >>> [(b.variable, b.number, round(float(b.found.values.mean), 9)) for b in blocks]
        [('t2m', 0, 281.0)]
    """
    if not 0 <= rank < ranks:
        raise ValueError(f"rank: expected 0 to {ranks - 1}, got {rank}")
    return [block for name in names for block in _gathered(store, name, time, rank, ranks)]


def merge_blocks(gathered: Sequence[GatheredBlock]) -> dict[str, VariableStatistics]:
    """Merge blocks in their own order.

    Raises:
        ValueError: If one is missing or comes twice, or they are of several data sets.
    """
    found = {}
    for name in dict.fromkeys(block.variable for block in gathered):
        mine = sorted((b for b in gathered if b.variable == name), key=lambda b: b.number)
        numbers = [block.number for block in mine]
        if numbers != list(range(mine[0].blocks)):
            raise ValueError(
                f"parts: expected blocks 0 to {mine[0].blocks - 1} of {name!r}, got {numbers}"
            )
        if len({(block.found.dataset, block.found.step_seconds) for block in mine}) > 1:
            raise ValueError(f"parts: expected blocks of one data set for {name!r}, got several")
        found[name] = reduce(partial(merge, name), [block.found for block in mine])
    return found


def _gathered(
    store: Store, name: str, time: TimeSelection, rank: int, ranks: int
) -> list[GatheredBlock]:
    frames = store.frames(name, time)
    step = _usual_step(store, frames)
    parts = _blocks(len(frames), _frames_at_once(store, name))
    return [
        GatheredBlock(
            variable=name,
            number=number,
            blocks=len(parts),
            found=_statistics(store, name, frames[start - overlap : stop], step, overlap),
        )
        for number, (start, stop, overlap) in enumerate(parts)
        if number % ranks == rank
    ]


def _statistics(
    store: Store, name: str, frames: NDArray[np.int64], step: int, overlap: int
) -> VariableStatistics:
    values, tendency = _block(store, name, frames, step, overlap)
    static = len(store.frames(name)) < max(1, len(store.times)) or not len(store.times)
    start, end = ("", "") if static else (store.dates_of(frames[[overlap, -1]]))
    return VariableStatistics(
        units=store.variables[name].units,
        values=values,
        tendency=tendency,
        step_seconds=step,
        dataset=store.fingerprint,
        start=start,
        end=end,
        cell_dims=len(store.grid.shape),
    )


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
    cells = "(y x)" if "Y" in axes else "x"
    return rearrange(array, f"{' '.join(names[axis] for axis in axes)} -> t {m} {cells} {z}")


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
        dataset=one.dataset if one.dataset == two.dataset else "",
        start=min(one.start, two.start),
        end=max(one.end, two.end),
        cell_dims=one.cell_dims,
    )
