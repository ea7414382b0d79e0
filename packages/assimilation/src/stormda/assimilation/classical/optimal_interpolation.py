"""Optimal interpolation: a fixed background covariance, and one linear (or Newton) step.

    x = x_b + B H^T (H B H^T + R)^-1 (y - h(x_b)),        Cov = B - B H^T (H B H^T + R)^-1 H B.

For a nonlinear `h` the minimum of the cost

    J(x) = |x - x_b|^2 / 2 in the metric B^-1  +  |y - h(x)|^2 / 2 in the metric R^-1

is sought by Gauss-Newton steps of the same form, each halved until it lowers the cost.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.covariance import Covariance
from stormda.assimilation.guidance.base import linearize_operator
from stormda.assimilation.observation import Observation, Operator

_HALVINGS = 10
"""The shortest step tried is a thousandth of Gauss and Newton's."""

_SPARSE = 0.02
"""Share of entries of a Jacobian below which a sparse product is the quicker one."""


@dataclass(frozen=True, eq=False)
class GaussianAnalysis:
    """The outcome of a Gaussian analysis, point by point."""

    mean: Tensor
    """The analysis, with the shape of the state."""

    variance: Tensor
    """Its error variance, with the shape of the state."""


@torch.no_grad()
def optimal_interpolation(
    background: Tensor,
    covariance: Covariance,
    observation: Observation,
    *,
    iterations: int = 1,
) -> GaussianAnalysis:
    """Combine a background with observations by a given covariance.

    Source: Daley (1991), Atmospheric data analysis, section 4; Gauss-Newton steps as in Tarantola
    (2005), Inverse problem theory, section 3.4.

    Args:
        background: The background state, with shape `(*shape)`.
        covariance: The covariance of its error, a dense tensor `(n, n)`, `LowRank`, or anything
            that multiplies columns and has a diagonal.
        observation: What was observed; a linear operator needs one iteration.
        iterations: The number of Gauss-Newton steps.

    Raises:
        ValueError: If there is no iteration.

    Examples:
        >>> from stormda.assimilation import DiagonalError, Observation, select
        >>> seen = Observation(torch.tensor([2.0]), select(torch.tensor([0])), DiagonalError(1.0))
        >>> covariance = torch.tensor([[1.0, 0.5], [0.5, 1.0]])
        >>> optimal_interpolation(torch.zeros(2), covariance, seen)
        GaussianAnalysis(mean=tensor([1.0000, 0.5000]), variance=tensor([0.5000, 0.8750]))
    """
    if iterations < 1:
        raise ValueError(f"iterations: expected a positive count, got {iterations}")
    x, dual = background, torch.zeros_like(background).flatten()

    def misfit(residual: Tensor) -> Tensor:
        return observation.error.whiten(residual).square().sum()

    for _ in range(iterations):
        jacobian, predicted = jacobian_of(observation.operator, x)
        spread = covariance @ jacobian.mT
        error = observation.error.apply(torch.eye(len(predicted)).to(background))
        factor = torch.linalg.cholesky(_product(jacobian, spread) + error)
        departure = observation.innovation(predicted) + jacobian @ (x - background).flatten()
        target = jacobian.mT @ torch.cholesky_solve(departure[:, None], factor)[:, 0]
        x, dual, _ = descend(background, covariance, observation, dual, target, misfit)
    gain = torch.linalg.solve_triangular(factor, spread.mT, upper=False)
    variance = covariance.diagonal() - gain.square().sum(0)
    return GaussianAnalysis(mean=x, variance=variance.reshape(background.shape))


def _product(jacobian: Tensor, spread: Tensor) -> Tensor:
    """Return `jacobian @ spread`, by the few entries that the Jacobian of point values has."""
    if jacobian.count_nonzero() > _SPARSE * jacobian.numel():
        return jacobian @ spread
    return jacobian.to_sparse() @ spread


def jacobian_of(operator: Operator, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return the Jacobian `(p, n)` of an operator at a state `(*shape)`, and its value `(p,)`.

    One backward pass over `p` copies of the state: each carries the gradient of one observation.

    Examples:
        >>> jacobian_of(lambda x: x**2, torch.tensor([3.0, 1.0]))
        (tensor([[6., 0.],
                [0., 2.]]), tensor([9., 1.]))
    """
    predicted = operator(x[None])[0]
    p = len(predicted)
    line = linearize_operator(operator, x.expand(p, *x.shape), None)
    return line.adjoint(torch.eye(p).to(predicted)).flatten(1), predicted


def descend(
    background: Tensor,
    covariance: Covariance,
    observation: Observation,
    dual: Tensor,
    target: Tensor,
    misfit: Callable[[Tensor], Tensor],
) -> tuple[Tensor, Tensor, Tensor]:
    """Go from `dual` towards `target` as far as the cost falls; the state is `x_b + B dual`.

    Args:
        background: The background state, with shape `(*shape)`.
        covariance: The covariance `B` of its error.
        observation: What was observed.
        dual: Where to start, with shape `(n,)`.
        target: Where a full Gauss-Newton step ends, with shape `(n,)`.
        misfit: Twice the cost of residuals `(p,)`.

    Returns:
        The state reached, its `dual`, and twice its cost.
    """

    def evaluate(dual: Tensor) -> tuple[Tensor, Tensor]:
        increment = (covariance @ dual[:, None])[:, 0]
        x = background + increment.reshape(background.shape)
        residual = observation.innovation(observation.operator(x[None])[0])
        return x, dual @ increment + misfit(residual)

    start, cost = evaluate(dual)
    for halving in range(_HALVINGS):
        candidate = torch.lerp(dual, target, 0.5**halving)
        x, lower = evaluate(candidate)
        if lower <= cost:
            return x, candidate, lower
    return start, dual, cost
