"""Laws of patches: nothing is lost, padding is what lies beyond, weights are areas."""

import numpy as np
import pytest

from stormda.grid import LatLonGrid, Patching, PlaneGrid, grid

PLANE = PlaneGrid((4, 6), (1.0, 1.0))
REGION = LatLonGrid(np.arange(58.0, 49.9, -1.0), np.arange(-10.0, 2.1, 1.0))
GRIDS = [PLANE, REGION, grid("15deg"), grid("15deg-poles"), grid("f4")]
PATCHES = [(1, 1), (2, 3), (4, 4), (5, 7), (20, 50)]


def field(shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape)


def slow_patchify(x, patching):
    """Gather every token cell by cell from the padded field."""
    padded, (py, px), f = patching.pad(x), patching.patch, patching.frames
    time, _, rows, cols = padded.shape
    return np.stack(
        [
            padded[t : t + f, :, i : i + py, j : j + px].ravel()
            for t in range(0, time, f)
            for i in range(0, rows, py)
            for j in range(0, cols, px)
        ]
    )


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("g", GRIDS, ids=str)
def test_the_round_trip_is_the_identity(g, patch):
    patching = Patching(g, patch, frames=2)
    x = field((3, 4, 2, *g.shape))
    tokens = patching.patchify(x)
    assert tokens.shape == (3, patching.tokens(4), 2 * 2 * patch[0] * patch[1])
    np.testing.assert_array_equal(patching.unpatchify(tokens), x)


@pytest.mark.parametrize("g", GRIDS, ids=str)
def test_tokens_are_those_gathered_one_by_one(g):
    patching = Patching(g, (3, 5), frames=2)
    x = field((4, 2, *g.shape))
    np.testing.assert_array_equal(patching.patchify(x), slow_patchify(x, patching))


@pytest.mark.parametrize("vectors", [(), (1,)])
@pytest.mark.parametrize("g", GRIDS, ids=str)
def test_torch_gives_what_numpy_gives(g, vectors):
    torch = pytest.importorskip("torch")
    patching = Patching(g, (3, 5))
    x = field((2, 1, 3, *g.shape))
    tokens = patching.patchify(torch.from_numpy(x), vectors)
    np.testing.assert_array_equal(tokens.numpy(), patching.patchify(x, vectors))
    np.testing.assert_array_equal(patching.unpatchify(tokens).numpy(), x)


def test_padding_goes_round_the_seams_of_a_plane():
    x = field(PLANE.shape)
    np.testing.assert_array_equal(Patching(PLANE, (3, 4)).pad(x), np.pad(x, [(0, 2)] * 2, "wrap"))


def test_padding_mirrors_at_the_walls_of_a_region():
    x = field(REGION.shape)
    expected = np.pad(x, [(0, 1), (0, 2)], "symmetric")
    np.testing.assert_array_equal(Patching(REGION, (5, 5)).pad(x), expected)


@pytest.mark.parametrize("name", ["15deg", "15deg-poles"])
def test_padding_over_the_pole_is_the_field_beyond_it(name):
    """A smooth function of the sphere is continued by its own values on the other side."""
    g = grid(name)
    patching = Patching(g, (5, 1))
    spacing = g.lat[1] - g.lat[0]
    lat = np.radians(g.lat[0] + spacing * np.arange(patching.padded_shape[0]))[:, None]
    lon = np.radians(g.lon)
    x = np.cos(lat) * np.cos(lon) + 0.3 * np.sin(lat)
    np.testing.assert_allclose(patching.pad(x[: g.shape[0]]), x, atol=1e-12)


