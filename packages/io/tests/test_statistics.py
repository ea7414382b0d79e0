import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from stormda.io import Moments, Statistics, gather_blocks, gathering, moments, open_store

RNG = np.random.default_rng(0)


def sample(n):
    return RNG.normal(size=n), RNG.random(n) > 0.2, RNG.random(n)


def same(one, two, rtol=1e-12):
    for name, value in one.to_dict().items():
        assert_allclose(value, two.to_dict()[name], rtol=rtol, atol=1e-14)


def test_moments_are_those_of_numpy():
    x, valid, weight = sample(100)
    found = moments(x, valid, weight)
    mean = np.average(x[valid], weights=weight[valid])
    assert_allclose(found.mean, mean, rtol=1e-13)
    assert_allclose(
        found.variance, np.average((x[valid] - mean) ** 2, weights=weight[valid]), rtol=1e-13
    )
    assert (found.count, found.missing) == (valid.sum(), (~valid).sum())
    assert (found.minimum, found.maximum) == (x[valid].min(), x[valid].max())


@given(st.lists(st.integers(0, 7), min_size=1, max_size=6))
def test_any_split_merges_to_the_whole(sizes):
    n = sum(sizes)
    x, valid, weight = sample(n)
    ends = np.cumsum(sizes)[:-1]
    pieces = zip(*(np.split(a, ends) for a in (x, valid, weight)), strict=True)
    merged, *rest = (moments(*piece) for piece in pieces)
    for piece in rest:
        merged = merged.merge(piece)
    same(merged, moments(x, valid, weight))


def test_no_digits_are_lost_to_a_large_mean():
    # in float32, E[x^2] - E[x]^2 of these is -8192
    x = RNG.normal(2e5, 1.0, 100_000)
    valid = np.ones(x.shape, bool)
    parts = [moments(block, valid[: len(block)], 1.0) for block in np.array_split(x, 7)]
    merged = parts[0]
    for part in parts[1:]:
        merged = merged.merge(part)
    assert_allclose(merged.variance, x.var(), rtol=1e-12)


def test_moments_are_stored_exactly():
    x, valid, weight = sample(12)
    found = moments(x.reshape(3, 4), valid.reshape(3, 4), weight.reshape(3, 4), axis=(0,))
    restored = Moments.from_dict(json.loads(json.dumps(found.to_dict())))
    same(found, restored, rtol=0)


@pytest.fixture
def store(field):
    data = RNG.normal(280, 5, (7, 3, 4)).astype(np.float32)
    data[2, 1, 1] = np.nan
    return open_store(field(data))


def test_statistics_are_weighted_by_area(store):
    x, valid = store.read("x")
    area = np.broadcast_to(store.grid.area, x.shape)
    found = Statistics.from_store(store, ["x"])
    mean = np.average(x[valid].astype(float), weights=area[valid])
    assert_allclose(found.mean("x"), mean, rtol=1e-13)
    variance = np.average((x[valid].astype(float) - mean) ** 2, weights=area[valid])
    assert_allclose(found.std("x"), np.sqrt(variance), rtol=1e-13)
    assert found.variables["x"].values.missing == 1


def test_tendencies_are_of_neighbouring_valid_frames(store):
    x, valid = store.read("x")
    change, both = np.diff(x.astype(float), axis=0), valid[1:] & valid[:-1]
    area = np.broadcast_to(store.grid.area, change.shape)
    expected = moments(change, both, area)
    found = Statistics.from_store(store, ["x"]).variables["x"]
    same(found.tendency, expected)
    assert found.step_seconds == 3600
    assert found.tendency.count == 6 * 12 - 2


def test_a_gap_is_no_jump(field):
    data = np.array([0.0, 1.0, 100.0, 101.0])[:, None, None] + np.zeros((4, 3, 4))
    time = (("time",), np.array([0.0, 1.0, 50.0, 51.0]), {"units": "hours since 2019-03-01"})
    store = open_store(field(data.astype(np.float32), time=time))
    tendency = Statistics.from_store(store, ["x"]).variables["x"].tendency
    assert tendency.count == 2 * 12
    assert_allclose(tendency.mean, 1.0)


