"""The local ensemble transform Kalman filter: each column of the state, with what is near it.

With `Y` the deviations of the predicted observations and `d` the innovation of the mean, a column
is updated in the space of the `m` members,

    A = (m - 1) I + Y rho R^-1 Y^T,       w = A^-1 Y rho R^-1 d,       W = (m - 1)^(1/2) A^(-1/2),
    x_i = mean + sum_j X_j (w_j + W_ji),

where `rho` weighs the observations by distance and the root is the symmetric one: it alone keeps
the mean and varies smoothly from column to column.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.classical.localization import gaspari_cohn
from stormda.assimilation.classical.spread import relax_spread


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The observations near some columns: as many for each, the far ones among them weighing 0."""

    index: Tensor
    """Which observations, int64 with shape `(columns, k)`."""

    distance: Tensor
    """How far they are, with shape `(columns, k)`; at least the radius where one is not meant."""

    @staticmethod
    def within(distance: Tensor, radius: float) -> Neighbours:
        """Keep of all observations as many as the column with most of them has in its radius.

        Args:
            distance: From columns to all observations, with shape `(columns, p)`.
            radius: Where an observation stops to act, in the units of the distance.

        Examples:
            >>> Neighbours.within(torch.tensor([[3.0, 1.0, 9.0], [0.0, 8.0, 7.0]]), 5.0).index
            tensor([[1, 0],
                    [0, 2]])
        """
        most = int((distance < radius).sum(1).amax().clamp_min(1))
        nearest = distance.topk(most, dim=1, largest=False)
        return Neighbours(nearest.indices, nearest.values)


_CHUNK = 1024
"""Columns updated at once: bounds the memory of distances and weights."""


@torch.no_grad()
def letkf(
    ensemble: Tensor,
    predicted: Tensor,
    y: Tensor,
    variance: Tensor,
    *,
    distance: Tensor | Callable[[slice], Tensor] | Callable[[slice], Neighbours],
    radius: float,
    inflation: float = 1.0,
    rtps: float = 0.0,
) -> Tensor:
    """Update an ensemble with observations, column by column.

    Source: Hunt, Kostelich and Szunyogh (2007), Efficient data assimilation for spatiotemporal
    chaos, Physica D 230, eq. 20-24; relaxation to prior spread from Whitaker and Hamill (2012),
    Mon. Wea. Rev. 140, eq. 2.

    Args:
        ensemble: The background, with shape `(m, columns, k)`: the `k` numbers of a column
            (levels, variables) share their weights.
        predicted: The observations that each member predicts, with shape `(m, p)`; a nonlinear
            operator needs no more than that.
        y: The observations, with shape `(p,)`.
        variance: Their error variances, a number or shape `(p,)`.
        distance: From columns to observations, with shape `(columns, p)`, or a function that
            returns the rows of it which a slice asks for (nothing of size columns x p is then
            ever held), or for many observations only the `Neighbours` of these columns. Zeros
            localise nothing.
        radius: Where an observation stops to act, in the units of the distance (Gaspari-Cohn).
        inflation: Multiplies the background's deviations from its mean.
        rtps: The share, 0 to 1, by which the spread goes back to that of the background.

    Returns:
        The analyses, with the shape and data type of `ensemble`; solved in float64.

    Examples:
        Two members -1 and 1 (variance 2), and an observation 3 with error variance 1:

        >>> background = torch.tensor([[[-1.0]], [[1.0]]])
        >>> x = letkf(background, background[:, 0], torch.tensor([3.0]), torch.tensor(1.0),
        ...           distance=torch.zeros(1, 1), radius=1.0)
        >>> x.mean(), x.var()
        (tensor(2.), tensor(0.6667))
    """
    _check(ensemble, predicted, y, inflation, rtps)
    mean = ensemble.mean(0)
    deviation = inflation * (ensemble - mean).double()
    y_mean = predicted.mean(0)
    y_deviation = inflation * (predicted - y_mean).double()
    precision = 1 / variance.double().expand(len(y))
    innovation = (y - y_mean).double()
    analysis = torch.empty_like(ensemble)
    for start in range(0, ensemble.shape[1], _CHUNK):
        columns = slice(start, start + _CHUNK)
        far = distance[columns] if isinstance(distance, Tensor) else distance(columns)
        weights = _localised(far, radius, y_deviation, innovation, precision)
        increment = weights.mT @ deviation[:, columns].transpose(0, 1)
        analysis[:, columns] = (mean[columns] + increment.transpose(0, 1)).to(ensemble.dtype)
    return relax_spread(analysis, ensemble, rtps) if rtps > 0 else analysis


def _localised(
    far: Tensor | Neighbours,
    radius: float,
    y_deviation: Tensor,
    innovation: Tensor,
    precision: Tensor,
) -> Tensor:
    """Return the weights of some columns, from all observations or from their neighbours."""
    if isinstance(far, Neighbours):
        trust = gaspari_cohn(far.distance.double(), radius) * precision[far.index]
        return _local_weights(y_deviation[:, far.index], innovation[far.index], trust)
    trust = gaspari_cohn(far.double(), radius) * precision
    return _weights(y_deviation, innovation, trust)


def _weights(y_deviation: Tensor, innovation: Tensor, precision: Tensor) -> Tensor:
    """Return `w_j + W_ji` of each column, `(c, m, m)`, for localised precisions `(c, p)`."""
    m = len(y_deviation)
    pairs = (y_deviation[:, None] * y_deviation).reshape(m * m, -1)
    hessian = (precision @ pairs.mT).reshape(-1, m, m)
    return _solve(hessian, (precision * innovation) @ y_deviation.mT)


def _local_weights(y_deviation: Tensor, innovation: Tensor, precision: Tensor) -> Tensor:
    """Return the same for columns with observations of their own, `(m, c, k)` and `(c, k)`."""
    near = y_deviation.transpose(0, 1)
    weighted = near * precision[:, None]
    return _solve(weighted @ near.mT, (weighted @ innovation[..., None])[..., 0])


def _solve(hessian: Tensor, projected: Tensor) -> Tensor:
    m = hessian.shape[-1]
    values, vectors = torch.linalg.eigh(hessian)
    values = values.clamp(min=0) + (m - 1)
    w = vectors @ ((vectors.mT @ projected[..., None]) / values[..., None])
    root = vectors * ((m - 1) / values).sqrt()[:, None] @ vectors.mT
    weights: Tensor = w + root
    return weights


def _check(ensemble: Tensor, predicted: Tensor, y: Tensor, inflation: float, rtps: float) -> None:
    if ensemble.ndim != 3 or len(ensemble) < 2:
        raise ValueError(
            f"ensemble: expected shape (m, columns, k) with m >= 2, got {tuple(ensemble.shape)}"
        )
    expected = (len(ensemble), *y.shape)
    if y.ndim != 1 or predicted.shape != expected:
        raise ValueError(
            f"predicted: expected shape (m, p) = {expected}, got {tuple(predicted.shape)}"
        )
    if not inflation > 0:
        raise ValueError(f"inflation: expected a positive number, got {inflation}")
    if not 0 <= rtps <= 1:
        raise ValueError(f"rtps: expected a number in [0, 1], got {rtps}")
