"""The checksum that HDF5 keeps with each stored piece, by array arithmetic.

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
"""Words of a row, and rows that are added together."""

_BEHIND = np.arange(_SIDE, 0, -1.0)
"""How often each word of a row counts: once more for every word behind it."""

_ONES = np.ones(_SIDE, np.float32)

_MOD = 65535


def fletcher32(data: NDArray[np.uint8]) -> int:
    """Return the checksum of bytes.

    Args:
        data: The bytes, contiguous, an even number of them.

    Raises:
        ValueError: If there is an odd number of bytes.

    Examples:
        >>> fletcher32(np.frombuffer(b"abcdefgh", np.uint8)) == 0xE1EB9195
        True
    """
    if data.size % 2:
        raise ValueError(f"data: expected an even number of bytes, got {data.size}")
    words = data.view("<u2")
    odd = words.size % _SIDE
    first, rows = words[:odd], words[odd:].reshape(-1, _SIDE)
    s1, s2 = int(first.sum(dtype=np.int64)), int(_BEHIND[_SIDE - odd :] @ first)
    for start in range(0, len(rows), _SIDE):
        block = rows[start : start + _SIDE]
        more = _sums(block)
        s1, s2 = s1 + more[0], s2 + s1 * block.size + more[1]
    return _folded(s2) << 16 | _folded(s1)


def _sums(words: NDArray[np.uint16]) -> tuple[int, int]:
    """Return both sums of the words of a block, shape (rows, 256), in the machine's byte order."""
    wide = _SCRATCH.words[: len(words)]
    np.copyto(wide, words)
    rows, cols = wide @ _ONES, _ONES[: len(words)] @ wide
    s2 = _SIDE * (_BEHIND[_SIDE - len(words) :] - 1.0) @ rows + _BEHIND @ cols
    return int(cols.sum(dtype=np.float64)), int(s2)


def _folded(total: int) -> int:
    """Return a sum as HDF5 leaves it: with the bytes of words swapped, 65535 in place of 0.

    The swap is a turn by eight bits, 256 times the sum, since 65536 = 1 (mod 65535).
    """
    return (256 * total - 1) % _MOD + 1 if total else 0


class _Scratch(threading.local):
    """Words of the block that a thread adds up."""

    def __init__(self) -> None:
        self.words = np.empty((_SIDE, _SIDE), np.float32)


_SCRATCH = _Scratch()