def test_vector_components_change_sign_over_the_pole():
    """The wind of a solid rotation about an equatorial axis is continued smoothly."""
    g = grid("15deg")
    patching = Patching(g, (5, 1))
    lat = np.radians(g.lat[0] - 15 * np.arange(patching.padded_shape[0]))[:, None]
    lon = np.radians(g.lon)
    u, v = np.sin(lat) * np.cos(lon), -np.sin(lon) * np.ones_like(lat)
    beyond = patching.padded_shape[0] - g.shape[0]
    x = np.stack([u, v, np.cos(lat) * np.cos(lon)])
    padded = patching.pad(x[:, :-beyond], vectors=(0, 1))
    np.testing.assert_allclose(padded, x, atol=1e-12)


@pytest.mark.parametrize("patch", PATCHES)
@pytest.mark.parametrize("g", GRIDS, ids=str)
def test_weights_are_the_areas_of_the_real_cells(g, patch):
    patching = Patching(g, patch)
    np.testing.assert_allclose(patching.weights.sum(), g.area.sum(), rtol=1e-12)
    (py, px), (_, cols) = patch, patching.token_shape
    corner = g.area[:py, -((g.shape[1] - 1) % px + 1) :].sum()
    np.testing.assert_allclose(patching.weights[cols - 1], corner, rtol=1e-12)


def test_centres_lie_in_the_middle_of_the_real_cells():
    lat, lon = Patching(REGION, (5, 5)).centres
    np.testing.assert_allclose(lat.reshape(2, 3)[:, 0], [56.0, 51.5])
    np.testing.assert_allclose(lon.reshape(2, 3)[0], [-8.0, -3.0, 1.0])


@pytest.mark.parametrize("patch", [(1, 1), (2, 2), (4, 5)])
@pytest.mark.parametrize("g", GRIDS, ids=str)
def test_neighbours_are_mutual(g, patch):
    table = Patching(g, patch).neighbours()
    assert table.dtype == np.int64
    pairs = {(i, int(j)) for i, row in enumerate(table) for j in row if j >= 0}
    assert pairs == {(j, i) for i, j in pairs}


def test_neighbours_are_the_cells_around():
    table = Patching(REGION, (1, 1)).neighbours().reshape(*REGION.shape, 8)
    np.testing.assert_array_equal(table[2, 3], [15, 16, 17, 28, 30, 41, 42, 43])
    np.testing.assert_array_equal(table[0, 0], [-1, -1, -1, -1, 1, -1, 13, 14])


def test_the_neighbour_over_the_pole_is_on_the_opposite_meridian():
    north = Patching(grid("15deg"), (1, 1)).neighbours()[:24, 1]
    np.testing.assert_array_equal(north, (np.arange(24) + 12) % 24)


def test_tokens_are_counted_beyond_32_bits():
    one_km = Patching(PlaneGrid((21_600, 43_200), (1.0, 1.0)), (4, 4))
    assert one_km.tokens(8) == 466_560_000
    assert one_km.tokens(177_000) == 177_000 * 58_320_000
    assert Patching(grid("0.25deg-poles"), (4, 4)).tokens() == 181 * 360


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: Patching(PLANE, (0, 4)),
            r"patch: expected positive numbers of cells, got \(0, 4\)",
        ),
        (
            lambda: Patching(PLANE, (2, 2), frames=0),
            "frames: expected a positive number, got 0",
        ),
        (
            lambda: Patching(PLANE, (2, 2), frames=2).tokens(3),
            "frames: expected a multiple of 2, got 3",
        ),
        (
            lambda: Patching(PLANE, (2, 2)).patchify(np.zeros((4, 6))),
            r"x: expected dimensions \(\*batch, time, variable, rows, cols\), "
            r"got shape \(4, 6\)",
        ),
        (
            lambda: Patching(PLANE, (2, 2)).patchify(np.zeros((1, 1, 6, 4))),
            r"x: expected last dimensions \(4, 6\), got shape \(1, 1, 6, 4\)",
        ),
        (
            lambda: Patching(PLANE, (2, 2)).unpatchify(np.zeros((5, 4))),
            r"tokens: expected dimensions \(\*batch, a multiple of 6, a multiple of 4\), "
            r"got shape \(5, 4\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
