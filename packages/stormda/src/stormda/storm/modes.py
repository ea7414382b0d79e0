"""The Gaussian that a denoiser starts from: empirical modes, and what an analysis knows of each.

Let the leading EOFs u_i of the fields have variances c_i. An analysis that knows as much as if it
had observed every mode with an error variance r leaves of them

    P_i = c_i r / (c_i + r),         correlation with the truth  rho_i = c_i / (c_i + r):

large structures are known well, small ones not at all, and there an analysis is just some weather.
A history with such errors is made by resampling: each mode keeps its share rho_i of the truth and
gets fresh noise for the rest, so that it looks like weather at every scale. Given it, the present
departs from its best forecast with the variance

    l_i = q_i + c_i (1 - rho_i^2),        E[d | d + sigma n] = l_i / (l_i + sigma^2) (d_i + ...),

with q_i the variance of the increments. A network that adds to this, in place of the one variance
of Karras et al. (2022), need not learn covariances from few frames, only what they do not tell.
What is beside the modes counts as one more mode, the same in every direction.

Source: Lorenz (1956), Empirical orthogonal functions and statistical weather prediction; the
analysis error of a scalar, Kalman (1960); preconditioning after Karras et al. (2022), eq. 7,
https://arxiv.org/abs/2206.00364, with a covariance for the variance.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor, nn

from stormda.storm.window import frames_of

HALVINGS = 60
"""Halvings of the interval in which the noise of a level is sought: to rounding in float32."""


SMALLEST = 1e-6
"""No variance is less, in units of the normalised increment."""


@dataclass(frozen=True, eq=False)
class Directions(ABC):
    """Orthogonal directions in which fields vary, in units of the normalised increment.

    Args:
        climate: Variance c of the fields along each direction, (directions,).
        own: Variance q of the increments, likewise.
        scale: Size of an increment in standard deviations, (variables, 1, 1).
    """

    climate: Tensor
    own: Tensor
    scale: Tensor

    def to(self, device: torch.device | str) -> Self:
        """Return the directions on another device."""
        held = {field.name: getattr(self, field.name) for field in fields(self)}
        return replace(self, **{k: x.to(device) for k, x in held.items() if torch.is_tensor(x)})

    @property
    @abstractmethod
    def share(self) -> Tensor:
        """Return how much of a variance along each direction is each variable's, per cell.

        The mean over the cells of a variable that exist, (directions, variables).
        """

    @property
    @abstractmethod
    def exists(self) -> Tensor:
        """Return where the fields exist at all, bool (variables, rows, cols)."""

    @abstractmethod
    def weigh(self, x: Tensor, weights: Tensor) -> Tensor:
        """Multiply a field by a weight along each direction.

        Args:
            x: Fields, (batch, variables, rows, cols).
            weights: (batch, directions).
        """

    @abstractmethod
    def pointwise(self, variance: Tensor) -> Tensor:
        """Return the variance of fields at every point, (batch, channels, rows, cols).

        Args:
            variance: Along each direction, (batch, frames, directions).
        """

    def correlation(self, noise: Tensor) -> Tensor:
        """Return rho_i of analyses that observed with error variances r, (batch, directions)."""
        return self.climate / (self.climate + noise[:, None])

    def level(self, noise: Tensor) -> Tensor:
        """Return the error of analyses that observed with error variances r.

        Args:
            noise: r, (batch,).

        Returns:
            Error in standard deviations of each variable, (batch, variables).
        """
        left = noise[:, None] * self.correlation(noise)
        return (left @ self.share).sqrt() * self.scale.flatten()

    def noise(self, level: Tensor) -> Tensor:
        """Return the r that leaves errors of a mean square level, the inverse of `level`.

        Args:
            level: Errors in standard deviations, (batch, variables).

        Returns:
            r, (batch,); 0 where the level is.
        """
        wanted = (level / self.scale.flatten()).square().mean(1)
        share = self.share.mean(1)
        low = torch.full_like(wanted, -30.0)
        high = torch.full_like(wanted, 30.0)
        for _ in range(HALVINGS):
            middle = (low + high) / 2
            r = middle.exp()
            small = (r[:, None] * self.correlation(r)) @ share < wanted
            low, high = torch.where(small, middle, low), torch.where(small, high, middle)
        return torch.where(wanted > 0, ((low + high) / 2).exp(), 0.0)


@dataclass(frozen=True, eq=False)
class Modes(Directions):
    """Empirical modes and their variances; the last direction is any one beside the modes.

    Args:
        basis: Orthonormal fields, (modes, variables, rows, cols).
    """

    basis: Tensor

    @property
    def share(self) -> Tensor:
        """Return how much of a variance along each mode is each variable's, per cell."""
        cells = self.exists.flatten(1).sum(1).clamp_min(1)
        along = self.basis.square().flatten(2).sum(2)
        return torch.cat([along, cells[None] - along.sum(0, keepdim=True)]) / cells

    @property
    def exists(self) -> Tensor:
        """Return where the fields exist at all, bool (variables, rows, cols)."""
        return self.basis.square().sum(0) > 0

    def weigh(self, x: Tensor, weights: Tensor) -> Tensor:
        """Multiply each mode of a field by a weight, (batch, modes + 1)."""
        basis = self.basis.flatten(1)
        flat, beside = x.flatten(1), weights[:, -1:]
        weighed = beside * flat + ((weights[:, :-1] - beside) * (flat @ basis.mT)) @ basis
        return weighed.reshape(x.shape)

    def pointwise(self, variance: Tensor) -> Tensor:
        """Return the variance of fields at every point, (batch, channels, rows, cols)."""
        along, beside = variance[..., :-1], variance[..., -1:]
        local = (along - beside) @ self.basis.square().flatten(1) + beside
        return local.reshape(len(variance), -1, *self.basis.shape[2:])


