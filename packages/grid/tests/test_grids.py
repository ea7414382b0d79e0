"""One contract for every kind of grid: areas, places, identity, features, JSON."""

import json

import numpy as np
import pytest

from stormda.grid import (
    CurvilinearGrid,
    HealpixGrid,
    LambertConformal,
    LatLonGrid,
    Order,
    PlaneGrid,
    PointGrid,
    PolarStereographic,
    ProjectedGrid,
    ReducedGaussianGrid,
    RotatedPole,
    bilinear,
    describe_difference,
    grid,
    grid_from_dict,
    locate,
    nearest,
    octahedral,
    recognise,
)
from stormda.grid.sphere import unit_vectors


def scattered(n, seed=0, region=False):
    rng = np.random.default_rng(seed)
    if region:
        return rng.uniform(30, 70, n), rng.uniform(-20, 40, n)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, n))), rng.uniform(0, 360, n)


def bent(rows=12, cols=20):
    base = LatLonGrid(np.linspace(-20, 20, rows), np.linspace(-30, 30, cols))
    turned = ProjectedGrid(base, RotatedPole(lat=40.0, lon=-170.0, turn=15.0))
    return CurvilinearGrid(*turned.points)


def ring_of_rows():
    """A curvilinear grid whose columns close, about a pole that is not the Earth's."""
    base = LatLonGrid(np.linspace(40, 85, 10), np.arange(0.0, 360, 15))
    return CurvilinearGrid(*ProjectedGrid(base, RotatedPole(lat=60.0, lon=30.0)).points)


ROTATED = ProjectedGrid(
    LatLonGrid(np.linspace(-20, 20, 12), np.linspace(-30, 30, 20)),
    RotatedPole(lat=39.25, lon=-162),
)
CONE = LambertConformal(parallels=(30.0, 60.0), lat=45.0, lon=10.0)
LAMBERT = ProjectedGrid(PlaneGrid((9, 11), (3e5, 2e5), (False, False), (-1.2e6, -1e6)), CONE)
POLAR = ProjectedGrid(
    PlaneGrid((8, 8), (5e5, 5e5), (False, False), (-1.75e6, -1.75e6)),
    PolarStereographic(true_lat=-71.0, lon=0.0),
)
GLOBAL = [
    grid("15deg"),
    grid("15deg-poles"),
    grid("f8"),
    grid("n32"),
    grid("o8"),
    ReducedGaussianGrid((5, 9, 14, 14, 9, 5)),
    HealpixGrid(8),
    HealpixGrid(8, Order.RING),
    HealpixGrid(1),
    PointGrid(*scattered(300)),
    ProjectedGrid(grid("15deg"), RotatedPole(lat=39.25, lon=-162)),
]
REGIONAL = [
    LatLonGrid(np.arange(58.0, 49.9, -1.0), np.arange(-10.0, 2.1, 1.0)),
    ROTATED,
    LAMBERT,
    POLAR,
    bent(),
    ring_of_rows(),
    PointGrid(*scattered(200, region=True)),
]
GRIDS = GLOBAL + REGIONAL
names = lambda g: type(g).__name__ + str(g.shape)  # noqa: E731


@pytest.mark.parametrize("g", GLOBAL, ids=names)
def test_a_global_grid_has_the_area_of_the_sphere(g):
    assert g.area.shape == g.shape
    assert (g.area > 0).all()
    np.testing.assert_allclose(g.area.sum(), 1, rtol=1e-12)


@pytest.mark.parametrize("g", GRIDS, ids=names)
def test_places_are_on_the_sphere(g):
    lat, lon = g.points
    assert lat.shape == lon.shape == g.shape
    assert np.abs(lat).max() <= 90
    assert lon.min() >= -360
    assert lon.max() < 720


@pytest.mark.parametrize("g", GRIDS, ids=names)
def test_json_gives_back_the_grid(g):
    again = grid_from_dict(json.loads(json.dumps(g.to_dict())))
    assert again == g
    assert hash(again) == hash(g)
    assert describe_difference(g, again) is None


def test_different_grids_are_different():
    assert len(set(GRIDS)) == len(GRIDS)
    assert all(a != b for i, a in enumerate(GRIDS) for b in GRIDS[:i])
    assert HealpixGrid(8) != HealpixGrid(8, Order.RING)


