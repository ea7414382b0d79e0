"""Pseudo-inverse guidance: the likelihood of a noisy state, with a white covariance.

    p(y | x) = N(y | A(x_hat), R + r^2 A A^T),        r^2 = c sigma^2 / (c + sigma^2),

the covariance that a prior of uncorrelated numbers with variance `c` would imply. One product with
the denoiser's Jacobian a step; calibrated where the prior is white.
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
class pigdm:
    """Pseudo-inverse guidance of noisy observations.

    Source: Song et al. (2023), Pseudoinverse-guided diffusion models for inverse problems, eq. 7
    and 8, https://openreview.net/forum?id=9_gsMA8MRKQ

    Examples:
        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(0.5**0.5))
        >>> pigdm()(prior, torch.zeros(1, 1), torch.tensor(1.0), seen).x_hat
        tensor([[1.]])
    """

    prior_variance: float = 1.0
    """The variance `c` of the numbers of a state."""

    tolerance: float = 1e-3
    """The residual at which a member is solved, relative to its innovation."""

    max_iterations: int = 50
    """The most products with the operator at one noise level; the denoiser is asked only once."""

    def __post_init__(self) -> None:
        if not self.prior_variance > 0:
            raise ValueError(
                f"prior_variance: expected a positive number, got {self.prior_variance}"
            )

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigma: Tensor,
        observation: Observation,
        context: Mapping[str, object] | None = None,
        transform: Operator | None = None,
    ) -> Guided:
        """Return the posterior mean; the diagnostics are `residual` and `iterations`."""
        x_hat, vjp = linearize(denoiser, x, sigma, context or {})
        operator = linearize_operator(observation.operator, x_hat, transform)
        white = self.prior_variance * sigma**2 / (self.prior_variance + sigma**2)
        solution = solve_innovation(
            observation.error,
            observation.innovation(operator.predicted),
            lambda r, v: torch.addcmul(r, operator.tangent(operator.adjoint(v)), white),
            0.0,
            solve=conjugate_gradients,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        guided = torch.addcmul(x_hat, vjp(operator.adjoint(solution.v)), sigma**2)
        diagnostics = {"residual": solution.residual, "iterations": solution.iterations}
        return Guided(x_hat=guided, diagnostics=diagnostics)
