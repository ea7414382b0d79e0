"""Laws of latitude-longitude grids, and what they refuse."""

import numpy as np
import pytest

from stormda.grid import Border, LatLonGrid, gaussian_latitudes, grid

EVERY_5 = np.arange(0.0, 360.0, 5.0)
MIDDLES = np.arange(-87.5, 90.0, 5.0)
POLES = np.arange(-90.0, 91.0, 5.0)


@pytest.mark.parametrize("name", ["5deg", "5deg-poles", "f32", "2.5deg-poles", "f80"])
def test_the_cells_of_a_global_grid_tile_the_sphere(name):
    np.testing.assert_allclose(grid(name).area.sum(), 1, rtol=1e-12)


@pytest.mark.parametrize("lat", [MIDDLES, MIDDLES[::-1], POLES, POLES[::-1]])
@pytest.mark.parametrize("first", [0.0, -180.0, 2.5, 30.0])
def test_area_is_the_integral_over_each_cell(lat, first):
    area = LatLonGrid(lat, first + EVERY_5).area
    south, north = np.clip([lat - 2.5, lat + 2.5], -90, 90)
    band = (np.sin(np.radians(north)) - np.sin(np.radians(south))) / 2
    np.testing.assert_allclose(area, np.repeat(band[:, None] * 5 / 360, 72, 1), rtol=1e-12)


def test_a_regional_grid_has_its_share_of_the_sphere():
    region = LatLonGrid(np.arange(58, 49.9, -0.25), np.arange(-10, 2.1, 0.25))
    edges = np.radians([49.875, 58.125])
    share = (np.sin(edges[1]) - np.sin(edges[0])) / 2 * 12.25 / 360
    np.testing.assert_allclose(region.area.sum(), share, rtol=1e-12)
    assert region.periodic == (False, False)
    assert region.borders == ((Border.WALL, Border.WALL), (Border.WALL, Border.WALL))


def test_bounds_go_before_quadrature_before_midpoints():
    lat, weight = gaussian_latitudes(4)
    bounds = np.array([[90, 50], [50, 0], [0, -50], [-50, -90]])
    expected = np.abs(np.diff(np.sin(np.radians([90, 50, 0, -50, -90])))) / 2
    for shown in (bounds, bounds[:, ::-1]):
        area = LatLonGrid(lat, EVERY_5, shown).area.sum(1)
        np.testing.assert_allclose(area, expected, rtol=1e-12)
    np.testing.assert_allclose(LatLonGrid(lat, EVERY_5).area.sum(1), weight / 2, rtol=1e-12)


@pytest.mark.parametrize(("lat", "pole"), [(MIDDLES, Border.POLE_EDGE), (POLES, Border.POLE_ROW)])
def test_rows_go_on_over_the_poles_they_reach(lat, pole):
    assert LatLonGrid(lat, EVERY_5).borders == ((pole, pole), (Border.WRAP, Border.WRAP))
    assert LatLonGrid(lat[:20], EVERY_5).borders[0] == (pole, Border.WALL)
    assert LatLonGrid(lat, EVERY_5[:30]).borders[0] == (Border.WALL, Border.WALL)


@pytest.mark.parametrize("first", [0.0, -180.0, 30.0])
def test_a_grid_is_periodic_whatever_its_convention(first):
    assert LatLonGrid(MIDDLES, first + EVERY_5).periodic == (False, True)


def test_a_grid_may_cross_the_date_line():
    jump = LatLonGrid(MIDDLES, [170.0, 175.0, -180.0, -175.0])
    plain = LatLonGrid(MIDDLES, [170.0, 175.0, 180.0, 185.0])
    np.testing.assert_array_equal(jump.area, plain.area)
    np.testing.assert_array_equal(jump.position(0.0, 182.0)[1], 2.4)
    assert jump.periodic == (False, False)


def test_float32_coordinates_make_the_same_cells():
    lat, lon = grid("0.25deg").lat, grid("0.25deg").lon
    coarse = LatLonGrid(lat.astype(np.float32), (lon - 180).astype(np.float32))
    np.testing.assert_allclose(coarse.area, grid("0.25deg").area, rtol=1e-12)
    rounded = LatLonGrid(np.linspace(90, -90, 541, dtype=np.float32), EVERY_5)
    np.testing.assert_allclose(rounded.area.sum(), 1, rtol=1e-12)


