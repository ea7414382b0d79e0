"""Surface quasi-geostrophic turbulence between two rigid boundaries, forced by a baroclinic jet.

Uniform potential vorticity inside, so all dynamics live in the potential temperature of the lower
and the upper boundary, theta = (theta_0, theta_H), advected by the geostrophic wind it induces:

    d theta / dt + J(psi, theta) = (theta_eq - theta) / t_relax - hyperdiffusion,
    psi_0 = (H / mu) (b_H / sinh mu - b_0 / tanh mu),
    psi_H = (H / mu) (b_H / tanh mu - b_0 / sinh mu),

with b = g theta / (f theta_ref), mu = kappa N H / f and kappa the horizontal wavenumber. The
resting state is a jet with a meridional temperature gradient; its instability makes eddies whose
sharp fronts fill the scales down to the grid. The domain is doubly periodic.

Derivatives are spectral, products are dealiased by the 3/2 rule, time steps are fourth-order
Runge-Kutta with the hyperdiffusion as an integrating factor.

Source: Blumen (1978), J. Atmos. Sci. 35, 774-783; set-up of Bao et al. (2025), Mon. Wea. Rev.,
arXiv:2404.00844, after Tulloch and Smith (2009), J. Atmos. Sci. 66, 450-467.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

GRAVITY = 9.8
"""Acceleration of gravity [m s-2], as in Bao et al. (2025)."""

REFERENCE_TEMPERATURE = 300.0
"""Reference potential temperature theta_ref [K], as in Bao et al. (2025)."""


@dataclass(frozen=True, kw_only=True)
class SQGConfig:
    """The physics and numerics of a run. Defaults are the 64 x 64 case of Bao et al. (2025)."""

    points: int = 64
    """Grid points in each horizontal direction. Even."""

    length: float = 20.0e6
    """Side of the square domain [m]."""

    depth: float = 10.0e3
    """Distance H between the boundaries [m]."""

    jet: float = 30.0
    """Wind difference between the boundaries at the core of the equilibrium jet [m s-1]."""

    coriolis: float = 1.0e-4
    """Coriolis parameter f [s-1]."""

    stratification: float = 1.0e-4
    """Squared buoyancy frequency N^2 [s-2]."""

    relaxation_time: float = 10 * 86400.0
    """Time scale of the relaxation to the jet [s]."""

    diffusion_order: int = 8
    """Order of the hyperdiffusion."""

    diffusion_time: float = 86400.0
    """e-folding time of the shortest wave under hyperdiffusion [s]."""

    time_step: float = 1800.0
    """Time step [s]."""

    def __post_init__(self) -> None:
        if self.points < 8 or self.points % 2:
            raise ValueError(f"points: expected an even number of at least 8, got {self.points}")
        for name in ("length", "depth", "coriolis", "stratification", "time_step"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")

    @property
    def buoyancy_per_kelvin(self) -> float:
        """Return b / theta = g / (f theta_ref), which turns a temperature into the model's b."""
        return GRAVITY / (self.coriolis * REFERENCE_TEMPERATURE)

    @property
    def spacing(self) -> float:
        """Return the distance between grid points [m]."""
        return self.length / self.points