@pytest.mark.parametrize("values_at_once", [1, 24, 36, 10**6])
def test_the_size_of_the_blocks_does_not_matter(store, monkeypatch, values_at_once):
    whole = Statistics.from_store(store, ["x"]).variables["x"]
    monkeypatch.setattr(gathering, "_BLOCK_VALUES", values_at_once)
    blocks = Statistics.from_store(store, ["x"]).variables["x"]
    same(whole.values, blocks.values)
    same(whole.tendency, blocks.tendency)


def test_parts_merge_to_the_whole(store):
    one = Statistics.from_store(store, ["x"], time=slice(0, 3))
    two = Statistics.from_store(store, ["x"], time=slice(3, None))
    merged, whole = one.merge(two), Statistics.from_store(store, ["x"])
    same(merged.variables["x"].values, whole.variables["x"].values)
    assert merged.variables["x"].tendency.count == 5 * 12 - 1  # the pair 2, 3 is between the parts


def test_levels_and_members(write):
    data = RNG.normal(size=(2, 3, 2, 3, 4)) * np.array([1.0, 10.0])[:, None, None]
    path = write(
        {
            "time": (("time",), np.arange(3.0), {"units": "hours since 2019-03-01"}),
            "lev": (("lev",), np.array([1.0, 2.0]), {}),
            "member": (("member",), np.array([0, 1]), {}),
            "lat": (("lat",), np.array([-10.0, 0.0, 10.0]), {"units": "degrees_north"}),
            "lon": (("lon",), np.arange(4.0), {"units": "degrees_east"}),
            "x": (("member", "time", "lev", "lat", "lon"), data, {"units": "m"}),
        }
    )
    store = open_store(path)
    found = Statistics.from_store(store, ["x"])
    x, valid = store.read("x")
    area = np.broadcast_to(store.grid.area, x.shape)
    same(
        found.variables["x"].values,
        moments(x.astype(float), valid, area, axis=(0, 1, 3, 4)),
    )
    z = found.normalise("x", x, valid)
    assert_allclose(z.std(axis=(0, 1, 3, 4)), [1.0, 1.0], rtol=0.05)  # the weights are not even
    assert_allclose(found.denormalise("x", z), x, rtol=1e-5, atol=1e-5)  # float32


def test_normalised_values_are_zero_where_missing(store):
    x, valid = store.read("x")
    z = Statistics.from_store(store, ["x"]).normalise("x", x, valid)
    assert z.dtype == np.float32
    assert z[2, 1, 1] == 0.0


def test_statistics_are_stored_exactly(store):
    found = Statistics.from_store(store, ["x"])
    restored = Statistics.from_dict(json.loads(json.dumps(found.to_dict())))
    assert restored.to_dict() == found.to_dict()
    assert_array_equal(restored.std("x"), found.std("x"))


def test_static_fields(field):
    z = (("lat", "lon"), np.arange(12.0).reshape(3, 4), {"units": "m"})
    found = Statistics.from_store(open_store(field(z=z)), ["z"])
    assert found.variables["z"].step_seconds == 0
    with pytest.raises(
        ValueError,
        match=r"^name: expected a variable that varies, got 'z' with minimum 0.0 and maximum 0.0$",
    ):
        found.tendency_std("z")


def test_constant_field(field):
    found = Statistics.from_store(open_store(field(np.full((2, 3, 4), 7.1, np.float32))), ["x"])
    with pytest.raises(
        ValueError,
        match=r"^name: expected a variable that varies, got 'x' with minimum 7\.\d+ and max",
    ):
        found.std("x")


def test_all_missing(field):
    path = field(np.full((2, 3, 4), np.nan, np.float32))
    with pytest.raises(
        ValueError,
        match=r"variable 'x': expected at least one valid value, got none from 2019-03-01T00:",
    ):
        Statistics.from_store(open_store(path), ["x"])


