import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from stormda.io import Quality, observation_table, wind_components

START = np.datetime64("2020-10-01", "s")
UNITS = {"wind_speed": "m s-1", "wind_from_direction": "degree"}


def reports(speeds, directions, **changes):
    n = len(speeds)
    columns = {
        "time": np.tile(START + np.arange(n), 2),
        "lat": np.full(2 * n, 50.0),
        "lon": np.zeros(2 * n),
        "value": np.concatenate([speeds, directions]),
        "variable": np.repeat(["wind_speed", "wind_from_direction"], n),
        "units": UNITS,
    }
    return observation_table(**(columns | changes))


@pytest.mark.parametrize(
    ("direction", "u", "v"),
    [(0.0, 0, -10), (90.0, -10, 0), (180.0, 0, 10), (270.0, 10, 0), (360.0, 0, -10)],
)
def test_the_wind_blows_from_its_direction(direction, u, v):
    wind = wind_components(reports([10.0], [direction]))
    assert_array_equal(wind.variable, ["eastward_wind", "northward_wind"])
    assert_allclose(wind.value, [u, v], atol=1e-14)
    assert wind.units == {"eastward_wind": "m s-1", "northward_wind": "m s-1"}


@given(st.lists(st.tuples(st.floats(0, 80), st.floats(0, 359.9)), min_size=1, max_size=9))
def test_speed_and_direction_come_back(pairs):
    speeds, directions = (np.array(column) for column in zip(*pairs, strict=True))
    wind = wind_components(reports(speeds, directions))
    u, v = (wind.value[wind.variable == f"{way}_wind"] for way in ("eastward", "northward"))
    assert_allclose(np.hypot(u, v), speeds, atol=1e-12)
    turned = np.deg2rad(directions)
    assert_allclose(u * np.cos(turned) - v * np.sin(turned), 0, atol=1e-12)
    assert wind.n_in == 2 * len(pairs)


def test_the_error_is_that_of_many_draws():
    rng = np.random.default_rng(0)
    s, d = 10 + rng.normal(0, 0.5, 100_000), np.deg2rad(30 + rng.normal(0, 3, 100_000))
    wind = wind_components(reports([10.0], [30.0], error=[0.5, 3.0]))
    drawn = [(-s * np.sin(d)).std(), (-s * np.cos(d)).std()]
    assert_allclose(wind.error, drawn, rtol=1e-2)  # 100,000 draws, and the map is not linear


def test_an_error_that_is_not_known_stays_so():
    assert np.isnan(wind_components(reports([10.0], [30.0], error=[0.5, np.nan])).error).all()


def test_quality_is_the_worse_one():
    good = wind_components(reports([10.0], [30.0], quality=[Quality.GOOD, Quality.SUSPECT]))
    assert_array_equal(good.quality, [Quality.SUSPECT] * 2)


@pytest.mark.parametrize(
    ("speeds", "directions", "rejected"),
    [
        ([5.0, -1.0], [10.0, 10.0], {"negative wind speed": 2}),
        ([5.0, 1.0], [10.0, 999.0], {"wind direction out of range": 2}),
        ([5.0, 1.0], [10.0, np.nan], {"missing value": 1, "wind not paired": 1}),
        ([5.0, 0.0], [10.0, np.nan], {"missing value": 1, "wind not paired": 1}),
    ],
)
def test_what_is_no_wind_is_counted(speeds, directions, rejected):
    wind = wind_components(reports(speeds, directions))
    assert (len(wind), wind.n_in, wind.rejected) == (2, 4, rejected)


def test_two_speeds_of_one_report_are_not_guessed():
    columns = {"time": START, "lat": [50.0] * 4, "lon": [0.0] * 4, "value": [5.0, 6.0, 9.0, 1.0]}
    names = ["wind_speed", "wind_speed", "wind_from_direction", "air_temperature"]
    wind = wind_components(observation_table(**columns, variable=names, units=UNITS))
    assert wind.variable.tolist() == ["air_temperature"]
    assert wind.rejected == {"wind not paired": 3}


def test_there_must_be_a_wind():
    table = observation_table(time=START, lat=[0.0], lon=[0.0], value=[1.0], variable="t")
    message = "wind: expected a variable among ['t'], got 'wind_speed'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        wind_components(table)
