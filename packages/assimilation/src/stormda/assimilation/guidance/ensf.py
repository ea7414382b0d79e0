"""The ensemble score filter's guidance: the likelihood at the noisy state, damped.

    x_hat_y = x_hat + (b^2 / a) (1 - t) grad log p(y | z),        z = a x,  sigma = b / a,

along a diffusion `z = a x0 + b eps` with `a = 1 - (1 - e_a) t` and `b^2 = e_b + (1 - e_b) t`. No
derivative of the denoiser is taken, and nothing makes the sum of the two scores the score of a
posterior at any t > 0: it is a stable way to follow observations and not a calibrated one.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.denoiser import Denoiser
from stormda.assimilation.guidance.base import Guided, linearize_operator
from stormda.assimilation.observation import Observation, Operator


@dataclass(frozen=True, kw_only=True)
class ensf:
    """Guidance of the ensemble score filter.

    Source: Bao, Zhang and Zhang (2024), An ensemble score filter for tracking high-dimensional
    nonlinear dynamical systems, eq. 21-23, https://arxiv.org/abs/2309.00983, with the two offsets
    of its official code.

    Examples:
        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(1.0))
        >>> ensf()(prior, torch.zeros(1, 1), torch.tensor(1.0), seen).x_hat
        tensor([[0.6926]])
    """

    least_signal: float = 0.5
    """The share `e_a` of the state that is left at t = 1."""

    least_noise: float = 0.025
    """The variance `e_b` of the noise that is left at t = 0."""

    def __post_init__(self) -> None:
        for name in ("least_signal", "least_noise"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}: expected a number in [0, 1), got {getattr(self, name)}")

    def time(self, sigma: Tensor) -> Tensor:
        """Return the time `t` in [0, 1] at which the noise level is `b / a = sigma`."""
        fall, rise, square = 1 - self.least_signal, 1 - self.least_noise, sigma**2
        # square (1 - fall t)^2 = least_noise + rise t, its smaller root
        half = square * fall + rise / 2
        root = (half**2 - square * fall**2 * (square - self.least_noise)).clamp(min=0).sqrt()
        return ((square - self.least_noise) / (half + root)).clamp(0, 1)

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
        t = self.time(sigma)
        a = 1 - (1 - self.least_signal) * t
        operator = linearize_operator(observation.operator, a * x, transform)
        innovation = observation.innovation(operator.predicted)
        slope = operator.adjoint(observation.error.near(innovation).solve(innovation))
        x_hat = denoiser(x, sigma, **(context or {}))
        return Guided(x_hat=torch.addcmul(x_hat, slope, a * sigma**2 * (1 - t)))
