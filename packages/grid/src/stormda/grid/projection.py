"""Map projections: from latitude and longitude to the plane of a regional model and back.

A grid that is regular on the map needs no search: points are projected and then found by
arithmetic. Anything with a `forward` and an `inverse` will do, such as a thin wrapper of pyproj.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike

from stormda.grid.axis import Floats
from stormda.grid.sphere import unit_vectors

EARTH_RADIUS = 6_371_229.0
"""The radius of a spherical Earth [m] (WMO, GRIB2 code table 3.2, entry 6)."""


class Projection(Protocol):
    """A map of the sphere: it has equality, a hash and two directions."""

    def forward(self, lat: ArrayLike, lon: ArrayLike) -> tuple[Floats, Floats]:
        """Return the two coordinates on the map of points on the sphere [degrees]."""

    def inverse(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return latitude and longitude [degrees] of points on the map."""


@dataclass(frozen=True, kw_only=True)
class RotatedPole:
    """Latitude and longitude about another pole; the map is measured in degrees.

    Source: CF Conventions 1.11, appendix F, rotated_latitude_longitude.

    Examples:
        >>> pole = RotatedPole(lat=39.25, lon=-162.0)
        >>> [c.round(6) for c in pole.inverse(0.0, 0.0)]
        [np.float64(50.75), np.float64(18.0)]
    """

    lat: float
    """The latitude of the map's North Pole [degrees_north]."""

    lon: float
    """The longitude of the map's North Pole [degrees_east]."""

    turn: float = 0.0
    """The longitude of the true North Pole on the map [degrees]."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not -90 <= self.lat <= 90:
            raise ValueError(f"lat: expected degrees in [-90, 90], got {self.lat}")

    def forward(self, lat: ArrayLike, lon: ArrayLike) -> tuple[Floats, Floats]:
        """Return the latitude and longitude on the map [degrees]."""
        at = np.asarray(lat, np.float64), np.asarray(lon, np.float64) - self.lon
        lat, lon = _about(*at, 90 - self.lat)
        return lat, np.mod(lon + self.turn, 360) - 180

    def inverse(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return the true latitude and longitude [degrees], the latter from -180 to 180."""
        at = np.asarray(first, np.float64), np.asarray(second, np.float64) + 180 - self.turn
        lat, lon = _about(*at, self.lat - 90)
        return lat, np.mod(lon + self.lon + 180, 360) - 180


def _about(lat: Floats, lon: Floats, angle: float) -> tuple[Floats, Floats]:
    """Turn points by `angle` [degrees] about the axis through 90 E on the equator."""
    x, y, z = np.moveaxis(unit_vectors(lat, lon), -1, 0)
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    x, z = c * x - s * z, s * x + c * z
    return np.degrees(np.arctan2(z, np.hypot(x, y))), np.degrees(np.arctan2(y, x))


