"""Laws of tiles: cores cover, weights add up to one, merging undoes splitting."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from stormda.grid import HealpixGrid, HealpixTiles, Order, TileLayout, grid
from stormda.grid.sphere import unit_vectors


@st.composite
def layouts(draw):
    shape = draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    tiles = tuple(draw(st.integers(1, n)) for n in shape)
    halo = tuple(draw(st.integers(0, n)) for n in shape)
    periodic = draw(st.tuples(st.booleans(), st.booleans()))
    return TileLayout(shape, tiles, halo, periodic, blend=draw(st.booleans()))


@given(layouts())
def test_merging_undoes_splitting(layout):
    x = np.random.default_rng(0).normal(size=(2, *layout.shape))
    np.testing.assert_allclose(layout.merge(layout.split(x)), x, atol=1e-12)


@given(layouts())
def test_cores_cover_every_cell_once(layout):
    cover = np.zeros(layout.shape, int)
    for (rows, cols), _ in layout.windows():
        cover[slice(*rows), slice(*cols)] += 1
    assert (cover == 1).all()


@given(layouts())
def test_weights_lie_between_zero_and_one(layout):
    for i in range(len(layout)):
        assert layout.weight(i).min() > 0 if layout.blend else layout.weight(i).min() >= 0
        assert layout.weight(i).max() <= 1 + 1e-12


def test_windows_are_taken_as_a_wrapped_field_shows_them():
    layout = TileLayout((6, 12), tiles=(2, 4), halo=(1, 2), periodic=True)
    x = np.arange(72.0).reshape(6, 12)
    around = np.pad(x, [(0, 0), (12, 12)], "wrap")
    for i, (_, (rows, cols)) in enumerate(layout.windows()):
        expected = around[slice(*rows), cols.start + 12 : cols.stop + 12]
        np.testing.assert_array_equal(layout.take(x, i), expected)
    assert layout.windows()[0].extended == ((0, 4), (-2, 5))
    assert layout.windows()[7].extended == ((2, 6), (7, 14))


def test_weights_are_the_hann_ramp():
    """Two tiles and a halo of 2: sin^2 over the four cells that both windows hold."""
    layout = TileLayout((1, 8), tiles=(1, 2), halo=(0, 2))
    rising = np.sin(np.pi * (np.arange(4) + 0.5) / 8) ** 2
    np.testing.assert_allclose(layout.weight(1)[0], [*rising, 1, 1], rtol=1e-12)
    np.testing.assert_allclose(layout.weight(0)[0], [1, 1, *rising[::-1]], rtol=1e-12)


@given(layouts())
def test_without_blending_every_cell_is_of_the_tile_whose_core_it_is_in(layout):
    layout = replace(layout, blend=False)
    numbers = [
        np.full(tile.shape, i) for i, tile in enumerate(layout.split(np.zeros(layout.shape)))
    ]
    owner = layout.merge(numbers)
    for i, ((rows, cols), _) in enumerate(layout.windows()):
        assert (owner[slice(*rows), slice(*cols)] == i).all()


def test_merging_is_the_adjoint_of_weighted_splitting():
    layout = TileLayout((5, 7), tiles=(2, 3), halo=(1, 2), periodic=(True, True))
    rng = np.random.default_rng(1)
    x = rng.normal(size=(5, 7))
    tiles = [rng.normal(size=tile.shape) for tile in layout.split(x)]
    weighted = (layout.weight(i) * layout.take(x, i) for i in range(len(layout)))
    inner = sum((a * b).sum() for a, b in zip(tiles, weighted, strict=True))
    np.testing.assert_allclose((layout.merge(tiles) * x).sum(), inner, rtol=1e-12)


def test_torch_gives_what_numpy_gives_and_a_gradient():
    torch = pytest.importorskip("torch")
    layout = TileLayout((5, 8), tiles=(2, 2), halo=(1, 2), periodic=True)
    x = np.random.default_rng(2).normal(size=(3, 5, 8))
    t = torch.from_numpy(x).requires_grad_()
    merged = layout.merge([tile**2 for tile in layout.split(t)])
    expected = layout.merge([tile**2 for tile in layout.split(x)])
    np.testing.assert_allclose(merged.detach().numpy(), expected, rtol=1e-12)
    (gradient,) = torch.autograd.grad(merged.sum(), t)
    np.testing.assert_allclose(gradient.numpy(), 2 * x, rtol=1e-10)


def test_the_type_of_the_field_is_kept():
    layout = TileLayout((4, 4), tiles=(2, 2), halo=(1, 1))
    assert layout.merge(layout.split(np.ones((4, 4), np.float32))).dtype == np.float32


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: TileLayout((4, 8), tiles=(5, 2)),
            r"tiles: expected between 1 and the cells \(4, 8\), got \(5, 2\)",
        ),
        (
            lambda: TileLayout((4, 8), tiles=(2, 2), halo=(1, -1)),
            r"halo: expected between 0 and the cells \(4, 8\), got \(1, -1\)",
        ),
        (
            lambda: TileLayout((4, 8), tiles=(2, 2)).split(np.zeros((8, 4))),
            r"x: expected last dimensions \(4, 8\), got \(8, 4\)",
        ),
        (
            lambda: TileLayout((4, 8), tiles=(2, 2)).merge([np.zeros((2, 4))]),
            "tiles: expected 4 windows, got 1",
        ),
        (
            lambda: TileLayout((4, 8), tiles=(1, 1)).merge([np.zeros((2, 4))]),
            r"y: expected last dimensions \(4, 8\) of tile 0, got \(2, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()


@pytest.mark.parametrize("name", ["15deg", "15deg-poles"])
def test_windows_over_the_poles_hold_the_field_beyond(name):
    """Smooth fields go on as themselves; the wind of a rotation, with its sign turned, too."""
    g = grid(name)
    layout = TileLayout.on(g, tiles=(3, 4), halo=(3, 5))
    lat, lon = np.radians(g.lat[0] - 15.0 * np.arange(-3, g.shape[0] + 3)), np.radians(g.lon)
    lat = lat[:, None]
    beyond = np.stack(
        [np.sin(lat) * np.cos(lon), -np.sin(lon) + 0 * lat, np.cos(lat) * np.cos(lon)]
    )
    x, around = beyond[:, 3:-3], np.pad(beyond, [(0, 0), (0, 0), (24, 24)], "wrap")
    for i, (_, (rows, cols)) in enumerate(layout.windows()):
        expected = around[:, rows.start + 3 : rows.stop + 3, cols.start + 24 : cols.stop + 24]
        np.testing.assert_allclose(layout.take(x, i, vectors=(0, 1)), expected, atol=1e-12)
    tiles = layout.split(x, vectors=(0, 1))
    np.testing.assert_allclose(layout.merge(tiles, vectors=(0, 1)), x, atol=1e-12)
    assert layout.windows()[0].extended[0].start == -3


@pytest.mark.parametrize("order", Order)
def test_windows_of_healpix_are_neighbourhoods(order):
    """Cells side by side in a window are side by side on the sphere, also over the edges."""
    g = HealpixGrid(8, order)
    xyz = unit_vectors(*g.points)
    layout = HealpixTiles(g, per_edge=2, halo=3)
    for i in range(len(layout)):
        cells = layout.cells(i)
        assert len(np.unique(cells[cells >= 0])) == (cells >= 0).sum()
        for a, b in ((cells[1:], cells[:-1]), (cells[:, 1:], cells[:, :-1])):
            both = (a >= 0) & (b >= 0)
            apart = np.linalg.norm(xyz[a[both]] - xyz[b[both]], axis=-1)
            # A step is about the side of a cell, 1/3 more in the slanted cells of the caps.
            assert apart.max() < 1.4 * np.sqrt(4 * np.pi / 768)
    missing = sum((layout.cells(i) < 0).any() for i in range(len(layout)))
    assert missing == 24  # eight corners where three faces meet, one tile on each


def test_torch_tiles_of_healpix_are_those_of_numpy():
    torch = pytest.importorskip("torch")
    layout, x = (
        HealpixTiles(HealpixGrid(4), halo=2),
        np.random.default_rng(0).normal(size=(3, 192)),
    )
    tiles = layout.split(torch.from_numpy(x))
    for ours, theirs in zip(tiles, layout.split(x), strict=True):
        np.testing.assert_array_equal(ours.numpy(), theirs)
    np.testing.assert_allclose(layout.merge(tiles).numpy(), x, atol=1e-12)
