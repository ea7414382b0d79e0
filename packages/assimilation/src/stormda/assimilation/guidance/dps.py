"""Diffusion posterior sampling: a push against the misfit, of a length chosen by hand.

The published rule follows each step of a chain `x' = x / sqrt(1 + sigma^2)` with the displacement
`- zeta_1 grad_x' |y - A(x_hat)|`, so that its strength grows with the number of steps. Taken as a
displacement per e-fold of the noise level it no longer does:

    x_hat_y = x_hat - zeta (1 + sigma^2) grad_x |d|,        d = y - A(x_hat),

with `zeta = zeta_1 N / log(sigma_max / sigma_min)` for `N` published steps. The norm is taken for
each member by itself. The error of observation is not used, and the spread of the samples is no
measure of uncertainty: this is here to compare with.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.denoiser import Denoiser, linearize
from stormda.assimilation.guidance.base import Guided, linearize_operator
from stormda.assimilation.observation import Observation, Operator


@dataclass(frozen=True, kw_only=True)
class dps:
    """Guidance of diffusion posterior sampling.

    Source: Chung et al. (2023), Diffusion posterior sampling for general noisy inverse problems,
    algorithm 1, https://arxiv.org/abs/2209.14687

    Examples:
        A prior N(0, 1) at noise level 1 has the Jacobian 1 / 2:

        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(0.1))
        >>> dps(zeta=3.0)(prior, torch.zeros(1, 1), torch.tensor(1.0), seen).x_hat
        tensor([[3.]])
    """

    zeta: float = 3.0
    """The strength, in units of the state (about 1, if normalised) per e-fold of the noise."""

    def __post_init__(self) -> None:
        if not self.zeta >= 0:
            raise ValueError(f"zeta: expected a number >= 0, got {self.zeta}")

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
        x_hat, vjp = linearize(denoiser, x, sigma, context or {})
        operator = linearize_operator(observation.operator, x_hat, transform)
        innovation = observation.innovation(operator.predicted)
        direction = torch.nn.functional.normalize(innovation, dim=-1)
        push = self.zeta * (1 + sigma**2) * vjp(operator.adjoint(direction))
        return Guided(x_hat=x_hat + push)
