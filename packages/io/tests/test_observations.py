import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from stormda.grid import LatLonGrid, PlaneGrid
from stormda.io import observation_table, passes

START = np.datetime64("2017-10-27", "s")


def track(n=6, **changes):
    arrays = {
        "time": START + np.arange(n),
        "lat": 50.0 + np.arange(n),
        "lon": np.zeros(n),
        "value": np.arange(n, dtype=float),
    }
    return observation_table(**(arrays | changes))


def test_rows_are_sorted_by_time_then_position():
    table = track(3, time=START + np.array([2, 1, 1]), lat=[50.0, 52.0, 51.0])
    assert_array_equal(table.value, [2.0, 1.0, 0.0])
    assert_array_equal(table.lat, [51.0, 52.0, 50.0])


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time": np.array(["2017-10-27", "NaT"], "datetime64[s]")}, "missing time"),
        ({"lat": [50.0, np.nan]}, "missing position"),
        ({"lat": [50.0, -90.1]}, "position out of range"),
        ({"lon": [0.0, -790.2]}, "position out of range"),
        ({"value": [1.0, np.nan]}, "missing value"),
        ({"value": [1.0, np.inf]}, "infinite value"),
        ({"error": [0.1, 0.0]}, "error not positive"),
        ({"error": [0.1, np.inf]}, "error not positive"),
        (
            {"time": START, "lat": [50.0, 50.0], "lon": [0, 0], "value": [1.0, 1.0]},
            "duplicate",
        ),
    ],
)
def test_what_cannot_be_used_is_counted_by_reason(changes, reason):
    table = track(2, **changes)
    assert len(table) == 1
    assert table.rejected == {reason: 1}
    assert table.n_in == 2


def test_two_platforms_at_one_place_are_no_duplicates():
    same = {"time": START, "lat": [50.0, 50.0], "lon": [0, 0], "value": [1.0, 1.0]}
    assert len(track(2, **same, platform=["a", "b"])) == 2
    assert len(track(2, **same, variable=["t", "p"])) == 2


def test_an_unknown_error_is_no_fault():
    assert np.isnan(track(1).error).all()


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["2017-10-27", "2017-10-28", "NaT"]),
            st.sampled_from([50.0, 51.0, 91.0, np.nan]),
            st.sampled_from([1.0, np.nan, np.inf]),
            st.sampled_from([0.1, -0.1, np.nan]),
        ),
        min_size=1,
        max_size=12,
    )
)
def test_counts_are_conserved(rows):
    time, lat, value, error = (np.array(column) for column in zip(*rows, strict=True))
    table = observation_table(
        time=time.astype("datetime64[s]"),
        lat=lat,
        lon=np.zeros(len(rows)),
        value=value,
        error=error,
    )
    table = table.window("2017-10-26", "2017-10-27").within(LatLonGrid([49.5, 50.5], [-1, 1]))
    assert table.n_in == len(rows) == len(table) + sum(table.rejected.values())


def test_windows_that_follow_one_another_share_and_lose_nothing():
    table = track(6)
    edges = START + np.array([-1, 2, 3, 5])
    windows = [table.window(a, b) for a, b in pairwise(edges)]
    assert [len(w) for w in windows] == [3, 1, 2]
    assert_array_equal(np.concatenate([w.value for w in windows]), table.value)
    assert windows[1].rejected == {"outside window": 5}


def test_outside_the_domain_is_counted_not_fatal():
    grid = LatLonGrid([51.0, 52.0, 53.0], [355.0, 360.0, 365.0])
    table = track(6).within(grid)
    assert_array_equal(table.lat, [51.0, 52.0, 53.0])
    assert_array_equal(table.lon, [0.0, 0.0, 0.0])
    assert table.rejected == {"outside domain": 3}
    assert table.summary == "3 of 6 observations used (3 outside domain)"


def test_on_the_plane():
    table = observation_table(
        time=START, y=[0.0, 1e5, 9e5], x=[0.0, 2e5, 0.0], value=[1.0, 2.0, 3.0]
    )
    assert_array_equal(table.y, [0.0, 1e5, 9e5])
    walled = PlaneGrid((4, 4), (1e5, 1e5), periodic=(False, False))
    assert len(table.within(walled)) == 2
    assert len(table.within(PlaneGrid((4, 4), (1e5, 1e5)))) == 3
    with pytest.raises(
        AttributeError, match=r"^lat: expected a table with this coordinate, got \('y', 'x'\)$"
    ):
        _ = table.lat


def test_rows_can_be_withheld():
    table = track(4)
    kept = table.where(table.value < 2, "withheld")
    assert kept.rejected == {"withheld": 2}


def test_passes_end_in_silence_and_do_not_mix_platforms():
    seconds = np.array([0, 1, 2, 3, 500, 501, 502])
    table = track(7, time=START + seconds, platform=["a", "b", "a", "b", "a", "a", "b"])
    assert_array_equal(passes(table, gap_seconds=60), [0, 1, 0, 1, 2, 2, 3])
    assert_array_equal(passes(table, gap_seconds=600), [0, 1, 0, 1, 0, 0, 1])
    assert len(passes(table.window("2000", "2000"), gap_seconds=60)) == 0


class TestErrors:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"lon": None}, "coordinates: expected lat and lon, or y and x, got ['lat']"),
            (
                {"y": [0.0], "x": [0.0]},
                "coordinates: expected lat and lon, or y and x, got ['lat', 'lon', 'y', 'x']",
            ),
            (
                {"lon": [0.0, 1.0]},
                "coordinates: expected two of one length, got shapes (3,) and (2,)",
            ),
            ({"value": [1.0, 2.0]}, "value: expected shape (3,), got (2,)"),
            ({"error": -0.5}, "error: expected a positive standard deviation, got -0.5"),
        ],
    )
    def test_arguments(self, changes, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            track(3, **changes)

    def test_a_grid_of_another_kind(self):
        with pytest.raises(
            ValueError,
            match=r"^grid: expected coordinates \('lat', 'lon'\), got \('y', 'x'\)$",
        ):
            track(2).within(PlaneGrid((4, 4), (1.0, 1.0)))

    def test_a_choice_that_is_none(self):
        with pytest.raises(
            ValueError, match=r"^keep: expected 2 bools, got shape \(3,\) of int64$"
        ):
            track(2).where(np.arange(3), "withheld")

    def test_silence(self):
        with pytest.raises(ValueError, match=r"^gap_seconds: expected a positive number, got 0$"):
            passes(track(2), gap_seconds=0)
