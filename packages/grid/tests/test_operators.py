"""Laws of sparse operators: adjoint, NumPy and torch alike, conservation, exactness."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormda.grid import (
    CurvilinearGrid,
    LatLonGrid,
    PointGrid,
    ProjectedGrid,
    RotatedPole,
    conservative,
    grid,
    interpolation,
    locate,
    nearest,
    regridding,
)
from stormda.grid.sphere import unit_vectors

REGION = LatLonGrid(np.arange(58.0, 49.9, -1.0), np.arange(-10.0, 2.1, 1.0))
ROTATED = ProjectedGrid(
    LatLonGrid(np.linspace(-5, 5, 9), np.linspace(-8, 8, 11)), RotatedPole(lat=39.25, lon=-162.0)
)


def points(m, seed=0):
    rng = np.random.default_rng(seed)
    return np.degrees(np.arcsin(rng.uniform(-1, 1, m))), rng.uniform(-180, 180, m)


def operators():
    lat, lon = points(50)
    yield interpolation(grid("15deg-poles"), lat, lon)
    yield interpolation(REGION, lat, lon, nearest)
    yield interpolation(grid("o8"), lat, lon)
    yield interpolation(grid("healpix8"), lat, lon)
    yield interpolation(ROTATED, 50 + lat / 20, 18 + lon / 30)
    yield interpolation(PointGrid(*points(99, seed=1)), lat, lon)
    yield regridding(grid("f8"), grid("healpix4"))
    yield regridding(grid("healpix4"), REGION)
    yield conservative(grid("5deg"), grid("15deg-poles"))
    yield conservative(REGION, grid("15deg"))


OPERATORS = list(operators())
names = lambda a: f"{a.source}-{a.target}"  # noqa: E731


@pytest.mark.parametrize("a", OPERATORS, ids=names)
def test_the_adjoint_is_the_adjoint(a):
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(3, *a.source)), rng.normal(size=(3, *a.target))
    np.testing.assert_allclose((a(x) * y).sum(), (x * a.adjoint(y)).sum(), rtol=1e-12)


@pytest.mark.parametrize("a", OPERATORS, ids=names)
def test_torch_gives_what_numpy_gives_and_its_gradient_is_the_adjoint(a):
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, y = rng.normal(size=(2, 3, *a.source)), rng.normal(size=(2, 3, *a.target))
    tensor = torch.from_numpy(x).requires_grad_()
    mapped = a(tensor)
    np.testing.assert_allclose(mapped.detach().numpy(), a(x), atol=1e-12)
    (gradient,) = torch.autograd.grad(mapped, tensor, torch.from_numpy(y))
    np.testing.assert_allclose(gradient.numpy(), a.adjoint(y), atol=1e-12)
    np.testing.assert_allclose(a.adjoint(torch.from_numpy(y)).numpy(), a.adjoint(y), atol=1e-12)
    assert a(tensor.float()).dtype == torch.float32
    assert a(x.astype(np.float32)).dtype == np.float32


def test_operators_run_where_the_tensor_is():
    """On the `meta` device nothing is computed, but every step has to agree on the device."""
    torch = pytest.importorskip("torch")
    a = OPERATORS[0]
    assert a(torch.zeros(2, *a.source, device="meta")).device.type == "meta"


def test_bilinear_is_exact_for_linear_functions_in_the_interior():
    """On a rotated pole linear in its own coordinates; in triangles linear in space."""
    rng = np.random.default_rng(1)
    lat, lon = ROTATED.projection.inverse(rng.uniform(-5, 5, 200), rng.uniform(-8, 8, 200))
    linear = lambda lat, lon: (lambda y, x: 3 + 2 * y - x)(*ROTATED.projection.forward(lat, lon))  # noqa: E731
    got = interpolation(ROTATED, lat, lon)(linear(*ROTATED.points))
    np.testing.assert_allclose(got, linear(lat, lon), atol=1e-10)
    bent = CurvilinearGrid(*ROTATED.points)
    rows, cols = np.meshgrid(np.arange(9.0), np.arange(11.0), indexing="ij")
    at = bent.place(rows[:-1, :-1] + 0.3, cols[:-1, :-1] + 0.6)
    mapped = interpolation(bent, *(c.ravel() for c in at))
    # `place` is bilinear in space, the search in the plane that touches: (2 degrees)^2 / 8 apart.
    np.testing.assert_allclose(mapped(rows), rows[:-1, :-1].ravel() + 0.3, atol=1.5e-4)
    np.testing.assert_allclose(mapped(cols), cols[:-1, :-1].ravel() + 0.6, atol=1.5e-4)


def test_triangles_are_exact_for_linear_functions_of_space():
    g = PointGrid(*points(200, seed=2))
    lat, lon = points(100, seed=3)
    stencil = locate(g, lat, lon)
    xyz = unit_vectors(*g.points)
    chord = (xyz[stencil.cells] * stencil.weights[..., None]).sum(1)
    along = np.cross(chord, unit_vectors(lat, lon))  # the point of the triangle below the point
    np.testing.assert_allclose(along, 0, atol=1e-12)


@st.composite
def latlon(draw):
    rows, cols = draw(st.integers(2, 9)), draw(st.integers(2, 12))
    start = draw(st.floats(-180, 180))
    cuts = draw(st.lists(st.floats(-80, 80), min_size=rows, max_size=rows, unique=True))
    lat = np.sort(cuts)
    if rows > 1 and np.diff(lat).min() < 1e-3:
        lat = np.linspace(-70, 60, rows)
    edges = np.array([-90, *(lat[:-1] + lat[1:]) / 2, 90])
    bounds = np.stack([edges[:-1], edges[1:]], 1)
    return LatLonGrid(lat, start + 360 / cols * np.arange(cols), bounds)


@given(latlon(), latlon())
def test_area_means_conserve_the_integral_and_constants(source, target):
    mean = conservative(source, target)
    x = np.random.default_rng(0).normal(size=source.shape)
    np.testing.assert_allclose(
        (target.area * mean(x)).sum(), (source.area * x).sum(), rtol=1e-10, atol=1e-12
    )
    np.testing.assert_allclose(mean(np.ones(source.shape)), 1, rtol=1e-12)
    assert mean(x).max() <= x.max() + 1e-12


def test_area_means_are_those_of_the_cells_within():
    """Slow twin: every coarse cell is the weighted mean of the 3 x 5 fine ones in it."""
    fine, coarse = grid("3deg"), LatLonGrid(np.arange(85.5, -90, -9), np.arange(7.5, 360, 15))
    x = np.random.default_rng(0).normal(size=fine.shape)
    area = fine.area
    expected = [
        [
            np.average(x[i : i + 3, j : j + 5], weights=area[i : i + 3, j : j + 5])
            for j in range(0, 120, 5)
        ]
        for i in range(0, 60, 3)
    ]
    np.testing.assert_allclose(conservative(fine, coarse)(x), expected, rtol=1e-11)


def test_a_region_has_means_where_it_is():
    mean = conservative(REGION, grid("5deg"))(np.full(REGION.shape, 7.0))
    touched = mean != 0
    np.testing.assert_allclose(mean[touched], 7, rtol=1e-12)
    assert touched.sum() == 3 * 4  # 49.5-58.5 N: three bands; 10.5 W - 2.5 E: four columns


def test_what_does_not_fit_is_refused():
    with pytest.raises(
        ValueError, match=r"^x: expected last dimensions \(12, 24\), got \(24, 12\)$"
    ):
        interpolation(grid("15deg"), [0], [0])(np.zeros((24, 12)))
