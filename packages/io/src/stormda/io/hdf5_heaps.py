"""Heaps of texts in HDF5 files, looked through before the library reads them.

Texts of any length lie in heaps, one after the other, each behind its number and its length. What
is left of a heap has number 0, and a length that counts its head. If damage made that length 0,
the HDF5 library (2.0 too) would look for the next text at the same place for ever.

Source: HDF5 File Format Specification 3.0, III.E, Global Heap.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

_HEAP = b"GCOL\x01\0\0\0"
_TEXT = struct.Struct("<HHIQ")


def require_sound_heaps(path: Path) -> None:
    """Refuse an HDF5 file that the library would never finish to read.

    Args:
        path: The file, which is not empty.

    Raises:
        ValueError: If what is left of a heap has no length.
    """
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(_HEAP)
        while start >= 0:
            if _is_endless(content, start):
                raise ValueError(
                    f"{path}: expected a readable HDF5 file, got a damaged one "
                    f"(a heap of texts at byte {start} has no end)"
                )
            start = content.find(_HEAP, start + len(_HEAP))


def _is_endless(content: mmap.mmap, start: int) -> bool:
    place = start + len(_HEAP) + 8
    if place > len(content):
        return False
    end = min(start + int.from_bytes(content[place - 8 : place], "little"), len(content))
    while place + _TEXT.size <= end:
        number, _, _, length = _TEXT.unpack_from(content, place)
        step = _TEXT.size + (length + 7) // 8 * 8 if number else length
        if not step:
            return True
        place += step
    return False
