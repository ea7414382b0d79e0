import numpy as np
import pytest

from stormda.grid import TileLayout
from stormda.io.selection import select_axis, select_frames, slabs

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
def test_slabs_are_the_window_modulo_the_axis(start, length):
    runs = slabs(slice(start, start + length), 8, periodic=True, argument="tile")
    cells = np.concatenate([np.arange(8)[run] for run in runs])
    np.testing.assert_array_equal(cells, np.arange(start, start + length) % 8)


def test_slabs_take_the_windows_of_tiles():
    layout = TileLayout((4, 8), tiles=(1, 2), halo=(0, 2), periodic=True)
    x = np.arange(32).reshape(4, 8)
    rows, cols = layout.window(0).extended
    runs = slabs(cols, 8, periodic=True, argument="tile")
    np.testing.assert_array_equal(np.concatenate([x[:, r] for r in runs], 1), layout.take(x, 0))
    assert slabs(rows, 4, periodic=False, argument="tile") == [slice(0, 4)]


@pytest.mark.parametrize(
    ("window", "periodic", "message"),
    [
        (slice(-1, 3), False, r"^tile: expected a window of cells within 0 to 8, got slice"),
        (slice(5, 9), False, r"^tile: expected a window of cells within 0 to 8, got slice"),
        (slice(3, 3), True, r"^tile: expected a window of cells that may wrap, got slice"),
        (slice(0, 4, 2), True, r"^tile: expected a window of cells that may wrap, got slice"),
    ],
)
def test_windows_that_are_none(window, periodic, message):
    with pytest.raises(ValueError, match=message):
        slabs(window, 8, periodic=periodic, argument="tile")
