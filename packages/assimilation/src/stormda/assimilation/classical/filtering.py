"""Cycling a classical filter: forecast, look whether all is well, analyse, hand out, go on.

    background = forecast(analysis),        analysis = update(background, observation)

Observations stream in and cycles stream out. A filter that has lost the truth does not come back:
its innovations are many times what spread and error allow. It is stopped with the state before.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from stormda.assimilation.observation import Observation


class Update(Protocol):
    """An analysis: what a filter does with an observation."""

    def __call__(self, ensemble: Tensor, predicted: Tensor, observation: Observation) -> Tensor:
        """Return the analyses `(m, *shape)` of backgrounds that predict `(m, p)`."""


@dataclass(frozen=True, eq=False)
class Cycle:
    """One cycle of a filter."""

    number: int
    """Which one, from `first` on."""

    background: Tensor
    """The forecasts of the members, with shape `(m, *shape)`."""

    analysis: Tensor
    """The analyses, with shape `(m, *shape)`; the background where nothing was observed."""


class FilterDiverged(RuntimeError):
    """A filter has lost the truth, or its numbers."""

    def __init__(self, message: str, number: int, ensemble: Tensor) -> None:
        super().__init__(message)
        self.number = number
        """The cycle that went wrong."""
        self.ensemble = ensemble
        """The ensemble before that cycle, with shape `(m, *shape)`."""


@torch.no_grad()
def run_filter(
    ensemble: Tensor,
    observations: Iterable[Observation | None],
    *,
    forecast: Callable[[Tensor], Tensor],
    update: Update,
    first: int = 0,
    limit: float = float("inf"),
) -> Iterator[Cycle]:
    """Run an ensemble filter over a stream of observations.

    A run is continued from any cycle by its last analysis and `first`.

    Args:
        ensemble: The members before the first forecast, with shape `(m, *shape)`.
        observations: What was observed after each forecast; None where nothing was.
        forecast: Takes the members to the next observation.
        update: The analysis, with the treatment of the spread where there is one.
        first: The number of the first cycle.
        limit: The greatest ratio of the innovations' root mean square to what ensemble and error
            of observation allow for it.

    Yields:
        The cycles, one for each observation.

    Raises:
        FilterDiverged: Where numbers are not finite or the limit is passed; it keeps the ensemble.

    Examples:
        >>> from stormda.assimilation import DiagonalError, Observation, etkf
        >>> g = torch.Generator().manual_seed(0)
        >>> error = DiagonalError(0.1)
        >>> seen = [Observation(torch.tensor([y]), lambda x: x, error) for y in (1.0, 2.0)]
        >>> def update(ensemble, predicted, observation):
        ...     return etkf(ensemble, predicted, observation.y, observation.error)
        >>> for cycle in run_filter(
        ...     torch.randn(50, 1, generator=g), seen, forecast=lambda x: 2 * x, update=update
        ... ):
        ...     print(f"{cycle.background.mean():.1f} {cycle.analysis.mean():.2f}")
        0.1 1.00
        2.0 2.00
    """
    for number, observation in enumerate(observations, start=first):
        background = forecast(ensemble)
        _check(background, number, ensemble, "forecast")
        analysis = background
        if observation is not None:
            predicted = observation.operator(background)
            check_innovation(predicted, observation, limit, number, ensemble)
            analysis = update(background, predicted, observation)
            _check(analysis, number, ensemble, "analysis")
        yield Cycle(number, background, analysis)
        ensemble = analysis


def _check(states: Tensor, number: int, before: Tensor, what: str) -> None:
    broken = [m for m, x in enumerate(states) if not x.isfinite().all()]
    if broken:
        raise FilterDiverged(
            f"cycle {number}: the {what} is not finite in members {broken}", number, before
        )


def check_innovation(
    predicted: Tensor, observation: Observation, limit: float, number: int, before: Tensor
) -> None:
    """Refuse members whose predictions `(m, p)` are too far from what was observed.

    Args:
        predicted: The predicted observations.
        observation: What was observed.
        limit: The greatest ratio of the innovations' root mean square to what the members' spread
            and the error of observation allow for it.
        number: The number of the cycle, for the message.
        before: The ensemble before that cycle, which the error keeps.

    Raises:
        FilterDiverged: Where the limit is passed.
    """
    if not observation.y.numel():
        return
    innovation = observation.innovation(predicted.mean(0))
    allowed = predicted.var(0) + observation.error.variance.to(predicted)
    ratio = (innovation.square() / allowed).mean().sqrt().item()
    if not ratio <= limit:
        raise FilterDiverged(
            f"cycle {number}: the innovations are {ratio:.1f} times what spread and error allow",
            number,
            before,
        )