class TestOtherData:
    def test_variables(self, store, field):
        found = Statistics.from_store(store, ["x"])
        other = Statistics(variables={"y": found.variables["x"]})
        with pytest.raises(
            ValueError, match=r"^statistics: expected those of \['x'\], got those of \['y'\]$"
        ):
            found.merge(other)
        with pytest.raises(
            ValueError, match=r"^store: expected the variables \['y'\], got \['x'\]$"
        ):
            other.require_match(store)
        with pytest.raises(ValueError, match=r"^name: expected one of \['x'\], got 'y'$"):
            found.mean("y")

    def test_units(self, store, field):
        found = Statistics.from_store(store, ["x"])
        pressure = open_store(field(RNG.random((2, 3, 4)), {"units": "Pa"}, "other.nc"))
        with pytest.raises(ValueError, match=r"^store: expected 'x' in 'K', got 'Pa'$"):
            found.require_match(pressure)
        with pytest.raises(ValueError, match=r"^statistics: expected 'x' in 'K', got 'Pa'$"):
            found.merge(Statistics.from_store(pressure, ["x"]))
        found.require_match(store)

    def test_time_steps(self, store):
        found = Statistics.from_store(store, ["x"])
        sparse = Statistics.from_store(store, ["x"], time=slice(None, None, 2))
        with pytest.raises(
            ValueError, match=r"^statistics: expected steps of 3600 s for 'x', got 7200 s$"
        ):
            found.merge(sparse)


class TestRanks:
    """Statistics do not know how many ranks gathered them."""

    @pytest.fixture
    def store(self, field, monkeypatch):
        monkeypatch.setattr("stormda.io.gathering._BLOCK_VALUES", 24)  # two frames a block
        x = np.random.default_rng(0).normal(280, 5, (9, 3, 4)).astype(np.float32)
        x[3, 1, 1] = np.nan
        return open_store(field(x))

    @pytest.mark.parametrize("ranks", [1, 2, 3, 7])
    def test_any_split_gives_the_same_bits(self, store, ranks):
        parts = [gather_blocks(store, ["x"], rank=r, ranks=ranks) for r in range(ranks)]
        found = Statistics.from_blocks(parts[::-1])
        assert found.to_dict() == Statistics.from_store(store, ["x"]).to_dict()

    def test_a_rank_that_did_not_answer(self, store):
        parts = [gather_blocks(store, ["x"], rank=0, ranks=2)]
        with pytest.raises(
            ValueError, match=r"^parts: expected blocks 0 to 4 of 'x', got \[0, 2, 4\]$"
        ):
            Statistics.from_blocks(parts)
        with pytest.raises(ValueError, match=r"^rank: expected 0 to 1, got 2$"):
            gather_blocks(store, ["x"], rank=2, ranks=2)

    def test_they_say_what_they_are_of(self, store, tmp_path):
        found = Statistics.from_store(store, ["x"], time=slice(0, 4)).variables["x"]
        assert (found.dataset, found.start, found.end) == (
            store.fingerprint,
            "2019-03-01T00:00:00",
            "2019-03-01T03:00:00",
        )
        saved = Statistics.from_store(store, ["x"])
        saved.save(tmp_path / "s.json")
        assert Statistics.load(tmp_path / "s.json").to_dict() == saved.to_dict()
        (tmp_path / "t.json").write_text("{}")
        with pytest.raises(ValueError, match=r"t.json: expected statistics that `Stat"):
            Statistics.load(tmp_path / "t.json")

    def test_too_many_missing(self, store):
        with pytest.raises(
            ValueError, match=r"^variable 'x': expected at most 0.1% missing values, got 0.9%$"
        ):
            Statistics.from_store(store, ["x"], max_missing=0.001)


def test_levels_of_a_list_of_cells(write):
    n = 6
    x = np.random.default_rng(0).normal(0, 1, (2, n)) + np.array([[10.0], [50.0]])
    path = write(
        {
            "lat": (("cell",), np.linspace(-80, 80, n), {"units": "degrees_north"}),
            "lon": (("cell",), np.array([0.0, 200, 50, 300, 120, 10]), {"units": "degrees_east"}),
            "lev": (("lev",), np.array([850.0, 500.0]), {"units": "hPa"}),
            "x": (("lev", "cell"), x, {"units": "m"}),
        }
    )
    store = open_store(path)
    values, mask = store.read("x")
    statistics = Statistics.from_store(store, ["x"])
    z = statistics.normalise("x", values, mask)
    np.testing.assert_allclose(np.average(z[0], axis=-1, weights=store.grid.area), 0, atol=1e-5)
    np.testing.assert_allclose(statistics.denormalise("x", z), values, rtol=1e-6)
