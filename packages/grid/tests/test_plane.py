"""Laws of the plane, and what it refuses."""

import numpy as np
import pytest

from stormda.grid import Border, PlaneGrid


def test_cells_share_the_plane():
    plane = PlaneGrid((3, 5), (10.0, 20.0), periodic=(False, True))
    np.testing.assert_allclose(plane.area.sum(), 1, rtol=1e-12)
    assert plane.extent_m == (30.0, 100.0)
    assert plane.borders == ((Border.WALL, Border.WALL), (Border.WRAP, Border.WRAP))


def test_positions_count_from_the_origin_and_round_the_seam():
    plane = PlaneGrid((1, 4), (10.0, 10.0), origin_m=(5.0, 100.0))
    row, col = plane.position([5.0, 7.5, 5.0], [100.0, 137.5, 177.5])
    np.testing.assert_allclose(row, [0, 0.25, 0])
    np.testing.assert_allclose(col, [0, -0.25, -0.25])
    np.testing.assert_allclose(plane.place(row, col), [[5, 7.5, 5], [100, 97.5, 97.5]])


def test_equality_and_hash_go_by_the_fields():
    a = PlaneGrid((4, 4), (1e3, 1e3))
    assert a == PlaneGrid((4, 4), (1e3, 1e3))
    assert len({a, PlaneGrid((4, 4), (1e3, 1e3)), PlaneGrid((4, 4), (1e3, 2e3))}) == 2


def test_coordinates_are_what_cf_asks_for():
    y, x = PlaneGrid((2, 3), (10.0, 20.0)).coordinates.values()
    assert y.attributes == {
        "standard_name": "projection_y_coordinate",
        "units": "m",
        "axis": "Y",
    }
    np.testing.assert_array_equal(x.values, [0, 20, 40])


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"shape": (0, 4)}, r"shape: expected positive numbers of cells, got \(0, 4\)"),
        ({"spacing_m": (1.0, 0.0)}, r"spacing_m: expected positive metres, got \(1.0, 0.0\)"),
        ({"origin_m": (0.0, np.inf)}, r"origin_m: expected finite metres, got \(0.0, inf\)"),
    ],
)
def test_bad_sizes_are_refused(fields, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        PlaneGrid(**({"shape": (4, 4), "spacing_m": (1.0, 1.0)} | fields))
