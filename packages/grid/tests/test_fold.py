"""The fold of tripolar grids: found from places, gone over by everything.

Two families have it exactly: the bipolar cap of Murray (1996) and confocal ellipses.
"""

import os
from pathlib import Path

import numpy as np
import pytest

from stormda.grid import (
    CurvilinearGrid,
    Patching,
    TileLayout,
    interpolation,
    locate,
    nearest,
    recognise,
    unique_cells,
)
from stormda.grid.sphere import unit_vectors

JOIN = 60.0  # where both families pass into the rest of the grid [degrees_north]


def on_sphere(z):
    """Return latitude and longitude of points of the plane that touches at the North Pole."""
    return 90 - 2 * np.degrees(np.arctan(np.abs(z))), np.degrees(np.angle(z))


def bipolar(rows, cols, *, in_row=False, shift=0):
    """Murray's cap: circles through two poles on the parallel `JOIN`, and those that cut them.

    With poles at 1 and -1 and w = log((1 + z) / (1 - z)), rows have one Im w, columns one Re w.
    Source: Murray (1996), J. Comput. Phys. 126, 251, section 3.
    """
    column = 2 * np.pi / cols * (np.arange(cols) + 0.5 + shift) % (2 * np.pi)
    side = np.where(column < np.pi, 1.0, -1.0)
    along = np.log(np.abs(1 / np.tan(column / 2)))
    beside = np.pi / 2 * (rows - 1 - np.arange(rows) + (0 if in_row else 0.5)) / rows
    z = np.tanh((along + 1j * side * beside[:, None]) / 2)
    return on_sphere(np.tan(np.radians(90 - JOIN) / 2) * z)


def ellipses(rows, cols, *, in_row=False, shift=0, offset=0.0):
    """Rows are confocal ellipses around the line between two poles, columns hyperbolas."""
    column = 2 * np.pi / cols * (np.arange(cols) + offset + shift)
    step = 2 * np.pi / cols
    around = step * (rows - 1 - np.arange(rows) + (0 if in_row else 0.5))
    z = np.cosh(around[:, None] + 1j * column)
    return on_sphere(np.tan(np.radians(90 - JOIN) / 2) * z)


CASES = [
    *(("bipolar", {"in_row": r, "shift": s}) for r in (False, True) for s in (0, 5)),
    *(
        ("ellipses", {"in_row": r, "shift": s, "offset": o})
        for r in (False, True)
        for s, o in ((0, 0.0), (0, 0.5), (7, 0.0))
    ),
]
FAMILIES = {"bipolar": bipolar, "ellipses": ellipses}
case = pytest.mark.parametrize(("family", "how"), CASES)


def cap(family, how, rows=24, cols=96, flipped=False):
    lat, lon = FAMILIES[family](rows, cols, **how)
    return CurvilinearGrid(lat[::-1], lon[::-1]) if flipped else CurvilinearGrid(lat, lon)


def total(family, how, cols):
    """Return what facing columns add up to, by the formulas."""
    offset = 0.5 if family == "bipolar" else how["offset"]
    return round(-2 * (offset + how["shift"])) % cols


@case
@pytest.mark.parametrize("flipped", [False, True])
def test_the_fold_is_found_where_the_formulas_have_it(family, how, flipped):
    fold = cap(family, how, flipped=flipped).fold
    assert fold.total % 96 == total(family, how, 96)
    assert (fold.in_row, fold.first, fold.columns) == (how["in_row"], flipped, 96)


