"""Optimal interpolation where every point is observed: exact, and without a large matrix.

The climate's covariance is uniform along x, and so is a network of all points. Fourier components
along x are then independent of each other, and of each wavenumber k remains the small problem

    K_k = B_k (B_k + r I)^-1,      B_k[(v, y), (v', y')] = s_v(y) s_v'(y') conj C_vv'(y' - y; k),

whose posterior covariance is r K_k. The gain is the same in every cycle: it is computed once.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from einops import rearrange
from torch import Tensor

from stormda.assimilation import GaussianAnalysis
from stormda.storm.twin.case import Case, Network
from stormda.storm.twin.climatology import Climatology
from stormda.storm.twin.interpolation import InterpolationSettings


def is_dense(network: Network) -> bool:
    """Return whether a network observes the state itself at every point.

    Examples:
        >>> is_dense(Network(density=1.0, std=1.0, saturating=False))
        True
    """
    return network.density == 1 and not network.saturating


def run_dense_interpolation(
    case: Case, climate: Climatology, settings: InterpolationSettings
) -> Iterator[GaussianAnalysis]:
    """Yield what `run_interpolation` yields, for a network that `is_dense`."""
    gain, variance = dense_gain(climate, settings.scale, case.network.std**2)
    mean = climate.background()
    anomaly = torch.zeros_like(mean)
    for observed in case.observed:
        background = mean + settings.damping * anomaly
        innovation = observed.y.reshape(mean.shape) - background
        analysis = background + apply_gain(gain, innovation)
        anomaly = analysis - mean
        yield GaussianAnalysis(analysis, variance)


def dense_gain(climate: Climatology, scale: float, error_variance: float) -> tuple[Tensor, Tensor]:
    """Return the gain of every wavenumber along x, and the posterior variance.

    Args:
        climate: The climatology, with n = 2 * rows numbers in a column of points.
        scale: Background-error variance over climatological variance.
        error_variance: Of an observation [K^2].

    Returns:
        The gain, complex (cols // 2 + 1, n, n), and the variance [K^2], (2, rows, cols).

    Examples:
        White noise of variance 1, observed with error variance 1, is half known:

        >>> white = torch.zeros(2, 2, 8, 8)
        >>> white[0, 0, 0, 0] = white[1, 1, 0, 0] = 1
        >>> climate = Climatology(torch.zeros(2, 8), torch.ones(2, 8), white)
        >>> gain, variance = dense_gain(climate, scale=1.0, error_variance=1.0)
        >>> gain.shape, variance[0, 0, 0]
        (torch.Size([5, 16, 16]), tensor(0.5000))
    """
    covariance = scale * column_covariance(climate)
    noise = error_variance * torch.eye(covariance.shape[-1], dtype=torch.float64)
    gain = torch.linalg.solve((covariance + noise).mH, covariance.mH).mH
    cols = climate.correlation.shape[-1]
    shares = torch.fft.irfft(rearrange(gain.diagonal(dim1=-2, dim2=-1), "k n -> n k"), n=cols)
    variance = error_variance * rearrange(shares[:, 0], "(v y) -> v y", v=2)
    return gain, variance[..., None].expand(-1, -1, cols).float()


def apply_gain(gain: Tensor, innovation: Tensor) -> Tensor:
    """Return the increment (2, rows, cols) of an innovation of that shape."""
    columns = torch.fft.rfft(innovation.double())
    weighted = gain @ rearrange(columns, "v y k -> k (v y) 1")
    spectrum = rearrange(weighted, "k (v y) 1 -> v y k", v=2)
    increment: Tensor = torch.fft.irfft(spectrum, n=innovation.shape[-1])
    return increment.to(innovation)


def column_covariance(climate: Climatology) -> Tensor:
    """Return B_k [K^2], complex128 (cols // 2 + 1, 2 * rows, 2 * rows)."""
    rows = climate.correlation.shape[-2]
    place = torch.arange(rows)
    displacement = (place - place[:, None]) % rows
    along_x = torch.fft.rfft(climate.correlation.double()).conj()
    pairs = along_x[:, :, displacement]
    matrix = rearrange(pairs, "v w y z k -> k (v y) (w z)")
    std = climate.std.double().flatten()
    covariance: Tensor = std[:, None] * matrix * std
    return covariance
