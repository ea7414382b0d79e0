"""The numbers of a machine from timings on it, fitted so that relative errors are small.

A link is fitted to `t = latency + n / bandwidth`, a device to `t = overhead + work / rate`: two
numbers each, which then have to predict sizes that were not measured. Where caches and protocols
bend the line, a `Curve` goes through the measured sizes. Minimal times of several
turns go in: what else runs on a machine only ever adds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

from stormda.parallel.cost.machine import Link


@dataclass(frozen=True, kw_only=True)
class Timing:
    """One measurement."""

    size: float
    """Bytes that travelled, or operations that were done."""

    seconds: float
    """How long that took, at best of several turns."""

    messages: int = 1
    """How many latencies are in it."""


@dataclass(frozen=True)
class Curve:
    """The time of a message, linear in its size between the sizes that were measured.

    Source: Clauss et al. (2011), Single node on-line simulation of MPI applications with SMPI,
    IPDPS'11, section 5, https://doi.org/10.1109/IPDPS.2011.69.

    Examples:
        >>> curve = Curve([Timing(size=n, seconds=t) for n, t in ((1, 1.0), (3, 2.0), (5, 8.0))])
        >>> curve.seconds(2), curve.seconds(4), curve.seconds(6)
        (1.5, 5.0, 11.0)
    """

    timings: Sequence[Timing]
    """Measurements of two sizes or more, of one message each or more."""

    def __post_init__(self) -> None:
        """Check the sizes."""
        if len({timing.size for timing in self.timings}) < 2:
            raise ValueError(f"timings: expected two sizes or more, got {list(self.timings)}")

    def seconds(self, size: float) -> float:
        """Return the time of one message; outside the measured sizes the end lines go on."""
        points = sorted((t.size, t.seconds / t.messages) for t in self.timings)
        pairs = list(pairwise(points))
        (a, s), (b, t) = next((pair for pair in pairs if size <= pair[1][0]), pairs[-1])
        return s + (size - a) / (b - a) * (t - s)


def fit_link(timings: Sequence[Timing]) -> Link:
    """Return the link that explains timings of messages.

    Raises:
        ValueError: If there are fewer than two sizes.

    Examples:
        >>> link = fit_link([Timing(size=n, seconds=1e-4 + n / 1e9) for n in (1e3, 1e5, 1e7)])
        >>> round(link.latency, 6), round(link.bandwidth / 1e9, 3)
        (0.0001, 1.0)
    """
    latency, slowness = fit_rates(timings)
    return Link(latency=latency, bandwidth=1 / slowness)


def fit_rates(timings: Sequence[Timing]) -> tuple[float, float]:
    """Return `a >= 0` and `b > 0` of `seconds = messages a + size b`, by relative least squares.

    Raises:
        ValueError: If there are fewer than two sizes.

    Examples:
        >>> a, b = fit_rates([Timing(size=n, seconds=3.0 + 2.0 * n) for n in (1, 2, 5)])
        >>> round(a, 6), round(b, 6)
        (3.0, 2.0)
    """
    if len({timing.size for timing in timings}) < 2:
        raise ValueError(f"timings: expected two sizes or more, got {list(timings)}")
    rows = [[t.messages / t.seconds, t.size / t.seconds] for t in timings]
    matrix = torch.tensor(rows, dtype=torch.float64)
    scale = matrix.abs().amax(0)
    ones = torch.ones(len(rows), 1, dtype=torch.float64)
    a, b = (torch.linalg.lstsq(matrix / scale, ones).solution.flatten() / scale).tolist()
    if a >= 0 and b > 0:
        return a, b
    if b <= 0:  # all overhead: no size mattered
        raise ValueError(f"timings: expected times that grow with size, got {list(timings)}")
    alone = matrix[:, 1]
    return 0.0, float(alone.sum() / (alone @ alone))


def relative_errors(timings: Sequence[Timing], predict: Callable[[float], float]) -> list[float]:
    """Return how far predictions are from timings: 0.1 is ten percent too slow.

    Examples:
        >>> relative_errors([Timing(size=2, seconds=4.0)], lambda size: 3.0)
        [-0.25]
    """
    return [predict(timing.size) / timing.seconds - 1 for timing in timings]
