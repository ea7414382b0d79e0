import numpy as np
import pytest

from stormda.grid import Border, TileLayout
from stormda.grid.axis import resolve
from stormda.io.selection import runs, select_axis, select_frames

TIMES = np.arange("2019-03-01", "2019-03-04", 6, "datetime64[h]").astype("datetime64[s]")


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (None, range(12)),
        (3, [3]),
        (-1, [11]),
        (slice(2, 6, 2), [2, 4]),
        ("2019-03-02", [4, 5, 6, 7]),
        ("2019-03-02T06", [5]),
        (np.datetime64("2019-03-02"), [4, 5, 6, 7]),
        (slice("2019-03-02", "2019-03-03"), range(4, 12)),
        (slice(None, "2019-03-01T12"), [0, 1, 2]),
        (slice(np.datetime64("2019-03-03T12", "s"), None), [10, 11]),
        (slice("2019-03-01", "2019-03-02", 4), [0, 4]),
        ([5, 2, 2], [5, 2, 2]),
        (["2019-03-02T06:00", "2019-03-01"], [5, 0]),
        (TIMES[[7, 1]], [7, 1]),
    ],
)
def test_frames(selection, expected):
    np.testing.assert_array_equal(select_frames(TIMES, selection), list(expected))


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (12, r"^time: expected frames 0 to 11, got 12$"),
        (-13, r"^time: expected frames 0 to 11, got -13$"),
        ("2020", r"^time: expected a selection of the 12 frames, got '2020'$"),
        ("soon", r"^time: expected a date such as '2019-03-01T12', got 'soon'$"),
        (
            ["2019-03-01T01:00"],
            r"^time: expected times of the store, got 2019-03-01T01:00:00$",
        ),
    ],
)
def test_frames_that_are_not_there(selection, message):
    with pytest.raises(ValueError, match=message):
        select_frames(TIMES, selection)


@pytest.mark.parametrize(
    ("selection", "message"),
    [
        (3, r"^level: expected an index below 3, got 3$"),
        (slice(3, 5), r"^level: expected a slice within 0 to 3, got slice\(3, 5, None\)$"),
    ],
)
def test_levels_that_are_not_there(selection, message):
    with pytest.raises(ValueError, match=message):
        select_axis(3, selection, "level")


@pytest.mark.parametrize("start", range(-9, 9))
@pytest.mark.parametrize("length", [1, 4, 8, 11])
def test_runs_are_the_window_modulo_the_axis(start, length):
    found = runs(slice(start, start + length), 8, "wrap", argument="tile")
    cells = np.concatenate([np.arange(8)[run.cells] for run in found])
    np.testing.assert_array_equal(cells, np.arange(start, start + length) % 8)


@pytest.mark.parametrize("first", [Border.POLE_ROW, Border.POLE_EDGE, Border.WALL])
@pytest.mark.parametrize("last", [Border.POLE_ROW, Border.POLE_EDGE, Border.WALL])
def test_runs_over_a_pole_are_those_that_the_grid_resolves(first, last):
    for start in range(-5 if first is not Border.WALL else 0, 8):
        for stop in range(start + 1, 14 if last is not Border.WALL else 9):
            found = runs(slice(start, stop), 8, (first, last), argument="tile")
            cells = [np.arange(8)[run.cells][:: -1 if run.turned else 1] for run in found]
            cell, turned, _ = resolve(np.arange(start, stop), 8, (first, last))
            np.testing.assert_array_equal(np.concatenate(cells), cell)
            over = np.repeat([run.turned for run in found], [len(run) for run in found])
            np.testing.assert_array_equal(over, turned)


def test_runs_take_the_windows_of_tiles():
    layout = TileLayout((4, 8), tiles=(1, 2), halo=(0, 2), periodic=True)
    x = np.arange(32).reshape(4, 8)
    rows, cols = layout.window(0).extended
    found = [run.cells for run in runs(cols, 8, "wrap", argument="tile")]
    np.testing.assert_array_equal(np.concatenate([x[:, r] for r in found], 1), layout.take(x, 0))
    assert [run.cells for run in runs(rows, 4, None, argument="tile")] == [slice(0, 4)]


@pytest.mark.parametrize(
    ("window", "borders", "message"),
    [
        (slice(-1, 3), None, r"^tile: expected a window of cells within 0 to 8, got slice"),
        (slice(5, 9), None, r"^tile: expected a window of cells within 0 to 8, got slice"),
        (slice(3, 3), "wrap", r"^tile: expected a window of cells that may wrap, got slice"),
        (slice(0, 4, 2), "wrap", r"^tile: expected a window of cells that may wrap, got slice"),
    ],
)
def test_windows_that_are_none(window, borders, message):
    with pytest.raises(ValueError, match=message):
        runs(window, 8, borders, argument="tile")
