"""How well a score is known: intervals from blocks of successive cycles.

Errors of successive cycles resemble each other, so n cycles tell less than n. Blocks of them are
drawn with replacement, long enough to hold the resemblance, and the score is taken anew each time:

    l = (n - l + 1)^((2 / 3) (1 - n' / n)),      n' = n (1 - r) / (1 + r),

with r the correlation from one cycle to the next. Two methods are compared on the same blocks, so
that what is hard for both does not blur which is better.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

DRAWS = 2000
"""Resamples of a run."""


@dataclass(frozen=True)
class Interval:
    """A number and the central interval of probability 0.95 around it.

    Examples:
        >>> print(Interval(3.52, 3.3, 3.81))
        3.520 (3.300 to 3.810)
    """

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def block_length(series: Floats) -> int:
    """Return how many successive values a block should hold.

    Source: Wilks (1997), Resampling hypothesis tests for autocorrelated fields, J. Climate 10,
    65-82: the length for series of first order.

    Args:
        series: One value a cycle, (n,).

    Examples:
        >>> white = np.random.default_rng(0).normal(size=400)
        >>> block_length(white), block_length(np.cumsum(white)[:100])
        (1, 19)
    """
    n = len(series)
    departure = series - series.mean()
    variance = float(departure @ departure)
    r = float(departure[1:] @ departure[:-1]) / variance if variance > 0 else 0.0
    r = min(max(r, 0.0), 0.99)
    power = 2 / 3 * (1 - (1 - r) / (1 + r))
    lengths = np.arange(1, n + 1)
    fitting = lengths >= (n - lengths + 1.0) ** power
    return int(lengths[fitting.argmax()])


def block_indices(n: int, length: int, draws: int, seed: int = 0) -> NDArray[np.int64]:
    """Return cycles drawn in blocks with replacement, shape (draws, n)."""
    rng = np.random.default_rng(seed)
    starts = rng.integers(0, n - length + 1, size=(draws, -(-n // length)))
    return (starts[:, :, None] + np.arange(length)).reshape(draws, -1)[:, :n]


def interval(
    statistic: Callable[..., Floats], *series: Floats, draws: int = DRAWS, seed: int = 0
) -> Interval:
    """Return a statistic of cycles with its interval.

    Args:
        statistic: From series (..., n), as many as are given, to (...,): of every resample.
        series: One value a cycle, (n,) each; the same blocks are drawn of all.
        draws: Resamples.
        seed: Of the blocks.

    Raises:
        ValueError: Where the lengths differ or there are fewer than 3 cycles.

    Examples:
        >>> errors = np.random.default_rng(0).normal(size=200) ** 2
        >>> print(interval(root_mean, errors))
        0.961 (0.877 to 1.045)
    """
    n = len(series[0])
    if n < 3 or any(len(other) != n for other in series):
        raise ValueError(
            f"series: expected the same number of cycles, at least 3, got {[*map(len, series)]}"
        )
    index = block_indices(n, max(map(block_length, series)), draws, seed)
    drawn = statistic(*(one[index] for one in series))
    low, high = np.quantile(drawn, [0.025, 0.975])
    return Interval(float(statistic(*series)), float(low), float(high))


def root_mean(squares: Floats) -> Floats:
    """Return the root of the mean over cycles: an RMSE from squares, (..., n) to (...,)."""
    root: Floats = np.sqrt(squares.mean(-1))
    return root


def root_ratio(mine: Floats, other: Floats) -> Floats:
    """Return the ratio of two RMSE from their squares, (..., n) each to (...,)."""
    ratio: Floats = root_mean(mine) / root_mean(other)
    return ratio
