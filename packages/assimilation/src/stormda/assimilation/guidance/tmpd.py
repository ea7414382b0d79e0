"""Tweedie moment projection: the row sums of the denoiser's covariance in place of it.

    p(y | x) = N(y | A(x_hat), R + diag(A V A^T 1)),        V = sigma^2 J.

Two products with the denoiser's Jacobian a step. Right where the predictions of the observations
are uncorrelated or move together; a row that sums to less than zero counts as zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.denoiser import Denoiser, linearize
from stormda.assimilation.guidance.base import Guided, linearize_operator
from stormda.assimilation.guidance.cg import conjugate_gradients
from stormda.assimilation.guidance.solve import solve_innovation
from stormda.assimilation.observation import Observation, Operator


@dataclass(frozen=True, kw_only=True)
class tmpd:
    """Guidance of Tweedie moment projection.

    Source: Boys et al. (2023), Tweedie moment projected diffusions for inverse problems, eq. 15,
    https://arxiv.org/abs/2310.06721

    Examples:
        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(0.5**0.5))
        >>> tmpd()(prior, torch.zeros(1, 1), torch.tensor(1.0), seen).x_hat
        tensor([[1.]])
    """

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigma: Tensor,
        observation: Observation,
        context: Mapping[str, object] | None = None,
        transform: Operator | None = None,
    ) -> Guided:
        """Return the posterior mean; there are no diagnostics."""
        x_hat, vjp = linearize(denoiser, x, sigma, context or {})
        operator = linearize_operator(observation.operator, x_hat, transform)
        ones = torch.ones_like(operator.predicted)
        rows = (sigma**2 * operator.tangent(vjp(operator.adjoint(ones)))).clamp(min=0)
        solution = solve_innovation(
            observation.error,
            observation.innovation(operator.predicted),
            lambda r, v: torch.addcmul(r, rows, v),
            rows,
            solve=conjugate_gradients,
            tolerance=1e-5,
            max_iterations=50,
        )
        return Guided(x_hat=torch.addcmul(x_hat, vjp(operator.adjoint(solution.v)), sigma**2))
