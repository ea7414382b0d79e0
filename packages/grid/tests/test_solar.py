"""The sun stands where the almanac says."""

import numpy as np
import pytest

from stormda.grid import cos_solar_zenith
from stormda.grid.solar import sun


@pytest.mark.parametrize(
    ("time", "declination"),
    [
        ("2020-03-20T03:50", 0.0),  # equinoxes and solstices of 2020 and 2021 (USNO)
        ("2020-06-20T21:44", 23.4366),
        ("2020-09-22T13:31", 0.0),
        ("2021-12-21T15:59", -23.4366),
    ],
)
def test_seasons_begin_when_they_do(time, declination):
    lat, _ = sun(np.datetime64(time))
    np.testing.assert_allclose(lat, declination, atol=0.01)


@pytest.mark.parametrize(
    ("day", "minutes"),
    [
        ("2020-02-11", -14.2),  # the extremes and zeros of the equation of time
        ("2020-04-15", 0.0),
        ("2020-05-14", 3.7),
        ("2020-07-26", -6.5),
        ("2020-11-03", 16.4),
    ],
)
def test_the_equation_of_time(day, minutes):
    """At 12 UTC the sun is over the meridian that lies as far west of Greenwich as it is slow."""
    _, lon = sun(np.datetime64(day + "T12:00"))
    np.testing.assert_allclose(-lon * 4, minutes, atol=0.25)  # given for the day, to 0.1 minute


def test_the_zenith_angle_is_the_angle_to_the_sun():
    times = np.datetime64("1990-01-01T00") + np.arange(0, 24 * 365, 1001).astype("timedelta64[h]")
    lat, lon = np.meshgrid(np.linspace(-90, 90, 13), np.linspace(-180, 170, 11), indexing="ij")
    cosine = cos_solar_zenith(times, lat, lon)
    assert cosine.shape == (len(times), 13, 11)
    assert np.abs(cosine).max() <= 1 + 1e-12
    for time, values in zip(times, cosine, strict=True):
        overhead = cos_solar_zenith(time, *sun(time))
        np.testing.assert_allclose(overhead, 1, rtol=1e-12)
        np.testing.assert_allclose(values[0], values[0, 0], atol=1e-12)  # the pole is one point
        antipode = cos_solar_zenith(time, -lat, lon + 180)
        np.testing.assert_allclose(antipode, -values, atol=1e-12)


def test_half_of_the_earth_is_lit():
    lat, lon = np.degrees(np.arcsin(np.linspace(-0.9995, 0.9995, 1000))), np.arange(0.5, 360)
    lit = cos_solar_zenith(np.datetime64("2021-07-01T06"), lat[:, None], lon) > 0
    np.testing.assert_allclose(lit.mean(), 0.5, atol=1e-3)