@case
@pytest.mark.parametrize("flipped", [False, True])
def test_neighbours_are_mutual_and_near_across_the_fold(family, how, flipped):
    g = cap(family, how, flipped=flipped)
    table = Patching(g, (1, 1)).neighbours()
    pairs = {(i, int(j)) for i, row in enumerate(table) for j in row if j >= 0}
    assert pairs == {(j, i) for i, j in pairs}
    assert all(i != j for i, j in pairs)
    centres = unit_vectors(*g.points).reshape(-1, 3)
    rows, cols = g.shape
    outer = np.arange(cols) + (0 if flipped else (rows - 1) * cols)
    over = table[outer, 1 if flipped else 6]
    at_pivot = g.fold.facing(np.arange(cols)) == np.arange(cols)
    np.testing.assert_array_equal(over < 0, at_pivot)
    inward = np.linalg.norm(centres[outer] - centres[table[outer, 6 if flipped else 1]], axis=1)
    gap = np.linalg.norm(centres[outer] - centres[over], axis=1)[~at_pivot]
    # Beside the fold a step away, near the poles a little more; on the fold at the same place.
    assert (gap <= (1e-12 if how["in_row"] else 2.1 * inward[~at_pivot])).all()


@case
@pytest.mark.parametrize("patch", [(2, 2), (4, 3), (5, 7)])
def test_tokens_face_tokens(family, how, patch):
    patching = Patching(cap(family, how), patch)
    table = patching.neighbours()
    pairs = {(i, int(j)) for i, row in enumerate(table) for j in row if j >= 0}
    assert pairs == {(j, i) for i, j in pairs}
    rows, cols = patching.token_shape
    assert (table[(rows - 1) * cols :, 5:] >= 0).any(1).all()


@case
@pytest.mark.parametrize("flipped", [False, True])
def test_there_is_no_gap_in_the_arctic(family, how, flipped):
    g = cap(family, how, flipped=flipped)
    rng = np.random.default_rng(0)
    lat = np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(66)), 1, 3000)))
    lon = rng.uniform(0, 360, lat.size)
    lat[:3], lon[:3] = 90, [0, 77, 180]
    for rule in (None, nearest):
        stencil = locate(g, lat, lon) if rule is None else locate(g, lat, lon, rule)
        assert stencil.inside.all()
        np.testing.assert_allclose(stencil.weights.sum(1), 1, rtol=1e-12)
        assert stencil.weights.min() >= -1e-9
    own = locate(g, *(c.ravel() for c in g.points))
    x = unit_vectors(*g.points).reshape(-1, 3)
    np.testing.assert_allclose(own.matrix(len(x)) @ x, x, atol=1e-6)


@pytest.mark.parametrize("how", [how for family, how in CASES if family == "ellipses"])
def test_there_is_no_gap_at_the_poles_of_the_fold(how):
    """However near: cells are folded there, and their quadrilaterals meet at a sharp angle."""
    rng = np.random.default_rng(0)
    near = 0.06 * 10 ** rng.uniform(-9, 0, 1000) * np.exp(2j * np.pi * rng.uniform(size=1000))
    lat, lon = on_sphere(np.tan(np.radians(90 - JOIN) / 2) * (1 + near))
    g = cap("ellipses", how)
    stencil = locate(g, lat, lon)
    assert stencil.inside.all()
    x = unit_vectors(*g.points).reshape(-1, 3)
    missed = np.linalg.norm(stencil.matrix(len(x)) @ x - unit_vectors(lat, lon), axis=-1)
    assert missed.max() < 1e-3  # the square of a step of 0.03, as elsewhere


@case
def test_a_linear_function_is_found_to_second_order(family, how):
    errors = []
    rng = np.random.default_rng(1)
    lat = np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(66)), 1, 2000)))
    lon = rng.uniform(0, 360, lat.size)
    for k in (1, 2, 4):
        how_here = how | {"shift": how["shift"] * k}
        if family == "ellipses":
            how_here["shift"] = how["shift"]
        g = cap(family, how_here, 24 * k, 96 * k)
        at = unit_vectors(lat, lon)
        found = interpolation(g, lat, lon)(np.moveaxis(unit_vectors(*g.points), -1, 0))
        errors.append(np.sqrt(np.mean((found.T - at) ** 2)))
    orders = np.log2(np.divide(errors[:-1], errors[1:]))
    assert (orders > 1.8).all(), (errors, orders)