@dataclass(frozen=True, kw_only=True)
class LambertConformal:
    """Lambert's conformal cone on a sphere; the map is measured in metres.

    Source: Snyder (1987), USGS Professional Paper 1395, eqs. 15-1 to 15-5.

    Examples:
        >>> cone = LambertConformal(parallels=(38.5, 38.5), lat=38.5, lon=-97.5)
        >>> y, x = cone.forward(40.0, -97.5)
        >>> round(float(y)), round(float(x))
        (166818, 0)
    """

    parallels: tuple[float, float]
    """The two standard parallels [degrees_north]; equal for a cone that touches."""

    lat: float
    """The latitude where y is `false_north` [degrees_north]."""

    lon: float
    """The central meridian [degrees_east]."""

    radius_m: float = EARTH_RADIUS
    """The radius of the sphere [m]."""

    false_north: float = 0.0
    """What is added to y [m]."""

    false_east: float = 0.0
    """What is added to x [m]."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        one, two = self.parallels
        if not (max(abs(one), abs(two)) < 90 and one + two):
            raise ValueError(
                f"parallels: expected two between the poles and not opposite, got {self.parallels}"
            )

    @property
    def _cone(self) -> tuple[float, float]:
        """Return n and F of Snyder's eqs. 15-2 and 15-3."""
        one, two = np.radians(self.parallels)
        ratio = _stretch(two) / _stretch(one)
        n = np.sin(one) if one == two else np.log(np.cos(one) / np.cos(two)) / np.log(ratio)
        return float(n), float(np.cos(one) * _stretch(one) ** n / n)

    def _distance(self, lat: Floats) -> Floats:
        n, f = self._cone
        return np.asarray(self.radius_m * f / _stretch(np.radians(lat)) ** n)

    def forward(self, lat: ArrayLike, lon: ArrayLike) -> tuple[Floats, Floats]:
        """Return y and x [m]."""
        n, _ = self._cone
        lat, lon = np.asarray(lat, np.float64), np.asarray(lon, np.float64)
        rho = self._distance(np.clip(lat, -89.999999, 89.999999))
        theta = np.radians(n * (np.mod(lon - self.lon + 180, 360) - 180))
        apex = self._distance(np.asarray(self.lat))
        return apex - rho * np.cos(theta) + self.false_north, rho * np.sin(theta) + self.false_east

    def inverse(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return latitude and longitude [degrees] of y `first` and x `second` [m]."""
        n, f = self._cone
        x = np.sign(n) * (np.asarray(second, np.float64) - self.false_east)
        down = self._distance(np.asarray(self.lat)) + self.false_north
        y = np.sign(n) * (down - np.asarray(first, np.float64))
        stretch = (self.radius_m * abs(f) / np.hypot(x, y)) ** (1 / n)
        lat = np.degrees(2 * np.arctan(stretch)) - 90
        lon = np.degrees(np.arctan2(x, y)) / n + self.lon
        return lat, np.mod(lon + 180, 360) - 180


def _stretch(lat_rad: Any) -> Any:  # noqa: ANN401
    return np.tan(np.pi / 4 + lat_rad / 2)


@dataclass(frozen=True, kw_only=True)
class PolarStereographic:
    """A pole and its surroundings on a sphere; the map is measured in metres.

    Source: Snyder (1987), USGS Professional Paper 1395, eqs. 21-5 to 21-11.

    Examples:
        >>> map = PolarStereographic(true_lat=60.0, lon=-105.0)
        >>> [c.round(6) + 0.0 for c in map.forward(90.0, 0.0)]
        [np.float64(0.0), np.float64(0.0)]
    """

    true_lat: float
    """The parallel without distortion [degrees_north]; its sign is that of the pole."""

    lon: float
    """The meridian that points down the map from a North Pole, up from a South Pole [degrees]."""

    radius_m: float = EARTH_RADIUS
    """The radius of the sphere [m]."""

    def __post_init__(self) -> None:
        """Refuse what cannot be."""
        if not 0 < abs(self.true_lat) <= 90:
            raise ValueError(f"true_lat: expected degrees of one hemisphere, got {self.true_lat}")

    @property
    def _pole(self) -> float:
        return float(np.sign(self.true_lat))

    @property
    def _scale(self) -> float:
        return float(self.radius_m * (1 + np.sin(np.radians(abs(self.true_lat)))))

    def forward(self, lat: ArrayLike, lon: ArrayLike) -> tuple[Floats, Floats]:
        """Return y and x [m]."""
        rho = self._scale / _stretch(np.radians(self._pole * np.asarray(lat, np.float64)))
        theta = np.radians(np.asarray(lon, np.float64) - self.lon)
        return -self._pole * rho * np.cos(theta), rho * np.sin(theta)

    def inverse(self, first: ArrayLike, second: ArrayLike) -> tuple[Floats, Floats]:
        """Return latitude and longitude [degrees] of y `first` and x `second` [m]."""
        y, x = -self._pole * np.asarray(first, np.float64), np.asarray(second, np.float64)
        lat = self._pole * (90 - 2 * np.degrees(np.arctan(np.hypot(x, y) / self._scale)))
        return lat, np.mod(np.degrees(np.arctan2(x, y)) + self.lon + 180, 360) - 180


KINDS: dict[str, Callable[..., Projection]] = {
    "rotated_pole": RotatedPole,
    "lambert_conformal": LambertConformal,
    "polar_stereographic": PolarStereographic,
}
"""The projections that can be stored, by name."""


def projection_to_dict(projection: Projection) -> dict[str, Any]:
    """Return what `projection_from_dict` rebuilds a projection from; it can be stored as JSON.

    Raises:
        ValueError: The projection is not one of this package.

    Examples:
        >>> projection_to_dict(RotatedPole(lat=40.0, lon=-170.0))
        {'kind': 'rotated_pole', 'lat': 40.0, 'lon': -170.0, 'turn': 0.0}
    """
    for kind, build in KINDS.items():
        if build is type(projection):
            return {"kind": kind} | vars(projection)
    raise ValueError(f"projection: expected one of {', '.join(KINDS)}, got {projection!r}")


def projection_from_dict(data: Mapping[str, Any]) -> Projection:
    """Rebuild a projection from `projection_to_dict`.

    Examples:
        >>> projection_from_dict({"kind": "rotated_pole", "lat": 40.0, "lon": -170.0})
        RotatedPole(lat=40.0, lon=-170.0, turn=0.0)
    """
    fields = {name: tuple(v) if isinstance(v, list) else v for name, v in data.items()}
    return KINDS[str(fields.pop("kind"))](**fields)
