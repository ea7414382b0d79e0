"""Mean and variance of weighted samples, gathered in pieces that merge exactly.

    W = W_a + W_b,  d = mean_b - mean_a
    mean = mean_a + d W_b / W,  M2 = M2_a + M2_b + d^2 W_a W_b / W,  variance = M2 / W

Unlike the mean of squares minus the square of the mean, this loses no digits when the mean is
large beside the spread: with float64 it is right to rounding for any amount of data.

Source: Chan, Golub and LeVeque (1983), Am. Stat. 37, eq. 2.1; West (1979) for weights.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False, kw_only=True)
class Moments:
    """The moments of a sample; every field has the same shape, () or (level,)."""

    count: NDArray[np.int64]
    """How many valid values were seen."""

    missing: NDArray[np.int64]
    """How many missing ones."""

    weight: Floats
    """The sum of the valid values' weights, W."""

    mean: Floats
    """The weighted mean; 0 where nothing was valid."""

    m2: Floats
    """The weighted sum of squared distances from the mean."""

    minimum: Floats
    """The smallest valid value; 0 where nothing was valid."""

    maximum: Floats
    """The largest valid value; 0 where nothing was valid."""

    @property
    def variance(self) -> Floats:
        """The weighted variance, without correction; 0 where nothing was valid."""
        return self.m2 / np.where(self.weight > 0, self.weight, 1.0)

    @property
    def std(self) -> Floats:
        """The square root of the variance."""
        return np.sqrt(self.variance)

    def merge(self, other: Moments) -> Moments:
        """Return the moments of both samples together.

        Examples:
            >>> one, two = (moments(np.array(x), np.ones(2, bool), 1.0) for x in ([1, 2], [3, 6]))
            >>> both = one.merge(two)
            >>> float(both.mean), float(both.variance)
            (3.0, 3.5)
        """
        weight = self.weight + other.weight
        share = other.weight / np.where(weight > 0, weight, 1.0)
        distance = other.mean - self.mean
        return Moments(
            count=self.count + other.count,
            missing=self.missing + other.missing,
            weight=weight,
            mean=self.mean + distance * share,
            m2=self.m2 + other.m2 + distance**2 * self.weight * share,
            minimum=self._extreme(np.minimum, self.minimum, other, other.minimum),
            maximum=self._extreme(np.maximum, self.maximum, other, other.maximum),
        )

    def _extreme(self, pick: np.ufunc, mine: Floats, other: Moments, its: Floats) -> Floats:
        """Pick from both samples, or from the one that is not empty."""
        both = np.where(other.count == 0, mine, pick(mine, its))
        return np.where(self.count == 0, its, both)

    def to_dict(self) -> dict[str, Any]:
        """Return the moments as lists and numbers, exactly, for JSON."""
        return {name: value.tolist() for name, value in asdict(self).items()}

    @classmethod
    def from_dict(cls, stored: Mapping[str, Any]) -> Moments:
        """Return the moments that `to_dict` gave."""
        whole = ("count", "missing")
        arrays: dict[str, Any] = {
            f.name: np.asarray(stored[f.name], np.int64 if f.name in whole else np.float64)
            for f in fields(cls)
        }
        return cls(**arrays)


def moments(
    values: NDArray[Any],
    valid: NDArray[np.bool_],
    weight: ArrayLike,
    axis: tuple[int, ...] | None = None,
) -> Moments:
    """Return the moments of a block, in two passes in float64.

    Args:
        values: Any shape.
        valid: Which values count, of the same shape.
        weight: The weight of each value, broadcast against `values`.
        axis: The axes to sum over; all by default.

    Examples:
        >>> block = moments(np.array([1.0, 3.0, 99.0]), np.array([True, True, False]), 1.0)
        >>> float(block.mean), float(block.std), int(block.missing)
        (2.0, 1.0, 1)
    """
    x = np.asarray(values, np.float64)
    w = np.where(valid, np.asarray(weight, np.float64), 0.0)
    total = w.sum(axis)
    scale = np.where(total > 0, total, 1.0)
    mean = (w * x).sum(axis) / scale
    centred = x - (mean if axis is None else np.expand_dims(mean, axis))
    count = np.asarray(valid.sum(axis))
    low = np.where(valid, x, np.inf).min(axis, initial=np.inf)
    high = np.where(valid, x, -np.inf).max(axis, initial=-np.inf)
    return Moments(
        count=count,
        missing=np.asarray((~valid).sum(axis)),
        weight=np.asarray(total),
        mean=np.asarray(mean),
        m2=np.asarray((w * centred**2).sum(axis)),
        minimum=np.where(count > 0, low, 0.0),
        maximum=np.where(count > 0, high, 0.0),
    )
