"""Laws over random shapes, patches, frames and grids."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stormda.grid import (
    Border,
    HealpixGrid,
    HealpixTiles,
    LatLonGrid,
    Order,
    Partition,
    Patching,
    PlaneGrid,
    PointGrid,
    ReducedGaussianGrid,
    TileLayout,
)


@st.composite
def latlon(draw):
    """Regular grids of any size: global with or without poles, or regional."""
    rows, cols = draw(st.integers(2, 12)), draw(st.integers(2, 16))
    kind = draw(st.sampled_from(["centred", "poles", "region"]))
    spacing, turn = 360 / cols, draw(st.integers(-180, 180))  # two columns are exactly opposite
    lon = turn + spacing * np.arange(cols)
    if kind == "region":
        return LatLonGrid(np.linspace(-20, 50, rows), 2.0 * np.arange(cols))
    if kind == "poles":
        return LatLonGrid(np.linspace(90, -90, rows), lon)
    return LatLonGrid(90 - 180 / rows * (np.arange(rows) + 0.5), lon)


@st.composite
def planes(draw):
    return PlaneGrid(
        (draw(st.integers(1, 12)), draw(st.integers(1, 12))),
        (1.0, 1.0),
        (draw(st.booleans()), draw(st.booleans())),
    )


@st.composite
def lists(draw):
    kind = draw(st.sampled_from(["points", "reduced", "healpix"]))
    if kind == "healpix":
        return HealpixGrid(draw(st.sampled_from([1, 2, 4])), draw(st.sampled_from(Order)))
    if kind == "reduced":
        half = draw(st.lists(st.integers(1, 12), min_size=1, max_size=4))
        return ReducedGaussianGrid(tuple(half + half[::-1]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    n = draw(st.integers(4, 40))
    return PointGrid(rng.uniform(-90, 90, n), rng.uniform(0, 360, n), area=np.full(n, 1 / n))


@st.composite
def patchings(draw):
    g = draw(st.one_of(latlon(), planes(), lists()))
    if isinstance(g, HealpixGrid):
        side = draw(st.sampled_from([s for s in (1, 2, 4) if s <= g.nside]))
        patch = side, side
    else:
        patch = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    return Patching(g, patch, draw(st.integers(1, 3)))


@st.composite
def fields(draw):
    patching = draw(patchings())
    frames = patching.frames * draw(st.integers(1, 3))
    batch = draw(st.sampled_from([(), (2,)]))
    rng = np.random.default_rng(draw(st.integers(0, 99)))
    shape = (*batch, frames, draw(st.integers(1, 3)), *patching.grid.shape)
    return patching, rng.normal(size=shape)


@given(fields())
def test_the_round_trip_is_the_identity(case):
    patching, x = case
    tokens = patching.patchify(x)
    frames = x.shape[-len(patching.grid.shape) - 2]
    assert tokens.shape[-2] == patching.tokens(frames)
    np.testing.assert_array_equal(patching.unpatchify(tokens), x)


@given(fields())
def test_every_value_is_in_a_token_and_weights_are_its_area(case):
    patching, x = case
    mean = patching.weights * patching.patchify(np.ones_like(x))[..., 0][..., : patching.tokens()]
    np.testing.assert_allclose(mean.sum(-1), np.sum(patching.grid.area), rtol=1e-12)
    assert set(np.unique(patching.patchify(x))) == set(np.unique(x))


@given(fields(), st.data())
def test_tokens_read_in_pieces_are_those_of_the_whole(case, data):
    patching, x = case
    x = x.reshape(-1, *x.shape[-len(patching.grid.shape) - 1 :])
    tokens = patching.patchify(x, vectors=[0])
    start = data.draw(st.integers(0, len(tokens) - 1))
    stop = data.draw(st.integers(start + 1, len(tokens)))
    read = patching.read(x, start, stop, vectors=[0])
    np.testing.assert_array_equal(read, tokens[start:stop])


@given(
    st.integers(1, 12), st.integers(1, 4), st.integers(1, 5), st.integers(1, 3), st.integers(-5, 5)
)
def test_turning_the_globe_by_whole_patches_turns_the_tokens(pairs, px, rows, py, turn):
    """Whatever the patch and the padding over the South Pole."""
    cols = 2 * pairs * px
    g = LatLonGrid(90 - 90 / rows * (np.arange(2 * rows) + 0.5), 360 / cols * np.arange(cols))
    patching = Patching(g, (py, px))
    x = np.random.default_rng(0).normal(size=(1, 2, *g.shape))
    tokens = patching.patchify(x, vectors=[1]).reshape(*patching.token_shape, -1)
    turned = patching.patchify(np.roll(x, turn * px, -1), vectors=[1])
    np.testing.assert_array_equal(turned, np.roll(tokens, turn, 1).reshape(turned.shape))


@given(patchings())
def test_neighbours_are_mutual_on_every_grid(patching):
    if isinstance(patching.grid, LatLonGrid) and patching.token_shape[1] % 2:
        return  # over a pole lies the nearest token to the opposite meridian, on one side
    table = patching.neighbours()
    assert len(table) == patching.tokens()
    pairs = {(i, int(j)) for i, row in enumerate(table) for j in row if j >= 0}
    assert pairs == {(j, i) for i, j in pairs}


@st.composite
def layouts(draw):
    if draw(st.booleans()):
        side = draw(st.sampled_from([1, 2, 4, 8]))
        order = draw(st.sampled_from(Order))
        per_edge = draw(st.sampled_from([s for s in (1, 2, 4) if s <= side]))
        return HealpixTiles(HealpixGrid(side, order), per_edge, draw(st.integers(0, side)))
    g = draw(st.one_of(latlon(), planes()))
    tiles = tuple(draw(st.integers(1, n)) for n in g.shape)
    halo = draw(st.integers(0, g.shape[0] - 1)), draw(st.integers(0, g.shape[1]))
    return TileLayout.on(g, tiles, halo)


def shape_of(layout):
    return layout.grid.shape if isinstance(layout, HealpixTiles) else layout.shape


@given(layouts())
def test_tiles_are_a_partition_of_unity_on_every_grid(layout):
    x = np.random.default_rng(0).normal(size=(2, *shape_of(layout)))
    ones = np.ones(shape_of(layout))
    np.testing.assert_allclose(layout.merge(layout.split(ones)), ones, rtol=0, atol=1e-12)
    np.testing.assert_allclose(layout.merge(layout.split(x)), x, rtol=0, atol=1e-12)
    assert all(layout.weight(i).min() >= 0 for i in range(len(layout)))


@given(layouts())
def test_merging_is_the_adjoint_of_weighted_splitting(layout):
    """<split(x) w, y> = <x, merge(y)>, also over the poles and over the edges of faces."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, *shape_of(layout)))
    ys = [rng.normal(size=(2, *layout.weight(i).shape)) for i in range(len(layout))]
    pairs = zip(layout.split(x), ys, range(len(layout)), strict=True)
    left = sum((t * layout.weight(i) * y).sum() for t, y, i in pairs)
    np.testing.assert_allclose(left, (x * layout.merge(ys)).sum(), rtol=1e-10, atol=1e-10)


