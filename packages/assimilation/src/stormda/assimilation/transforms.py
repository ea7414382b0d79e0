"""Variables that are bounded or skewed, made fit for Gaussian methods, and back.

A transform `z = f(x)` takes precipitation, humidity or a concentration to a number without bounds
and with a milder law. Filters and priors work on `z`; operators see `x = f^-1(z)`, so that an
observation keeps its own units and law. Densities change by the Jacobian,

    log p_x(x) = log p_z(f(x)) + log |df / dx|,

and an error of observation that is Gaussian in `x` has about the standard deviation
`std |df / dx|` in `z`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


class Transform(Protocol):
    """An increasing function of each number by itself."""

    def __call__(self, x: Tensor, /) -> Tensor:
        """Return `z = f(x)`."""

    def inverse(self, z: Tensor, /) -> Tensor:
        """Return `x` of `z = f(x)`."""

    def log_slope(self, x: Tensor, /) -> Tensor:
        """Return `log |df / dx|` of each number."""


@dataclass(frozen=True, kw_only=True)
class log_transform:
    """`z = log(1 + x / scale)`, for what is never below zero.

    Examples:
        >>> rain = log_transform(scale=0.1)
        >>> rain(torch.tensor([0.0, 0.9])), rain.inverse(rain(torch.tensor([0.9])))
        (tensor([0.0000, 2.3026]), tensor([0.9000]))
    """

    scale: float = 1.0
    """Where the curve bends from linear to logarithmic, in the units of `x`."""

    def __post_init__(self) -> None:
        if not self.scale > 0:
            raise ValueError(f"scale: expected a positive number, got {self.scale}")

    def __call__(self, x: Tensor) -> Tensor:
        """Return `z`."""
        return torch.log1p(x / self.scale)

    def inverse(self, z: Tensor) -> Tensor:
        """Return `x`, never below zero."""
        return self.scale * torch.expm1(z).clamp(min=0)

    def log_slope(self, x: Tensor) -> Tensor:
        """Return `log |dz / dx|`."""
        return -torch.log(x + self.scale)


@dataclass(frozen=True, kw_only=True)
class logit_transform:
    """`z = log((x - low) / (high - x))`, for what lies between two bounds.

    Examples:
        >>> cover = logit_transform(low=0.0, high=1.0)
        >>> cover(torch.tensor([0.5])), cover.inverse(torch.tensor([100.0, -100.0]))
        (tensor([0.]), tensor([1., 0.]))
    """

    low: float = 0.0
    """The lower bound."""

    high: float = 1.0
    """The upper bound."""

    margin: float = 1e-6
    """Values nearer to a bound than this share of the range are moved there."""

    def __post_init__(self) -> None:
        if not self.low < self.high:
            raise ValueError(f"low: expected less than high={self.high}, got {self.low}")

    def _share(self, x: Tensor) -> Tensor:
        share = (x - self.low) / (self.high - self.low)
        return share.clamp(self.margin, 1 - self.margin)

    def __call__(self, x: Tensor) -> Tensor:
        """Return `z`."""
        return torch.logit(self._share(x))

    def inverse(self, z: Tensor) -> Tensor:
        """Return `x`, between the bounds."""
        return self.low + (self.high - self.low) * torch.sigmoid(z)

    def log_slope(self, x: Tensor) -> Tensor:
        """Return `log |dz / dx|`."""
        share = self._share(x)
        width = torch.as_tensor(self.high - self.low).to(x)
        return -(share.log() + torch.log1p(-share) + width.log())


@dataclass(frozen=True, eq=False)
class anamorphosis:
    """A curve through quantiles that makes samples standard normal.

    Between the quantiles it is straight, beyond the outermost ones it goes on at their slope.

    Source: Bertino, Evensen and Wackernagel (2003), Int. Stat. Rev. 71; Amezcua and van Leeuwen
    (2014), Tellus A 66.

    Examples:
        >>> g = torch.Generator().manual_seed(0)
        >>> skewed = torch.randn(20_000, generator=g).exp()
        >>> curve = fit_anamorphosis(skewed)
        >>> z = curve(skewed)
        >>> round(z.mean().abs().item(), 1), round(z.std().item(), 1)
        (0.0, 1.0)
    """

    x: Tensor
    """The quantiles of the samples, rising, with shape `(k,)`."""

    z: Tensor
    """The standard normal numbers of the same probabilities, rising, with shape `(k,)`."""

    def __post_init__(self) -> None:
        for name in ("x", "z"):
            knots = getattr(self, name)
            if knots.ndim != 1 or len(knots) < 2 or not (knots.diff() > 0).all():
                raise ValueError(f"{name}: expected at least 2 rising numbers, got {knots}")

    def __call__(self, x: Tensor) -> Tensor:
        """Return `z`."""
        return _through(self.x.to(x), self.z.to(x), x)

    def inverse(self, z: Tensor) -> Tensor:
        """Return `x`."""
        return _through(self.z.to(z), self.x.to(z), z)

    def log_slope(self, x: Tensor) -> Tensor:
        """Return `log |dz / dx|`."""
        slopes = self.z.diff() / self.x.diff()
        return slopes.to(x).log()[_piece(self.x.to(x), x)]


def fit_anamorphosis(samples: Tensor, *, quantiles: int = 100) -> anamorphosis:
    """Fit the curve to samples of any shape; quantiles that coincide are taken once.

    Args:
        samples: The samples, finite.
        quantiles: How many knots.

    Examples:
        >>> rain = torch.linspace(0.0, 3.0, 1001).exp()
        >>> normal = fit_anamorphosis(rain)(rain)
        >>> bool(normal.mean().abs() < 0.01), round(float(normal.std()), 1)
        (True, 1.0)
    """
    # the knots leave half a class at each end, as the plotting position of Hazen does
    p = (torch.arange(quantiles, dtype=torch.float64) + 0.5) / quantiles
    x = torch.quantile(samples.flatten().double(), p)
    kept = torch.cat([torch.ones(1, dtype=torch.bool), x.diff() > 0])
    return anamorphosis(x[kept], torch.special.ndtri(p[kept]))


def physical(transform: Transform) -> Callable[[Tensor], Tensor]:
    """Return the inverse as an operator, for `transform=` of `assimilate` and for `compose`.

    Examples:
        >>> physical(log_transform())(torch.zeros(1, 2))
        tensor([[0., 0.]])
    """
    return transform.inverse


def log_density(log_prob: Callable[[Tensor], Tensor], transform: Transform, x: Tensor) -> Tensor:
    """Return the log-density of `x`, given the law of `z`, with the Jacobian.

    Args:
        log_prob: The log-density of each number `z`, keeping its shape.
        transform: The transform.
        x: Values, of any shape.

    Examples:
        >>> normal = lambda z: -z**2 / 2 - 0.9189385
        >>> log_density(normal, log_transform(), torch.tensor([0.0]))
        tensor([-0.9189])
    """
    return log_prob(transform(x)) + transform.log_slope(x)


def _piece(knots: Tensor, x: Tensor) -> Tensor:
    return (torch.searchsorted(knots, x.contiguous()) - 1).clamp(0, len(knots) - 2)


def _through(knots: Tensor, values: Tensor, x: Tensor) -> Tensor:
    i = _piece(knots, x)
    share = (x - knots[i]) / (knots[i + 1] - knots[i])
    result: Tensor = values[i] + share * (values[i + 1] - values[i])
    return result
