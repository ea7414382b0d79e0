"""The Kuramoto-Sivashinsky equation: flame fronts, in one periodic dimension.

    u_t = - u u_x - u_xx - u_xxxx

Long waves grow, short ones decay, and the advection hands energy from the ones to the others:
chaos in space and time, at a known pace. The mean of u is conserved. The linear terms are stiff
and integrated exactly, the advection by a fourth-order scheme around them (ETDRK4).
"""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from stormda.assimilation.systems.base import check_state

_CONTOUR = 32
"""Points on the circle around each eigenvalue; their mean is exact to machine precision."""


@dataclass(frozen=True, eq=False, kw_only=True)
class KuramotoSivashinsky:
    """The equation on a ring.

    Source: Kassam and Trefethen (2005), Fourth-order time-stepping for stiff PDEs, SIAM J. Sci.
    Comput. 26, eq. 2.5 and section 3.

    Examples:
        >>> model = KuramotoSivashinsky()
        >>> model.forecast(model.start(), steps=20).shape
        torch.Size([128])
    """

    points: int = 128
    """Grid points, even and at least 8."""

    length: float = 32 * math.pi
    """The circumference; about a tenth of it in waves carry the energy."""

    dt: float = 0.5
    """The time step."""

    dtype: torch.dtype = torch.float64
    """The data type in which the model runs."""

    device: torch.device | str = "cpu"
    """Where the model runs."""

    _coefficients: tuple[Tensor, ...] = field(init=False, repr=False)
    _derivative: Tensor = field(init=False, repr=False)

    def __post_init__(self) -> None:
        if self.points < 8 or self.points % 2:
            raise ValueError(f"points: expected an even number of at least 8, got {self.points}")
        for name in ("length", "dt"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        n = self.points
        k = 2 * math.pi / self.length * n * torch.fft.rfftfreq(n, dtype=torch.float64)
        k[-1] = 0  # the shortest wave has no direction
        kept = torch.arange(len(k)) <= n // 3  # products alias beyond two thirds
        linear = k**2 - k**4
        object.__setattr__(self, "_derivative", self._complex(-0.5j * k * kept))
        coefficients = tuple(self._real(c) for c in _exponential_weights(linear, self.dt))
        object.__setattr__(self, "_coefficients", coefficients)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return (self.points,)

    def start(self) -> Tensor:
        """Return the start of Kassam and Trefethen, a long wave and its harmonic."""
        x = torch.arange(self.points, dtype=torch.float64) * (2 * math.pi / self.points)
        return self._real(torch.cos(x) * (1 + torch.sin(x)))

    def forecast(self, x: Tensor, *, steps: int) -> Tensor:
        """Return the states `(*batch, points)` a number of time steps later."""
        check_state(x, self.shape)
        spectrum = torch.fft.rfft(x.to(self.dtype))
        for _ in range(steps):
            spectrum = self._step(spectrum)
        later: Tensor = torch.fft.irfft(spectrum, n=self.points).to(x.dtype)
        return later

    def _step(self, v: Tensor) -> Tensor:
        whole, half, q, f1, f2, f3 = self._coefficients
        nv = self._advection(v)
        a = half * v + q * nv
        na = self._advection(a)
        b = half * v + q * na
        nb = self._advection(b)
        c = half * a + q * (2 * nb - nv)
        nc = self._advection(c)
        result: Tensor = whole * v + f1 * nv + 2 * f2 * (na + nb) + f3 * nc
        return result

    def _advection(self, v: Tensor) -> Tensor:
        u = torch.fft.irfft(v, n=self.points)
        product: Tensor = self._derivative * torch.fft.rfft(u.square())
        return product

    def _real(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype)

    def _complex(self, x: Tensor) -> Tensor:
        return x.to(self.device, torch.complex128 if self.dtype.itemsize > 4 else torch.complex64)


def _exponential_weights(linear: Tensor, dt: float) -> tuple[Tensor, ...]:
    """Return the coefficients of ETDRK4; contour means avoid 0 / 0 at small eigenvalues."""
    angles = math.pi * (torch.arange(1, _CONTOUR + 1, dtype=torch.float64) - 0.5) / _CONTOUR
    z = dt * linear[:, None] + torch.exp(1j * angles)
    grown, half = z.exp(), (z / 2).exp()
    q = dt * ((half - 1) / z).mean(1).real
    f1 = dt * ((-4 - z + grown * (4 - 3 * z + z**2)) / z**3).mean(1).real
    f2 = dt * ((2 + z + grown * (-2 + z)) / z**3).mean(1).real
    f3 = dt * ((-4 - 3 * z - z**2 + grown * (4 - z)) / z**3).mean(1).real
    return (dt * linear).exp(), (dt * linear / 2).exp(), q, f1, f2, f3
