"""Where a run is in its data, counted in samples: a place that does not depend on the ranks.

The order of the samples is a function of the seed and the epoch alone, and the batch is shared
out after it was taken. A run that is taken up again on another number of ranks, or with another
batch size, goes on with the sample that comes next.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch

from stormda.parallel.streams import philox


@dataclass(frozen=True, kw_only=True)
class SampleCursor:
    """Three integers that say which samples come next.

    Examples:
        >>> batch, cursor = SampleCursor(samples=10, seed=7).take(4)
        >>> rest, cursor = cursor.take(6)
        >>> sorted(batch + rest) == list(range(10)), cursor.taken
        (True, 10)
    """

    samples: int
    """The number of samples of an epoch."""

    seed: int
    """Which shuffling, 0 <= seed < 2^32."""

    taken: int = 0
    """How many samples were taken, from the beginning of the run."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if self.samples < 1:
            raise ValueError(f"samples: expected at least 1, got {self.samples}")
        if not 0 <= self.seed < 2**32:
            raise ValueError(f"seed: expected 0 <= seed < 2**32, got {self.seed}")
        if self.taken < 0:
            raise ValueError(f"taken: expected 0 or more, got {self.taken}")

    def take(self, number: int) -> tuple[list[int], SampleCursor]:
        """Return the indices of the next samples of the whole batch, and the cursor after them.

        Args:
            number: How many; they may reach into the next epoch.

        Raises:
            ValueError: If it is not positive.
        """
        if number < 1:
            raise ValueError(f"number: expected at least 1, got {number}")
        places = range(self.taken, self.taken + number)
        indices = [
            _order(self.samples, self.seed, place // self.samples)[place % self.samples]
            for place in places
        ]
        return indices, replace(self, taken=places.stop)


@lru_cache(maxsize=2)
def _order(samples: int, seed: int, epoch: int) -> list[int]:
    """Return the order of one epoch."""
    words = philox(torch.tensor([epoch % 2**32, epoch >> 32, 0, 0]), (seed, 0))
    generator = torch.Generator().manual_seed(int(words[0]))  # it would use 32 bits of more
    order: list[int] = torch.randperm(samples, generator=generator).tolist()
    return order
