"""Moment matching with the covariance of climate: fast, and no derivative of the denoiser.

    p(y | x) = N(y | A(x_hat), R + A V A^T),        V = sigma^2 C (C + sigma^2 I)^-1,
    x_hat_y = x_hat + V A^T v,                      (R + A V A^T) v = y - A(x_hat).

In place of the denoiser's own covariance stands the one that a Gaussian climate of covariance `C`
would have. The cost is that of sampling without observations; the answer is that of `mmps` where
climate tells the truth about what is uncertain, and as wrong as it where not.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from stormda.assimilation.covariance import Climate
from stormda.assimilation.denoiser import Denoiser
from stormda.assimilation.guidance.base import Guided, linearize_operator
from stormda.assimilation.guidance.cg import conjugate_gradients
from stormda.assimilation.guidance.solve import solve_innovation
from stormda.assimilation.observation import Observation, Operator


@dataclass(frozen=True, eq=False, kw_only=True)
class jfps:
    """Guidance with a covariance of climate, the fast mode.

    Source: the name and the rule as in azula (Rozet 2024-2026), `azula.guidance.jfps`; the
    covariance of a Gaussian as in Rozet et al. (2024), https://arxiv.org/abs/2405.13712.

    Examples:
        >>> import torch
        >>> from stormda.assimilation import DiagonalError, GaussianPrior, LowRank
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(0.5**0.5))
        >>> climate = LowRank(torch.zeros(1, 0), torch.ones(1))
        >>> jfps(climate=climate)(prior, torch.zeros(1, 1), torch.tensor(1.0), seen).x_hat
        tensor([[1.]])
    """

    climate: Climate
    """The covariance of the denoiser's states: `LowRank`, `Spectral`, or anything that shrinks."""

    tolerance: float = 1e-3
    """The residual at which a member is solved, relative to its innovation."""

    max_iterations: int = 50
    """The most products with the climate at one noise level."""

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
        x_hat = denoiser(x, sigma, **(context or {}))
        operator = linearize_operator(observation.operator, x_hat, transform)

        def add_spread(r: Tensor, v: Tensor) -> Tensor:
            return r + operator.tangent(self.climate.shrink(operator.adjoint(v), sigma))

        solution = solve_innovation(
            observation.error,
            observation.innovation(operator.predicted),
            add_spread,
            0.0,
            solve=conjugate_gradients,
            tolerance=self.tolerance,
            max_iterations=self.max_iterations,
        )
        increment = self.climate.shrink(operator.adjoint(solution.v), sigma)
        diagnostics = {"residual": solution.residual, "iterations": solution.iterations}
        return Guided(x_hat=x_hat + increment, diagnostics=diagnostics)
