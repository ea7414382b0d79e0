import re
import subprocess
import sys
import time as clock

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stormda.grid import LatLonGrid, TileLayout
from stormda.io import (
    Rank,
    ReadAmplificationWarning,
    Statistics,
    TileDataset,
    WindowConfig,
    open_store,
    split,
    tile_dataset,
    windows,
    write_fields,
)
from stormda.io.prefetch import prefetched

HOURS = np.arange("2000-01-01", "2000-01-02", dtype="M8[h]").astype("M8[s]")


@pytest.fixture
def store(field):
    lon = (("lon",), np.arange(0.0, 360, 90), {"units": "degrees_east"})
    x = np.arange(17 * 12, dtype=np.float32).reshape(17, 3, 4)
    x[5, 1, 2] = np.nan
    z = (("lat", "lon"), np.arange(12.0).reshape(3, 4), {"units": "m"})
    return open_store(field(x, lon=lon, z=z))


def dataset(store, **changes):
    settings = {"variables": ["x"], "window": WindowConfig(history=2), "seed": 5, **changes}
    return TileDataset(store=store, **settings)


class TestWindows:
    def test_they_do_not_cross_gaps(self):
        times = np.delete(HOURS, [5, 6, 12])
        found = windows(times, WindowConfig(history=3))
        slow = [
            list(range(i - 3, i + 1))
            for i in range(3, len(times))
            if times[i] - times[i - 3] == np.timedelta64(3, "h")
        ]
        assert found.tolist() == slow

    def test_a_wider_step_and_stride(self):
        config = WindowConfig(history=1, step=np.timedelta64(6, "h"), stride=5)
        assert windows(HOURS, config).tolist() == [[0, 6], [5, 11], [10, 16], [15, 21]]

    def test_splits_with_an_embargo(self):
        spans = {"test": ("2000-01-01T12", "2000-01-01T23"), "train": ("1999", "2000-01-01T11")}
        found = split(HOURS, spans, embargo=np.timedelta64(3, "h"))
        assert [*found] == ["test", "train"]
        assert found["train"].tolist() == list(range(12))
        assert found["test"].tolist() == list(range(15, 24))

    @pytest.mark.parametrize(
        ("call", "message"),
        [
            (
                lambda: windows(HOURS[::2], WindowConfig(history=1, step=np.timedelta64(1, "h"))),
                "history: expected a run of 2 frames every 1 hours, got none in 12 frames",
            ),
            (
                lambda: split(
                    HOURS,
                    {"a": ("2000", "2001"), "b": ("2001", "2002")},
                    embargo=np.timedelta64(0, "s"),
                ),
                "splits: expected times that belong to one split, got 2001-01-01T00:00:00 in 'a' "
                "and 'b'",
            ),
            (
                lambda: split(HOURS, {"a": ("2001", "2002")}, embargo=np.timedelta64(0, "s")),
                "splits: expected frames in 'a', got none",
            ),
            (lambda: WindowConfig(history=-1), "history: expected at least 0 frames, got -1"),
            (
                lambda: WindowConfig(history=1, stride=0),
                "stride: expected at least 1 frame, got 0",
            ),
            (
                lambda: WindowConfig(history=1, step=np.timedelta64(0, "h")),
                "step: expected a positive time, got 0 hours",
            ),
        ],
    )
    def test_what_is_none(self, call, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            call()


class TestSamples:
    def test_they_are_parts_of_the_whole(self, store):
        layout = TileLayout.on(store.grid, (1, 2), (0, 1))
        data = dataset(store, layout=layout, variables=["x", "z"])
        x, mask = store.read("x")
        z, _ = store.read("z")
        assert len(data) == 15 * 2
        for index in (0, 7, 29, -1):
            sample = data[index]
            window, tile = divmod(index % 30, 2)
            frames = slice(window, window + 3)
            assert_array_equal(sample["x"][:, 0], layout.take(x[frames], tile))
            assert_array_equal(sample["mask"][:, 0], layout.take(mask[frames], tile))
            assert_array_equal(sample["x"][:, 1], np.repeat(layout.take(z, tile), 3, 0))
            assert_array_equal(sample["time"], store.times[frames].astype(int))

    def test_normalised_and_zero_where_missing(self, store):
        statistics = Statistics.from_store(store, ["x"])
        sample = dataset(store, statistics=statistics)[3]
        x, mask = store.read("x", time=slice(3, 6))
        assert_array_equal(sample["x"][:, 0], statistics.normalise("x", x, mask))
        assert sample["x"][2, 0, 1, 2] == 0
        assert not sample["mask"][2, 0, 1, 2]

    def test_a_split_keeps_its_windows_to_itself(self, store):
        frames = np.arange(6, 12)
        data = dataset(store, frames=frames)
        seen = {int(t) for sample in data for t in sample["time"]}
        assert seen == set(store.times[frames].astype(int).tolist())


class TestOrder:
    @pytest.mark.parametrize("replicas", range(1, 8))
    def test_the_ranks_together_read_every_sample_once(self, store, replicas):
        """15 samples, which 2, 4, 6 and 7 do not divide."""
        seen = [
            int(sample["index"])
            for r in range(replicas)
            for sample in dataset(store, rank=Rank(replica=r, replicas=replicas))
        ]
        assert sorted(seen) == list(range(15))

    def test_ranks_with_other_tiles_read_the_same_windows(self, store):
        layout = TileLayout.on(store.grid, (1, 2))
        orders = [
            [int(s["index"]) for s in dataset(store, layout=layout, rank=Rank(tile=tile))]
            for tile in (0, 1)
        ]
        assert orders[0] == orders[1]
        assert sorted(orders[0]) == list(range(15))

    @pytest.mark.parametrize(("before", "after"), [(1, 3), (3, 1), (2, 5), (4, 4)])
    def test_going_on_with_another_number_of_ranks(self, store, before, after):
        """Both epochs are read once, in the order of a run that never stopped."""
        whole = dataset(store)
        expected = [int(s["index"]) for _ in range(2) for s in whole]
        steps = 2
        first = [dataset(store, rank=Rank(replica=r, replicas=before)) for r in range(before)]
        readers = [iter(data) for data in first]
        taken = [int(next(reader)["index"]) for _ in range(steps) for reader in readers]
        states = [data.state_dict() for data in first]
        assert all(
            state == {"seed": 5, "epoch": 0, "position": steps * before} for state in states
        )
        rest = []
        for r in range(after):
            data = dataset(store, rank=Rank(replica=r, replicas=after))
            data.load_state_dict(states[0])
            rest.append([[int(s["index"]) for s in data] for _ in range(2)])
        for reader in readers:
            reader.close()
        assert taken == expected[: len(taken)]
        for epoch, want in ((0, expected[len(taken) : 15]), (1, expected[15:])):
            mixed = [rest[i % after][epoch][i // after] for i in range(len(want))]
            assert mixed == want

    def test_leaving_early_leaves_no_thread(self, store):
        import threading

        before = threading.active_count()
        for _ in dataset(store):
            break
        assert threading.active_count() == before


class TestPrefetch:
    def test_no_more_bytes_than_allowed(self):
        made = []

        def source():
            for i in range(20):
                made.append(i)
                yield i

        reader = prefetched(source(), 5, lambda _: 1)
        assert next(reader) == 0
        clock.sleep(0.2)  # longer than reading 20 numbers takes
        assert len(made) <= 7  # one in use, five that wait, one that was asked for
        assert list(reader) == list(range(1, 20))

    def test_what_goes_wrong_is_raised_in_its_place(self):
        def source():
            yield 1
            raise ValueError("the disk is gone")

        reader = prefetched(source(), 10, lambda _: 1)
        assert next(reader) == 1
        with pytest.raises(ValueError, match=r"^the disk is gone$"):
            next(reader)

    def test_no_bytes_at_all(self):
        with pytest.raises(ValueError, match=r"^max_bytes: expected a positive number, got 0$"):
            next(prefetched(iter([1]), 0, lambda _: 1))


def test_a_loader_of_torch_with_spawned_workers(store):
    torch = pytest.importorskip("torch")
    data = dataset(store)
    loader = torch.utils.data.DataLoader(
        data,
        sampler=list(data.positions()),
        batch_size=4,
        num_workers=1,
        multiprocessing_context="spawn",
    )
    seen = torch.cat([batch["index"] for batch in loader])
    assert seen.tolist() == [int(s["index"]) for s in dataset(store)]


def test_torch_is_not_needed(tmp_path):
    code = "import sys; sys.modules['torch'] = None; import stormda.io; print('fine')"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "fine"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"variables": []}, "variables: expected at least one, got none"),
        ({"rank": Rank(tile=0)}, "tile: expected a layout that it is of, got tile 0 alone"),
        (
            {"layout": TileLayout((4, 4), (1, 1))},
            "layout: expected one of (3, 4) cells, got (4, 4)",
        ),
        (
            {"layout": TileLayout((3, 4), (1, 2)), "rank": Rank(tile=2)},
            "tile: expected 0 to 1, the tiles of the layout, got 2",
        ),
        (
            {"rank": Rank(replicas=16)},
            "replicas: expected at most one for each of 15 samples, got 16",
        ),
    ],
)
def test_what_does_not_fit_together(store, changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dataset(store, **changes)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"epoch": 0}, "state: expected seed, epoch and position, got ['epoch']"),
        ({"seed": 6, "epoch": 0, "position": 0}, "state: expected that of seed 5, got 6"),
        (
            {"seed": 5, "epoch": 0, "position": 16},
            "state: expected a position of 15 samples, got 16 (a run on other data?)",
        ),
    ],
)
def test_states_of_other_runs(store, state, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        dataset(store).load_state_dict(state)


def test_statistics_of_other_variables(store):
    statistics = Statistics.from_store(store, ["z"])
    with pytest.raises(ValueError, match=r"^name: expected one of \['z'\], got 'x'$"):
        dataset(store, statistics=statistics)
    with pytest.raises(ValueError, match=r"^replica: expected 0 to 0, the replicas, got 1$"):
        Rank(replica=1)
    with pytest.raises(IndexError, match=r"^index: expected below 15 samples, got 15$"):
        dataset(store)[15]


def test_a_warning_of_waste(store, monkeypatch):
    monkeypatch.setattr("stormda.io.tile_dataset.WASTE", 0.5)
    with pytest.warns(ReadAmplificationWarning, match=r"a sample reads 1 times its bytes, stored"):
        dataset(store)


def test_tiles_beyond_those_that_are_remembered(tmp_path, monkeypatch):
    times = np.arange("2000-01-01", "2000-01-05", dtype="M8[D]").astype("M8[s]")
    grid = LatLonGrid(np.arange(-75.0, 90, 30), np.arange(0.0, 360, 30))
    x = np.random.default_rng(0).normal(size=(4, *grid.shape)).astype(np.float32)
    write_fields(tmp_path / "a.nc", {"x": x}, grid=grid, times=times,
                 attributes={"x": {"units": "m"}})  # fmt: skip
    monkeypatch.setattr(tile_dataset, "MOST_READERS", 2)
    data = TileDataset(
        store=open_store(tmp_path / "a.nc"),
        variables=["x"],
        window=WindowConfig(history=0),
        layout=TileLayout.on(grid, (2, 2)),
    )
    for i in [*range(16), *range(16)]:
        rows, cols = (slice(*span) for span in data.layout.window(i % 4).core)
        assert_array_equal(data[i]["x"][0, 0], x[i // 4, rows, cols])