@pytest.mark.parametrize("g", GRIDS, ids=names)
@pytest.mark.parametrize("rule", [nearest, bilinear])
def test_every_cell_is_found_at_its_own_place(g, rule):
    stencil = locate(g, *(c.ravel() for c in g.points), rule)
    assert stencil.inside.all()
    x = np.random.default_rng(0).normal(size=g.area.size)
    # Bent rows are searched by Newton's method and snapped to centres to a millionth of a cell.
    np.testing.assert_allclose(stencil.matrix(x.size) @ x, x, atol=1e-6)


@pytest.mark.parametrize("g", GLOBAL, ids=names)
@pytest.mark.parametrize("rule", [nearest, bilinear])
def test_global_stencils_cover_the_sphere_and_keep_constants(g, rule):
    lat, lon = scattered(500, seed=1)
    lat[:6], lon[:6] = [90, -90, 89.999, -89.999, 0, 0], [0, 77, 10, -10, 360, -180]
    stencil = locate(g, lat, lon, rule)
    assert stencil.inside.all()
    assert stencil.weights.min() >= 0
    np.testing.assert_allclose(stencil.weights.sum(1), 1, rtol=1e-12)
    assert stencil.cells.min() >= 0
    assert stencil.cells.max() < g.area.size


@pytest.mark.parametrize("g", GRIDS, ids=names)
def test_the_nearest_cell_is_the_nearest_by_search(g):
    """On grids whose cells are not nearest-neighbour cells, it is at most a cell's size off."""
    lat, lon = scattered(300, seed=2, region=g in REGIONAL)
    stencil = locate(g, lat, lon, nearest)
    at, centres = unit_vectors(lat, lon), unit_vectors(*g.points).reshape(-1, 3)
    distance = np.linalg.norm(at[:, None] - centres, axis=-1)
    taken = np.take_along_axis(distance, stencil.cells, 1)[:, 0]
    inside = stencil.inside
    if isinstance(g, PointGrid):
        np.testing.assert_array_equal(stencil.cells[inside, 0], distance[inside].argmin(1))
    size = np.sqrt(4 * np.pi * g.area.ravel())[stencil.cells[:, 0]]
    # Cells at a pole are slivers: nearest along rows and columns, not in distance.
    polar = np.abs(lat) > 70
    assert (taken <= distance.min(1) + 0.5 * size)[inside & ~polar].all()
    assert (taken <= distance.min(1) + 2.0 * size)[inside & polar].all()


def smooth(lat, lon):
    lat, lon = np.radians(lat), np.radians(lon)
    return np.cos(lat) * np.cos(lon - 1) + 0.5 * np.sin(lat) + np.cos(lat) ** 2 * np.sin(2 * lon)


def refined(kind, k):
    if kind == "rotated":
        lat, lon = np.linspace(-20, 20, 10 * k + 1), np.linspace(-30, 30, 15 * k + 1)
        return ProjectedGrid(LatLonGrid(lat, lon), RotatedPole(lat=39.25, lon=-162))
    if kind == "curvilinear":
        return CurvilinearGrid(*refined("rotated", k).points)
    if kind == "points":
        return PointGrid(*grid(f"healpix{4 * k}-ring").points)
    return grid(
        {"latlon": f"{15 / k}deg", "poles": f"{15 / k}deg-poles"}.get(kind, f"{kind}{8 * k}")
    )


@pytest.mark.parametrize(
    "kind",
    ["latlon", "poles", "f", "o", "healpix", "rotated", "curvilinear", "points"],
)
def test_interpolation_converges_to_second_order(kind):
    errors, sizes = [], []
    for k in (1, 2, 4):
        g = refined(kind, k)
        lat, lon = scattered(4000, seed=3)
        stencil = locate(g, lat, lon)
        value = stencil.matrix(g.area.size) @ smooth(*(c.ravel() for c in g.points))
        errors.append(np.sqrt(np.mean((value - smooth(lat, lon))[stencil.inside] ** 2)))
        sizes.append(np.sqrt(g.area.mean()))
    orders = np.diff(np.log(errors)) / np.diff(np.log(sizes))
    assert (orders > 1.8).all(), (errors, orders)


@pytest.mark.parametrize("g", [g for g in GRIDS if not isinstance(g, HealpixGrid)], ids=names)
def test_coordinates_alone_tell_the_grid(g):
    if len(g.shape) == 1:
        again = recognise(*g.points, listed=True)
        assert again == g
    elif isinstance(g, LatLonGrid):
        assert recognise(*g.points) == recognise(g.lat, g.lon) == g
    else:
        again = recognise(*g.points, declared=g)
        assert again is g
        assert isinstance(recognise(*g.points), CurvilinearGrid)


