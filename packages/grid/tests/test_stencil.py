"""Laws of stencils: exact where the rule is, continuous over seam and poles, honest outside."""

import numpy as np
import pytest

from stormda.grid import LatLonGrid, PlaneGrid, bilinear, grid, locate, nearest

REGION = LatLonGrid(np.arange(58.0, 49.9, -1.0), np.arange(-10.0, 2.1, 1.0))
ODD = LatLonGrid(np.arange(-80.0, 81, 20), np.arange(25) * 14.4)
GLOBAL = [grid("15deg"), grid("15deg-poles"), grid("f6"), ODD]


def points(m, seed=0):
    rng = np.random.default_rng(seed)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, m))), rng.uniform(-360, 720, m)


def interpolate(g, x, lat, lon, method=bilinear):
    return locate(g, lat, lon, method).matrix(x.size) @ x.ravel()


def smooth(lat, lon):
    lat, lon = np.radians(lat), np.radians(lon)
    return np.cos(lat) * np.cos(lon - 1) + 0.5 * np.sin(lat)


@pytest.mark.parametrize("g", GLOBAL, ids=str)
def test_a_global_grid_covers_the_sphere_and_keeps_constants(g):
    lat, lon = points(500)
    lat[:4] = [90, -90, 89.999, -89.999]
    for method in (bilinear, nearest):
        stencil = locate(g, lat, lon, method)
        assert stencil.inside.all()
        np.testing.assert_allclose(stencil.weights.sum(1), 1, rtol=1e-12)
        assert stencil.weights.min() >= 0
        assert stencil.cells.min() >= 0
        assert stencil.cells.max() < g.area.size


@pytest.mark.parametrize("g", GLOBAL, ids=str)
@pytest.mark.parametrize("turn", [-360.0, 0.0, 360.0])
def test_cell_centres_take_their_own_cell(g, turn):
    lat, lon = (c.ravel() for c in np.meshgrid(g.lat, g.lon + turn, indexing="ij"))
    for method in (bilinear, nearest):
        matrix = locate(g, lat, lon, method).matrix(lat.size)
        np.testing.assert_array_equal(matrix.toarray(), np.eye(lat.size))


@pytest.mark.parametrize("g", GLOBAL, ids=str)
def test_smooth_functions_are_met_to_second_order_also_at_seam_and_poles(g):
    lat, lon = points(2000)
    lat[:1000] = np.copysign(np.linspace(75, 90, 1000), lat[:1000])
    lon[1000:1500] = np.linspace(-15, 15, 500)
    x = smooth(g.lat[:, None], g.lon)
    step = np.radians(max(np.abs(np.diff(g.lat)).max(), np.diff(g.lon).max()))
    error = np.abs(interpolate(g, x, lat, lon) - smooth(lat, lon)).max()
    # Each direction errs by at most h^2 / 8 times the second derivative, here sqrt(1 + 0.5^2).
    assert error < 2 * step**2 / 8 * np.sqrt(1.25)


@pytest.mark.parametrize("g", [REGION, LatLonGrid([0.0, 1.0, 5.0], [350.0, 355.0, 2.0])])
def test_bilinear_functions_are_exact(g):
    rng = np.random.default_rng(2)
    lat = rng.uniform(g.lat.min(), g.lat.max(), 99)
    lon = rng.uniform(g.cols.values[0], g.cols.values[-1], 99)
    x = (2 + g.lat[:, None]) * (3 - g.cols.values)
    np.testing.assert_allclose(interpolate(g, x, lat, lon + 360), (2 + lat) * (3 - lon))


def test_the_nearest_cell_is_the_nearest_by_search():
    lat, lon = np.random.default_rng(3).uniform([50, -10], [58, 2], (200, 2)).T
    distance = (lat[:, None, None] - REGION.lat[:, None]) ** 2 + (
        lon[:, None, None] - REGION.lon
    ) ** 2
    expected = distance.reshape(200, -1).argmin(1)
    np.testing.assert_array_equal(locate(REGION, lat, lon, nearest).cells[:, 0], expected)


def test_points_outside_a_region_are_flagged_and_weigh_nothing():
    lat, lon = [58, 58.1, 49.9, 54, 54, 54, -54], [-10, -9, 0, 2.01, 362, 180, 0]
    stencil = locate(REGION, lat, lon)
    np.testing.assert_array_equal(stencil.inside, [1, 0, 0, 0, 1, 0, 0])
    np.testing.assert_array_equal(stencil.weights.sum(1), stencil.inside)
    assert stencil.matrix(REGION.area.size).nnz == 2
    half_a_cell_more = locate(REGION, [58.4, 58.6], [-10.4, -9.0], nearest)
    np.testing.assert_array_equal(half_a_cell_more.inside, [1, 0])


def test_a_plane_is_interpolated_round_its_seams():
    plane = PlaneGrid((16, 32), (10.0, 5.0), periodic=(False, True))
    x = np.arange(16.0)[:, None] + np.sin(2 * np.pi * np.arange(32) / 32)
    stencil = locate(plane, [15.0, 75.0, 155.0], [157.5, -2.5, 0.0])
    np.testing.assert_array_equal(stencil.inside, [1, 1, 0])
    between = (np.sin(-2 * np.pi / 32) + 0) / 2
    expected = [1.5 + between, 7.5 + between, 0]
    np.testing.assert_allclose(stencil.matrix(x.size) @ x.ravel(), expected, rtol=1e-12)


@pytest.mark.parametrize(
    ("lat", "lon", "message"),
    [
        ([0, 1], [0], r"lat, lon: expected two 1-D lists of one length, got \(2,\) and \(1,\)"),
        (0.0, 0.0, r"lat, lon: expected two 1-D lists of one length, got \(\) and \(\)"),
        ([0, 91], [0, 0], r"lat: expected degrees in \[-90, 90\], got 91.0 at index 1"),
        ([np.nan], [0], r"lat: expected degrees in \[-90, 90\], got nan at index 0"),
        ([0], [np.inf], "lon: expected finite values, got inf at index 0"),
    ],
)
def test_bad_points_are_refused(lat, lon, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        locate(REGION, lat, lon)
