"""Who owns which tokens: contiguous, even to one unit, and known without allocating anything.

With `u = ceil(n / align)` units, rank r owns the units from `floor(r u / ranks)` on; so unit i
belongs to rank `ceil((i + 1) ranks / u) - 1`.
"""

import math
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from stormda.grid.axis import Ints
from stormda.grid.patching import Patching


@dataclass(frozen=True)
class Partition:
    """Tokens `0 ... n - 1` dealt to ranks in contiguous runs.

    Raises:
        ValueError: A number is not positive, or a rank would own nothing.

    Examples:
        >>> partition = Partition(20_000_000_000, 74_400)
        >>> partition.bounds(1)
        (268817, 537634)
        >>> partition.owner(268_817)
        1
        >>> partition.owner(np.array([0, 19_999_999_999]))
        array([    0, 74399])
    """

    n: int
    """The number of tokens."""

    ranks: int
    """The number of ranks."""

    align: int = 1
    """Runs start at multiples of this, such as a row of tokens, a tile or a storage chunk."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        for name in ("n", "ranks", "align"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.ranks > self.units:
            raise ValueError(
                f"ranks: expected at most {self.units}, one for each {self.align} of {self.n} "
                f"tokens, got {self.ranks}"
            )

    @classmethod
    def of(
        cls, patching: Patching, ranks: int, *, frames: int | None = None, chunk_rows: int = 1
    ) -> "Partition":
        """Return who owns which tokens of some frames, in whole rows of tokens.

        Args:
            patching: The tokens of a frame.
            ranks: The number of ranks.
            frames: The frames of the field; by default those of one token.
            chunk_rows: The rows of cells (for a list: cells) of a storage chunk: every run starts
                at a chunk, so that no chunk is read by two ranks.

        Raises:
            ValueError: There are more ranks than units, or chunks do not fit into a frame.

        Examples:
            >>> from stormda.grid import grid
            >>> patching = Patching(grid("0.25deg"), patch=(4, 4))
            >>> Partition.of(patching, 7, frames=10, chunk_rows=120).bounds(1)
            (86400, 183600)
        """
        size = patching.patch[0] if len(patching.token_shape) > 1 else math.prod(patching.patch)
        rows, cols = patching.token_shape[0], math.prod(patching.token_shape[1:])
        together = math.lcm(chunk_rows, size) // size
        if rows % together and together > 1:
            raise ValueError(
                f"chunk_rows: expected chunks that start anew with every {rows} rows of tokens, "
                f"got {chunk_rows} rows of cells, {together} rows of tokens"
            )
        return cls(patching.tokens(frames), ranks, together * cols)

    @property
    def units(self) -> int:
        """The number of aligned units; the last one may be cut short."""
        return -(-self.n // self.align)

    @property
    def largest(self) -> int:
        """The most tokens that a rank owns."""
        return min(-(-self.units // self.ranks) * self.align, self.n)

    @overload
    def bounds(self, rank: int) -> tuple[int, int]: ...
    @overload
    def bounds(self, rank: NDArray[np.integer]) -> tuple[Ints, Ints]: ...
    def bounds(self, rank: int | NDArray[np.integer]) -> tuple[int, int] | tuple[Ints, Ints]:
        """Return the first token of each rank and the one behind its last.

        Args:
            rank: One rank or an array of ranks of any shape.

        Raises:
            ValueError: There is no such rank.
        """
        ranks = np.asarray(rank, np.int64)
        wrong = ranks[(ranks < 0) | (ranks >= self.ranks)]
        if wrong.size:
            raise ValueError(f"rank: expected 0 to {self.ranks - 1}, got {wrong[0]}")
        if not isinstance(rank, np.ndarray):
            start, stop = (self.align * (r * self.units // self.ranks) for r in (rank, rank + 1))
            return start, min(stop, self.n)
        wide = self._wide(ranks)
        starts, stops = (self.align * (r * self.units // self.ranks) for r in (wide, wide + 1))
        return starts.astype(np.int64), np.minimum(stops, self.n).astype(np.int64)

    def size(self, rank: int) -> int:
        """Return how many tokens a rank owns."""
        start, stop = self.bounds(rank)
        return stop - start

    @overload
    def owner(self, token: int) -> int: ...
    @overload
    def owner(self, token: NDArray[np.integer]) -> Ints: ...
    def owner(self, token: int | NDArray[np.integer]) -> int | Ints:
        """Return the rank that owns each token.

        Args:
            token: One token or an array of tokens of any shape.

        Raises:
            ValueError: There is no such token.
        """
        tokens = np.asarray(token, np.int64)
        wrong = tokens[(tokens < 0) | (tokens >= self.n)]
        if wrong.size:
            raise ValueError(f"token: expected 0 to {self.n - 1}, got {wrong[0]}")
        unit = self._wide(tokens // self.align)
        rank = ((unit + 1) * self.ranks - 1) // self.units
        return rank.astype(np.int64) if isinstance(token, np.ndarray) else int(rank)

    def reach(self, rank: NDArray[np.integer], halo: int) -> tuple[Ints, Ints]:
        """Return the first and the last rank that own tokens at most `halo` before or behind.

        Args:
            rank: Ranks, of any shape.
            halo: A number of tokens, such as a few rows of them or a frame.

        Raises:
            ValueError: There is no such rank, or the halo is negative.

        Examples:
            >>> Partition(100, 10).reach(np.array([0, 5]), halo=12)
            (array([0, 3]), array([2, 7]))
        """
        if halo < 0:
            raise ValueError(f"halo: expected a number of tokens, got {halo}")
        starts, stops = self.bounds(rank)
        first, last = np.maximum(starts - halo, 0), np.minimum(stops + halo, self.n) - 1
        return self.owner(first), self.owner(last)

    def neighbours(self, rank: int, halo: int) -> list[int]:
        """Return the other ranks that own tokens at most `halo` before or behind a rank's own.

        Tokens are numbered frame after frame and row after row: where runs are whole rows, columns
        close on themselves within a run.

        Raises:
            ValueError: There is no such rank, or the halo is negative.

        Examples:
            >>> Partition(100, 10).neighbours(5, halo=12)
            [3, 4, 6, 7]
        """
        first, last = self.reach(np.array(rank), halo)
        return [r for r in range(int(first), int(last) + 1) if r != rank]

    def memory(self, width: int, *, itemsize: int = 4, copies: int = 1, halo: int = 0) -> int:
        """Return the bytes that tokens take on the rank that owns the most.

        Args:
            width: The numbers of a token.
            itemsize: The bytes of a number.
            copies: How many arrays of tokens are held at a time.
            halo: The tokens that are held of ranks before and behind, each.

        Examples:
            >>> Partition(20_000_000_000, 74_400).memory(256, itemsize=2)
            137634816
        """
        return (self.largest + 2 * halo) * width * itemsize * copies

    def _wide(self, numbers: Ints) -> NDArray[Any]:
        """Return numbers whose products with units and ranks do not overflow."""
        fits = (self.units + 1) * (self.ranks + 1) < 2**63
        return numbers.astype(np.int64 if fits else object)  # object: Python ints
