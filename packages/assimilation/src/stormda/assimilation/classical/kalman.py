"""The Kalman filter: what is exactly known of a linear system with Gaussian noise.

forecast:   m <- M m,                        P <- M P M^T + Q
update:     m <- m + K (y - H m),            P <- (I - K H) P (I - K H)^T + K R K^T,
K = P H^T (H P H^T + R)^-1.

Looking back, the smoother of Rauch, Tung and Striebel corrects each of these with what came later:

smoother:   m_k <- m_k + G (m_{k+1} - M m_k),    P_k <- P_k + G (P_{k+1} - M P_k M^T - Q) G^T,
G = P_k M^T (M P_k M^T + Q)^-1.
"""

from collections.abc import Sequence
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
        error: The variances of the observation errors, a number or shape `(p,)`, or their
            covariance `(p, p)`.

    Examples:
        >>> now = Gaussian(torch.zeros(1), torch.eye(1))
        >>> kalman_update(now, torch.tensor([2.0]), torch.eye(1), torch.tensor(1.0))
        Gaussian(mean=tensor([1.]), covariance=tensor([[0.5000]]))
    """
    error = error.to(innovation)
    if error.ndim < 2:
        error = error.expand(len(innovation)).diag()
    cross = operator @ state.covariance
    factor = torch.linalg.cholesky(cross @ operator.mT + error)
    gain = torch.cholesky_solve(cross, factor).mT
    rest = torch.eye(len(state.mean)).to(gain) - gain @ operator
    covariance = rest @ state.covariance @ rest.mT + gain @ error @ gain.mT
    return Gaussian(state.mean + gain @ innovation, covariance)


def kalman_smoother(
    filtered: Sequence[Gaussian], transition: Tensor, noise: Tensor
) -> list[Gaussian]:
    """Return what is known at each time once all observations are in.

    Source: Rauch, Tung and Striebel (1965), AIAA Journal 3, eq. 3.28-3.29.

    Args:
        filtered: What the filter knew after the update of each time, the earliest first.
        transition: The model `M` from one time to the next, with shape `(n, n)`.
        noise: The covariance `Q` of its error, with shape `(n, n)`.

    Examples:
        A value that never changes is known at all times as well as at the last one:

        >>> one = torch.eye(1)
        >>> known = [Gaussian(torch.zeros(1), one), Gaussian(torch.ones(1), one / 2)]
        >>> kalman_smoother(known, one, torch.zeros(1, 1))[0]
        Gaussian(mean=tensor([1.]), covariance=tensor([[0.5000]]))
    """
    smoothed = [filtered[-1]]
    for state in reversed(filtered[:-1]):
        ahead, later = kalman_forecast(state, transition, noise), smoothed[0]
        gain = torch.linalg.solve(ahead.covariance, transition @ state.covariance).mT
        mean = state.mean + gain @ (later.mean - ahead.mean)
        change = gain @ (later.covariance - ahead.covariance) @ gain.mT
        smoothed.insert(0, Gaussian(mean, state.covariance + change))
    return smoothed
