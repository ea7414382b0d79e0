"""What a reading costs: the bytes that are wanted, and those that must be touched for them.

Pieces that are stored together are read together. A tile of a store whose pieces are whole frames
reads the whole frames; the ratio is its read amplification.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from stormda.io.index import FileIndex
from stormda.io.reading import tile_runs
from stormda.io.selection import Tile


class ReadAmplificationWarning(UserWarning):
    """A reading touches many times the bytes that it wants."""


@dataclass(frozen=True)
class ReadCost:
    """The cost of one reading, before compression."""

    wanted: int
    """Bytes of the selection."""

    touched: int
    """Bytes of the pieces that hold it."""

    @property
    def amplification(self) -> float:
        """How many bytes are touched for each that is wanted."""
        return self.touched / self.wanted


def read_cost(
    file: FileIndex, name: str, frames: NDArray[np.int64], tile: Tile | None
) -> ReadCost:
    """Return the cost of reading frames and a tile of all levels and members.

    Unchunked files are read run by run, without waste.

    Args:
        file: The file, or the first of several.
        name: The variable's name in it.
        frames: The frames, shape (n,).
        tile: The rows and columns; None for all.
    """
    meta = file.variables[name].meta
    runs = tile_runs(file.grid, tile)
    wanted, touched = np.dtype(meta.dtype).itemsize, np.dtype(meta.dtype).itemsize
    chunks = meta.chunks or (1,) * len(meta.shape)
    for dim, size, chunk in zip(meta.dims, meta.shape, chunks, strict=True):
        role = file.roles[dim]
        if role == "T":
            cells = frames
        elif role in ("Y", "X") and len(runs) == 2:
            along = runs[0 if role == "Y" else 1]
            cells = np.concatenate([np.arange(run.cells.start, run.cells.stop) for run in along])
        else:
            cells = np.arange(size)
        wanted *= len(cells)
        touched *= _touched(cells, chunk, size)
    return ReadCost(wanted, touched * meta.shared)


def _touched(cells: NDArray[np.int64], chunk: int, size: int) -> int:
    """Return how many cells the pieces of some cells hold along one dimension."""
    pieces = np.unique(cells // chunk)
    return int(
        np.minimum((pieces + 1) * chunk, max(size, int(cells.max()) + 1)).sum()
        - (pieces * chunk).sum()
    )
