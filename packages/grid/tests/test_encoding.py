"""Laws of encodings: continuous over seams, poles and years, blind to the resolution."""

import numpy as np
import pytest

from stormda.grid import (
    LatLonGrid,
    Patching,
    PlaneGrid,
    grid,
    grid_features,
    level_features,
    log_area,
    plane_features,
    sphere_features,
    time_features,
)
from stormda.grid.sphere import unit_vectors


def test_sphere_features_do_not_see_the_seam_or_the_meridian_at_a_pole():
    np.testing.assert_allclose(sphere_features(30, -180), sphere_features(30, 180), atol=1e-12)
    np.testing.assert_allclose(sphere_features(90, 0), sphere_features(90, 77), atol=1e-12)


def test_sphere_features_tell_points_apart():
    lat, lon = np.meshgrid(np.arange(-80, 81, 20), np.arange(0, 360, 20), indexing="ij")
    features = sphere_features(lat, lon).reshape(lat.size, -1)
    distance = np.abs(features[:, None] - features[None]).max(-1) + np.eye(len(features))
    assert distance.min() > 0.03


def test_plane_features_close_where_the_plane_does():
    ends = [0.0, 100.0]
    closed = plane_features(ends, ends, (100.0, 100.0), periodic=(True, True))
    np.testing.assert_allclose(closed[0], closed[1], atol=1e-12)
    walled = plane_features(ends, ends, (100.0, 100.0), periodic=(False, True), scales=(1,))
    np.testing.assert_allclose(walled[1], [0, 0, -1, 1], atol=1e-12)


def test_the_year_and_the_day_are_continuous():
    night = np.array(["2019-12-31T23:59:59", "2020-01-01T00:00:00"], "datetime64[s]")
    before, after = time_features(night, 10.0)
    np.testing.assert_allclose(before, after, atol=1e-4)  # one second of a day is 7e-5 radians


def test_noon_is_where_the_sun_is():
    times = np.array(["2021-07-02T12", "2021-07-02T00"], "datetime64[h]")
    features = time_features(times, [0.0, 180.0, -90.0])
    assert features.shape == (2, 3, 6)
    cosine = features[..., 3:]
    np.testing.assert_allclose(cosine[:, 0, 1], [-1, 1], atol=1e-12)  # UTC noon, midnight
    np.testing.assert_allclose(cosine[0, :, 2], [-1, 1, 0], atol=1e-12)  # local noon at Greenwich
    np.testing.assert_allclose(cosine[0, :, 0], -1, atol=1e-4)  # half of the year, to hours


def test_leap_years_are_longer():
    end_of_february = np.array(["2019-03-01", "2020-03-01"], "datetime64[D]")
    phase = np.arctan2(*time_features(end_of_february)[:, [0, 3]].T) / (2 * np.pi)
    np.testing.assert_allclose(phase, [59 / 365, 60 / 366], rtol=1e-12)


def test_features_of_a_token_are_those_of_its_centre_and_area():
    patching = Patching(grid("15deg"), (4, 6))
    features = grid_features(patching, scales=(1, 2))
    expected = sphere_features(*patching.centres, scales=(1, 2))
    np.testing.assert_array_equal(features[:, :-1], expected)
    np.testing.assert_array_equal(features[:, -1], log_area(patching.weights))


@pytest.mark.parametrize("g", [grid("15deg-poles"), PlaneGrid((3, 4), (1.0, 1.0))])
def test_features_of_a_grid_are_those_of_its_cells(g):
    np.testing.assert_array_equal(grid_features(g), grid_features(Patching(g, (1, 1))))
    assert np.isfinite(grid_features(g)).all()


def test_features_do_not_know_the_resolution():
    """The same place on a finer grid with the same token is encoded alike."""
    fine, coarse = (
        LatLonGrid(np.arange(-90 + s / 2, 90, s), np.arange(s / 2, 360, s)) for s in (5, 15)
    )
    a = grid_features(Patching(fine, (3, 3)))
    np.testing.assert_allclose(a, grid_features(coarse), atol=1e-10)


def test_plane_features_do_not_depend_on_the_origin():
    at = grid_features(PlaneGrid((4, 4), (2.0, 2.0), periodic=(False, False)))
    there = PlaneGrid((4, 4), (2.0, 2.0), periodic=(False, False), origin_m=(7.0, -3.0))
    np.testing.assert_allclose(grid_features(there), at, atol=1e-12)


@pytest.mark.parametrize("name", ["o8", "healpix4", "healpix4-ring"])
def test_tokens_of_lists_have_features_of_their_places(name):
    patching = Patching(grid(name), (2, 2))
    features = grid_features(patching)
    assert features.shape == (patching.tokens(), 25)
    np.testing.assert_allclose(10 ** features[:, -1].astype(float), patching.weights)
    np.testing.assert_allclose(patching.weights.sum(), 1, rtol=1e-12)
    assert np.isfinite(features).all()
    if name != "o8":  # the centre of a square of HEALPix is the centre of the coarser cell, nearly
        lat, lon = patching.centres
        coarse = unit_vectors(*grid("healpix2").points)
        np.testing.assert_allclose(unit_vectors(lat, lon), coarse, atol=0.06)


def test_levels_are_waves_of_the_logarithm_of_pressure():
    features = level_features([1e5, 5e4, np.nan], scales=(1, 2))
    assert features.shape == (3, 4)
    height = np.log10(2)
    expected = [np.sin(np.pi * height), np.sin(2 * np.pi * height)]
    np.testing.assert_allclose(features[1, :2], expected, rtol=1e-12)
    np.testing.assert_array_equal(features[2], 0)
