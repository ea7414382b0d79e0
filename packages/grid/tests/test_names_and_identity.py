"""Grids by name, out of a checkpoint, and in what they differ."""

import json
import re

import numpy as np
import pytest

from stormda.grid import (
    LatLonGrid,
    PlaneGrid,
    PointGrid,
    describe_difference,
    grid,
    grid_from_dict,
)

FORM = (
    "name: expected a form like 0.25deg, 0.25deg-poles, f32, n320, o96, healpix64 or "
    "healpix64-ring"
)
MIDDLES, EVERY_5 = np.arange(-87.5, 90.0, 5.0), np.arange(0.0, 360.0, 5.0)


@pytest.mark.parametrize(
    ("name", "shape", "north", "west"),
    [
        ("0.25deg", (720, 1440), 89.875, 0.125),
        ("0.25deg-poles", (721, 1440), 90.0, 0.0),
        ("1/4deg", (720, 1440), 89.875, 0.125),
        ("5deg", (36, 72), 87.5, 2.5),
        ("f32", (64, 128), 87.8638, 0.0),
    ],
)
def test_a_name_stands_for_a_grid(name, shape, north, west):
    g = grid(name)
    assert g.shape == shape
    assert g.periodic == (False, True)
    np.testing.assert_allclose([g.lat[0], g.lon[0]], [north, west], atol=1e-4)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("x7", f"{FORM}, got 'x7'"),
        ("f0", f"{FORM}, got 'f0'"),
        ("0.7deg", "name: expected a size that divides 180 degrees, got 0.7"),
        ("0deg", "name: expected a size that divides 180 degrees, got 0"),
    ],
)
def test_unknown_names_are_refused(name, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        grid(name)


@pytest.mark.parametrize(
    "original",
    [
        grid("f32"),
        LatLonGrid(MIDDLES, EVERY_5, np.stack([MIDDLES - 2.5, MIDDLES + 2.5], 1)),
        PlaneGrid((4, 6), (1e3, 2e3), periodic=(False, True), origin_m=(0.1, -7.0)),
    ],
)
def test_json_gives_back_the_grid(original):
    assert grid_from_dict(json.loads(json.dumps(original.to_dict()))) == original


def test_an_unknown_kind_is_refused():
    kinds = "latlon, plane, reduced_gaussian, healpix, projected, curvilinear, points"
    with pytest.raises(ValueError, match=rf"^kind: expected one of {kinds}, got 'ball'$"):
        grid_from_dict({"kind": "ball"})


@pytest.mark.parametrize(
    "other",
    [
        LatLonGrid(MIDDLES, EVERY_5 - 360),
        LatLonGrid(MIDDLES.astype(np.float32), EVERY_5 + 1e-5),
        LatLonGrid(MIDDLES, np.where(EVERY_5 < 180, EVERY_5, EVERY_5 - 360)),
    ],
)
def test_rounding_and_whole_turns_are_no_difference(other):
    assert describe_difference(LatLonGrid(MIDDLES, EVERY_5), other) is None


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (PlaneGrid((36, 72), (1.0, 1.0)), "expected dims (lat, lon), got (y, x)"),
        (grid("5deg-poles"), "expected shape (36, 72), got (37, 72)"),
        (
            LatLonGrid(MIDDLES, EVERY_5 / 2),
            "expected borders ((pole at the edge, pole at the edge), (wrap, wrap)), "
            "got ((wall, wall), (wall, wall))",
        ),
        (LatLonGrid(MIDDLES[::-1], EVERY_5), "expected lat -87.5 at index 0, got 87.5"),
        (LatLonGrid(MIDDLES, EVERY_5 + 2.5), "expected lon 0.0 at index 0, got 2.5"),
    ],
)
def test_a_difference_is_named(other, message):
    assert describe_difference(LatLonGrid(MIDDLES, EVERY_5), other) == message


def test_lists_differ_where_a_point_lies_elsewhere():
    nested, ring = grid("healpix4"), grid("healpix4-ring")
    assert describe_difference(nested, grid("healpix4")) is None
    assert re.fullmatch(
        r"expected lat, lon \S+, \S+ at index 0, got \S+, \S+", describe_difference(nested, ring)
    )
    assert describe_difference(grid("o8"), nested) == "expected shape (544), got (192)"
    rounded = PointGrid(*(c.astype(np.float32) for c in ring.points))
    assert describe_difference(ring, rounded) is None