@case
def test_areas_make_up_the_cap(family, how):
    """Rows that lie on the fold have their cells twice, with half the area each."""
    g = cap(family, how, 48, 192)
    z = np.tan(np.radians(90 - JOIN) / 2)
    if family == "bipolar":
        outline = on_sphere(z * np.exp(1j * np.linspace(0, 2 * np.pi, 4000)))
        rows = 1 - (0.5 / 48 if how["in_row"] else 0)
        around = np.pi / 2 * rows
        along = np.log(np.abs(1 / np.tan((np.arange(4000) + 0.5) * np.pi / 4000 / 2)))
        half = np.tanh((along + 1j * around) / 2)
        outline = on_sphere(z * np.r_[half, half.conj()[::-1]])
    else:
        around = 2 * np.pi / 192 * (48 - (0.5 if how["in_row"] else 0))
        outline = on_sphere(z * np.cosh(around + 1j * np.linspace(0, 2 * np.pi, 4000)[:-1]))
    lat, lon = (np.radians(v) for v in outline)
    # Green: the area north of a closed line is the integral of (1 - sin lat) d lon.
    turn = np.angle(np.exp(1j * np.diff(lon, append=lon[:1])))
    middle = (np.sin(lat) + np.roll(np.sin(lat), -1)) / 2
    inside = abs(((1 - middle) * turn).sum()) / (4 * np.pi)
    np.testing.assert_allclose(g.area.sum(), inside, rtol=2e-3)
    assert (g.area > 0).all()
    row = g.area[-2:].sum(1)
    assert row[1] / row[0] == pytest.approx(0.5 if how["in_row"] else 1, rel=0.05)


def by_the_formulas(g, halo, x):
    """Continue a field (..., rows, cols) row by row and cell by cell, the slow way."""
    cols = g.shape[1]
    beyond = [
        x[
            ...,
            g.shape[0] - k - (1 if g.fold.in_row else 0),
            (g.fold.total - np.arange(cols)) % cols,
        ]
        for k in range(1, halo + 1)
    ]
    return np.concatenate([x, np.stack(beyond, -2)], -2)


@case
def test_halos_and_padding_go_over_the_fold(family, how):
    g = cap(family, how, 22, 96)
    x = np.random.default_rng(0).normal(size=(2, *g.shape))
    expected = by_the_formulas(g, 3, x)
    expected[1, g.shape[0] :] *= -1
    patching = Patching(g, (5, 4))
    np.testing.assert_array_equal(patching.pad(x, vectors=[1]), expected)
    np.testing.assert_array_equal(patching.unpatchify(patching.patchify(x[None])), x[None])
    layout = TileLayout.on(g, (2, 4), (3, 5))
    wide = np.concatenate([expected[..., -5:], expected, expected[..., :5]], -1)
    for i in range(4, 8):
        rows, cols = layout.window(i).extended
        window = wide[..., rows.start : rows.stop, cols.start + 5 : cols.stop + 5]
        np.testing.assert_array_equal(layout.take(x, i, vectors=[1]), window)
    merged = layout.merge(layout.split(x, [1]), [1])
    np.testing.assert_allclose(merged, x, atol=1e-12)


@pytest.mark.parametrize("in_row", [False, True])
@pytest.mark.parametrize("columns", [0, 2])
def test_what_files_repeat_is_found_and_refused(in_row, columns):
    """As NEMO writes it: two columns round the seam, one row over the fold."""
    lat, lon = ellipses(20, 60, in_row=in_row)
    plain = CurvilinearGrid(lat, lon)
    beyond = (plain.fold.total - np.arange(60)) % 60
    whole = []
    for v in (lat, lon):
        tall = np.concatenate([v, v[None, -2 if in_row else -1, beyond]])
        whole.append(np.concatenate([tall, tall[:, :columns]], 1).astype(np.float32))
    rows, cols = unique_cells(*whole)
    assert (rows, cols) == (slice(0, 20), slice(0, 60))
    message = (
        f"^lat, lon: expected every cell once, got 1 rows and {columns} columns that repeat "
        r"others: take `unique_cells\(lat, lon\)` of the coordinates and of the fields$"
    )
    with pytest.raises(ValueError, match=message):
        recognise(*whole)
    fold = recognise(*(v[rows, cols] for v in whole)).fold
    assert (fold.total % 60, fold.in_row) == (0, in_row)
    assert unique_cells(lat, lon) == (slice(0, 20), slice(0, 60))
    upside_down = [v[::-1] for v in whole]
    assert unique_cells(*upside_down) == (slice(1, 21), slice(0, 60))


