"""Localisation: how far an observation is allowed to reach.

An ensemble of a few members sees correlations between distant points that are not there. Each
observation is therefore trusted less the further away it is, by a factor that falls smoothly from
1 to 0 over a radius.
"""

import torch
from torch import Tensor

EARTH_RADIUS = 6_371_008.8
"""The mean radius of the earth [m] (Moritz 2000, Geodetic reference system 1980)."""


def gaspari_cohn(distance: Tensor, radius: float) -> Tensor:
    """Return the factor of Gaspari and Cohn: 1 at distance 0, and 0 from `radius` on.

    It looks like a bell with standard deviation `radius * sqrt(0.3) / 2`. (Elsewhere `radius` may
    be the half-width `c = radius / 2` of the publication, or that standard deviation.)

    Source: Gaspari and Cohn (1999), Construction of correlation functions in two and three
    dimensions, Q. J. R. Meteorol. Soc. 125, eq. 4.10.

    Args:
        distance: Distances >= 0, with shape `(*shape)`.
        radius: Where the factor reaches zero, in the units of the distance.

    Raises:
        ValueError: If the radius is not positive.

    Examples:
        >>> gaspari_cohn(torch.tensor([0.0, 1.0, 2.0]), 2.0)
        tensor([1.0000, 0.2083, 0.0000])
    """
    if not radius > 0:
        raise ValueError(f"radius: expected a positive number, got {radius}")
    z = (distance * (2 / radius)).clamp(max=2)
    near = 1 + z**2 * (-5 / 3 + z * (5 / 8 + z * (1 / 2 - z / 4)))
    safe = z.clamp(min=1)
    far = 4 - 5 * z + z**2 * (5 / 3 + z * (5 / 8 + z * (-1 / 2 + z / 12))) - 2 / (3 * safe)
    return torch.where(z < 1, near, torch.where(z < 2, far, 0.0)).clamp(min=0)


def periodic_distance(points: Tensor, others: Tensor, periods: Tensor) -> Tensor:
    """Return the shortest distances on a periodic plane (or line, or box).

    Args:
        points: Coordinates, with shape `(n, k)`.
        others: Coordinates, with shape `(p, k)`.
        periods: The lengths of the domain, with shape `(k,)`; infinite where it does not wrap.

    Returns:
        The distances, in the units of the coordinates, with shape `(n, p)`.

    Examples:
        >>> periodic_distance(torch.tensor([[1.0]]), torch.tensor([[9.0]]), torch.tensor([10.0]))
        tensor([[2.]])
    """
    gap = (points[:, None] - others).abs()
    wrapped = gap % periods
    return torch.minimum(wrapped, periods - wrapped).square().sum(-1).sqrt()


def great_circle_distance(
    lat: Tensor, lon: Tensor, other_lat: Tensor, other_lon: Tensor
) -> Tensor:
    """Return the distances along the surface of the earth [m].

    Source: the haversine formula, Sinnott (1984), Sky and Telescope 68.

    Args:
        lat: Latitudes [degrees_north], with shape `(n,)`.
        lon: Longitudes [degrees_east], with shape `(n,)`.
        other_lat: Latitudes [degrees_north], with shape `(p,)`.
        other_lon: Longitudes [degrees_east], with shape `(p,)`.

    Returns:
        The distances, with shape `(n, p)`.

    Examples:
        A minute of latitude is a nautical mile:

        >>> zero = torch.zeros(1, dtype=torch.float64)
        >>> great_circle_distance(zero, zero, zero + 1 / 60, zero).round()
        tensor([[1853.]], dtype=torch.float64)
    """
    lat_rad, lon_rad = lat.deg2rad()[:, None], lon.deg2rad()[:, None]
    other_lat_rad, other_lon_rad = other_lat.deg2rad(), other_lon.deg2rad()
    north = ((other_lat_rad - lat_rad) / 2).sin().square()
    east = ((other_lon_rad - lon_rad) / 2).sin().square()
    haversine = north + lat_rad.cos() * other_lat_rad.cos() * east
    return 2 * EARTH_RADIUS * haversine.clamp(0, 1).sqrt().asin()
