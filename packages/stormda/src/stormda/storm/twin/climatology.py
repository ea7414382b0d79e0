"""Climatology of a periodic flow: what is known of a state before any observation of it.

The covariance is homogeneous in correlation and has the local variance of each latitude,

    B[(v, y, x), (v', y', x')] = s_v(y) s_v'(y') C_vv'(y' - y, x' - x),

the separation of Lorenc (1981), Mon. Wea. Rev. 109, 701-721.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor


@dataclass(frozen=True)
class Climatology:
    """First and second moments of a doubly periodic flow, uniform along x.

    Args:
        mean: Mean of each boundary and row [K], (2, rows).
        std: Standard deviation about it [K], (2, rows).
        correlation: Correlation of boundary v at a point with v' at a displacement (dy, dx),
            (2, 2, rows, cols).
    """

    mean: Tensor
    std: Tensor
    correlation: Tensor

    @classmethod
    def from_states(cls, states: Tensor) -> Climatology:
        """Estimate the moments from independent states (samples, 2, rows, cols) [K].

        Examples:
            >>> climate = Climatology.from_states(torch.randn(50, 2, 8, 8))
            >>> climate.correlation[0, 0, 0, 0].round(decimals=2)
            tensor(1.)
        """
        states = states.double()
        mean = states.mean(dim=(0, 3))
        anomaly = states - mean[..., None]
        std = anomaly.square().mean(dim=(0, 3)).sqrt()
        spectrum = torch.fft.rfft2(anomaly / std[..., None])
        power = torch.einsum("nvyx,nwyx->vwyx", spectrum.conj(), spectrum) / len(states)
        points = states.shape[-1] * states.shape[-2]
        correlation = torch.fft.irfft2(power / points, s=states.shape[-2:])
        return cls(mean.float(), std.float(), correlation.float())

    def background(self) -> Tensor:
        """Return the mean state (2, rows, cols) [K]."""
        return self.mean[..., None].expand(-1, -1, self.correlation.shape[-1]).clone()

    def covariance(self, scale: float = 1.0) -> HomogeneousCovariance:
        """Return B times `scale`, as an operator on columns of numbers [K^2]."""
        cols = self.correlation.shape[-1]
        std = scale**0.5 * self.std[..., None].expand(-1, -1, cols)
        return HomogeneousCovariance(std.contiguous(), torch.fft.rfft2(self.correlation))

    def save(self, path: Path) -> None:
        """Write the moments to a safetensors file."""
        save_file({k: getattr(self, k).contiguous() for k in ("mean", "std", "correlation")}, path)

    @classmethod
    def load(cls, path: Path) -> Climatology:
        """Read the moments from `save`."""
        return cls(**load_file(path))


@dataclass(frozen=True)
class HomogeneousCovariance:
    """B = S C S with a homogeneous correlation C, applied by Fourier transforms.

    It satisfies `stormda.assimilation.Covariance`.
    """

    std: Tensor
    """Local standard deviation, (2, rows, cols)."""

    spectrum: Tensor
    """Transform of the correlation, (2, 2, rows, cols // 2 + 1)."""

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return the product with columns (2 * rows * cols, k)."""
        fields = other.mT.reshape(-1, *self.std.shape)
        hat = torch.fft.rfft2(self.std * fields)
        hat = torch.einsum("wvyx,kwyx->kvyx", self.spectrum, hat)
        mixed: Tensor = self.std * torch.fft.irfft2(hat, s=self.std.shape[-2:])
        return mixed.reshape(len(fields), -1).mT

    def diagonal(self) -> Tensor:
        """Return the variances, (2 * rows * cols,)."""
        return self.std.flatten().square()