def fit_modes(z: Tensor, increments: Tensor, scale: Tensor, count: int) -> Modes:
    """Find the leading modes of fields, and what increments vary along them.

    Args:
        z: Normalised fields, (samples, variables, rows, cols); zero where there are none.
        increments: Normalised increments, (times, variables, rows, cols).
        scale: Size of an increment in standard deviations, (variables, 1, 1).
        count: How many modes.

    Raises:
        ValueError: Where there are not more samples, and cells with fields, than modes.

    Examples:
        >>> g = torch.Generator().manual_seed(1)
        >>> z = torch.randn(50, 1, 4, 4, generator=g)
        >>> modes = fit_modes(z, 0.1 * z, torch.ones(1, 1, 1), count=3)
        >>> modes.basis.shape, bool((modes.climate > modes.own).all())
        (torch.Size([3, 1, 4, 4]), True)
    """
    x = (z / scale).flatten(1).double()
    cells = int((x != 0).any(0).sum())
    if not 0 < count < min(len(z), cells):
        raise ValueError(
            f"modes: expected fewer than the {len(z)} samples and the {cells} cells, got {count}"
        )
    values, vectors = torch.linalg.eigh(x @ x.mT)
    leading = vectors[:, -count:].flip(1) / values[-count:].flip(0).clamp_min(1e-300).sqrt()
    basis = leading.mT @ x
    return Modes(
        basis=basis.reshape(count, *z.shape[1:]).float(),
        climate=_variances(x, basis),
        own=_variances(increments.flatten(1).double(), basis),
        scale=scale,
    )


def _variances(x: Tensor, basis: Tensor) -> Tensor:
    """Return the mean square along each row of a basis and along a direction beside it."""
    along = (x @ basis.mT).square().mean(0)
    size = (basis.square().sum(0) > 0).sum()
    beside = (x.square().sum(1).mean() - along.sum()) / (size - len(basis)).clamp_min(1)
    return torch.cat([along, beside[None]]).clamp_min(SMALLEST).float()


def resampled(history: Tensor, modes: Directions, noise: Tensor, fresh: Tensor) -> Tensor:
    """Return what analyses that observed with error variances r may have taken a history for.

    Args:
        history: Normalised frames z, (batch, time, variables, rows, cols).
        modes: Of the fields.
        noise: r, (batch,).
        fresh: Unit normal, like `history`.

    Returns:
        Normalised frames; the history itself where r = 0.
    """
    rho = modes.correlation(noise)
    spread = (modes.climate * (1 - rho.square())).sqrt()
    frames = [
        modes.scale * (modes.weigh(z / modes.scale, rho) + modes.weigh(n * modes.exists, spread))
        for z, n in zip(history.unbind(1), fresh.unbind(1), strict=True)
    ]
    return torch.stack(frames, 1)


