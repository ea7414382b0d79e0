"""How wrong a forecast is expected to be, wave by wave.

One number says little of an error: where a large structure is wrong by a tenth of a kelvin, winds
carry fronts to the wrong place and small structures are wrong by more half a day later, while an
error of the same size that is white stays as it is. So what is wrong is told after the law of
motion has acted, as a power spectrum: the mean square of every wave of a wavenumber. An ensemble
tells it by the spread of what its members become.

A spectrum is smoothed over wavenumbers within a factor of 1.5, as there are few long waves; the
mean counts with them.
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from stormda.storm.plane_waves import shell_sizes, shells

REACH = 1.5
"""Ratio of wavenumbers from which on they do not know of each other."""

LEAST = 1e-7
"""No power is less, in units of the normalised increment."""


def error_spectrum(error: Tensor) -> Tensor:
    """Return the smoothed mean square of the waves of each wavenumber.

    Args:
        error: (batch, variables, rows, cols).

    Returns:
        (batch, variables, shells); white noise of variance one has a spectrum of ones.

    Examples:
        >>> noise = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(1))
        >>> error_spectrum(noise).shape, bool((error_spectrum(noise) - 1).abs().max() < 0.5)
        (torch.Size([1, 1, 46]), True)
    """
    rows, cols = error.shape[-2:]
    power = torch.fft.fft2(error, norm="ortho").abs().square().flatten(2)
    k, weights = _layout(rows, cols)
    sums = power.new_zeros(*power.shape[:2], len(weights))
    sums.index_add_(2, k.to(power.device), power)
    smooth: Tensor = sums @ weights.to(power).mT
    return smooth.clamp_min(LEAST)


@lru_cache(maxsize=8)
def _layout(rows: int, cols: int) -> tuple[Tensor, Tensor]:
    """Return the shell of every wave of `fft2`, and the weights of the shells' sums."""
    half = shells(rows, cols)
    mirrored = torch.arange(cols).minimum(cols - torch.arange(cols))
    k = half[:, mirrored].flatten()
    size = shell_sizes(rows, cols).double()
    at = torch.arange(len(size)).clamp_min(1).double().log()
    near = (1 - (at[:, None] - at).abs() / math.log(REACH)).clamp_min(0)
    return k, near / (near @ size)[:, None]


def bands(number: int) -> list[int]:
    """Return the wavenumbers that a network is told the power of: 1, 2, 4, ...

    Args:
        number: How many shells there are.

    Examples:
        >>> bands(46)
        [1, 2, 4, 8, 16, 32]
    """
    return [2**i for i in range(max(number - 1, 1).bit_length())]
