"""Inflation that an ensemble finds by itself, from how surprised it is.

A sample of few members does not know its covariance. With a prior for what it does not know, the
factor `l` of its deviations is the one of least

    J(l) = sum_i d_i^2 / ((l s_i)^2 + m - 1)  +  e / l^2  +  c log l^2,

where `d` is the innovation along the singular vectors of the predicted deviations, in units of the
error of observation, and `s` are their singular values. Small innovations leave the ensemble as it
is; large ones inflate it. There is nothing to tune where the model is perfect.
"""

from math import exp

import torch
from torch import Tensor

from stormda.assimilation.errors import ObservationError


@torch.no_grad()
def finite_size_inflation(
    predicted: Tensor, y: Tensor, error: ObservationError, *, certainty: float = 1.0
) -> float:
    """Return the factor by which to inflate an ensemble before its analysis.

    Source: Bocquet, Raanes and Hannart (2015), Expanding the validity of the ensemble Kalman
    filter without the intrinsic need for inflation, Nonlin. Processes Geophys. 22, eq. 29-36.

    Args:
        predicted: The observations that each member predicts, with shape `(m, p)`.
        y: The observations, with shape `(p,)`.
        error: The law of their errors.
        certainty: How much more is known of the covariance than of a random sample's; 1 suits a
            strongly chaotic model, 2 a weakly nonlinear one.

    Raises:
        ValueError: If the certainty is not positive.

    Examples:
        >>> from stormda.assimilation import DiagonalError
        >>> predicted = torch.linspace(-1, 1, 10)[:, None]
        >>> for y in (0.0, 9.0):
        ...     factor = finite_size_inflation(predicted, torch.tensor([y]), DiagonalError(0.1))
        ...     print(f"{factor:.1f}")
        1.0
        4.4
    """
    if not certainty > 0:
        raise ValueError(f"certainty: expected a positive number, got {certainty}")
    m = len(predicted)
    centre = predicted.mean(0)
    away = error.whiten((predicted - centre).double())
    _, sizes, directions = torch.linalg.svd(away, full_matrices=False)
    squares = sizes.square()
    along = (directions @ error.whiten((y.to(centre) - centre).double())).square()
    unknown_mean, unknown_size = (m + 1) / m, m / (m - 1)
    # without information from the observations the least of J lies at l = 1
    blind = (m - 1) / (squares + m - 1)
    share = (
        (blind.sum() + m - len(squares)).item() / m if m > len(squares) else blind.mean().item()
    )
    correction: float = (unknown_mean / unknown_size) ** (share / 2)
    e, c = certainty * unknown_mean / correction, certainty * unknown_size * correction

    def cost(log_factor: float) -> float:
        grown = exp(2 * log_factor)
        misfit: float = (along / (grown * squares + m - 1)).sum().item()
        return misfit + float(e / grown) + 2 * c * log_factor

    from scipy.optimize import minimize_scalar  # slow to import, and seldom needed

    best = float(minimize_scalar(cost, bounds=(-1.0, 5.0), method="bounded").x)
    return exp(best)
