"""The checksum that HDF5 keeps with each stored chunk, by array arithmetic.

    s1 = sum_i w_i        s2 = sum_i (n - i) w_i        (mod 65535)

of the 16-bit words w_0 ... w_(n-1), high byte first. HDF5 adds word by word. Here the words lie in
rows of 256, i = 256 r + c, and their sums along rows and columns tell both, several times faster:
products of matrices with ones, and exact in float32, since 256 words of 16 bits stay below 2**24.

Source: Fletcher (1982), IEEE Trans. Commun. 30, 247-252; HDF5, `H5_checksum_fletcher32`.
"""

from __future__ import annotations

import threading

import numpy as np
from numpy.typing import NDArray

_SIDE = 256
"""Words of a row."""

_ROWS = 256
"""Rows that are added together: they fit into the cache of a processor."""

_MOST = 2**13
"""Rows whose sums of sums are exact in float64."""

_MOD = 65535

_ONES = np.ones(_SIDE, np.float32)

_COUNTS = np.arange(_SIDE, 0, -1.0)
"""How often a word of a row counts in the second sum, before those of later rows."""

_BEHIND = np.arange(_MOST - 1, -1, -1.0)
"""How many rows are behind each of the last ones."""


def fletcher32(data: NDArray[np.uint8]) -> int:
    """Return the checksum of bytes.

    Args:
        data: The bytes, contiguous, an even number of them.

    Raises:
        ValueError: If there is an odd number of bytes.

    Examples:
        >>> hex(fletcher32(np.frombuffer(b"abcdefgh", np.uint8)))
        '0xe1eb9195'
    """
    if data.size % 2:
        raise ValueError(f"data: expected an even number of bytes, got {data.size}")
    words = data.view("<u2")
    s1, s2, odd = 0, 0, words.size % _SIDE
    if odd:
        first = words[:odd]
        s1, s2 = int(first.sum(dtype=np.int64)), int(_COUNTS[_SIDE - odd :] @ first)
    rows = words[odd:].reshape(-1, _SIDE)
    for start in range(0, len(rows), _MOST):
        some = rows[start : start + _MOST]
        more = _sums(some)
        s1, s2 = s1 + more[0], s2 + s1 * some.size + more[1]
    return _folded(s2) << 16 | _folded(s1)


def _sums(words: NDArray[np.uint16]) -> tuple[int, int]:
    """Return both sums of words, shape (rows, 256), in the machine's order of bytes."""
    wide, along = _SCRATCH.words, np.empty(len(words))
    down = np.zeros(_SIDE)
    for start in range(0, len(words), _ROWS):
        some = words[start : start + _ROWS]
        block = wide[: len(some)]
        block[...] = some
        along[start : start + _ROWS] = block.dot(_ONES)
        down += _ONES[: len(some)].dot(block)
    return int(down.sum()), _SIDE * int(_BEHIND[-len(words) :].dot(along)) + int(_COUNTS.dot(down))


def _folded(total: int) -> int:
    """Return a sum as HDF5 leaves it: with the bytes of words swapped, 65535 in place of 0.

    The swap is a turn by eight bits, 256 times the sum, since 65536 = 1 (mod 65535).
    """
    return (256 * total - 1) % _MOD + 1 if total else 0


class _Scratch(threading.local):
    """The words that a thread adds up."""

    def __init__(self) -> None:
        self.words = np.empty((_ROWS, _SIDE), np.float32)


_SCRATCH = _Scratch()
