"""Observations: numbers, the operator that predicts them, and the law of their error.

    y = A(x) + e,        e ~ p(e), for example N(0, R).

The operator is any differentiable function in plain torch; `stormda.assimilation.operators` has
the common ones, `stormda.assimilation.errors` the laws of the error. The state it receives is
physical where `assimilate` is given a `transform`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.errors import JoinedError, ObservationError

Operator = Callable[[Tensor], Tensor]
"""A differentiable map of states `(m, *shape)` to predicted observations `(m, p)`."""


@dataclass(frozen=True, eq=False)
class Observation:
    """Observed numbers with what is needed to compare a state with them.

    Examples:
        >>> from stormda.assimilation import DiagonalError, select
        >>> seen = Observation(torch.tensor([3.0]), select(torch.tensor([1])), DiagonalError(0.1))
        >>> seen.innovation(seen.operator(torch.tensor([[7.0, 1.0, 9.0]])))
        tensor([[2.]])
    """

    y: Tensor
    """The observed values, with shape `(p,)`; finite (leave out what is missing)."""

    operator: Operator
    """Predicts the observations `(m, p)` of states `(m, *shape)`; differentiable."""

    error: ObservationError
    """The law of the error of observation."""

    def __post_init__(self) -> None:
        if self.y.ndim != 1:
            raise ValueError(f"y: expected shape (p,), got {tuple(self.y.shape)}")
        bad = int((~torch.isfinite(self.y)).sum())
        if bad:
            raise ValueError(f"y: expected finite values, got {bad} of {len(self.y)} that are not")
        errors = self.error.variance
        if errors.ndim == 1 and len(errors) != len(self.y):
            raise ValueError(
                f"error: expected one standard deviation or {len(self.y)}, got {len(errors)}"
            )

    def innovation(self, predicted: Tensor) -> Tensor:
        """Return `y - predicted` with shape `(m, p)`, in the data type of the prediction."""
        return self.y.to(predicted) - predicted

    def log_likelihood(self, predicted: Tensor) -> Tensor:
        """Return `log p(y | x)` up to a constant, with shape `(m,)`, of predictions `(m, p)`."""
        return self.error.log_prob(self.innovation(predicted))


def observed_along(
    observations: Sequence[Observation | None], course: Callable[[Tensor], Sequence[Tensor]]
) -> Observation | None:
    """Return what was observed at several times as one observation of the state at the first.

    Args:
        observations: Of every time; None where nothing was observed.
        course: Takes states `(m, *shape)` of the first time to those of all times; differentiable.

    Returns:
        The observation, its errors independent from time to time; None where there is none.

    Examples:
        >>> from stormda.assimilation import DiagonalError, select
        >>> seen = Observation(torch.tensor([3.0]), select(torch.tensor([0])), DiagonalError(0.1))
        >>> both = observed_along([seen, None, seen], lambda x: [x, 2 * x, 4 * x])
        >>> both.operator(torch.ones(1, 2)), both.error.variance
        (tensor([[1., 4.]]), tensor([0.0100, 0.0100], dtype=torch.float64))
    """
    seen = [(time, one) for time, one in enumerate(observations) if one is not None]
    if not seen:
        return None

    def observe(x: Tensor) -> Tensor:
        states = course(x)
        return torch.cat([one.operator(states[time]) for time, one in seen], -1)

    parts = [one for _, one in seen]
    error = JoinedError([one.error for one in parts], [len(one.y) for one in parts])
    return Observation(torch.cat([one.y for one in parts]), observe, error)
