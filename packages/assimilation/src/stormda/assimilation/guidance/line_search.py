"""Steps towards the posterior's mode that do not overshoot.

A step of Gauss and Newton takes the operator for linear. Where it is not, as a model run over days
is not, the step may end where the posterior is less probable, or out of the operator's range. It
is halved then, each member's for itself, until it is one downhill.

Source: Armijo (1966), Pacific J. Math. 16, in its simplest form.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

HALVINGS = 10
"""How often a step is halved; after that a member stays where it is."""


@dataclass(frozen=True, eq=False)
class Estimate:
    """A posterior mean as far as it is known."""

    x: Tensor
    """Clean states `(m, *shape)`."""

    pull: Tensor
    """What moved them there from the prior's mean, `x = x_hat + V pull`, `(m, *shape)`."""


Cost = Callable[[Estimate], Tensor]
"""Minus the logarithm of the posterior's density, up to a constant, `(m,)`."""


def downhill(old: Estimate, new: Estimate, cost: Cost, now: Tensor) -> Estimate:
    """Return a point between two that costs each member no more than the old one.

    Args:
        old: Where the members are.
        new: Where a whole step would take them.
        cost: What shall fall; numbers that are not finite count as more.
        now: The cost of `old`, `(m,)`.

    Examples:
        The minimum of x^4 is overshot by a step from 1 to -2:

        >>> a, b = (Estimate(x, x) for x in torch.tensor([[[1.0]], [[-2.0]]]))
        >>> downhill(a, b, lambda point: point.x[:, 0] ** 4, torch.ones(1)).x
        tensor([[-0.5000]])
    """
    share = torch.ones_like(now)
    for _ in range(HALVINGS):
        step = between(old, new, share)
        uphill = ~(cost(step) <= now)
        if not uphill.any():
            return step
        share = torch.where(uphill, share / 2, share)
    return between(old, new, torch.where(uphill, 0.0, share))


def between(old: Estimate, new: Estimate, share: Tensor) -> Estimate:
    """Return the point at a share `(m,)` of the way."""
    part = share.reshape(-1, *[1] * (old.x.ndim - 1))
    return Estimate(torch.lerp(old.x, new.x, part), torch.lerp(old.pull, new.pull, part))
