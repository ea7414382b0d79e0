"""A linear model learned from data: autoregression of the amplitudes of patterns, and its filter.

A field is its mean plus empirical orthogonal functions (EOFs), `x = mean + E a`, whose amplitudes
have the variances `L` and follow, from one frame to the next,

    a' = A a + noise,        A = C_1 L^-1,        Q = L - A L A^T,        C_1 = <a' a^T>,

for the leading ones. These are the Yule-Walker equations: the model is stable and its climate is
that of the samples. The other EOFs, the error of the truncation, are white in time (`A = 0`). A
Kalman filter on the amplitudes assimilates observations; with no leading EOF it is optimal
interpolation with the covariance of the samples.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.classical.kalman import Gaussian, kalman_forecast, kalman_update
from stormda.assimilation.classical.optimal_interpolation import GaussianAnalysis
from stormda.assimilation.guidance.base import linearize_operator
from stormda.assimilation.observation import Observation


@dataclass(frozen=True, eq=False, kw_only=True)
class EofModel:
    """A linear model of fields and its Kalman filter, on the amplitudes `(e,)` of EOFs."""

    mean: Tensor
    """The mean field, with shape `(*shape)`."""

    eofs: Tensor
    """The patterns, orthonormal, with shape `(n, e)`."""

    transition: Tensor
    """The model of the amplitudes over one frame, with shape `(e, e)`."""

    noise: Tensor
    """The covariance of its error, with shape `(e, e)`."""

    climate: Gaussian
    """The amplitudes when nothing is known."""

    def project(self, field: Tensor) -> Tensor:
        """Return the amplitudes `(e,)` of a field `(*shape)`."""
        return (field - self.mean).flatten() @ self.eofs

    def forecast(self, state: Gaussian) -> Gaussian:
        """Return what is known of the amplitudes one frame later."""
        return kalman_forecast(state, self.transition, self.noise)

    @torch.no_grad()
    def update(self, state: Gaussian, observation: Observation) -> Gaussian:
        """Return what is known after an observation (nonlinear ones linearised at the mean)."""
        field = self.field(state).mean
        copies = field.expand(len(state.mean), *field.shape)
        line = linearize_operator(observation.operator, copies, None)
        operator = line.tangent(self.eofs.mT.reshape(copies.shape)).mT
        innovation = observation.innovation(observation.operator(field[None])[0])
        return kalman_update(state, innovation, operator, observation.error.variance)

    def field(self, state: Gaussian) -> GaussianAnalysis:
        """Return the mean and variance of the field, each with shape `(*shape)`."""
        mean = self.mean + (self.eofs @ state.mean).reshape(self.mean.shape)
        variance = ((self.eofs @ state.covariance) * self.eofs).sum(-1)
        return GaussianAnalysis(mean=mean, variance=variance.reshape(self.mean.shape))


def fit_eof_model(samples: Tensor, rank: int) -> EofModel:
    """Fit a linear model to consecutive fields.

    Source: Penland (1989), Mon. Wea. Rev. 117 (with the discarded EOFs kept as white noise).

    Args:
        samples: Fields at equal intervals, with shape `(t, *shape)`. Cost and memory grow with the
            square of `min(t, points)`.
        rank: The number of leading EOFs that are predicted.

    Raises:
        ValueError: If the rank is negative, or more than the fields have EOFs.

    Examples:
        >>> wave = torch.linspace(0, 60, 400).sin()[:, None] * torch.tensor([1.0, 2.0])
        >>> model = fit_eof_model(wave, rank=1)
        >>> model.transition  # nearly a random walk: only the amplitude, not its slope, is known
        tensor([[0.98...]])
    """
    frames, points = samples.flatten(1).shape
    mean = samples.mean(0)
    left, size, patterns = torch.linalg.svd((samples - mean).flatten(1), full_matrices=False)
    noticeable = size > size[0] * max(frames, points) * torch.finfo(size.dtype).eps
    kept = min(int(noticeable.sum()), frames - 1)  # the mean has taken one
    if not 0 <= rank <= kept:
        raise ValueError(
            f"rank: expected 0 <= rank <= {kept}, the EOFs of {frames} fields of {points} points, "
            f"got {rank}"
        )
    amplitudes, variances = (left * size)[:, :kept], size[:kept].square() / frames
    transition = amplitudes[1:].mT @ amplitudes[:-1] / frames / variances
    transition[rank:], transition[:, rank:] = 0, 0
    noise = variances.diag() - transition * variances @ transition.mT
    climate = Gaussian(torch.zeros_like(variances), variances.diag())
    return EofModel(
        mean=mean, eofs=patterns[:kept].mT, transition=transition, noise=noise, climate=climate
    )
