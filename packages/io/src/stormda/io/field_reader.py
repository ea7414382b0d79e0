"""Reading a variable of one or several files, again and again, at other frames each time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stormda.io.index import FileIndex
from stormda.io.reading import Block, BlockReader, Part, time_axis


@dataclass(frozen=True, eq=False)
class FieldReader:
    """Reads a part of a variable; made by `Store.reader`."""

    files: tuple[FileIndex, ...]
    """The files, in the order of time."""

    starts: NDArray[np.int64]
    """The number of the first frame of each file."""

    name: str
    """The variable's name in the files."""

    part: Part
    """What is wanted of it."""

    def read(self, frames: NDArray[np.int64]) -> Block:
        """Return values and mask of frames, as `Store.read` does.

        Args:
            frames: Their numbers, in any order, shape (time,); not checked.

        Raises:
            ValueError: If a value is infinite or not plausible, or the file is damaged.
        """
        if len(self.files) == 1:
            return self._first.read(frames)
        owner = np.searchsorted(self.starts[1:], frames, side="right")
        places = [np.flatnonzero(owner == i) for i in sorted(set(owner.tolist()))]
        blocks = [self._from_file(int(owner[here[0]]), frames[here]) for here in places]
        if len(blocks) == 1:
            return blocks[0]
        axis, order = time_axis(self.files[0], self.name, self.part), np.concatenate(places)
        values = _in_order([block[0] for block in blocks], axis, np.argsort(order))
        return values, _in_order([block[1] for block in blocks], axis, np.argsort(order))

    @cached_property
    def _first(self) -> BlockReader:
        return BlockReader(self.files[0], self.name, self.part)

    def _from_file(self, number: int, frames: NDArray[np.int64]) -> Block:
        """Return frames that one file holds."""
        reader = BlockReader(self.files[number], self.name, self.part)
        return reader.read(frames - self.starts[number])


def _in_order(blocks: Sequence[NDArray[Any]], axis: int, order: NDArray[np.int64]) -> NDArray[Any]:
    """Join the files' frames and put them in the order in which they were asked for."""
    joined = np.concatenate(blocks, axis=axis)
    rising = np.array_equal(order, np.arange(len(order)))
    return joined if rising else np.take(joined, order, axis=axis)
