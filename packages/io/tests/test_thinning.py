import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from stormda.grid import LatLonGrid
from stormda.io import Quality, observation_table, resolve_repeats, super_observations, thin

START = np.datetime64("2017-10-27", "s")
GRID = LatLonGrid(np.arange(45.0, 56.0), np.arange(-5.0, 6.0))


def track(n, seed=0):
    rng = np.random.default_rng(seed)
    return observation_table(
        time=START + rng.integers(0, 7200, n),
        lat=rng.uniform(44, 57, n),
        lon=rng.uniform(-6, 7, n),
        value=rng.normal(size=n),
        error=rng.uniform(0.1, 1.0, n),
        variable=rng.choice(["swh", "wind"], n),
        quality=rng.choice([Quality.GOOD, Quality.SUSPECT], n),
    )


def boxes(table):
    """The slow obvious twin: the box of each row, one at a time."""
    return [
        (v, int(t) // 3600, round(float(lat)), round(float(lon)))
        for v, t, lat, lon in zip(
            table.variable.tolist(), table.time.astype(int), table.lat, table.lon, strict=True
        )
    ]


@given(st.integers(1, 60), st.integers(0, 9))
def test_one_of_each_box_is_kept_and_all_are_counted(n, seed):
    table = track(n, seed)
    thinned = thin(table, GRID, seconds=3600)
    inside = table.within(GRID)
    assert sorted(boxes(thinned)) == sorted(set(boxes(inside)))
    assert thinned.n_in == n
    assert thinned.rejected["thinned"] == len(inside) - len(thinned)
    for box, time in zip(boxes(thinned), thinned.time, strict=True):
        mine = [b == box for b in boxes(inside)]
        off = np.abs(inside.time[mine].astype(int) % 3600 - 1800)
        assert abs(int(time.astype(int)) % 3600 - 1800) == off.min()


@given(st.integers(1, 60), st.floats(0, 1))
def test_super_observations_are_the_means_of_their_boxes(n, correlation):
    table = track(n)
    merged = super_observations(table, GRID, seconds=3600, correlation=correlation)
    inside = table.within(GRID)
    assert merged.n_in == n
    assert merged.rejected["merged"] == len(inside) - len(merged)
    rows = boxes(inside)
    expected = {}
    for box in set(rows):
        mine = np.array([row == box for row in rows])
        error = inside.error[mine]
        covariance = np.where(np.eye(len(error)), 1, correlation) * np.outer(error, error)
        expected[box] = (
            inside.value[mine].mean(),
            np.sqrt(covariance.mean()),
            inside.quality[mine].max(),
        )
    got = sorted(zip(merged.value, merged.error, merged.quality, strict=True))
    assert_allclose(got, sorted(expected.values()), atol=1e-12)


def test_layers_stay_apart():
    table = observation_table(
        time=START,
        lat=[50.0] * 3,
        lon=[0.0] * 3,
        z=[100.0, 900.0, 1100.0],
        z_kind="height",
        value=[1.0, 2.0, 3.0],
    )
    assert len(thin(table, GRID, seconds=3600)) == 1
    assert_array_equal(thin(table, GRID, seconds=3600, levels=1000.0).value, [1.0, 3.0])


def test_the_mean_of_places_across_the_date_line():
    grid = LatLonGrid(np.arange(-1.0, 2.0), np.arange(0.0, 360.0))
    table = observation_table(time=START, lat=[0.0, 0.0], lon=[179.8, -179.9], value=[1.0, 3.0])
    merged = super_observations(table, grid, seconds=60)
    assert_allclose(merged.lon % 360, [179.95])


def test_an_error_that_is_not_known_stays_so():
    table = observation_table(
        time=START, lat=[0.0, 0.0], lon=[0.0, 0.1], value=[1.0, 3.0], error=[0.1, np.nan]
    )
    merged = super_observations(table, LatLonGrid([-1.0, 0.0, 1.0], [-1.0, 0.0, 1.0]), seconds=60)
    assert np.isnan(merged.error).all()


def test_none_inside():
    table = observation_table(time=START, lat=[0.0], lon=[0.0], value=[1.0])
    assert super_observations(table, GRID, seconds=60).rejected == {"outside domain": 1}
    assert thin(table, GRID, seconds=60).rejected == {"outside domain": 1}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seconds": 0.0}, "seconds: expected a positive number, got 0.0"),
        ({"levels": -1.0}, "levels: expected a positive number, got -1.0"),
        ({"correlation": 2.0}, "correlation: expected a number from 0 to 1, got 2.0"),
    ],
)
def test_nonsense_is_refused(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        super_observations(track(3), GRID, **({"seconds": 60.0} | changes))


class TestRepeats:
    def table(self):
        return observation_table(
            time=START,
            lat=[50.0] * 4,
            lon=[0.0] * 4,
            value=[1.0, 2.0, 6.0, 9.0],
            error=[0.5, np.nan, 0.2, 0.1],
            quality=[Quality.GOOD, Quality.GOOD, Quality.GOOD, Quality.SUSPECT],
            platform=["a", "a", "a", "a"],
            variable=["t", "t", "t", "p"],
        )

    @pytest.mark.parametrize(
        ("keep", "values", "count"),
        [("best", [9.0, 6.0], 2), ("mean", [9.0, 3.0], 2), ("none", [9.0], 3)],
    )
    def test_policies(self, keep, values, count):
        table = resolve_repeats(self.table(), keep)
        assert_array_equal(table.value, values)
        assert table.rejected == {"repeated": count}
        assert table.n_in == 4

    def test_a_mean_is_as_uncertain_as_its_worst(self):
        assert np.isnan(resolve_repeats(self.table(), "mean").error[1])

    @pytest.mark.parametrize(
        ("keep", "message"),
        [
            (
                "error",
                "table: expected one value of 't' for each platform, time and place, "
                "got 3 of 'a' at 2017-10-27T00:00:00",
            ),
            ("newest", "keep: expected best, mean, none or error, got 'newest'"),
        ],
    )
    def test_refusals(self, keep, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            resolve_repeats(self.table(), keep)
