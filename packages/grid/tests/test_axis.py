"""Laws of one direction: positions, places and what stands beyond the borders."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormda.grid.axis import Axis, Border, midpoint_edges, resolve

WALLS = (Border.WALL, Border.WALL)
WRAPS = (Border.WRAP, Border.WRAP)


def axis(values, borders=WALLS, period=None):
    values = np.asarray(values, float)
    return Axis(values=values, edges=midpoint_edges(values), borders=borders, period=period)


@pytest.mark.parametrize("values", [[0.0, 1.0, 3.0, 4.0], [4.0, 3.0, 1.0, 0.0]])
def test_place_is_the_inverse_of_position(values):
    points = np.linspace(0.1, 3.9, 23)
    np.testing.assert_allclose(axis(values).place(axis(values).position(points)), points)


def test_a_centre_lies_on_its_own_number_whatever_the_turn():
    ring = axis(np.arange(0.1, 360, 0.2), WRAPS, 360.0)
    for turn in (-360, 0, 360):
        np.testing.assert_array_equal(ring.position(ring.values + turn), np.arange(ring.size))


def test_a_wall_is_one_cell_away_from_everything_outside():
    np.testing.assert_array_equal(axis([0.0, 1.0]).position([-50.0, 50.0]), [-1, 2])


def test_beyond_a_wrap_stands_the_other_end():
    ring = axis([0.0, 1.0, 2.0, 3.0], WRAPS, 4.0)
    np.testing.assert_allclose(ring.position([-0.25, 3.75, 7.75]), -0.25)
    np.testing.assert_allclose(ring.extended, [-1, 0, 1, 2, 3, 4])


@given(st.integers(-40, 40), st.integers(1, 9))
def test_wrapping_is_the_remainder(i, n):
    cell, turned, inside = resolve(i, n, WRAPS)
    assert (cell, turned, inside) == (i % n, False, True)


@given(st.integers(-40, 40), st.integers(2, 9), st.booleans(), st.booleans())
def test_over_the_poles_runs_a_great_circle(i, n, row_first, row_last):
    """A walk over both poles visits the rows of one meridian, then of the opposite one."""
    borders = tuple(Border.POLE_ROW if at else Border.POLE_EDGE for at in (row_first, row_last))
    down = [(row, False) for row in range(n)]
    up = [(row, True) for row in range(n - 1 - row_last, -1 + row_first, -1)]
    circle = down + up
    cell, turned, inside = resolve(i, n, borders)
    expected, other_side = circle[i % len(circle)]
    at_pole = (row_first and cell == 0) or (row_last and cell == n - 1)
    assert cell == expected
    assert at_pole or turned == other_side
    assert inside


@given(st.integers(-40, 40), st.integers(1, 9))
def test_walls_mirror_and_hold_nothing(i, n):
    cell, turned, inside = resolve(i, n, WALLS)
    there_and_back = [*range(n), *reversed(range(n))]
    assert cell == there_and_back[i % (2 * n)]
    assert not turned
    assert inside == (0 <= i < n)
