"""HDF5 files whose heaps of texts are looked through before the library reads them.

Texts of any length lie in heaps, one after the other, each behind its number and its length. What
is left of a heap has number 0, and a length that counts its head. If damage made that length 0,
the HDF5 library (2.0 too) would look for the next text at the same place for ever.

Source: HDF5 File Format Specification 3.0, III.E, Global Heap.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from io import FileIO
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

_HEAP = b"GCOL\x01\0\0\0"
_HEAD = struct.Struct("<8sQ")
_TEXT = struct.Struct("<HHIQ")


class SoundFile(FileIO):
    """A file for `h5py.File` to read, which ends in an error where HDF5 would not end.

    Whatever the library asks for is looked at first, so that a file of any size costs no more
    than what is read of it.

    Examples:
        >>> import h5py, tempfile
        >>> with tempfile.NamedTemporaryFile() as place:
        ...     with h5py.File(place.name, "w") as file:
        ...         file.attrs["title"] = "a text"
        ...     with SoundFile(place.name) as raw, h5py.File(raw, "r") as file:
        ...         file.attrs["title"]
        'a text'
    """

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        """Fill a buffer.

        Raises:
            OSError: If it holds a part of a heap that has no end.
        """
        place = self.tell()
        count = super().readinto(buffer) or 0
        for start in self._heaps(place, place + count):
            if self._is_endless(start):
                raise OSError(f"the heap of texts at byte {start} has no end")
        return count

    def _heaps(self, start: int, stop: int) -> Iterator[int]:
        """Yield where heaps begin, whose first bytes may have been asked for in two readings."""
        first = max(0, start - len(_HEAP) + 1)
        seen = os.pread(self.fileno(), stop - first + len(_HEAP) - 1, first)
        found = seen.find(_HEAP)
        while found >= 0:
            yield first + found
            found = seen.find(_HEAP, found + len(_HEAP))

    def _is_endless(self, start: int) -> bool:
        _, size = _HEAD.unpack(os.pread(self.fileno(), _HEAD.size, start).ljust(_HEAD.size, b"\0"))
        if start + size > os.fstat(self.fileno()).st_size:
            return False  # which the library refuses
        heap, place = os.pread(self.fileno(), size, start), _HEAD.size
        while place + _TEXT.size <= len(heap):
            number, _, _, length = _TEXT.unpack_from(heap, place)
            step = _TEXT.size + (length + 7) // 8 * 8 if number else length
            if not step:
                return True
            place += step
        return False