def test_layouts_that_contradict_themselves_are_refused():
    lat, lon = ellipses(20, 60, in_row=True)
    lat[-1, 40:] -= 1
    message = (
        r"^lat, lon: expected a row that repeats another as a whole or not at all, "
        r"got \d+ of 5\d cells that do$"
    )
    with pytest.raises(ValueError, match=message):
        CurvilinearGrid(lat, lon)
    lat, lon = (np.concatenate([v, v[:, :1]], 1) for v in ellipses(20, 60))
    lat[:8, -1] -= 1
    message = r"^lat, lon: expected a column that repeats another .*, got 12 of 20 cells that do$"
    with pytest.raises(ValueError, match=message):
        unique_cells(lat, lon)


def test_a_part_of_a_folded_grid_ends_at_walls():
    lat, lon = ellipses(20, 60)
    for rows, cols in ((slice(0, 12), slice(None)), (slice(None), slice(0, 40))):
        assert CurvilinearGrid(lat[rows, cols], lon[rows, cols]).fold is None


@pytest.fixture
def orca():
    """The grid of a NEMO ocean of 1 degree, without the cells that its model repeats."""
    if "STORMDA_DATA" not in os.environ:
        pytest.skip("STORMDA_DATA is not set")
    xarray = pytest.importorskip("xarray")
    pytest.importorskip("h5netcdf")
    path = Path(os.environ["STORMDA_DATA"]) / "mesh" / "nemo_tos_201501_330x360.nc"
    with xarray.open_dataset(path, engine="h5netcdf", decode_cf=False) as file:
        lat, lon, *corners = (
            file[name].values for name in ("nav_lat", "nav_lon", "bounds_lat", "bounds_lon")
        )
    return recognise(lat, lon, corners=(corners[0], corners[1]))


def test_the_fold_of_a_real_ocean_is_found(orca):
    assert (orca.fold.total % 360, orca.fold.in_row, orca.fold.first) == (359, False, False)
    centres = unit_vectors(*orca.points)
    across = np.linalg.norm(centres[-1] - centres[-1, ::-1], axis=-1)
    inward = np.linalg.norm(centres[-1] - centres[-2], axis=-1)
    np.testing.assert_allclose(np.median(across / inward), 1, atol=0.05)
    table = Patching(orca, (1, 1)).neighbours()
    pairs = {(i, int(j)) for i, row in enumerate(table) for j in row if j >= 0}
    assert pairs == {(j, i) for i, j in pairs}
    assert (table[-360:, 6] >= 0).all()


def test_a_real_ocean_covers_the_arctic(orca):
    rng = np.random.default_rng(0)
    lat = np.degrees(np.arcsin(rng.uniform(np.sin(np.radians(50)), 1, 30_000)))
    lon = rng.uniform(-180, 180, lat.size)
    stencil = locate(orca, lat, lon)
    assert stencil.inside.all()
    x = unit_vectors(*orca.points).reshape(-1, 3)
    missed = np.linalg.norm(stencil.matrix(len(x)) @ x - unit_vectors(lat, lon), axis=-1)
    # Chords of cells of a degree lie up to (0.5 degree)^2 / 2 = 4e-5 within the sphere.
    assert missed.max() < 1.5e-4
    amid = CurvilinearGrid(*orca.points)
    row = amid.area[-1].sum() / orca.area[-1].sum()
    np.testing.assert_allclose(row, 1, atol=0.01)
    np.testing.assert_allclose(amid.area[150:].sum(), orca.area[150:].sum(), rtol=2e-3)
