"""Ensemble Kalman filters that update the whole state at once, and one that iterates.

With deviations `X` `(m, n)` of the members and `Y` `(m, p)` of their predicted observations, a
filter moves the members within the space they span (or, localised, around it):

stochastic    x_i += K (y + e_i - y_i),  e_i ~ N(0, R),  K = X^T Y (Y^T Y + (m - 1) R)^-1
transform     x_i = mean + sum_j X_j (w_j + W_ji),  A = (m - 1) I + Y R^-1 Y^T,
              w = A^-1 Y R^-1 d,  W = (m - 1)^(1/2) A^(-1/2)
iterative     the transform, repeated with the model run anew from the updated start

The stochastic one draws errors; the root of the transform is the symmetric one. All treat a law
with heavy tails by its variance.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from stormda.assimilation.errors import ObservationError


@torch.no_grad()
def enkf(
    ensemble: Tensor,
    predicted: Tensor,
    y: Tensor,
    error: ObservationError,
    *,
    generator: torch.Generator,
    taper: tuple[Tensor, Tensor] | None = None,
) -> Tensor:
    """Update an ensemble with observations that are perturbed for each member.

    Source: Burgers, van Leeuwen and Evensen (1998), Mon. Wea. Rev. 126; localised in the space of
    the model as in Houtekamer and Mitchell (2001), Mon. Wea. Rev. 129.

    Args:
        ensemble: The background, with shape `(m, *shape)`.
        predicted: The observations that each member predicts, with shape `(m, p)`.
        y: The observations, with shape `(p,)`.
        error: The law of their errors.
        generator: Source of the perturbations.
        taper: Factors for the covariances between state and observations `(n, p)` and among
            observations `(p, p)`, for example `gaspari_cohn` of their distances.

    Returns:
        The analyses, with the shape of `ensemble`.

    Examples:
        >>> from stormda.assimilation import DiagonalError
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.randn(4000, 1, generator=g)
        >>> x = enkf(x, x, torch.tensor([2.0]), DiagonalError(1.0), generator=g)
        >>> round(x.mean().item(), 1), round(x.var().item(), 1)
        (1.0, 0.5)
    """
    m = _check(ensemble, predicted, y)
    deviation = (ensemble - ensemble.mean(0)).flatten(1)
    away = predicted - predicted.mean(0)
    noise = error.sample(predicted, generator)
    noise = noise - noise.mean(0)  # else the mean is perturbed too
    cross, own = deviation.mT @ away / (m - 1), away.mT @ away / (m - 1)
    if taper is not None:
        cross, own = cross * taper[0].to(cross), own * taper[1].to(own)
    total = own + error.apply(torch.eye(len(y)).to(own))
    increment = torch.linalg.solve(total, (y.to(predicted) + noise - predicted).mT)
    analysis: Tensor = ensemble + (cross @ increment).mT.reshape(ensemble.shape)
    return analysis


@torch.no_grad()
def etkf(ensemble: Tensor, predicted: Tensor, y: Tensor, error: ObservationError) -> Tensor:
    """Update an ensemble by one matrix, the symmetric square root.

    Source: Bishop, Etherton and Majumdar (2001), Mon. Wea. Rev. 129; the symmetric root from Hunt,
    Kostelich and Szunyogh (2007), Physica D 230, eq. 23-24.

    Args:
        ensemble: The background, with shape `(m, *shape)`.
        predicted: The observations that each member predicts, with shape `(m, p)`.
        y: The observations, with shape `(p,)`.
        error: The law of their errors.

    Returns:
        The analyses, with the shape of `ensemble`.

    Examples:
        Two members -1 and 1 (variance 2), and an observation 3 with error variance 1:

        >>> from stormda.assimilation import DiagonalError
        >>> background = torch.tensor([[-1.0], [1.0]])
        >>> x = etkf(background, background, torch.tensor([3.0]), DiagonalError(1.0))
        >>> x.mean(), x.var()
        (tensor(2.0000), tensor(0.6667))
    """
    m = _check(ensemble, predicted, y)
    mean, centre = ensemble.mean(0), predicted.mean(0)
    away = error.whiten(predicted - centre)
    gradient = away @ error.whiten(y.to(predicted) - centre)
    w, root, _ = _transform(away, gradient, m)
    analysis: Tensor = mean + torch.tensordot(w + root, ensemble - mean, 1)
    return analysis


@torch.no_grad()
def ienkf(
    ensemble: Tensor,
    predict: Callable[[Tensor], Tensor],
    y: Tensor,
    error: ObservationError,
    *,
    iterations: int = 10,
    tolerance: float = 1e-3,
) -> Tensor:
    """Update an ensemble at the start of a window with observations at its end.

    Gauss-Newton steps in the space of the members; each runs the model from the present estimate,
    so that a strongly nonlinear window is linearised where its solution is and not where the
    background was. With a `predict` that only observes it is a filter for nonlinear operators.
    The analysis at the end of the window is the forecast of what is returned.

    Source: Bocquet and Sakov (2014), An iterative ensemble Kalman smoother, Q. J. R. Meteorol.
    Soc. 140, algorithm of section 2 (the transform variant).

    Args:
        ensemble: The members at the start of the window, with shape `(m, *shape)`.
        predict: Takes `(m, *shape)` through the window and observes it, with shape `(m, p)`.
        y: The observations, with shape `(p,)`.
        error: The law of their errors.
        iterations: The most steps.
        tolerance: The change of the weights at which to stop [standard deviations].

    Returns:
        The members at the start of the window, with the shape of `ensemble`.

    Raises:
        ValueError: If there is no iteration.

    Examples:
        The square of a number near 3 is observed as 4:

        >>> from stormda.assimilation import DiagonalError
        >>> start = torch.tensor([[2.0], [3.0], [4.0]])
        >>> seen, error = torch.tensor([4.0]), DiagonalError(0.1)
        >>> round(ienkf(start, lambda x: x**2, seen, error).mean().item(), 2)
        2.0
        >>> round(etkf(start, start**2, seen, error).mean().item(), 2)
        2.06
    """
    if iterations < 1:
        raise ValueError(f"iterations: expected a positive count, got {iterations}")
    m, mean = len(ensemble), ensemble.mean(0)
    deviation = ensemble - mean
    w = deviation.new_zeros(m)
    root = inverse = torch.eye(m).to(deviation)
    for _ in range(iterations):
        predicted = predict(mean + torch.tensordot(w + root, deviation, 1))
        _check(ensemble, predicted, y)
        away, gradient = _linearised(predicted, y, error, inverse, w)
        step, root, inverse = _transform(away, gradient, m)
        w = w + step
        if step.norm() * m**0.5 < tolerance:
            break
    analysis: Tensor = mean + torch.tensordot(w + root, deviation, 1)
    return analysis


def _linearised(
    predicted: Tensor, y: Tensor, error: ObservationError, inverse: Tensor, w: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the members' deviations at the observations, and minus the gradient of the cost."""
    centre = predicted.mean(0)
    away = inverse @ error.whiten(predicted - centre)
    return away, away @ error.whiten(y.to(predicted) - centre) - (len(w) - 1) * w


def _transform(away: Tensor, gradient: Tensor, m: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return `A^-1 gradient`, the root `((m - 1) / A)^(1/2)` and its inverse."""
    values, vectors = torch.linalg.eigh((away @ away.mT).double())
    values = values.clamp(min=0) + (m - 1)
    vectors, scale = vectors.to(away), ((m - 1) / values).sqrt().to(away)
    step = vectors @ ((vectors.mT @ gradient) / values.to(away))
    return step, vectors * scale @ vectors.mT, vectors / scale @ vectors.mT


def _check(ensemble: Tensor, predicted: Tensor, y: Tensor) -> int:
    m = len(ensemble) if ensemble.ndim else 0
    if ensemble.ndim < 2 or m < 2:
        raise ValueError(
            f"ensemble: expected shape (m, ...) with m >= 2, got {tuple(ensemble.shape)}"
        )
    expected = (m, *y.shape)
    if y.ndim != 1 or predicted.shape != expected:
        raise ValueError(
            f"predicted: expected shape (m, p) = {expected}, got {tuple(predicted.shape)}"
        )
    return m