class LearnedCovariance(nn.Module, ABC):
    """The covariance of departures along directions, with variances that can be fitted.

    Args:
        count: How many directions.
        unit: Shape of the scale of an increment, (variables, 1, ...).
    """

    climate: Tensor
    own: Tensor
    unit: Tensor

    def __init__(self, count: int, unit: tuple[int, ...]) -> None:
        super().__init__()
        self.register_buffer("climate", torch.ones(count))
        self.register_buffer("own", torch.ones(count))
        self.register_buffer("unit", torch.ones(unit))
        self.log_climate = nn.Parameter(torch.zeros(count))
        """What is learned beside the start, as a logarithm: of the history's errors."""
        self.log_own = nn.Parameter(torch.zeros(count))
        """The same of the increments."""

    @property
    @abstractmethod
    def directions(self) -> Directions:
        """Return what it started from."""

    def set(self, directions: Directions) -> None:
        """Start from some directions."""
        for field in fields(directions):
            value = getattr(directions, field.name)
            if torch.is_tensor(value):
                name = "unit" if field.name == "scale" else field.name
                getattr(self, name).copy_(value)

    def known(self, level: Tensor) -> Tensor:
        """Return rho_i for errors of a history in standard deviations, (batch, variables)."""
        directions = self.directions
        return directions.correlation(directions.noise(level))

    def unknown(self, rho: Tensor) -> Tensor:
        """Return what a history leaves unknown of every direction, (batch, directions)."""
        return self.climate * (1 - rho.square())

    def along(self, spectrum: Tensor) -> Tensor:
        """Return the variance along every direction, (batch, directions).

        Args:
            spectrum: Mean squares of waves, (batch, variables, shells).

        Raises:
            TypeError: The directions are no waves.
        """
        raise TypeError(f"spectrum: expected plane waves, got {type(self).__name__}")

    def variance(self, unknown: Tensor, frames: int = 1) -> Tensor:
        """Return l_i of every direction, (batch, frames, directions).

        Only the first increment of a window has to mend the past; the others vary as they do.

        Args:
            unknown: What is unknown of the past, (batch, directions).
            frames: Of a window.
        """
        own = self.own * self.log_own.exp()
        return _window(own + unknown * self.log_climate.exp(), own, frames)

    def increments(self, unknown: Tensor, frames: int = 1) -> Tensor:
        """Return the variance of the increments themselves, from which l_i starts, likewise."""
        return _window(self.own + unknown, self.own, frames)

    def reversion(self, z: Tensor, rho: Tensor) -> Tensor:
        """Return the increment that takes a frame to its share of the truth in every direction.

        Args:
            z: The newest frame, normalised, (batch, variables, rows, cols).
            rho: From `known`.
        """
        return self.directions.weigh(z / self.unit, rho - 1)

    def size(self, variance: Tensor) -> Tensor:
        """Return the typical size of a departure at a point, (batch,)."""
        return (variance @ self.directions.share.mean(1)).mean(1).sqrt()

    def pointwise(self, variance: Tensor) -> Tensor:
        """Return the variance of a departure at every point, (batch, channels, rows, cols)."""
        return self.directions.pointwise(variance)

    def denoise(self, d: Tensor, sigma: Tensor, variance: Tensor) -> Tensor:
        """Return C (C + sigma^2)^-1 d.

        Args:
            d: Noisy departures, (batch, channels, rows, cols).
            sigma: Noise levels, (batch,).
            variance: From `variance`.
        """
        return self.weigh(d, variance / (variance + sigma[:, None, None].square()))

    def weigh(self, x: Tensor, weights: Tensor) -> Tensor:
        """Multiply every frame by a weight along each direction.

        Args:
            x: Fields, (batch, channels, rows, cols).
            weights: (batch, frames, directions).
        """
        frames = frames_of(x, len(self.unit)).flatten(0, 1)
        return self.directions.weigh(frames, weights.flatten(0, 1)).reshape(x.shape)


def _window(first: Tensor, later: Tensor, frames: int) -> Tensor:
    """Return variances (batch, frames, directions) of a first frame and of those after it."""
    return torch.stack([first] + [later.expand_as(first)] * (frames - 1), 1)


class ModeCovariance(LearnedCovariance):
    """The covariance of departures along empirical modes and beside them.

    Args:
        count: How many modes.
        shape: (variables, rows, cols), or (variables, cells) where the grid is a list.

    Examples:
        >>> covariance = ModeCovariance(2, (1, 4, 4))
        >>> basis, one = torch.eye(2, 16).reshape(2, 1, 4, 4), torch.ones(3)
        >>> covariance.set(Modes(one, one, torch.ones(1, 1, 1), basis))
        >>> exact = covariance.unknown(covariance.known(torch.zeros(1, 1)))
        >>> variance = covariance.variance(exact)
        >>> d = torch.ones(1, 1, 4, 4)
        >>> bool((covariance.denoise(d, torch.ones(1), variance) == 0.5).all())
        True
        >>> covariance.variance(exact, frames=4).shape
        torch.Size([1, 4, 3])
    """

    basis: Tensor

    def __init__(self, count: int, shape: tuple[int, ...]) -> None:
        super().__init__(count + 1, (shape[0], *[1] * (len(shape) - 1)))
        self.register_buffer("basis", torch.zeros(count, *shape))

    @property
    def directions(self) -> Modes:
        """Return what it started from."""
        return Modes(self.climate, self.own, self.unit, self.basis)
