"""Stored chunks of HDF5, read and written whole.

HDF5 takes every chunk through a cache: it adds up the checksum word by word, and copies the chunk
row by row. A chunk that is wanted whole, and is not compressed, is read from the file to where it
is wanted, and written likewise; the same bytes, with the same checksum. Whatever is not so simple
(a part of a chunk, one that is compressed, was never written or is damaged) is left to HDF5.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from typing import Any

import h5py
import numpy as np
from h5py import h5d, h5t, h5z
from numpy.typing import NDArray

from stormda.io.fletcher import fletcher32

_LEAST = 2**15
"""Bytes of a chunk from which this is faster than HDF5."""

_CHECKSUM = 4
"""Bytes that are stored behind a chunk."""

Key = tuple[slice | int, ...]


@dataclass(frozen=True, eq=False)
class ChunkedArray:
    """A variable of an HDF5 file in chunks that are not compressed."""

    dataset: h5py.Dataset
    """The variable; it keeps the file open."""

    shape: tuple[int, ...]
    """Its size along every dimension."""

    dtype: np.dtype[Any]
    """The type it is stored as."""

    chunks: tuple[int, ...]
    """The sizes of a chunk."""

    checked: bool
    """Whether chunks carry a checksum."""

    def __getitem__(self, key: Key, /) -> NDArray[Any]:
        """Return a part, in memory.

        Raises:
            OSError: If the file is damaged there.
        """
        box = _whole(key, self.shape, self.chunks)
        found = None if box is None else self._read(box)
        if box is None or found is None:
            return np.asarray(self.dataset[key])
        sizes = [len(span) for span, i in zip(box, key, strict=True) if not isinstance(i, int)]
        return found.reshape(sizes)

    def write(self, key: Key, values: NDArray[Any]) -> None:
        """Store values, which have the shape of the part."""
        box = _whole(key, self.shape, self.chunks)
        if box is None:
            self.dataset[key] = values
            return
        values = values.reshape([len(span) for span in box])
        stored = self._buffer()
        chunk = self._chunk_in(stored)
        for place, there, inside in _places(box, self.chunks):
            if chunk[inside].shape != chunk.shape:
                chunk[...] = self.dataset.fillvalue
            chunk[inside] = values[there]
            if self.checked:
                stored[-_CHECKSUM:].view("<u4")[0] = fletcher32(stored[:-_CHECKSUM])
            self.dataset.id.write_direct_chunk(place, stored)

    def _read(self, box: tuple[range, ...]) -> NDArray[Any] | None:
        """Return whole chunks; None if HDF5 had better read them."""
        shape = tuple(len(span) for span in box)
        if shape == self.chunks:
            return self._chunk(tuple(span.start for span in box), self._buffer())
        values, stored = np.empty(shape, self.dtype), self._buffer()
        for place, there, inside in _places(box, self.chunks):
            chunk = self._chunk(place, stored)
            if chunk is None:
                return None
            values[there] = chunk[inside]
        return values

    def _chunk(self, place: tuple[int, ...], stored: NDArray[np.uint8]) -> NDArray[Any] | None:
        """Read one chunk, and compare its checksum."""
        try:
            skipped, read = self.dataset.id.read_direct_chunk(place, out=stored)
        except (OSError, RuntimeError, ValueError):  # never written, or damaged: HDF5 knows which
            return None
        if skipped or len(read) != len(stored):
            return None
        if self.checked:
            said = int(stored[-_CHECKSUM:].view("<u4")[0])
            if said != fletcher32(stored[:-_CHECKSUM]):
                return None
        return self._chunk_in(stored)

    def _buffer(self) -> NDArray[np.uint8]:
        """Return room for a chunk and its checksum."""
        return np.empty(self._bytes + _CHECKSUM * self.checked, np.uint8)

    def _chunk_in(self, stored: NDArray[np.uint8]) -> NDArray[Any]:
        """Return the numbers in that room."""
        return np.ndarray(self.chunks, self.dtype, stored)

    @cached_property
    def _bytes(self) -> int:
        """How many bytes a chunk has without its checksum."""
        return math.prod(self.chunks) * self.dtype.itemsize


def chunked_array(dataset: h5py.Dataset) -> ChunkedArray | None:
    """Return what reads and writes a variable by whole chunks; None if it has none to gain by it.

    Args:
        dataset: The variable, of an open file.
    """
    if dataset.chunks is None or dataset.dtype.kind not in "iuf":
        return None
    size = math.prod(dataset.chunks) * dataset.dtype.itemsize
    if size < _LEAST or size % 2 or not h5t.py_create(dataset.dtype).equal(dataset.id.get_type()):
        return None
    how: h5py.h5p.PropDCID = dataset.id.get_create_plist()
    filters = [how.get_filter(i)[0] for i in range(how.get_nfilters())]
    if how.get_layout() != h5d.CHUNKED or filters not in ([], [h5z.FILTER_FLETCHER32]):
        return None
    return ChunkedArray(dataset, dataset.shape, dataset.dtype, dataset.chunks, bool(filters))


def write_part(dataset: h5py.Dataset, key: Key, values: NDArray[Any]) -> None:
    """Store values in a part of a variable of a file that is open for writing.

    Args:
        dataset: The variable.
        key: The part: slices and numbers, or fewer of them than there are dimensions.
        values: Its values, of the shape of the part.

    Examples:
        >>> with h5py.File("a.h5", "w", driver="core", backing_store=False) as file:
        ...     x = file.create_dataset("x", (2, 90, 180), "f4", chunks=(1, 90, 180))
        ...     write_part(x, (1,), np.ones((90, 180), np.float32))
        ...     float(x[0].max()), float(x[1].min())
        (0.0, 1.0)
    """
    array = chunked_array(dataset)
    whole = (*key, *(slice(None) for _ in dataset.shape[len(key) :]))
    if array is None:
        dataset[whole] = values
    else:
        array.write(whole, values)


def _whole(key: Key, shape: tuple[int, ...], chunks: tuple[int, ...]) -> tuple[range, ...] | None:
    """Return a part as ranges, if it is made of whole chunks."""
    box = []
    for index, size, chunk in zip(key, shape, chunks, strict=True):
        slab = slice(index, index + 1) if isinstance(index, int) else index
        span = range(size)[slab]
        ends = span.stop % chunk == 0 or span.stop == size
        if not span or span.step != 1 or span.start % chunk or not ends:
            return None
        box.append(span)
    return tuple(box)


def _places(
    box: tuple[range, ...], chunks: tuple[int, ...]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...], tuple[slice, ...]]]:
    """Yield where each chunk of a part begins, where it lies in the part, and what of it is used.

    The last chunk along a dimension may be longer than what is left of it.
    """
    starts = (range(span.start, span.stop, chunk) for span, chunk in zip(box, chunks, strict=True))
    for place in product(*starts):
        ends = [min(p + c, s.stop) for p, c, s in zip(place, chunks, box, strict=True)]
        there = (slice(p - s.start, e - s.start) for p, e, s in zip(place, ends, box, strict=True))
        inside = (slice(0, e - p) for p, e in zip(place, ends, strict=True))
        yield place, tuple(there), tuple(inside)
