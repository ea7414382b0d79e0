"""Pieces of an ensemble that were written, and whether together they are all of it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

_NAME = re.compile(r"m(\d+)-(\d+)_t(\d+)-(\d+)_y(\d+)-(\d+)_x(\d+)-(\d+)")


class Region(NamedTuple):
    """A block of an ensemble, all levels of it: half-open ranges."""

    members: tuple[int, int]
    """From the first member to behind the last."""

    times: tuple[int, int]
    """From the first time to behind the last."""

    rows: tuple[int, int]
    """From the first row to behind the last."""

    cols: tuple[int, int]
    """From the first column to behind the last."""

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """How many members, times, rows and columns it has."""
        m, t, y, x = (stop - start for start, stop in self)
        return m, t, y, x

    @property
    def slices(self) -> tuple[slice, slice, slice, slice]:
        """Where it lies, as indices."""
        m, t, y, x = (slice(*span) for span in self)
        return m, t, y, x

    @property
    def name(self) -> str:
        """A name for a file.

        Examples:
            >>> Region((0, 4), (2, 3), (0, 8), (8, 16)).name
            'm0-4_t2-3_y0-8_x8-16'
        """
        return "_".join(f"{k}{a}-{b}" for k, (a, b) in zip("mtyx", self, strict=True))


def region_of(name: str) -> Region | None:
    """Return the region of a name; None for another name.

    Examples:
        >>> region_of("m0-4_t2-3_y0-8_x8-16").times
        (2, 3)
    """
    match = _NAME.fullmatch(name)
    if match is None:
        return None
    n = [int(digits) for digits in match.groups()]
    return Region((n[0], n[1]), (n[2], n[3]), (n[4], n[5]), (n[6], n[7]))


def require_inside(region: Region, shape: tuple[int, int, int, int]) -> None:
    """Raise unless a region is one of an ensemble of a shape.

    Raises:
        ValueError: If it is empty or leaves the ensemble.
    """
    names = ("members", "times", "rows", "cols")
    for name, (start, stop), size in zip(names, region, shape, strict=True):
        if not 0 <= start < stop <= size:
            raise ValueError(f"{name}: expected a range within 0 to {size}, got {start} to {stop}")


def require_whole(regions: Iterable[Region], shape: tuple[int, int, int, int]) -> None:
    """Raise unless regions cover an ensemble, every number once.

    Raises:
        ValueError: With the first number that is not covered, or that is covered twice.
    """
    edges = [sorted({0, n}) for n in shape]
    found = list(regions)
    for axis in range(4):
        edges[axis] = sorted({*edges[axis], *(e for region in found for e in region[axis])})
    count = np.zeros([len(e) - 1 for e in edges], np.int32)
    for region in found:
        at = tuple(
            slice(e.index(start), e.index(stop))
            for e, (start, stop) in zip(edges, region, strict=True)
        )
        count[at] += 1
    if (count != 1).any():
        where = np.argwhere(count != 1)[0]
        member, time, row, col = (int(e[i]) for e, i in zip(edges, where, strict=True))
        times = "no part" if count[tuple(where)] == 0 else f"{count[tuple(where)]} parts"
        raise ValueError(
            f"parts: expected one of every number, got {times} of member {member}, time {time}, "
            f"row {row}, column {col}"
        )