@pytest.mark.parametrize("nside", [2, 8])
@pytest.mark.parametrize("order", Order)
def test_healpix_is_recognised_with_its_order(nside, order):
    g = HealpixGrid(nside, order)
    assert recognise(*g.points) == g


@pytest.mark.parametrize("g", [g for g in GRIDS if len(g.shape) == 1], ids=names)
def test_cells_and_their_neighbours_are_mutual_and_near(g):
    table = g.neighbours()
    assert table.dtype == np.int64
    pairs = {(i, int(j)) for i, row in enumerate(table) for j in row if j >= 0}
    assert pairs == {(j, i) for i, j in pairs}
    assert all(i != j for i, j in pairs)
    assert ((table >= 0).sum(1) >= 3).all()
    if not isinstance(g, PointGrid):
        xyz = unit_vectors(*g.points)
        size = np.sqrt(4 * np.pi * g.area.max())
        assert all(np.linalg.norm(xyz[i] - xyz[j]) < 3 * size for i, j in pairs)


def test_areas_of_regions_are_their_share():
    lat, lon = np.arange(30.5, 60), np.arange(0.5, 40)
    flat = LatLonGrid(lat, lon)
    share = (np.sin(np.radians(60)) - np.sin(np.radians(30))) / 2 * 40 / 360
    np.testing.assert_allclose(flat.area.sum(), share, rtol=1e-12)
    edges = np.meshgrid(np.arange(30.0, 61), np.arange(0.0, 41), indexing="ij")
    given = CurvilinearGrid(*flat.points, corners=tuple(edges))
    # Edges along great circles instead of parallels: a thousandth of cells of a degree at most.
    np.testing.assert_allclose(given.area, flat.area, rtol=1e-3)
    amid = CurvilinearGrid(*flat.points)
    np.testing.assert_allclose(amid.area.sum(), given.area.sum(), rtol=2e-3)
    listed = PointGrid(*(c.ravel() for c in flat.points), area=flat.area.ravel())
    np.testing.assert_array_equal(listed.area, flat.area.ravel())
    corners = tuple(c.reshape(-1, 4) for c in given.corners)
    meshed = PointGrid(*(c.ravel() for c in flat.points), corners=corners)
    np.testing.assert_allclose(meshed.area, given.area.ravel())


def test_a_conformal_map_has_the_areas_of_its_scale():
    """Snyder (1987), eq. 15-4: lengths on the cone are k times those on the sphere."""
    lat, _ = LAMBERT.points
    n, _ = CONE._cone
    rho = CONE._distance(lat)
    k = n * rho / (CONE.radius_m * np.cos(np.radians(lat)))
    expected = 3e5 * 2e5 / k**2 / (4 * np.pi * CONE.radius_m**2)
    # The scale changes across a cell of 300 km: by about (300 / 6371)^2.
    np.testing.assert_allclose(LAMBERT.area, expected, rtol=2e-3)


@pytest.mark.parametrize("projection", [CONE, POLAR.projection, ROTATED.projection])
def test_projections_and_their_inverses(projection):
    rng = np.random.default_rng(0)
    lat = (
        rng.uniform(-80, 80, 200)
        if projection is not POLAR.projection
        else rng.uniform(-90, 0, 200)
    )
    lon = rng.uniform(-170, 190, 200)
    again = projection.inverse(*projection.forward(lat, lon))
    np.testing.assert_allclose(unit_vectors(*again), unit_vectors(lat, lon), atol=1e-12)


def test_projections_agree_with_proj():
    pyproj = pytest.importorskip("pyproj")
    rng = np.random.default_rng(0)
    lat, lon = rng.uniform(20, 80, 100), rng.uniform(-60, 60, 100)
    south = PolarStereographic(true_lat=-71.0, lon=30.0)
    for mine, text, sign in (
        (CONE, "+proj=lcc +lat_1=30 +lat_2=60 +lat_0=45 +lon_0=10 +R=6371229", 1),
        (
            PolarStereographic(true_lat=60.0, lon=-105.0),
            "+proj=stere +lat_0=90 +lat_ts=60 +lon_0=-105 +R=6371229",
            1,
        ),
        (south, "+proj=stere +lat_0=-90 +lat_ts=-71 +lon_0=30 +R=6371229", -1),
    ):
        x, y = pyproj.Proj(text)(lon, sign * lat)
        np.testing.assert_allclose(mine.forward(sign * lat, lon), (y, x), atol=1e-5)  # 10 um
    text = "+proj=ob_tran +o_proj=longlat +o_lat_p=39.25 +o_lon_p=0 +lon_0=18"
    x, y = np.degrees(pyproj.Proj(text)(lon, lat))
    first, second = ROTATED.projection.forward(lat, lon)
    np.testing.assert_allclose(first, y, atol=1e-8)
    np.testing.assert_allclose(second, x, atol=1e-8)


