"""Scores of whole fields, that see whether members hang together and not only point by point.

    energy      ES = mean_i |x_i - y| - 1 / (2 M (M - 1)) sum_ij |x_i - x_j|
    variogram   VS = sum_kl w_kl (|y_k - y_l|^p - mean_i |x_ik - x_il|^p)^2

and the agreement of patterns, the correlation of anomalies from climate.
"""

import torch
from torch import Tensor

from stormda.assimilation.diagnostics.ensemble import weighted_mean


def energy_score(ensemble: Tensor, truth: Tensor, weights: Tensor | None = None) -> Tensor:
    """Return the energy score, unbiased for the number of members.

    Source: Gneiting and Raftery (2007), J. Am. Stat. Assoc. 102, eq. 22.

    Args:
        ensemble: The members, with shape `(m, *shape)`.
        truth: The truth, with shape `(*shape)`.
        weights: Weights of the points in the norm, which broadcast to `shape`; the norm is then
            `sqrt(sum w x^2)`.

    Returns:
        One number, in the units of the state times the root of the number of points.

    Raises:
        ValueError: If the shapes do not fit, or there are fewer than two members.

    Examples:
        >>> energy_score(torch.tensor([[3.0, 4.0], [-3.0, -4.0]]), torch.zeros(2))
        tensor(0.)
    """
    members = len(ensemble)
    if members < 2 or ensemble.shape[1:] != truth.shape:
        raise ValueError(
            f"ensemble: expected shape (m, *{tuple(truth.shape)}) with m >= 2, "
            f"got {tuple(ensemble.shape)}"
        )
    root = 1.0 if weights is None else weights.to(truth).expand_as(truth).flatten().sqrt()
    x, y = ensemble.flatten(1) * root, truth.flatten() * root
    pairs = torch.pdist(x).sum() / (members * (members - 1))
    score: Tensor = (x - y).norm(dim=-1).mean() - pairs
    return score


def variogram_score(
    ensemble: Tensor, truth: Tensor, *, power: float = 0.5, weights: Tensor | None = None
) -> Tensor:
    """Return the variogram score.

    Source: Scheuerer and Hamill (2015), Mon. Wea. Rev. 143, eq. 13.

    Args:
        ensemble: The members, with shape `(m, *shape)`; pairs of points are `points^2` many.
        truth: The truth, with shape `(*shape)`.
        power: The exponent of differences.
        weights: Weights of the pairs, with shape `(points, points)`.

    Examples:
        >>> variogram_score(torch.zeros(2, 2), torch.tensor([0.0, 4.0]))  # twice 2^2
        tensor(8.)
    """
    x, y = ensemble.flatten(1), truth.flatten()
    observed = (y[:, None] - y).abs() ** power
    expected = torch.stack([(member[:, None] - member).abs() ** power for member in x]).mean(0)
    squares = (observed - expected).square()
    return (squares if weights is None else weights.to(squares) * squares).sum()


def anomaly_correlation(
    estimate: Tensor, truth: Tensor, climate: Tensor, weights: Tensor | None = None
) -> Tensor:
    """Return the uncentred correlation of the departures from climate.

    Source: Jolliffe and Stephenson (2012), Forecast verification, section 6.3.3; as in
    WeatherBench 2.

    Args:
        estimate: For example the mean of an ensemble, with shape `(*shape)`.
        truth: The truth, with the same shape.
        climate: The climate of the day, with the same shape.
        weights: Weights that broadcast to the shape.

    Examples:
        >>> anomaly_correlation(torch.tensor([2.0, 3.0]), torch.tensor([3.0, 5.0]), torch.ones(2))
        tensor(1.)
    """
    a, b = estimate - climate, truth - climate
    both = weighted_mean(a * b, weights)
    return both / (weighted_mean(a * a, weights) * weighted_mean(b * b, weights)).sqrt()