class SQG:
    """The model: a batch of independent states advances together, on any device.

    A state is theta [K] about theta_ref, of shape (*batch, 2, points, points): lower boundary
    first, then rows along y and columns along x.

    Args:
        config: Physics and numerics.
        dtype: torch.float32 or torch.float64.
        device: Where the states live.

    Examples:
        >>> model = SQG(SQGConfig(points=16))
        >>> model.forecast(model.equilibrium, hours=12).shape
        torch.Size([2, 16, 16])
    """

    def __init__(
        self,
        config: SQGConfig | None = None,
        *,
        dtype: torch.dtype = torch.float32,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = config = config or SQGConfig()
        self.dtype, self.device = dtype, torch.device(device)
        kx, ky = self._wavenumbers(config.points)
        kappa = torch.hypot(kx, ky)
        mu = kappa * math.sqrt(config.stratification) * config.depth / config.coriolis
        mu = mu.clamp_min(torch.finfo(torch.float32).eps)
        scale = config.buoyancy_per_kelvin * config.depth / mu
        self._to_psi = self._real(torch.stack([-scale / mu.tanh(), scale / mu.sinh()]))
        nyquist = math.pi * config.points / config.length
        rate = (kappa / nyquist) ** config.diffusion_order / config.diffusion_time
        self._diffusion = self._real(torch.exp(-config.time_step * rate))
        self._padded = 3 * config.points // 2
        px, py = self._wavenumbers(self._padded)
        self._ikx, self._iky = 1j * self._real(px), 1j * self._real(py)
        self._equilibrium = self._jet()
        self._equilibrium_hat = torch.fft.rfft2(self._equilibrium)

    @property
    def equilibrium(self) -> Tensor:
        """Return the zonal jet that the flow relaxes to [K], (2, points, points)."""
        return self._equilibrium.clone()

    def forecast(self, theta: Tensor, *, hours: float) -> Tensor:
        """Return the state `hours` later.

        Args:
            theta: Potential temperature [K], (*batch, 2, points, points).
            hours: Length of the forecast, a whole number of time steps.

        Returns:
            The later state, in the shape and dtype of `theta`.

        Raises:
            ValueError: Where the shape is wrong or `hours` is not a whole number of steps.
        """
        n = self.config.points
        if theta.shape[-3:] != (2, n, n):
            raise ValueError(f"theta: expected (*batch, 2, {n}, {n}), got {tuple(theta.shape)}")
        steps = hours * 3600.0 / self.config.time_step
        if abs(steps - round(steps)) > 1e-6 or steps < 0:
            raise ValueError(
                f"hours: expected whole steps of {self.config.time_step} s, got {hours}"
            )
        spectrum = torch.fft.rfft2(theta.to(self.dtype))
        for _ in range(round(steps)):
            spectrum = self._step(spectrum)
        later: Tensor = torch.fft.irfft2(spectrum, s=(n, n)).to(theta.dtype)
        return later

    def spin_up(self, members: int, *, days: float, generator: torch.Generator) -> Tensor:
        """Return `members` independent turbulent states grown from the perturbed jet.

        Args:
            members: How many states.
            days: Length of the integration; about 100 forget the start.
            generator: Source of the initial noise, on the model's device or on the CPU.

        Returns:
            Potential temperature [K], (members, 2, points, points).
        """
        n = self.config.points
        noise = torch.randn(
            members, 2, n, n, generator=generator, device=generator.device, dtype=self.dtype
        )
        smooth = self._smooth(noise.to(self.device))
        return self.forecast(self._equilibrium + 3.0 * smooth, hours=24.0 * days)

    def wind(self, theta: Tensor) -> tuple[Tensor, Tensor]:
        """Return the geostrophic wind (u, v) [m s-1] at both boundaries, each like `theta`."""
        n = self.config.points
        psi = self._invert(torch.fft.rfft2(theta.to(self.dtype)))
        kx, ky = (self._real(k) for k in self._wavenumbers(n))
        u = torch.fft.irfft2(-1j * ky * psi, s=(n, n))
        v = torch.fft.irfft2(1j * kx * psi, s=(n, n))
        return u, v

    def _step(self, y: Tensor) -> Tensor:
        dt = self.config.time_step
        k1 = self._tendency(y)
        k2 = self._tendency(y + (dt / 2) * k1)
        k3 = self._tendency(y + (dt / 2) * k2)
        k4 = self._tendency(y + dt * k3)
        result: Tensor = self._diffusion * (y + (dt / 6) * (k1 + 2 * (k2 + k3) + k4))
        return result

    def _tendency(self, theta_hat: Tensor) -> Tensor:
        fields = torch.stack([self._invert(theta_hat), theta_hat])
        padded = self._pad(fields)
        m = self._padded
        d_dx = torch.fft.irfft2(self._ikx * padded, s=(m, m))
        d_dy = torch.fft.irfft2(self._iky * padded, s=(m, m))
        advection = d_dx[0] * d_dy[1] - d_dy[0] * d_dx[1]
        relaxation = (self._equilibrium_hat - theta_hat) / self.config.relaxation_time
        result: Tensor = relaxation - self._truncate(torch.fft.rfft2(advection))
        return result

    def _invert(self, theta_hat: Tensor) -> Tensor:
        lower, upper = theta_hat.unbind(-3)
        own, other = self._to_psi
        return torch.stack([own * lower + other * upper, -other * lower - own * upper], -3)

    def _pad(self, hat: Tensor) -> Tensor:
        """Embed a spectrum in the 3/2 larger one; the Nyquist waves are dropped."""
        half, m = self.config.points // 2, self._padded
        out = hat.new_zeros(*hat.shape[:-2], m, m // 2 + 1)
        out[..., :half, :half] = hat[..., :half, :half]
        out[..., 1 - half :, :half] = hat[..., 1 - half :, :half]
        return out * (m / self.config.points) ** 2

    def _truncate(self, hat: Tensor) -> Tensor:
        n = self.config.points
        half = n // 2
        out = hat.new_zeros(*hat.shape[:-2], n, half + 1)
        out[..., :half, :half] = hat[..., :half, :half]
        out[..., 1 - half :, :half] = hat[..., 1 - half :, :half]
        return out * (n / self._padded) ** 2

    def _wavenumbers(self, n: int) -> tuple[Tensor, Tensor]:
        unit = 2 * math.pi / self.config.length
        kx = unit * n * torch.fft.rfftfreq(n, dtype=torch.float64)
        ky = unit * n * torch.fft.fftfreq(n, dtype=torch.float64)
        return kx.expand(n, -1), ky[:, None].expand(-1, n // 2 + 1)

    def _jet(self) -> Tensor:
        c = self.config
        wavenumber = 2 * math.pi / c.length
        mu = wavenumber * math.sqrt(c.stratification) * c.depth / c.coriolis
        y = torch.arange(c.points, dtype=torch.float64) * c.spacing
        amplitude = mu * c.jet / (2 * wavenumber * c.depth * math.tanh(mu / 2))
        profile = -amplitude / c.buoyancy_per_kelvin * torch.cos(wavenumber * y)
        return self._real(profile[:, None].expand(2, c.points, c.points).contiguous())

    def _smooth(self, noise: Tensor) -> Tensor:
        """Keep the waves of 3 to 8 per side, with unit variance."""
        n = self.config.points
        kx, ky = self._wavenumbers(n)
        waves = (torch.hypot(kx, ky) * self.config.length / (2 * math.pi)).to(noise.device)
        band = ((waves >= 3) & (waves <= 8)).to(noise.dtype)
        field: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise) * band, s=(n, n))
        return field / field.std(dim=(-3, -2, -1), keepdim=True)

    def _real(self, x: Tensor) -> Tensor:
        return x.to(self.device, self.dtype)