@given(st.integers(1, 10**12), st.integers(1, 10**5), st.integers(1, 10**4), st.data())
def test_partitions_are_disjoint_complete_and_even(n, ranks, align, data):
    ranks = min(ranks, -(-n // align))
    partition = Partition(n, ranks, align)
    some = np.array(data.draw(st.lists(st.integers(0, ranks - 1), min_size=1, max_size=20)))
    starts, stops = partition.bounds(some)
    assert [partition.bounds(int(r)) for r in some] == list(zip(starts, stops, strict=True))
    np.testing.assert_array_equal(partition.owner(starts), some)
    np.testing.assert_array_equal(partition.owner(stops - 1), some)
    after = some[stops < n]
    np.testing.assert_array_equal(partition.owner(stops[stops < n]), after + 1)
    assert (partition.bounds(0)[0], partition.bounds(ranks - 1)[1]) == (0, n)
    assert (starts % align == 0).all()
    assert (stops - starts).max() <= partition.largest <= (stops - starts).min() + 2 * align


@given(st.integers(1, 400), st.integers(1, 30), st.integers(1, 9), st.integers(0, 500))
def test_reach_names_every_owner_of_the_halo(n, ranks, align, halo):
    partition = Partition(n, min(ranks, -(-n // align)), align)
    owner = partition.owner(np.arange(n))
    for rank in range(partition.ranks):
        start, stop = partition.bounds(rank)
        around = owner[max(start - halo, 0) : stop + halo]
        expected = [r for r in dict.fromkeys(around.tolist()) if r != rank]
        assert partition.neighbours(rank, halo) == expected


def test_owner_and_bounds_agree_for_a_million_of_twenty_billion_tokens():
    partition = Partition(20_000_000_000, 74_400)
    tokens = np.random.default_rng(0).integers(0, partition.n, 1_000_000)
    starts, stops = partition.bounds(partition.owner(tokens))
    assert ((starts <= tokens) & (tokens < stops)).all()
    starts, stops = partition.bounds(np.arange(74_400))
    np.testing.assert_array_equal(stops[:-1], starts[1:])
    assert (stops - starts).sum() == partition.n
    assert np.ptp(stops - starts) <= 1


def test_a_partition_of_a_patching_is_whole_rows_and_chunks():
    patching = Patching(LatLonGrid(89.875 - 0.25 * np.arange(720), 0.25 * np.arange(1440)), (4, 4))
    by_row = Partition.of(patching, 100, frames=3)
    assert (by_row.n, by_row.align) == (3 * 180 * 360, 360)
    by_chunk = Partition.of(patching, 9, frames=3, chunk_rows=90)  # lcm(90, 4) = 180 rows of cells
    assert by_chunk.align == 45 * 360
    assert by_chunk.units == 12
    assert Partition.of(Patching(HealpixGrid(8), (2, 2)), 3, chunk_rows=16).align == 4


@settings(max_examples=20)
@given(fields())
def test_torch_gives_what_numpy_gives(case):
    torch = pytest.importorskip("torch")
    patching, x = case
    tokens = patching.patchify(torch.from_numpy(x), vectors=[0])
    np.testing.assert_array_equal(tokens.numpy(), patching.patchify(x, vectors=[0]))
    np.testing.assert_array_equal(patching.unpatchify(tokens).numpy(), x)


@settings(max_examples=20, deadline=None)
@given(fields())
def test_lazy_arrays_stay_lazy_and_give_the_same(case):
    array = pytest.importorskip("dask.array")
    patching, x = case
    lazy = array.from_array(x, chunks=2)
    tokens = patching.patchify(lazy, vectors=[0])
    assert isinstance(tokens, array.Array)
    np.testing.assert_array_equal(tokens.compute(), patching.patchify(x, vectors=[0]))
    back = patching.unpatchify(tokens)
    assert isinstance(back, array.Array)
    np.testing.assert_array_equal(back.compute(), x)


class OnlySlices:
    """An array in a file: it can be sliced, and counts what is loaded."""

    def __init__(self, x):
        self.x, self.shape, self.loaded = x, x.shape, 0

    def __getitem__(self, key):
        self.loaded += self.x[key].size
        return self.x[key]


def test_reading_tokens_loads_their_rows_only():
    g = LatLonGrid(np.linspace(90, -90, 721), 0.25 * np.arange(1440))
    patching, x = Patching(g, (4, 4)), np.zeros((6, 2, 721, 1440), np.float32)
    x[4, :, 400:408] = 7
    file = OnlySlices(x)
    row = patching.token_shape[1]
    tokens = patching.read(file, (4 * 181 + 100) * row, (4 * 181 + 102) * row)
    assert (tokens == 7).all()
    assert file.loaded == 2 * 8 * 1440


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: TileLayout((4, 8), (1, 1), poles=(Border.WRAP, Border.WALL)),
            "poles: expected walls or poles, got wrap: rows wrap by `periodic`",
        ),
        (
            lambda: TileLayout((4, 8), (1, 1), (1, 1), poles=(Border.POLE_EDGE, Border.WALL)),
            r"poles: expected columns \(not rows\) that close on themselves and a halo below the "
            r"4 rows, got periodic \(False, False\) and halo 1",
        ),
        (
            lambda: HealpixTiles(HealpixGrid(8), per_edge=3),
            "per_edge: expected a divisor of 8, got 3",
        ),
        (
            lambda: HealpixTiles(HealpixGrid(8), halo=9),
            "halo: expected between 0 and 8 cells, got 9",
        ),
        (
            lambda: HealpixTiles(HealpixGrid(8)).take(np.zeros(7), 0),
            r"x: expected last dimension \(768,\), got shape \(7,\)",
        ),
        (
            lambda: HealpixTiles(HealpixGrid(8)).add(np.zeros(768), 0, np.zeros((7, 8))),
            r"y: expected last dimensions \(8, 8\) of tile 0, got \(7, 8\)",
        ),
        (lambda: HealpixTiles(HealpixGrid(8)).merge([]), "tiles: expected 12 windows, got 0"),
        (
            lambda: Partition.of(Patching(HealpixGrid(1), (1, 1)), 1, chunk_rows=5),
            "chunk_rows: expected chunks that start anew with every 12 rows of tokens, got 5 rows "
            "of cells, 5 rows of tokens",
        ),
        (
            lambda: Partition(9, 3).reach(np.array(0), -1),
            "halo: expected a number of tokens, got -1",
        ),
        (lambda: Partition(9, 3).bounds(np.array([0, 3])), "rank: expected 0 to 2, got 3"),
        (
            lambda: Patching(PlaneGrid((2, 2), (1, 1)), (1, 1)).read(np.zeros((1, 1, 2, 2)), 2, 9),
            "start, stop: expected 0 <= start < stop <= 4, got 2, 9",
        ),
        (
            lambda: Patching(PlaneGrid((2, 2), (1, 1)), (1, 1)).read(np.zeros((1, 2, 2)), 2, 3),
            r"x: expected shape \(time, variable, 2, 2\), got \(1, 2, 2\)",
        ),
        (
            lambda: Patching(PlaneGrid((2, 2), (1, 1)), (1,)),
            r"patch: expected rows and columns, got \(1,\)",
        ),
        (
            lambda: Patching(HealpixGrid(2), (3, 1)),
            "patch: expected a power of 4 of cells, at most 4 on a face, got 3",
        ),
        (
            lambda: Patching(HealpixGrid(2), (2, 2)).patchify(np.zeros((1, 48))),
            r"x: expected dimensions \(\*batch, time, variable, cells\), got shape \(1, 48\)",
        ),
    ],
)
def test_what_does_not_fit_is_refused(call, message):
    with pytest.raises(ValueError, match=f"^{message}$"):
        call()