def test_points_outside_are_flagged_not_extrapolated():
    lat, lon = [0.0, 85.0], [180.0, -150.0]
    for g in REGIONAL:
        if g == ring_of_rows():
            continue
        for rule in (nearest, bilinear):
            stencil = locate(g, lat, lon, rule)
            assert not stencil.inside.any(), g
            assert (stencil.weights == 0).all()


def test_no_points_are_no_points():
    for g in GRIDS:
        for rule in (nearest, bilinear):
            stencil = locate(g, [], [], rule)
            assert stencil.cells.shape[0] == 0
            assert stencil.inside.shape == (0,)
            assert (stencil.matrix(g.area.size) @ np.zeros(g.area.size)).shape == (0,)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: HealpixGrid(3), r"nside: expected a power of 2 up to 2\*\*29, got 3"),
        (
            lambda: ReducedGaussianGrid((4, 0)),
            r"counts: expected at least 2 positive numbers, got \(4, 0\)",
        ),
        (lambda: octahedral(0), "number: expected a positive number of latitudes, got 0"),
        (
            lambda: grid("n33"),
            "number: expected one of 32, 48, 64, 80, 96, 128, 160, 200, 256, 320, 400, 512, 640, "
            "1024, 1280, got 33",
        ),
        (lambda: RotatedPole(lat=91, lon=0), r"lat: expected degrees in \[-90, 90\], got 91"),
        (
            lambda: LambertConformal(parallels=(30, -30), lat=0, lon=0),
            r"parallels: expected two between the poles and not opposite, got \(30, -30\)",
        ),
        (
            lambda: PolarStereographic(true_lat=0, lon=0),
            "true_lat: expected degrees of one hemisphere, got 0",
        ),
        (
            lambda: CurvilinearGrid([0, 1], [0, 1]),
            r"lat, lon: expected one shape \(rows, cols\) of at least 2 x 2, "
            r"got \(2,\) and \(2,\)",
        ),
        (
            lambda: CurvilinearGrid([[0, 9e36], [1, 1]], [[0, 1], [0, 1]]),
            r"lat: expected degrees in \[-90, 90\], got 9e\+36 at index \(0, 1\)",
        ),
        (
            lambda: CurvilinearGrid([[0, 0], [1, 1]], [[0, 1], [0, 1]], ([0, 1], [0, 1])),
            r"corners: expected two of shape \(2, 2, 4\) or \(3, 3\), got \(2,\) and \(2,\)",
        ),
        (
            lambda: PointGrid([0, 1, 2], [0, 1, 2]),
            r"lat, lon: expected two 1-D lists of one length, at least 4, "
            r"got shapes \(3,\) and \(3,\)",
        ),
        (
            lambda: PointGrid([0, 1, 0, 3], [0, 1, 360, 5]),
            "lat, lon: expected every point once, got 0.0, 0.0 at index 0 and 2",
        ),
        (
            lambda: PointGrid([0, 1, 2, 3], [0, 1, 2, 3], area=[1, 2]),
            r"area: expected 4 shares of at least 0, got shape \(2,\)",
        ),
        (
            lambda: PointGrid([0, 1, 2, 3], [0, 1, 2, 3], corners=([[0, 1]], [[0, 1]])),
            r"corners: expected two of shape \(4, at least 3\), got \(1, 2\) and \(1, 2\)",
        ),
        (
            lambda: locate(PointGrid(*scattered(9)), [0], [0], method=round),
            "method: expected bilinear or nearest on points, got <built-in function round>",
        ),
        (
            lambda: HealpixGrid(8).curve(8),
            "patch: expected a power of 4 of cells, at most 64 on a face, got 8",
        ),
        (lambda: grid_from_dict({"kind": "sphere"}), "kind: expected one of .*, got 'sphere'"),
        (
            lambda: ProjectedGrid(LAMBERT.base, LAMBERT).to_dict(),
            "projection: expected one of rotated_pole, lambert_conformal, polar_stereographic, "
            "got ProjectedGrid.*",
        ),
    ],
)
def test_what_cannot_be_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


def test_what_is_no_grid_is_refused():
    with pytest.raises(TypeError, match=r"^grid: expected a Lattice or Cells, got Plain$"):
        locate(Plain(), [0], [0])


class Plain:
    """Something with the names of coordinates and nothing else."""

    dims = ("lat", "lon")
