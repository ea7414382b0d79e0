"""Score-based data assimilation: the likelihood of a noisy state, with a guessed covariance.

    p(y | x) = N(y | A(x_hat), R + gamma sigma^2 I),
    v = (R + gamma sigma^2 I)^-1 (y - A(x_hat)).

`gamma` stands for what moment matching computes. One product with the denoiser's Jacobian a step:
cheap, and calibrated only by luck, since the right `gamma` changes with place and noise level.
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
class sda:
    """Guidance of score-based data assimilation.

    Source: Rozet and Louppe (2023), Score-based data assimilation, the Gaussian approximation of
    the perturbed likelihood, https://arxiv.org/abs/2306.10574

    Examples:
        A prior N(0, 1) at noise level 1, and an observation 2 with error variance 1 / 2:

        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(0.5**0.5))
        >>> sda(gamma=0.5)(prior, torch.zeros(1, 1), torch.tensor(1.0), seen).x_hat
        tensor([[1.]])
    """

    gamma: float = 0.1
    """The variance of the clean state in units of `sigma^2`, as the observations see it."""

    def __post_init__(self) -> None:
        if not self.gamma >= 0:
            raise ValueError(f"gamma: expected a number >= 0, got {self.gamma}")

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
        white = self.gamma * sigma**2
        solution = solve_innovation(
            observation.error,
            observation.innovation(operator.predicted),
            lambda r, v: torch.addcmul(r, v, white),
            white,
            solve=conjugate_gradients,
            tolerance=1e-5,
            max_iterations=50,
        )
        return Guided(x_hat=torch.addcmul(x_hat, vjp(operator.adjoint(solution.v)), sigma**2))
