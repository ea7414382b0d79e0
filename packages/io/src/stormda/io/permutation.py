"""The order in which samples are seen: shuffled, stateless, and the same for any number of ranks.

A shuffle here is a function from a position to a sample, not a list:

    (L, R) -> (R, L xor f(R, key)),    four rounds on 2 k bits,

a bijection on 4^k numbers; results beyond the last sample go round again until they are not.
Nothing of the size of the data is stored, any process computes any position alone, and three whole
numbers (seed, epoch, position) say all there is to know of where a training run stands.

To read what is stored together at about the same time, blocks of neighbouring samples are shuffled
first, and then the samples within each buffer of a few blocks.

Source: Luby and Rackoff (1988), SIAM J. Comput. 17; Black and Rogaway (2002), CT-RSA, sec. 4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

_ROUNDS = 4

Ints = NDArray[np.int64]


def permuted(index: ArrayLike, n: int, key: int, *, inverse: bool = False) -> Ints:
    """Return where a shuffle of `n` things puts each index.

    Args:
        index: Numbers from 0 to `n - 1`, any shape.
        n: How many there are.
        key: Which shuffle, 64 bits.
        inverse: Whether to go back.

    Examples:
        >>> sorted(permuted(range(7), 7, key=1).tolist())
        [0, 1, 2, 3, 4, 5, 6]
        >>> permuted(permuted([3, 4], 7, key=1), 7, key=1, inverse=True)
        array([3, 4])
    """
    x = np.array(index, np.uint64)
    half = max(1, (int(n - 1).bit_length() + 1) // 2)
    rounds = [_mix(np.uint64(key & _MASK), np.uint64(i + 1)) for i in range(_ROUNDS)]
    turn = _backward if inverse else _forward
    outside = np.ones(x.shape, bool)
    while outside.any():
        x[outside] = turn(x[outside], half, rounds)
        outside = x >= n
    return x.astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class SampleOrder:
    """The order of the samples of an epoch.

    Examples:
        >>> order = SampleOrder(samples=10, seed=3)
        >>> sorted(order.sample(range(10), epoch=0).tolist()) == list(range(10))
        True
    """

    samples: int
    """How many there are."""

    seed: int
    """Which order."""

    block: int = 1
    """Neighbouring samples that stay together in the first shuffle."""

    buffer: int = 1
    """Blocks whose samples are shuffled together."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("samples", "block", "buffer"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")

    def sample(self, position: ArrayLike, epoch: int) -> Ints:
        """Return the samples at positions of an epoch.

        Args:
            position: Numbers from 0 to `samples - 1`, any shape.
            epoch: The epoch, from 0.
        """
        where = np.asarray(position, np.int64)
        if where.size and (where.min() < 0 or where.max() >= self.samples):
            raise ValueError(f"position: expected 0 to {self.samples - 1}, got {where}")
        key = _key(self.seed, epoch)
        if self.block == self.buffer == 1:
            return permuted(where, self.samples, key)
        return self._in_blocks(where, key)

    def _in_blocks(self, where: Ints, key: int) -> Ints:
        """Shuffle blocks, then the samples of each buffer of blocks; the last block is short."""
        blocks = -(-self.samples // self.block)
        lacking = blocks * self.block - self.samples
        short = int(permuted([blocks - 1], blocks, key, inverse=True)[0])  # where it comes
        buffer, offset, size = self._buffers(where, blocks, lacking, short)
        mixed = np.empty_like(offset)
        for one in np.unique(buffer):
            here = buffer == one
            mixed[here] = permuted(offset[here], int(size[here][0]), _key(key, int(one) + 1))
        # behind the short block of its own buffer, samples are counted as if it were whole
        behind = (buffer == short // self.buffer) & (
            mixed >= (short % self.buffer + 1) * self.block - lacking
        )
        mixed += lacking * behind
        place = buffer * self.buffer + mixed // self.block
        return permuted(place, blocks, key) * self.block + mixed % self.block

    def _buffers(
        self, where: Ints, blocks: int, lacking: int, short: int
    ) -> tuple[Ints, Ints, Ints]:
        """Return in which buffer a position is, where in it, and how many samples that has."""

        def start(buffer: Ints) -> Ints:
            first = np.minimum(buffer * self.buffer, blocks)
            return np.asarray(first * self.block - lacking * (first > short), np.int64)

        buffer = where // (self.buffer * self.block)  # as if no block were short
        buffer = buffer + (where >= start(buffer + 1))
        return buffer, where - start(buffer), start(buffer + 1) - start(buffer)


_MASK = 2**64 - 1


def _key(seed: int, other: int) -> int:
    """Return one key for two numbers."""
    return int(_mix(np.uint64(seed & _MASK), np.uint64(other & _MASK)))


def _mix(x: NDArray[np.uint64] | np.uint64, key: np.uint64) -> NDArray[np.uint64]:
    """Return 64 bits that depend on all bits of two numbers (SplitMix64's finaliser, twice)."""
    with np.errstate(over="ignore"):
        z = np.asarray(x) ^ (key * np.uint64(0x9E3779B97F4A7C15) + np.uint64(0x632BE59BD9B4E019))
        for _ in range(2):
            z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            z = z ^ (z >> np.uint64(31))
    return z


def _forward(
    x: NDArray[np.uint64], half: int, rounds: list[NDArray[np.uint64]]
) -> NDArray[np.uint64]:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = x >> bits, x & mask
    for key in rounds:
        left, right = right, left ^ (_mix(right, np.uint64(key)) & mask)
    return (left << bits) | right


def _backward(
    x: NDArray[np.uint64], half: int, rounds: list[NDArray[np.uint64]]
) -> NDArray[np.uint64]:
    bits, mask = np.uint64(half), np.uint64((1 << half) - 1)
    left, right = x >> bits, x & mask
    for key in reversed(rounds):
        left, right = right ^ (_mix(left, np.uint64(key)) & mask), left
    return (left << bits) | right
