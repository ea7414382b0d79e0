"""Who owns which tokens: contiguous, even to one unit, and known without allocating anything.

With `u = ceil(n / align)` units, rank r owns the units from `floor(r u / ranks)` on; so unit i
belongs to rank `ceil((i + 1) ranks / u) - 1`.
"""

from dataclasses import dataclass
from typing import overload

import numpy as np
from numpy.typing import NDArray

from stormda.grid.axis import Ints


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

    @property
    def units(self) -> int:
        """The number of aligned units; the last one may be cut short."""
        return -(-self.n // self.align)

    def bounds(self, rank: int) -> tuple[int, int]:
        """Return the first token of a rank and the one behind its last.

        Raises:
            ValueError: There is no such rank.
        """
        if not 0 <= rank < self.ranks:
            raise ValueError(f"rank: expected 0 to {self.ranks - 1}, got {rank}")
        start, stop = (self.align * (r * self.units // self.ranks) for r in (rank, rank + 1))
        return start, min(stop, self.n)

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
        fits = self.units * self.ranks < 2**63
        unit = (tokens // self.align).astype(np.int64 if fits else object)  # object: Python ints
        rank = ((unit + 1) * self.ranks - 1) // self.units
        return rank.astype(np.int64) if isinstance(token, np.ndarray) else int(rank)
