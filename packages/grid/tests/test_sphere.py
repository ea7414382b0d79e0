"""Laws of bands: they tile the sphere, and Gaussian ones have the weights of the quadrature."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormda.grid import Patching, bearings, gaussian_latitudes, grid
from stormda.grid.sphere import band_area, is_gaussian, latitude_edges, unit_vectors


@given(st.lists(st.floats(-90, 90), max_size=9))
def test_bands_tile_the_sphere(cuts):
    assert math.isclose(band_area(np.array([-90.0, *sorted(cuts), 90.0])).sum(), 1, rel_tol=1e-12)


@pytest.mark.parametrize("rows", [2, 3, 64, 97])
def test_gaussian_bands_have_the_weights_of_the_quadrature(rows):
    nodes, weights = np.polynomial.legendre.leggauss(rows)
    lat, weight = gaussian_latitudes(rows)
    np.testing.assert_allclose(lat[::-1], np.degrees(np.arcsin(nodes)), atol=1e-11)
    np.testing.assert_allclose(weight, weights, rtol=1e-11)
    for order in (lat, lat[::-1]):
        np.testing.assert_allclose(band_area(latitude_edges(order)), weights / 2, rtol=1e-11)


def test_every_gaussian_latitude_lies_in_its_band():
    lat, _ = gaussian_latitudes(96)
    edges = latitude_edges(lat)
    assert ((edges[:-1] > lat) & (lat > edges[1:])).all()


def test_the_gaussian_latitudes_of_t63_are_those_published():
    """The first latitudes of T63, as ECHAM and MPI-ESM files list them to three digits."""
    np.testing.assert_allclose(gaussian_latitudes(96)[0][:3], [88.572, 86.723, 84.862], atol=5e-4)


def test_gaussian_latitudes_are_told_from_regular_ones_and_from_a_part():
    lat, _ = gaussian_latitudes(320)
    assert is_gaussian(lat)
    assert is_gaussian(lat[::-1])
    assert is_gaussian(lat.astype(np.float32).astype(float))
    assert not is_gaussian(lat[1:])
    assert not is_gaussian(np.linspace(90, -90, 721))
    assert not is_gaussian(90 - (np.arange(720) + 0.5) / 4)


def test_unit_vectors_meet_at_the_seam_and_at_the_poles():
    lon = np.array([-180.0, 180.0, 540.0])
    np.testing.assert_allclose(unit_vectors(np.zeros(3), lon), [[-1, 0, 0]] * 3, atol=1e-15)
    np.testing.assert_allclose(unit_vectors(np.full(3, 90.0), lon), [[0, 0, 1]] * 3, atol=1e-15)


def test_bearings_are_those_of_the_tangents():
    """The direction of a neighbour in the plane of east and north that touches the sphere."""
    patching = Patching(grid("o16"), patch=(4, 4))
    (lat, lon), around = patching.centres, patching.neighbours()
    xyz, (a, b) = unit_vectors(lat, lon), np.radians([lat, lon])
    east = np.stack([-np.sin(b), np.cos(b), 0 * b], -1)
    north = np.stack([-np.sin(a) * np.cos(b), -np.sin(a) * np.sin(b), np.cos(a)], -1)
    found = bearings(lat, lon, around)
    for i, row in enumerate(around):
        for angle, j in zip(found[i], row, strict=True):
            expected = math.atan2(xyz[j] @ east[i], xyz[j] @ north[i]) if j >= 0 else 0.0
            assert math.isclose(angle, expected, abs_tol=1e-9)


def test_everything_lies_south_of_the_north_pole():
    """And in which direction is a matter of the longitude that the pole is given."""
    around = np.array([[1, 2], [0, -1], [0, -1]])
    angle = bearings(np.array([90.0, 80.0, 70.0]), np.array([0.0, 30.0, 200.0]), around)
    np.testing.assert_allclose(angle[0], np.radians([150.0, -20.0]), atol=1e-12)
    np.testing.assert_allclose(angle[1:], 0, atol=1e-12)
