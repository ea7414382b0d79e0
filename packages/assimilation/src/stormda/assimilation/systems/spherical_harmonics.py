"""Spherical harmonics: fields on a Gaussian grid as sums of waves on the sphere, and back.

    x(lambda, mu) = sum_m sum_{n >= |m|} x_n^m P_n^m(mu) exp(i m lambda),       mu = sin(latitude)

with `P` normalised such that its square integrates to 2 over [-1, 1]: the mean square of a field
is the sum of the squares of its coefficients. Longitudes go by the fast Fourier transform,
latitudes by a matrix for each order `m`, whose quadrature is exact for what the truncation keeps.
The gradient along a meridian has a matrix of its own, `H = (1 - mu^2) dP / dmu`.

Source: Hack and Jakob (1992), Description of a global shallow water model based on the spectral
transform method, NCAR/TN-343+STR, section 3.
"""

import math

import numpy as np
import torch
from torch import Tensor


class SphericalHarmonics:
    """The transforms of a triangular truncation, on the grid that is exact for products of two.

    Coefficients are complex with shape `(*batch, order m, degree n)`, both from 0 to the
    truncation; what has `n < m` is zero, and negative orders follow from fields being real. Fields
    are `(*batch, lat, lon)`, from north to south and from longitude 0 eastwards.

    Args:
        truncation: The largest degree, at least 4.
        dtype: torch.float32 or torch.float64, of the fields.
        device: Where the transforms run.

    Examples:
        >>> sphere = SphericalHarmonics(10)
        >>> sphere.shape
        (16, 32)
        >>> x = torch.sin(sphere.lat_rad)[:, None].expand(sphere.shape)  # mu has degree 1
        >>> c = sphere.analyse(x)
        >>> round(c[0, 1].real.item(), 4), round(c.abs().sum().item(), 4)  # 1 / sqrt(3)
        (0.5774, 0.5774)
    """

    def __init__(
        self,
        truncation: int,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        if truncation < 4:
            raise ValueError(f"truncation: expected at least 4, got {truncation}")
        self.truncation, self.dtype, self.device = truncation, dtype, torch.device(device)
        rows = _even(math.ceil((3 * truncation + 1) / 2))
        self.shape = (rows, _smooth(max(2 * rows, 3 * truncation + 1)))
        mu, weights = (x[::-1].copy() for x in np.polynomial.legendre.leggauss(rows))
        values, slopes = _legendre(truncation, mu)
        self.lat_rad = self._real(np.arcsin(mu))
        """Latitudes [rad] of the rows, from north to south."""
        self.weights = self._real(weights / 2)
        """The share of the sphere's area of each row: they sum to 1."""
        self._values, self._slopes = self._real(values), self._real(slopes)
        n = torch.arange(truncation + 1, dtype=torch.float64)
        self.degree_squared = self._real(n * (n + 1))
        """`n (n + 1)`: minus the eigenvalues of the Laplacian on the unit sphere."""
        self._order = 1j * self._real(n)[:, None]
        self._inner = self.weights / self._real(1 - mu**2)

    def analyse(self, x: Tensor) -> Tensor:
        """Return the coefficients of fields `(*batch, lat, lon)`."""
        return self._project(self.weights * self._waves(x), self._values)

    def synthesise(self, c: Tensor) -> Tensor:
        """Return the fields of coefficients `(*batch, m, n)`."""
        return self._fields(_sum(c, self._values))

    def divergence(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the coefficients of the divergence, on the unit sphere, of a vector field.

        Args:
            u: The eastward component times the cosine of latitude, `(*batch, lat, lon)`.
            v: The northward component times the cosine of latitude, with the same shape.
        """
        along, across = self._inner * self._waves(u), self._inner * self._waves(v)
        return self._order * self._project(along, self._values) - self._project(
            across, self._slopes
        )

    def curl(self, u: Tensor, v: Tensor) -> Tensor:
        """Return the coefficients of the curl of a vector field, given as to `divergence`."""
        return self.divergence(v, -u)

    def vector(self, curl: Tensor, divergence: Tensor) -> tuple[Tensor, Tensor]:
        """Return the vector field, times the cosine of latitude, of a curl and a divergence.

        Both are coefficients on the unit sphere; their means (degree 0) are not used.
        """
        inverse = torch.zeros_like(self.degree_squared)
        inverse[1:] = -1 / self.degree_squared[1:]
        stream, potential = inverse * curl, inverse * divergence
        u = _sum(self._order * potential, self._values) - _sum(stream, self._slopes)
        v = _sum(self._order * stream, self._values) + _sum(potential, self._slopes)
        return self._fields(u), self._fields(v)

    def spectrum(self, c: Tensor) -> Tensor:
        """Return the mean square by degree `(*batch, n)` of fields with coefficients `c`."""
        square = c.real.square() + c.imag.square()
        power: Tensor = 2 * square.sum(-2) - square[..., 0, :]
        return power

    def _waves(self, x: Tensor) -> Tensor:
        """Return the Fourier coefficients `(*batch, m, lat)` along the parallels."""
        waves = torch.fft.rfft(x.to(self.dtype), norm="forward")[..., : self.truncation + 1]
        by_order: Tensor = waves.transpose(-1, -2)
        return by_order

    def _fields(self, waves: Tensor) -> Tensor:
        x: Tensor = torch.fft.irfft(waves.transpose(-1, -2), n=self.shape[1], norm="forward")
        return x

    def _project(self, waves: Tensor, matrix: Tensor) -> Tensor:
        return torch.view_as_complex(
            torch.einsum("mnj,...mjc->...mnc", matrix, torch.view_as_real(waves)).contiguous()
        )

    def _real(self, x: "np.ndarray | Tensor") -> Tensor:
        return torch.as_tensor(x).to(self.device, self.dtype)


def _sum(c: Tensor, matrix: Tensor) -> Tensor:
    """Return the waves `(*batch, m, lat)` of coefficients `(*batch, m, n)`."""
    return torch.view_as_complex(
        torch.einsum("mnj,...mnc->...mjc", matrix, torch.view_as_real(c)).contiguous()
    )


def _legendre(truncation: int, mu: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return `P_n^m` and `(1 - mu^2) dP_n^m / dmu`, each `(m, n, len(mu))`.

    By the recursion `mu P_n = e_{n+1} P_{n+1} + e_n P_{n-1}`, where
    `e_n = sqrt((n^2 - m^2) / (4 n^2 - 1))`.
    """
    top = truncation + 1
    m, n = np.arange(top)[:, None], np.arange(top + 1)[None]
    e = np.sqrt(np.maximum(n**2 - m**2, 0) / (4 * n**2 - 1.0))
    values = np.zeros((top, top + 1, len(mu)))
    sector = np.ones_like(mu)  # P_m^m
    for k in range(top):
        if k:
            sector = sector * np.sqrt((2 * k + 1) / (2 * k) * (1 - mu**2))
        values[k, k] = sector
        values[k, k + 1] = mu * sector / e[k, k + 1]
        for j in range(k + 2, top + 1):
            values[k, j] = (mu * values[k, j - 1] - e[k, j - 1] * values[k, j - 2]) / e[k, j]
    degree = np.arange(top)[None, :, None]
    below = np.concatenate([np.zeros((top, 1, len(mu))), values[:, : top - 1]], 1)
    slopes = (degree + 1) * e[:, :top, None] * below - degree * e[:, 1:, None] * values[:, 1:]
    kept = (degree >= m[..., None]).astype(float)
    return values[:, :top] * kept, slopes * kept


def _even(count: int) -> int:
    return count + count % 2


def _smooth(count: int) -> int:
    """Return the least number from `count` on that is even with no prime factor above 5."""
    rest = count
    for prime in (2, 3, 5):
        while rest % prime == 0:
            rest //= prime
    return count if rest == 1 and count % 2 == 0 else _smooth(count + 1)
