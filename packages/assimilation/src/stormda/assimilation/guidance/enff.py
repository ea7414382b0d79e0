"""The ensemble flow filter's guidance: a pull on the end of the flow, of a strength set by hand.

    x_hat_y = x_hat + lambda (1 - t) grad log p(y | x_hat),        t = 1 / (1 - s + sigma),

along the straight flow `z = t x0 + (1 - (1 - s) t) eps` of a velocity `v`, to which
`lambda grad log p(y | z + (1 - t) v)` is added. No derivative of the denoiser is taken, and the
strength decides on mean and spread alike: a way to follow observations, not a calibrated one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.denoiser import Denoiser
from stormda.assimilation.guidance.base import Guided, linearize_operator
from stormda.assimilation.observation import Observation, Operator


@dataclass(frozen=True, kw_only=True)
class enff:
    """Guidance of the ensemble flow filter.

    Source: the ensemble flow filter (2025), https://arxiv.org/abs/2508.13313, optimal-transport
    path with local guidance.

    Examples:
        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(1.0))
        >>> enff(strength=1.0, least_noise=0.0)(
        ...     prior, torch.zeros(1, 1), torch.tensor(1.0), seen
        ... ).x_hat
        tensor([[1.]])
    """

    strength: float = 0.1
    """The strength lambda, in units of the variance of the state."""

    least_noise: float = 0.1
    """The standard deviation `s` of the noise that is left at t = 1."""

    def __post_init__(self) -> None:
        if not self.strength >= 0:
            raise ValueError(f"strength: expected a number >= 0, got {self.strength}")
        if not 0 <= self.least_noise < 1:
            raise ValueError(f"least_noise: expected a number in [0, 1), got {self.least_noise}")

    def __call__(
        self,
        denoiser: Denoiser,
        x: Tensor,
        sigma: Tensor,
        observation: Observation,
        context: Mapping[str, object] | None = None,
        transform: Operator | None = None,
    ) -> Guided:
        """Return the displaced mean; there are no diagnostics."""
        t = (1 / (1 - self.least_noise + sigma)).clamp(max=1)
        x_hat = denoiser(x, sigma, **(context or {}))
        operator = linearize_operator(observation.operator, x_hat, transform)
        innovation = observation.innovation(operator.predicted)
        slope = operator.adjoint(observation.error.near(innovation).solve(innovation))
        return Guided(x_hat=torch.addcmul(x_hat, slope, self.strength * (1 - t)))
