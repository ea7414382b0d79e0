"""The modes of a climate that knows no place on a periodic plane: its waves.

Where a doubly periodic flow is as likely to be found anywhere else, its EOFs are plane waves, and
all waves of about one length are alike. For waves of a wavenumber that rounds to k, let the
variables' cross-spectrum have eigenvectors v_ke and eigenvalues c_ke: a field's coordinates along
(wave, v_ke) are its modes, each of the variance c_ke, and none is left beside them. From the mean
over the plane to the shortest wave every scale has variances of its own, which a few hundred EOFs
cannot tell (`modes`), and there is no basis to keep: weighing takes two Fourier transforms.

Source: Lumley (1970), Stochastic tools in turbulence, section 3 (the proper orthogonal
decomposition of a homogeneous field is Fourier's).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

from stormda.storm.modes import SMALLEST, Directions, LearnedCovariance


@lru_cache(maxsize=8)
def shells(rows: int, cols: int) -> Tensor:
    """Return the wavenumber of every coefficient of `rfft2`, rounded, (rows, cols // 2 + 1).

    Wavenumbers count waves along the longer side; the two directions may differ in length.

    Examples:
        >>> shells(4, 4)
        tensor([[0, 1, 2],
                [1, 1, 2],
                [2, 2, 3],
                [1, 1, 2]])
    """
    most = max(rows, cols)
    along_rows = most * torch.fft.fftfreq(rows)
    along_cols = most * torch.fft.rfftfreq(cols)
    return torch.hypot(along_rows[:, None], along_cols).round().long()


def shell_sizes(rows: int, cols: int) -> Tensor:
    """Return how many waves have each wavenumber, (shells,); in all rows * cols."""
    k = shells(rows, cols)
    twice = torch.full((cols // 2 + 1,), 2)
    twice[0] = 1
    if cols % 2 == 0:
        twice[-1] = 1
    return torch.bincount(k.flatten(), twice.expand(rows, -1).flatten()).long()


@dataclass(frozen=True, eq=False)
class PlaneWaves(Directions):
    """Waves of a doubly periodic plane and their variances; see `Directions`.

    Args:
        rotation: Eigenvectors of the cross-spectra in columns, (shells, variables, variables).
        rows: Rows of the fields.
        cols: Columns of the fields.
    """

    rotation: Tensor
    rows: int
    cols: int

    @property
    def share(self) -> Tensor:
        """Return how much of a variance along each direction is each variable's, per cell."""
        number = shell_sizes(self.rows, self.cols).to(self.rotation)
        share = self.rotation.square().mT * number[:, None, None] / (self.rows * self.cols)
        return share.flatten(0, 1)

    @property
    def exists(self) -> Tensor:
        """Return where the fields exist: everywhere."""
        shape = (len(self.scale), self.rows, self.cols)
        return torch.ones(shape, dtype=torch.bool, device=self.scale.device)

    def weigh(self, x: Tensor, weights: Tensor) -> Tensor:
        """Multiply each wave of a field by a weight.

        Args:
            x: Fields, (batch, variables, rows, cols).
            weights: (batch, shells * variables).
        """
        weight = weights.reshape(-1, *self.rotation.shape[:2])
        matrix = (self.rotation * weight[:, :, None]) @ self.rotation.mT
        k = shells(self.rows, self.cols).to(x.device)
        waves = torch.fft.rfft2(x)
        weighed = torch.einsum("brcvw,bwrc->bvrc", matrix[:, k].to(waves.dtype), waves)
        back: Tensor = torch.fft.irfft2(weighed, s=(self.rows, self.cols))
        return back

    def power(self, x: Tensor) -> Tensor:
        """Return the mean square of fields (batch, variables, rows, cols) along each direction."""
        rotation = self.rotation.double()
        spectrum = _cross_spectrum(x)
        return torch.einsum("kve,kvw,kwe->ke", rotation, spectrum, rotation).flatten().to(x)

    def pointwise(self, variance: Tensor) -> Tensor:
        """Return the variance of fields at every point; it is the same everywhere.

        Args:
            variance: Along each direction, (batch, frames, shells * variables).

        Returns:
            (batch, frames * variables, rows, cols).
        """
        local = (variance @ self.share).flatten(1)[..., None, None]
        return local.expand(-1, -1, self.rows, self.cols)


def fit_plane_waves(z: Tensor, increments: Tensor, scale: Tensor) -> PlaneWaves:
    """Find the cross-spectra of fields, and what increments vary along their eigenvectors.

    Args:
        z: Normalised fields, (samples, variables, rows, cols).
        increments: Normalised increments, (times, variables, rows, cols).
        scale: Size of an increment in standard deviations, (variables, 1, 1).

    Examples:
        >>> g = torch.Generator().manual_seed(1)
        >>> z, increments = torch.randn(2, 200, 1, 8, 8, generator=g)
        >>> waves = fit_plane_waves(z, increments, torch.ones(1, 1, 1))
        >>> waves.climate.shape, bool((waves.climate - 1).abs().max() < 0.3)
        (torch.Size([7]), True)
    """
    rows, cols = z.shape[-2:]
    spectrum = _cross_spectrum(z / scale)
    climate, rotation = torch.linalg.eigh(spectrum)
    climate = climate.clamp_min(SMALLEST).flatten().float()
    waves = PlaneWaves(climate, climate, scale, rotation.float(), rows, cols)
    return replace(waves, own=waves.power(increments).clamp_min(SMALLEST).float())


def _cross_spectrum(x: Tensor) -> Tensor:
    """Return the mean covariance of the waves of every wavenumber, (shells, variables, same)."""
    rows, cols = x.shape[-2:]
    waves = torch.fft.fft2(x.double(), norm="ortho")
    product = torch.einsum("bvrc,bwrc->rcvw", waves, waves.conj()).real / len(x)
    k = _whole(rows, cols).flatten()
    sums = product.new_zeros(int(k.max()) + 1, *product.shape[2:])
    sums.index_add_(0, k, product.flatten(0, 1))
    return sums / shell_sizes(rows, cols)[:, None, None]


def _whole(rows: int, cols: int) -> Tensor:
    """Return the wavenumber of every coefficient of `fft2`."""
    most = max(rows, cols)
    along = [most * torch.fft.fftfreq(n) for n in (rows, cols)]
    return torch.hypot(along[0][:, None], along[1]).round().long()


class WaveCovariance(LearnedCovariance):
    """The covariance of departures along plane waves, with variances that can be fitted.

    Args:
        shape: (variables, rows, cols).
    """

    rotation: Tensor

    def __init__(self, shape: tuple[int, int, int]) -> None:
        variables, self.rows, self.cols = shape
        number = len(shell_sizes(self.rows, self.cols))
        super().__init__(number * variables, (variables, 1, 1))
        same = torch.eye(variables).expand(number, -1, -1)
        self.register_buffer("rotation", same.clone())

    @property
    def directions(self) -> PlaneWaves:
        """Return what it started from."""
        return PlaneWaves(self.climate, self.own, self.unit, self.rotation, self.rows, self.cols)

    def along(self, spectrum: Tensor) -> Tensor:
        """Return the variance along every direction, were the variables' errors independent."""
        each = torch.einsum("kve,bvk->bke", self.rotation.square(), spectrum)
        return each.flatten(1)