def test_place_is_the_inverse_of_position():
    g = grid("f32")
    lat, lon = np.linspace(-89, 89, 31), np.linspace(0, 357, 31)
    for got, expected in zip(g.place(*g.position(lat, lon)), (lat, lon), strict=True):
        np.testing.assert_allclose(got, expected, atol=1e-10)


def test_equality_and_hash_go_by_the_coordinates():
    a, b = LatLonGrid(MIDDLES, EVERY_5), LatLonGrid(MIDDLES.tolist(), EVERY_5 * 1)
    assert a == b
    assert hash(a) == hash(b)
    assert LatLonGrid([-0.0, 1], EVERY_5) == LatLonGrid([0, 1], EVERY_5)
    assert a != LatLonGrid(MIDDLES[::-1], EVERY_5)
    assert a != LatLonGrid(MIDDLES, EVERY_5, np.stack([MIDDLES - 2.5, MIDDLES + 2.5], 1))
    assert a != "grid"


def test_a_grid_cannot_be_changed():
    g = LatLonGrid(MIDDLES, EVERY_5)
    for array in (g.lat, g.lon, g.area):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 0


def test_coordinates_are_what_cf_asks_for():
    lat, lon = LatLonGrid(MIDDLES, EVERY_5).coordinates.values()
    assert lat.dims == ("lat",)
    assert lat.attributes["units"] == "degrees_north"
    assert lon.attributes["standard_name"] == "longitude"
    np.testing.assert_array_equal(lon.values, EVERY_5)


@pytest.mark.parametrize(
    ("lat", "lon", "message"),
    [
        ([[0, 1]], EVERY_5, r"lat: expected at least 2 values in 1-D, got shape \(1, 2\)"),
        ([0], EVERY_5, r"lat: expected at least 2 values in 1-D, got shape \(1,\)"),
        ([0, np.nan, 2], EVERY_5, "lat: expected finite degrees, got nan at index 1"),
        ([0, 80, 95], EVERY_5, r"lat: expected degrees in \[-90, 90\], got 95.0 at index 2"),
        (
            [0, 10, 10],
            EVERY_5,
            "lat: expected strictly increasing or decreasing values, "
            "got 10.0 after 10.0 at index 2",
        ),
        (
            [30, 10, 20, 0],
            EVERY_5,
            "lat: expected strictly increasing or decreasing values, "
            "got 20.0 after 10.0 at index 2",
        ),
        (MIDDLES, [0, np.inf], "lon: expected finite degrees, got inf at index 1"),
        (
            MIDDLES,
            [10, 5, 0],
            "lon: expected values that increase eastward by at most 180 degrees, "
            "got 5.0 after 10.0 at index 1",
        ),
        (
            MIDDLES,
            [0, 5, 5],
            "lon: expected values that increase eastward by at most 180 degrees, "
            "got 5.0 after 5.0 at index 2",
        ),
        (
            MIDDLES,
            [*EVERY_5, 360.0],
            "lon: expected every meridian once, got 360.0 at the end, "
            "which goes round to 0.0 again: drop the last column",
        ),
        (
            MIDDLES,
            [*EVERY_5, 0.0],
            "lon: expected every meridian once, got 0.0 at the end, "
            "which goes round to 0.0 again: drop the last column",
        ),
    ],
)
def test_bad_coordinates_are_refused(lat, lon, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LatLonGrid(lat, lon)


@pytest.mark.parametrize(
    ("bounds", "message"),
    [
        ([0, 1, 2], r"lat_bounds: expected shape \(2, 2\), got \(3,\)"),
        (
            [[0, 5], [8, 9]],
            r"lat_bounds: expected edges around lat 7.5 within \[-90, 90\], "
            r"got \[8.0, 9.0\] at index 1",
        ),
        (
            [[0, 4], [6, 9]],
            r"lat_bounds: expected bands that touch, "
            r"got \[0.0, 4.0\] before \[6.0, 9.0\] at index 0",
        ),
    ],
)
def test_bad_bounds_are_refused(bounds, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        LatLonGrid([2.5, 7.5], EVERY_5, bounds)
