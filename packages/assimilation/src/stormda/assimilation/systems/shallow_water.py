"""The shallow water equations on the rotating sphere: the atmosphere as one layer of fluid.

With the wind (u, v), the depth h, the relative vorticity z and the divergence d,

    dz/dt = - div((z + f) u),
    dd/dt =   curl((z + f) u) - laplace(|u|^2 / 2 + g h),
    dh/dt = - div(h u),

each with hyperdiffusion. Waves of gravity, Rossby waves, jets and their instability: the test
problem of dynamical cores. Without diffusion mass, energy and potential enstrophy are conserved.

Derivatives are spectral, on a Gaussian grid that keeps products of two free of aliasing; time
steps are fourth-order Runge-Kutta with the hyperdiffusion as an integrating factor.

Source: Williamson et al. (1992), A standard test set for numerical approximations to the shallow
water equations in spherical geometry, J. Comput. Phys. 102, eq. 6-8; Hack and Jakob (1992).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.systems.base import check_state, runge_kutta
from stormda.assimilation.systems.spherical_harmonics import SphericalHarmonics


@dataclass(frozen=True, kw_only=True)
class ShallowWaterConfig:
    """The physics and numerics of a run. Constants are those of Williamson et al. (1992)."""

    truncation: int = 42
    """The largest degree of the spherical harmonics (T42: 64 x 128 points)."""

    time_step: float = 600.0
    """Time step [s]. Waves of gravity bound it: about 1200 at T21 and 300 at T85, for 10 km."""

    radius: float = 6.37122e6
    """Radius of the sphere [m]."""

    rotation: float = 7.292e-5
    """Angular velocity [s-1]."""

    tilt: float = 0.0
    """Angle from the poles of the grid to the axis of rotation [rad], as the tests have it."""

    gravity: float = 9.80616
    """Acceleration of gravity [m s-2]."""

    diffusion_order: int = 8
    """Order of the hyperdiffusion, an even number."""

    diffusion_time: float = 6 * 3600.0
    """e-folding time of the largest degree under hyperdiffusion [s]; math.inf for none."""

    def __post_init__(self) -> None:
        for name in ("time_step", "radius", "gravity", "diffusion_time"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if self.diffusion_order < 2 or self.diffusion_order % 2:
            raise ValueError(
                f"diffusion_order: expected an even number >= 2, got {self.diffusion_order}"
            )


class ShallowWater:
    """The model: a batch of independent states advances together, on any device.

    A state is eastward wind [m s-1], northward wind [m s-1] and depth [m], of shape
    (*batch, 3, lat, lon), on the Gaussian grid of the truncation, from north to south and from
    longitude 0 eastwards. What a state holds beyond the truncation is dropped.

    Args:
        config: Physics and numerics.
        dtype: torch.float32 or torch.float64.
        device: Where the states live.

    Examples:
        >>> model = ShallowWater(ShallowWaterConfig(truncation=10, time_step=1800.0))
        >>> x = model.balanced(2, speed=20.0, generator=torch.Generator().manual_seed(0))
        >>> later = model.forecast(x, steps=48)
        >>> later.shape
        torch.Size([2, 3, 16, 32])
        >>> (model.mass(later) / model.mass(x) - 1).abs().max() < 1e-12
        tensor(True)
    """

    def __init__(
        self,
        config: ShallowWaterConfig | None = None,
        *,
        dtype: torch.dtype = torch.float64,
        device: torch.device | str = "cpu",
    ) -> None:
        self.config = c = config or ShallowWaterConfig()
        self.sphere = SphericalHarmonics(c.truncation, dtype=dtype, device=device)
        self.dtype, self.device = dtype, self.sphere.device
        self.lat_rad = self.sphere.lat_rad
        """Latitudes [rad] of the rows."""
        cols = self.sphere.shape[1]
        turn = torch.arange(cols, dtype=torch.float64) * (2 * math.pi / cols)
        self.lon_rad = turn.to(self.device, dtype)
        """Longitudes [rad] of the columns."""
        self._cos = self.lat_rad.cos()[:, None]
        self.coriolis = 2 * c.rotation * self._sine_to_axis()
        """The Coriolis parameter f [s-1], with shape (lat, lon)."""
        top = self.sphere.degree_squared[-1]
        share = (self.sphere.degree_squared / top) ** (c.diffusion_order / 2)
        self._damping = torch.exp(-c.time_step / c.diffusion_time * share)
        self._laplacian = -self.sphere.degree_squared / c.radius

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return (3, *self.sphere.shape)

    def forecast(self, x: Tensor, *, steps: int) -> Tensor:
        """Return the states (*batch, 3, lat, lon) a number of time steps later."""
        check_state(x, self.shape)
        spectrum = self._to_spectrum(x)
        for _ in range(steps):
            spectrum = runge_kutta(self._tendency, spectrum, self.config.time_step, 1)
            spectrum = self._damping * spectrum
        return self._to_state(spectrum).to(x.dtype)

    def balanced(
        self,
        members: int,
        *,
        speed: float,
        generator: torch.Generator,
        degrees: tuple[int, int] = (3, 8),
        depth: float = 1.0e4,
    ) -> Tensor:
        """Return random states in nonlinear balance: no divergence, and at first no change of it.

        Run some days they become turbulence of Rossby waves and vortices, with few waves of
        gravity: the start of a nature run.

        Args:
            members: How many states.
            speed: Root mean square of the wind [m s-1].
            generator: Source of the stream functions.
            degrees: The least and the largest degree of the stream functions.
            depth: The mean depth [m].

        Raises:
            ValueError: Where the degrees are not within the truncation.
        """
        low, high = degrees
        if not 1 <= low <= high <= self.config.truncation:
            raise ValueError(
                f"degrees: expected 1 <= low <= high <= {self.config.truncation}, got {degrees}"
            )
        n = self.config.truncation + 1
        white = torch.randn(
            members, n, n, 2, generator=generator, dtype=self.dtype, device=generator.device
        )
        degree = torch.arange(n)
        kept = ((degree >= low) & (degree <= high) & (degree >= degree[:, None])).to(white)
        kept = kept[..., None] * white.new_tensor([1.0, 1.0])
        kept[0, :, 1] = 0  # zonal waves are real
        vorticity = torch.view_as_complex(white * kept).to(self.device)
        wind = self.sphere.vector(vorticity, torch.zeros_like(vorticity))
        size = (sum(w.square() for w in wind) / self._cos**2).mean(-1) @ self.sphere.weights
        vorticity = vorticity * (speed / self.config.radius / size.sqrt()[:, None, None])
        return self._to_state(self._balance(vorticity, depth))

    def with_balanced_depth(self, wind: Tensor, *, depth: float) -> Tensor:
        """Return the state of a wind without divergence, with the depth in nonlinear balance.

        Args:
            wind: Eastward and northward wind [m s-1], with shape (*batch, 2, lat, lon).
            depth: The mean depth [m].
        """
        check_state(wind, (2, *self.sphere.shape))
        u, v = (wind.to(self.dtype) * self._cos).unbind(-3)
        return self._to_state(self._balance(self.sphere.curl(u, v) / self.config.radius, depth))

    def mass(self, x: Tensor) -> Tensor:
        """Return the mean depth [m] of states, with shape (*batch)."""
        return self._mean(x[..., 2, :, :])

    def energy(self, x: Tensor) -> Tensor:
        """Return the mean of `h |u|^2 / 2 + g h^2 / 2` [m3 s-2] of states, with shape (*batch)."""
        u, v, h = x.unbind(-3)
        return self._mean(h * (u**2 + v**2 + self.config.gravity * h) / 2)

    def potential_enstrophy(self, x: Tensor) -> Tensor:
        """Return the mean of `(z + f)^2 / 2 h` [m-1 s-2] of states, with shape (*batch)."""
        absolute = self.vorticity(x) + self.coriolis
        return self._mean(absolute**2 / (2 * x[..., 2, :, :]))

    def vorticity(self, x: Tensor) -> Tensor:
        """Return the relative vorticity [s-1] of states, with shape (*batch, lat, lon)."""
        return self.sphere.synthesise(self._to_spectrum(x)[..., 0, :, :])

    def divergence(self, x: Tensor) -> Tensor:
        """Return the divergence of the wind [s-1] of states, with shape (*batch, lat, lon)."""
        return self.sphere.synthesise(self._to_spectrum(x)[..., 1, :, :])

    def kinetic_energy_spectrum(self, x: Tensor) -> Tensor:
        """Return the mean of `|u|^2 / 2` [m2 s-2] by degree, with shape (*batch, truncation + 1).

        It sums to the mean over the sphere.
        """
        spectrum = self._to_spectrum(x)
        vorticity, divergence = (self.sphere.spectrum(c) for c in spectrum.unbind(-3)[:2])
        degree = self.sphere.degree_squared.clone()
        degree[0] = torch.inf  # a mean vorticity or divergence there is not
        return self.config.radius**2 * (vorticity + divergence) / (2 * degree)

    def _tendency(self, spectrum: Tensor) -> Tensor:
        """Return the rates of change of vorticity, divergence and g h, given their spectra."""
        vorticity, divergence, potential = spectrum.unbind(-3)
        radius = self.config.radius
        u, v = (radius * w for w in self.sphere.vector(vorticity, divergence))
        fields = self.sphere.synthesise(torch.stack([vorticity, potential], -3))
        absolute, depth = fields[..., 0, :, :] + self.coriolis, fields[..., 1, :, :]
        kinetic = self.sphere.analyse((u**2 + v**2) / (2 * self._cos**2))
        flux_u, flux_v = absolute * u, absolute * v
        return torch.stack(
            [
                -self.sphere.divergence(flux_u, flux_v) / radius,
                self.sphere.curl(flux_u, flux_v) / radius
                - self._laplacian / radius * (kinetic + potential),
                -self.sphere.divergence(depth * u, depth * v) / radius,
            ],
            -3,
        )

    def _balance(self, vorticity: Tensor, depth: float) -> Tensor:
        """Return the spectrum of a state whose divergence is zero and does not begin to change."""
        still = torch.zeros_like(vorticity)
        rate = self._tendency(torch.stack([vorticity, still, still], -3))[..., 1, :, :]
        potential = torch.zeros_like(rate)
        potential[..., 1:] = rate[..., 1:] * self.config.radius / self._laplacian[1:]
        potential[..., 0, 0] = self.config.gravity * depth
        return torch.stack([vorticity, still, potential], -3)

    def _to_spectrum(self, x: Tensor) -> Tensor:
        u, v, h = x.to(self.dtype).unbind(-3)
        u, v = u * self._cos, v * self._cos
        vorticity, divergence = self.sphere.curl(u, v), self.sphere.divergence(u, v)
        potential = self.sphere.analyse(self.config.gravity * h)
        return torch.stack(
            [vorticity / self.config.radius, divergence / self.config.radius, potential], -3
        )

    def _to_state(self, spectrum: Tensor) -> Tensor:
        vorticity, divergence, potential = spectrum.unbind(-3)
        u, v = (
            self.config.radius * w / self._cos for w in self.sphere.vector(vorticity, divergence)
        )
        return torch.stack([u, v, self.sphere.synthesise(potential) / self.config.gravity], -3)

    def _sine_to_axis(self) -> Tensor:
        """Return the sine of the latitude about the axis of rotation, with shape (lat, lon)."""
        sine, cosine = self.lat_rad.sin()[:, None], self._cos
        tilt = self.config.tilt
        return sine * math.cos(tilt) - self.lon_rad.cos() * cosine * math.sin(tilt)

    def _mean(self, x: Tensor) -> Tensor:
        mean: Tensor = x.to(self.dtype).mean(-1) @ self.sphere.weights
        return mean
