"""Where the sun stands: the cosine of its zenith angle, a forcing that is known everywhere.

    cos z = sin(lat) sin(dec) + cos(lat) cos(dec) cos(hour angle)

with the sun's place from the low-precision formula of the almanac, good to 0.01 degrees from 1950
to 2050.

Source: The Astronomical Almanac (2010), page C5; Michalsky (1988), Solar Energy 40, 227.
"""

import numpy as np
from numpy.typing import ArrayLike

from stormda.grid.axis import Floats

EPOCH = np.datetime64("2000-01-01T12:00:00", "s")
"""The epoch J2000 that days are counted from."""


def sun(times: ArrayLike) -> tuple[Floats, Floats]:
    """Return where on the Earth the sun stands in the zenith.

    Args:
        times: Times in UTC (...), datetime64.

    Returns:
        Its latitude (the declination) [degrees_north] and its longitude [degrees_east] (...).

    Examples:
        >>> lat, lon = sun(np.datetime64("2020-06-20T21:44"))
        >>> round(float(lat), 2)
        23.44
    """
    seconds = (np.asarray(times).astype("datetime64[s]") - EPOCH).astype(np.float64)
    days = seconds / 86_400
    mean = 280.460 + 0.9856474 * days
    anomaly = np.radians(357.528 + 0.9856003 * days)
    ecliptic = np.radians(mean + 1.915 * np.sin(anomaly) + 0.020 * np.sin(2 * anomaly))
    tilt = np.radians(23.439 - 4e-7 * days)
    declination = np.arcsin(np.sin(tilt) * np.sin(ecliptic))
    ascension = np.arctan2(np.cos(tilt) * np.sin(ecliptic), np.cos(ecliptic))
    sidereal = 280.46062 + 360.98564737 * days  # of Greenwich
    lon = np.mod(np.degrees(ascension) - sidereal + 180, 360) - 180
    return np.degrees(declination), np.asarray(lon)


def cos_solar_zenith(times: ArrayLike, lat: ArrayLike, lon: ArrayLike) -> Floats:
    """Return the cosine of the sun's zenith angle: 1 overhead, negative at night.

    Args:
        times: Times in UTC (...), datetime64.
        lat: Latitudes [degrees_north], of any shape.
        lon: Longitudes [degrees_east], broadcast against `lat`.

    Returns:
        Cosines (*times.shape, *lat.shape).

    Examples:
        >>> noon = np.datetime64("2020-03-20T12:07")
        >>> cos_solar_zenith(noon, [0.0, 60.0], 0.0).round(2)
        array([1. , 0.5])
    """
    north, east = np.broadcast_arrays(np.asarray(lat, np.float64), np.asarray(lon, np.float64))
    sun_lat, sun_lon = (c.reshape(np.shape(times) + (1,) * north.ndim) for c in sun(times))
    phi, dec = np.radians(north), np.radians(sun_lat)
    hour = np.radians(east - sun_lon)
    return np.asarray(np.sin(phi) * np.sin(dec) + np.cos(phi) * np.cos(dec) * np.cos(hour))
