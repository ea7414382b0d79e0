"""Quality control: which observations are used, and why the others are not.

Every refusal has a reason, and the counts of used and refused add up. In this order:

missing       not a number
gross         outside of what is possible
background    further from the background than `k` standard deviations of both errors together
buddy         further from its neighbours' departures than `k` of their standard deviations
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.errors import DiagonalError
from stormda.assimilation.observation import Observation, Operator
from stormda.assimilation.operators import compose, select


@dataclass(frozen=True, eq=False)
class Screened:
    """Observations after quality control."""

    observation: Observation | None
    """What is used; None where nothing is."""

    accepted: Tensor
    """Which of the observations these are, bool with shape `(p,)`."""

    refused: Mapping[str, int]
    """How many were refused, by reason."""


@dataclass(frozen=True, kw_only=True)
class Checks:
    """What is checked.

    Examples:
        >>> background = torch.tensor([[0.0, 0.0, 0.0, 0.0], [1.0, 1.0, 1.0, 1.0]])
        >>> y = torch.tensor([0.4, float("nan"), 1000.0, 9.0])
        >>> checks = Checks(lowest=-100.0, highest=100.0, background=4.0)
        >>> screened = checks(y, lambda x: x, torch.tensor(0.5), background)
        >>> screened.refused
        {'missing': 1, 'gross': 1, 'background': 1, 'buddy': 0}
        >>> screened.observation.y
        tensor([0.4000])
    """

    lowest: float = -torch.inf
    """The least possible value."""

    highest: float = torch.inf
    """The greatest possible value."""

    background: float | None = None
    """The most standard deviations from the background's mean; None checks nothing."""

    buddy: float | None = None
    """The most standard deviations from the neighbours' mean departure; None checks nothing."""

    reach: float = 0.0
    """How far neighbours are, in the units of the distances."""

    def __post_init__(self) -> None:
        if not self.lowest < self.highest:
            raise ValueError(
                f"lowest: expected less than highest={self.highest}, got {self.lowest}"
            )
        for name in ("background", "buddy"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise ValueError(f"{name}: expected a positive number, got {limit}")

    def __call__(
        self,
        y: Tensor,
        operator: Operator,
        std: Tensor,
        background: Tensor | None = None,
        distance: Tensor | None = None,
    ) -> Screened:
        """Return what passes, and the counts of what does not.

        Args:
            y: The observations, with shape `(p,)`; not a number where missing.
            operator: Predicts all of them.
            std: The standard deviation of their errors, a number or shape `(p,)`.
            background: Members, with shape `(m, *shape)`; for the checks against it.
            distance: Between the observations, with shape `(p, p)`; for the buddy check.
        """
        left = y.isfinite()
        refused = {"missing": int((~left).sum())}
        left = self._count(refused, "gross", left, (y >= self.lowest) & (y <= self.highest))
        departure, spread = _departure(y, operator, std, background)
        if self.background is not None and departure is not None:
            passed = departure.abs() <= self.background * spread
            left = self._count(refused, "background", left, passed)
        else:
            refused["background"] = 0
        if self.buddy is not None and departure is not None and distance is not None:
            passed = self._agrees(departure, spread, distance, left)
            left = self._count(refused, "buddy", left, passed)
        else:
            refused["buddy"] = 0
        return Screened(_subset(y, operator, std, left), left, refused)

    @staticmethod
    def _count(refused: dict[str, int], reason: str, left: Tensor, passed: Tensor) -> Tensor:
        refused[reason] = int((left & ~passed).sum())
        return left & passed

    def _agrees(self, departure: Tensor, spread: Tensor, distance: Tensor, left: Tensor) -> Tensor:
        """Compare each departure with the mean of its neighbours', where there are two or more."""
        near = ((distance <= self.reach) & left).to(spread)
        near.fill_diagonal_(0)
        count = near.sum(-1)
        clean = torch.where(left, departure, 0.0)
        mean = near @ clean / count.clamp(min=1)
        limit = (self.buddy or 0.0) * spread * (1 + 1 / count.clamp(min=1)).sqrt()
        return (count < 2) | ((departure - mean).abs() <= limit)


def _departure(
    y: Tensor, operator: Operator, std: Tensor, background: Tensor | None
) -> tuple[Tensor | None, Tensor]:
    own = torch.as_tensor(std).to(y).expand(len(y))
    if background is None:
        return None, own
    predicted = operator(background)
    variance = predicted.var(0) if len(predicted) > 1 else torch.zeros_like(y)
    return y - predicted.mean(0), (variance.to(y) + own**2).sqrt()


def _subset(y: Tensor, operator: Operator, std: Tensor, left: Tensor) -> Observation | None:
    index = left.nonzero()[:, 0]
    if not len(index):
        return None
    own = std[index] if std.ndim == 1 else std
    return Observation(y[index], compose(operator, select(index)), DiagonalError(own))
