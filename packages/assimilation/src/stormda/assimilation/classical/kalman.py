"""The Kalman filter: what is exactly known of a linear system with Gaussian noise.

forecast:   m <- M m,                        P <- M P M^T + Q
update:     m <- m + K (y - H m),            P <- (I - K H) P (I - K H)^T + K R K^T,
K = P H^T (H P H^T + R)^-1.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Gaussian:
    """What is known of `n` numbers."""

    mean: Tensor
    """The mean, with shape `(n,)`."""

    covariance: Tensor
    """The covariance, with shape `(n, n)`."""


def kalman_forecast(state: Gaussian, transition: Tensor, noise: Tensor) -> Gaussian:
    """Return what is known one step later.

    Source: Kalman (1960), J. Basic Eng. 82.

    Args:
        state: What is known now.
        transition: The model `M`, with shape `(n, n)`.
        noise: The covariance `Q` of its error, with shape `(n, n)`.

    Examples:
        >>> now = Gaussian(torch.tensor([2.0]), torch.tensor([[1.0]]))
        >>> kalman_forecast(now, torch.tensor([[0.5]]), torch.tensor([[0.1]]))
        Gaussian(mean=tensor([1.]), covariance=tensor([[0.3500]]))
    """
    covariance = transition @ state.covariance @ transition.mT + noise
    return Gaussian(transition @ state.mean, covariance)


def kalman_update(
    state: Gaussian, innovation: Tensor, operator: Tensor, error: Tensor
) -> Gaussian:
    """Return what is known after an observation (in the form of Joseph, which stays positive).

    Source: Kalman (1960), J. Basic Eng. 82; Bucy and Joseph (1968), Filtering for stochastic
    processes with applications to guidance.

    Args:
        state: What is known before it.
        innovation: The observation minus what the mean predicts, with shape `(p,)`.
        operator: The observation operator `H`, with shape `(p, n)`.
        error: The variances of the observation errors, a number or shape `(p,)`.

    Examples:
        >>> now = Gaussian(torch.zeros(1), torch.eye(1))
        >>> kalman_update(now, torch.tensor([2.0]), torch.eye(1), torch.tensor(1.0))
        Gaussian(mean=tensor([1.]), covariance=tensor([[0.5000]]))
    """
    error = error.to(innovation).expand(len(innovation)).diag()
    cross = operator @ state.covariance
    factor = torch.linalg.cholesky(cross @ operator.mT + error)
    gain = torch.cholesky_solve(cross, factor).mT
    rest = torch.eye(len(state.mean)).to(gain) - gain @ operator
    covariance = rest @ state.covariance @ rest.mT + gain @ error @ gain.mT
    return Gaussian(state.mean + gain @ innovation, covariance)
