"""Spectra: how much variance a field has at each scale, and whether two fields agree there."""

import torch
from torch import Tensor


def power_spectrum(fields: Tensor) -> Tensor:
    """Return the variance of fields on a periodic plane by isotropic wavenumber.

    Waves are gathered in rings of width 1 around whole wavenumbers (waves per side), and a ring
    holds all the variance in it, so that the spectrum sums to the mean square (Parseval) but for
    the corners beyond the shortest wave along the axes, which the last ring takes.

    Args:
        fields: Fields, with shape `(*batch, ny, nx)`.

    Returns:
        The variances, with shape `(*batch, min(ny, nx) // 2 + 1)`.

    Raises:
        ValueError: If the fields have fewer than two dimensions.

    Examples:
        >>> wave = torch.cos(2 * torch.pi * 3 * torch.arange(16.0) / 16).expand(16, 16)
        >>> power_spectrum(wave).round(decimals=3)[:5]
        tensor([0.0000, 0.0000, 0.0000, 0.5000, 0.0000])
    """
    if fields.ndim < 2:
        raise ValueError(f"fields: expected shape (*batch, ny, nx), got {tuple(fields.shape)}")
    ny, nx = fields.shape[-2:]
    return _rings(torch.fft.fft2(fields).abs().square() / (nx * ny) ** 2)


def coherence(fields: Tensor, others: Tensor) -> Tensor:
    """Return the squared coherence of two sets of fields by isotropic wavenumber.

    It is 1 where the waves of a scale agree up to one factor, and near one over the number of
    waves and samples where they have nothing to do with each other.

    Args:
        fields: Fields, with shape `(t, ny, nx)`.
        others: Fields, with the same shape.

    Returns:
        The coherence of each ring, with shape `(min(ny, nx) // 2 + 1,)`.

    Raises:
        ValueError: If the shapes differ.

    Examples:
        >>> x = torch.randn(4, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> coherence(x, 2 * x).round(decimals=3)
        tensor([1., 1., 1., 1., 1.])
    """
    if fields.shape != others.shape:
        raise ValueError(
            f"others: expected the shape of fields {tuple(fields.shape)}, "
            f"got {tuple(others.shape)}"
        )
    a, b = torch.fft.fft2(fields), torch.fft.fft2(others)
    cross = _rings(a * b.conj()).sum(0).abs().square()
    return cross / (_rings(a.abs().square()).sum(0) * _rings(b.abs().square()).sum(0))


def _rings(waves: Tensor) -> Tensor:
    """Sum waves `(*batch, ny, nx)` over rings of wavenumbers."""
    ny, nx = waves.shape[-2:]
    ky = torch.fft.fftfreq(ny, device=waves.device)[:, None] * ny
    kx = torch.fft.fftfreq(nx, device=waves.device) * nx
    rings = min(ny, nx) // 2 + 1
    ring = torch.hypot(kx, ky).round().long().clamp(max=rings - 1).flatten()
    return waves.new_zeros(*waves.shape[:-2], rings).index_add(-1, ring, waves.flatten(-2))
