"""More samples from few frames: two windows of a record, superposed.

    z = m + cos(a) (z_1 - m_1) + sin(a) (z_2 - m_2),        m the mean daily course

Were the departures from the daily course a linear process with Gaussian noise, this would be
another draw of it: few frames say as much about covariances as they can, and a network cannot
learn them by heart. The angle may wander over the domain, a + s g(x) with g a random field of unit
variance and correlation r; covariances of the superposed are then those of the record times
exp(-s^2 (1 - r)): what few frames say of far points by chance is damped, as localisation does in
an ensemble filter.

Source: the product of ensemble members with random fields after Buehner (2005), Quart. J. Roy.
Meteor. Soc. 131, section 3; localisation after Hamill et al. (2001), Mon. Wea. Rev. 129.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.storm.disturbance import coloured, doubled


@dataclass(frozen=True, kw_only=True)
class Superposition:
    """How samples are superposed."""

    share: float = 0.0
    """Share of the samples that are made of two; for records of days, not of years."""

    wander: float = 0.0
    """How far the angle strays over the domain, s [rad]."""

    length: float = 12.0
    """Correlation length of its straying [cells]."""

    def __post_init__(self) -> None:
        if not 0 <= self.share <= 1:
            raise ValueError(f"share: expected a share in [0, 1], got {self.share}")
        if not self.wander >= 0:
            raise ValueError(f"wander: expected a number that is not negative, got {self.wander}")
        if not self.length > 0:
            raise ValueError(f"length: expected a positive length, got {self.length}")

    def angles(self, count: int, shape: tuple[int, int], generator: torch.Generator) -> Tensor:
        """Draw the angle of each sample; 0 for those that stay as they are.

        Args:
            count: Number of samples.
            shape: (rows, cols).
            generator: Source of the numbers; its device is where they live.

        Returns:
            Angles [rad], (count, rows, cols).

        Examples:
            >>> g = torch.Generator().manual_seed(1)
            >>> Superposition(share=1.0, wander=0.5).angles(3, (4, 8), g).shape
            torch.Size([3, 4, 8])
        """
        device = generator.device
        some = torch.rand(count, generator=generator, device=device) < self.share
        turn = 2 * math.pi * torch.rand(count, 1, 1, generator=generator, device=device)
        angle = turn.expand(count, *shape)
        if self.wander:
            white = torch.randn(count, *doubled(shape), generator=generator, device=device)
            length = torch.full((count,), self.length, device=device)
            angle = angle + self.wander * coloured(white, length)[..., : shape[0], : shape[1]]
        return torch.where(some[:, None, None], angle, 0.0)


def superposed(mine: Tensor, theirs: Tensor, angle: Tensor) -> Tensor:
    """Return cos(a) mine + sin(a) theirs.

    Args:
        mine: Departures from the mean course, (batch, time, variables, rows, cols).
        theirs: Those of other times, alike.
        angle: (batch, rows, cols) [rad].

    Examples:
        >>> one = torch.ones(1, 1, 1, 1, 1)
        >>> superposed(one, 2 * one, torch.zeros(1, 1, 1)).item()
        1.0
    """
    a = angle[:, None, None]
    return a.cos() * mine + a.sin() * theirs


def daily_course(z: Tensor, clock: Tensor) -> Tensor:
    """Return the mean of fields at the same time of the day, for each of them.

    Args:
        z: (time, variables, rows, cols).
        clock: Number of the time of the day of each, int64 (time,).

    Examples:
        >>> daily_course(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([0, 1, 0]))
        tensor([2., 5., 2.])
    """
    total = torch.zeros(int(clock.max()) + 1, *z.shape[1:], device=z.device)
    total = total.index_add_(0, clock, z)
    count = torch.bincount(clock).to(z)
    return (total / count.reshape(-1, *[1] * (z.ndim - 1)))[clock]
