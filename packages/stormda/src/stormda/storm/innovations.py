"""How wrong the past is, as the observations tell it.

    chi^2 = sum (y - <H x>)^2 / sum (var H x + error^2)

is 1 on average where the present is as uncertain as it is said to be. Where it is larger, the past
of the members is worse than their spread shows, and the error that is expected of it should grow;
on quiet days it should shrink. The factor on that error follows chi^2 with a small gain, so that
it forgets one odd hour and keeps what lasts.

Source: Wang and Bishop (2003), J. Atmos. Sci. 60, section 5 (a factor from innovations); Li,
Kalnay and Miyoshi (2009), Quart. J. Roy. Meteor. Soc. 135 (following it in time).
"""

from __future__ import annotations

import torch

from stormda.grid import Grid
from stormda.io import ObservationTable
from stormda.storm.real_observations import Expected, departures

LARGEST = 4.0
"""The factor stays between its inverse and this."""


def innovation_ratio(
    table: ObservationTable, grid: Grid, variables: tuple[str, ...], expected: Expected
) -> float:
    """Return chi^2 of usable observations; 1 where there is none.

    Args:
        table: The observations.
        grid: Where the fields live.
        variables: The fields' names.
        expected: What was expected of the fields.
    """
    if not len(table):
        return 1.0
    departure, variance = departures(table, grid, variables, expected)
    return float(departure.square().sum() / variance.sum())


def followed(factor: float, ratio: float, gain: float) -> float:
    """Return the next factor: factor * ratio^gain, within its bounds.

    Examples:
        >>> followed(1.0, 4.0, 0.5)
        2.0
        >>> followed(1.0, 0.0, 0.5)
        0.25
    """
    return float(torch.tensor(factor * ratio**gain).clamp(1 / LARGEST, LARGEST))
