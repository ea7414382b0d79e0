"""Several files as one: they must hold the same variables on the same axes, one after another.

The order is that of their first times. What does not fit is an error that names both files.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from stormda.grid import describe_difference
from stormda.io.index import FileIndex


def join(files: Sequence[FileIndex]) -> tuple[FileIndex, ...]:
    """Return files in the order of time, checked to belong together.

    Args:
        files: The metadata of each, in any order.

    Raises:
        ValueError: If two files differ in grid, levels, members, variables or units, share a time,
            overlap in time, or have no time although there are several.
    """
    if len(files) == 1:
        return tuple(files)
    for file in files:
        if not len(file.times):
            raise ValueError(
                f"{file.path}: expected a time to put {len(files)} files in order, got none"
            )
    ordered = sorted(files, key=lambda file: file.times[0])
    for file in ordered[1:]:
        _require_alike(ordered[0], file)
    for one, two in pairwise(ordered):
        _require_after(one, two)
    return tuple(ordered)


def _require_alike(one: FileIndex, two: FileIndex) -> None:
    """Raise unless two files differ in nothing but time."""
    difference = describe_difference(one.grid, two.grid)
    if difference is not None:
        raise ValueError(f"{two.path}: expected the grid of {one.path}: {difference}")
    facts, others = _facts(one), _facts(two)
    for what, fact in facts.items():
        if others[what] != fact:
            raise ValueError(
                f"{two.path}: expected the {what} of {one.path}, {fact}, got {others[what]}"
            )


def _facts(file: FileIndex) -> dict[str, object]:
    """Return what files that belong together have in common beside the grid."""
    metas = {name: variable.meta for name, variable in sorted(file.variables.items())}
    return {
        "variables": [*metas],
        "units": {name: meta.units for name, meta in metas.items()},
        "dimensions": {name: meta.dims for name, meta in metas.items()},
        "calendar": file.calendar,
        "members": file.members.tolist(),
        "levels": {name: axis.values.tolist() for name, axis in file.levels.items()},
    }


def _require_after(one: FileIndex, two: FileIndex) -> None:
    """Raise unless the second file starts after the first one ends."""
    if two.times[0] > one.times[-1]:
        return
    shared = np.intersect1d(one.times, two.times)
    fault = f"both hold {shared[0]}" if len(shared) else "their times interleave"
    raise ValueError(
        f"{two.path}: expected times after those of {one.path}, which ends at {one.times[-1]}, "
        f"got a file that starts at {two.times[0]} ({fault})"
    )
