"""3D-Var and 4D-Var: the most probable state, without a matrix and without an adjoint model.

    J(x) = |x - x_b|^2 / 2 in the metric B^-1  +  |y - h(x)|^2 / 2 in the metric R^-1

is lowered by Gauss-Newton steps, each the solution of a system as large as the observations,

    (H B H^T + R) v = y - h(x) + H (x - x_b),        x <- x_b + B H^T v,

by conjugate gradients on products with `H` and `H^T`, which automatic differentiation of `h`
supplies. What `h` is makes the difference:

- 3D-Var: an observation operator;
- strong-constraint 4D-Var: a model run and then observed (`along`);
- weak-constraint 4D-Var: a model run with an unknown error in every step (`along_with_errors`);
  the state is the start and the errors, with the covariance `Blocks([B, Q, Q, ...])`.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stormda.assimilation.classical.optimal_interpolation import descend
from stormda.assimilation.covariance import Covariance
from stormda.assimilation.errors.base import ObservationError
from stormda.assimilation.guidance.base import Linearized, linearize_operator
from stormda.assimilation.guidance.cg import conjugate_gradients
from stormda.assimilation.observation import Observation, Operator


@torch.no_grad()
def variational(
    background: Tensor,
    covariance: Covariance,
    observation: Observation,
    *,
    iterations: int = 5,
    tolerance: float = 1e-4,
    max_products: int = 100,
) -> Tensor:
    """Return the state of least cost.

    Source: Courtier (1997), Dual formulation of four-dimensional variational assimilation, Q. J.
    R. Meteorol. Soc. 123; weak constraint as in Tremolet (2006), Q. J. R. Meteorol. Soc. 132.

    Args:
        background: The background state, with shape `(*shape)`.
        covariance: The covariance of its error: a dense tensor `(n, n)`, `LowRank`, `Blocks`, or
            anything that multiplies columns and has a diagonal.
        observation: What was observed; its operator may run a model.
        iterations: The most Gauss-Newton steps; one is enough for a linear operator.
        tolerance: The residual of the linear systems, and the fall of `2 J` at which to stop.
        max_products: The most products with `H B H^T` in one step.

    Returns:
        The analysis, with shape `(*shape)`.

    Raises:
        ValueError: If there is no iteration.

    Examples:
        >>> from stormda.assimilation import DiagonalError, Observation, select
        >>> seen = Observation(torch.tensor([2.0]), select(torch.tensor([0])), DiagonalError(1.0))
        >>> variational(torch.zeros(2), torch.tensor([[1.0, 0.5], [0.5, 1.0]]), seen)
        tensor([1.0000, 0.5000])
    """
    if iterations < 1:
        raise ValueError(f"iterations: expected a positive count, got {iterations}")
    x, dual = background, torch.zeros_like(background).flatten()
    cost = torch.tensor(torch.inf)

    def misfit(residual: Tensor) -> Tensor:
        return -2 * observation.error.log_prob(residual)

    for _ in range(iterations):
        target = _target(background, x, covariance, observation, tolerance, max_products)
        before = cost
        x, dual, cost = descend(background, covariance, observation, dual, target, misfit)
        if not before - cost > tolerance:
            break
    return x


def _target(
    background: Tensor,
    x: Tensor,
    covariance: Covariance,
    observation: Observation,
    tolerance: float,
    max_products: int,
) -> Tensor:
    """Return the dual vector that a Gauss-Newton step from `x` goes to."""
    line = linearize_operator(observation.operator, x[None], None)
    innovation = observation.innovation(line.predicted)
    error = observation.error.near(innovation)
    solution = conjugate_gradients(
        _believed(covariance, line, error, x[None].shape),
        innovation + line.tangent((x - background)[None]),
        diagonal=error.variance.to(innovation),
        tolerance=tolerance,
        max_iterations=max_products,
    )
    return line.adjoint(solution.v).flatten()


def _believed(
    covariance: Covariance, line: Linearized, error: ObservationError, shape: Sequence[int]
) -> Callable[[Tensor], Tensor]:
    """Return the product with `R + H B H^T` around a state of this shape."""

    def apply(v: Tensor) -> Tensor:
        spread = (covariance @ line.adjoint(v).reshape(-1, 1)).reshape(shape)
        return error.apply(v) + line.tangent(spread)

    return apply


def along(forecast: Callable[[Tensor], Tensor], operators: Sequence[Operator | None]) -> Operator:
    """Return the operator that runs a model and observes it on the way: for 4D-Var.

    Args:
        forecast: Takes states `(m, *shape)` one interval on; differentiable.
        operators: What is observed after 1, 2, ... intervals; None where nothing is.

    Examples:
        >>> both = along(lambda x: 2 * x, [lambda x: x, None, lambda x: x])
        >>> both(torch.ones(1, 1))
        tensor([[2., 8.]])
    """

    def observe(x: Tensor) -> Tensor:
        seen = []
        for operator in operators:
            x = forecast(x)
            if operator is not None:
                seen.append(operator(x))
        return torch.cat(seen, -1)

    return observe


def along_with_errors(
    forecast: Callable[[Tensor], Tensor], operators: Sequence[Operator | None]
) -> Operator:
    """Return the operator of weak-constraint 4D-Var: a run with an error after each interval.

    The state `(1 + intervals, *shape)` holds the start and then the errors.

    Args:
        forecast: Takes states `(m, *shape)` one interval on; differentiable.
        operators: What is observed after 1, 2, ... intervals; None where nothing is.

    Examples:
        >>> both = along_with_errors(lambda x: 2 * x, [lambda x: x, lambda x: x])
        >>> both(torch.tensor([[[1.0], [0.5], [0.0]]]))
        tensor([[2.5000, 5.0000]])
    """

    def observe(x: Tensor) -> Tensor:
        state, seen = x[:, 0], []
        for k, operator in enumerate(operators, start=1):
            state = forecast(state) + x[:, k]
            if operator is not None:
                seen.append(operator(state))
        return torch.cat(seen, -1)

    return observe
