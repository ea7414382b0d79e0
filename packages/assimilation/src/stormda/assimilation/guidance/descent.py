"""Gauss-Newton steps that are cut where the cost would rise, each member by itself.

    J(x) = |x - x_hat|^2 in the metric C^-1  -  2 log p(y - A(x)),        C = sigma^2 J

A state away from the prior's mean is kept with its pull w, `x = x_hat + C w`, so that the first
term is `w^T (x - x_hat)` and no covariance is inverted. Between two such states everything but A
is linear: a shorter step costs one evaluation of the operator and no derivative.

Source: Nocedal and Wright (2006), Numerical Optimization, section 3.1 (backtracking).
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.observation import Observation, Operator

HALVINGS = 6
"""How often a step is halved before it is given up."""

ROUNDING = 1e-5
"""Share of a cost that is no rise."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Iterate:
    """Where the search is, `(m, *shape)` each."""

    pull: Tensor
    """The weighted innovations in the space of states, w."""

    away: Tensor
    """The departure from the prior's mean, C w."""

    def towards(self, other: "Iterate", share: Tensor) -> "Iterate":
        """Return the iterate some share `(m, 1, ...)` of the way to another."""
        return Iterate(
            pull=torch.lerp(self.pull, other.pull, share),
            away=torch.lerp(self.away, other.away, share),
        )


def cost_of(
    x_hat: Tensor, observation: Observation, transform: Operator | None, at: Iterate
) -> Tensor:
    """Return twice the cost of an iterate around the prior's mean `(m, *shape)`, `(m,)`."""
    x = x_hat + at.away
    predicted = observation.operator(x if transform is None else transform(x))
    misfit: Tensor = -2 * observation.error.log_prob(observation.innovation(predicted))
    return (at.pull * at.away).flatten(1).sum(1) + misfit


def descend(start: Iterate, target: Iterate, cost: Callable[[Iterate], Tensor]) -> Iterate:
    """Go towards a target as far as the cost falls; a member whose cost does not stays.

    Args:
        start: Where the members are.
        target: Where a whole step would take them.
        cost: Of an iterate, `(m,)`; infinite or not a number where there is no answer.

    Returns:
        Where they are then: all of the way, or the half of it, a quarter, ..., or none.

    Examples:
        Half of the way to 4 costs less than none of it, the whole way more:

        >>> at, to = (Iterate(pull=x, away=x) for x in torch.tensor([[[0.0]], [[4.0]]]))
        >>> descend(at, to, lambda i: (i.away[:, 0] - 1.5).square()).away
        tensor([[2.]])
    """
    before = cost(start)
    limit = before + ROUNDING * before.abs()
    share = torch.ones_like(before).reshape(-1, *[1] * (start.away.ndim - 1))
    for _ in range(HALVINGS):
        falls = cost(start.towards(target, share)) <= limit
        if falls.all():
            break
        share = torch.where(falls.reshape(share.shape), share, share / 2)
    else:
        falls = cost(start.towards(target, share)) <= limit
        share = torch.where(falls.reshape(share.shape), share, 0.0)
    return start.towards(target, share)
