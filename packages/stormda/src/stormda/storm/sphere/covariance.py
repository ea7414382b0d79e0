"""What persistence does not know on a globe whose climate does not depend on longitude.

Fields that are uniform along parallels have covariances that only depend on the difference of
longitude; of each zonal wavenumber m remains one small matrix over variables and latitudes,

    B = F^-1 diag(B_0, B_1, ...) F,    B_m[(v, y), (v', y')] = <e_m(v, y) conj e_m(v', y')> / cols,

with e_m the zonal Fourier components of the errors e of damped persistence,

    e_{k+1} = (x_{k+1} - mean) - damping (x_k - mean),

so that wind and depth lean on each other as the flow has it. Both hemispheres count alike.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from einops import rearrange
from torch import Tensor

from stormda.storm.sphere.training import mirrored


@dataclass(frozen=True, eq=False)
class ZonalCovariance:
    """B as an operator on columns of numbers; it satisfies `stormda.assimilation.Covariance`.

    Args:
        matrices: B_m, complex (cols // 2 + 1, variables * rows, variables * rows).
        shape: (variables, rows, cols).
    """

    matrices: Tensor
    shape: tuple[int, int, int]

    def __matmul__(self, other: Tensor) -> Tensor:
        """Return the product with columns (variables * rows * cols, k)."""
        cols = self.shape[-1]
        waves = torch.fft.rfft(rearrange(other, "(a x) k -> a x k", x=cols), dim=1)
        mixed = torch.einsum("mab,bmk->amk", self.matrices, waves.to(self.matrices.dtype))
        product: Tensor = rearrange(torch.fft.irfft(mixed, n=cols, dim=1), "a x k -> (a x) k")
        return product.to(other.dtype)

    def diagonal(self) -> Tensor:
        """Return the variances, (variables * rows * cols,)."""
        own = self.matrices.diagonal(dim1=1, dim2=2).mT
        variance: Tensor = torch.fft.irfft(own, n=self.shape[-1], dim=1)[:, 0]
        return variance.repeat_interleave(self.shape[-1]).float()

    def scaled(self, factor: float) -> ZonalCovariance:
        """Return the covariance times a number."""
        return ZonalCovariance(factor * self.matrices, self.shape)


def persistence_covariance(truth: Tensor, mean: Tensor, damping: float) -> ZonalCovariance:
    """Estimate B from runs of a flow.

    Args:
        truth: (runs, frames, variables, rows, cols) [physical units].
        mean: Climatological mean, (variables, rows, 1).
        damping: Share of an anomaly that the background keeps; 0 for the climate itself.

    Examples:
        >>> noise = torch.randn(50, 3, 3, 4, 8, generator=torch.Generator().manual_seed(0))
        >>> b = persistence_covariance(noise, torch.zeros(3, 4, 1), damping=0.0)
        >>> b.diagonal().shape, b.diagonal().mean().round(decimals=1)
        (torch.Size([96]), tensor(1.))
    """
    anomaly = (truth - mean).double()
    error = (anomaly[:, 1:] - damping * anomaly[:, :-1]).flatten(0, 1)
    error = torch.cat([error, mirrored(error)])
    waves = rearrange(torch.fft.rfft(error), "n v y m -> m (v y) n")
    matrices = waves @ waves.mH / (len(error) * truth.shape[-1])
    _, _, variables, rows, cols = truth.shape
    return ZonalCovariance(matrices, (variables, rows, cols))
