"""Ensembles that many processes write: the same numbers, whole or not there, resumable."""

import itertools
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from stormda.grid import LatLonGrid
from stormda.io import (
    EnsembleParts,
    EnsembleZarr,
    FieldAxes,
    LevelAxis,
    Region,
    bit_round,
    open_store,
    read_ensemble,
    sha256,
    write_summary,
    zarr_file,
)
from stormda.io.regions import require_whole

GRID = LatLonGrid(np.arange(-75.0, 90, 30), np.arange(0.0, 360, 45))
AXES = FieldAxes(
    times=np.array(["2000-01-01", "2000-01-02"], "M8[s]"),
    grid=GRID,
    members=np.arange(4),
    levels=LevelAxis(name="lev", values=np.array([85000.0, 50000.0]), units="Pa"),
)
RNG = np.random.default_rng(0)
FIELDS = {
    "x": RNG.normal(280, 5, AXES.shape).astype(np.float32),
    "y": RNG.normal(0, 5, AXES.shape_with_levels).astype(np.float32),
}
REGIONS = [
    Region((m, m + 2), (t, t + 1), (y, y + 3), (0, 8))
    for m in (0, 2)
    for t in (0, 1)
    for y in (0, 3)
]


def writer(kind, path, **changes):
    settings = {
        "path": path,
        "axes": AXES,
        "variables": ["x", "y"],
        "leveled": ["y"],
        "attributes": {"x": {"units": "K"}, "y": {"units": "m"}},
        "run": {"seed": 1},
        **changes,
    }
    if kind == "zarr":
        return EnsembleZarr(shard=(2, 1, 3, 8), chunk=(1, 1, 3, 4), **settings)
    return EnsembleParts(**settings)


def part(region):
    m, t, y, x = region.slices
    return {"x": FIELDS["x"][m, t, y, x], "y": FIELDS["y"][m, t, :, y, x]}


def finish(out, kind):
    out.finish() if kind == "zarr" else out.finish(virtual=kind == "virtual")


@pytest.fixture(params=["virtual", "real", "zarr"])
def kind(request):
    return request.param


def path_of(kind, folder):
    return folder / ("a.zarr" if kind == "zarr" else "a.nc")


@pytest.fixture
def written(kind, tmp_path):
    out = writer(kind, path_of(kind, tmp_path))
    for region in REGIONS:
        out.write(part(region), region)
    finish(out, kind)
    return out


def test_all_of_it_is_there(written):
    found = read_ensemble(written.path)
    for name, x in FIELDS.items():
        assert_array_equal(found.fields[name], x)
    assert found.provenance == {"run": {"seed": 1}}
    assert_array_equal(found.axes.levels.values, AXES.levels.values)


def test_others_read_it(written, kind):
    engine = {"zarr": "zarr"}.get(kind, "h5netcdf")
    options = {"consolidated": False} if kind == "zarr" else {}
    with xr.open_dataset(written.path, engine=engine, **options) as dataset:
        assert dataset["y"].dims == ("realization", "time", "lev", "lat", "lon")
        assert_array_equal(dataset["y"].values, FIELDS["y"])
        assert_array_equal(dataset["time"].values, AXES.times)
    if kind != "zarr":
        netcdf4 = pytest.importorskip("netCDF4")
        with netcdf4.Dataset(written.path) as file:
            assert_array_equal(np.asarray(file["x"][:]), FIELDS["x"])


def test_a_killed_run_goes_on_to_the_same_bytes(written, kind, tmp_path):
    path = path_of(kind, tmp_path / "again")
    out = writer(kind, path)
    for region in REGIONS[:3]:
        out.write(part(region), region)
    assert not path.exists()
    again = writer(kind, path)
    assert again.completed() == sorted(REGIONS[:3])
    for region in reversed(again.missing(REGIONS)):
        again.write(part(region), region)
    finish(again, kind)
    assert sha256(path) == sha256(written.path)


def test_a_damaged_part_is_written_again(kind, tmp_path):
    out = writer(kind, path_of(kind, tmp_path))
    for region in REGIONS:
        out.write(part(region), region)
    damaged = next(
        file
        for file in sorted(out.folder.rglob("*"))
        if file.is_file() and (file.suffix == ".h5" or "x/c" in str(file))
    )
    content = bytearray(damaged.read_bytes())
    content[-9] ^= 1
    damaged.write_bytes(content)
    assert len(out.missing(REGIONS)) == 1


@pytest.mark.parametrize(
    ("regions", "fault"),
    [
        (REGIONS[1:], "no part of member 0, time 0, row 0, column 0"),
        (
            [*REGIONS, Region((0, 4), (1, 2), (0, 6), (0, 8))],
            "2 parts of member 0, time 1, row 0, column 0",
        ),
    ],
)
def test_what_is_not_all_of_it(kind, tmp_path, regions, fault):
    out = writer(kind, path_of(kind, tmp_path))
    for region in regions:
        out.write(part(region), region)
    with pytest.raises(ValueError, match=f"^parts: expected one of every number, got {fault}$"):
        finish(out, kind)
    assert not Path(out.path).exists()


def test_an_old_file_stays_until_the_new_one_is_whole(kind, written):
    out = writer(kind, written.path, run={"seed": 2}, overwrite=True)
    for region in REGIONS:
        out.write({name: x + 1 for name, x in part(region).items()}, region)
        assert_array_equal(read_ensemble(written.path).fields["x"], FIELDS["x"])
    finish(out, kind)
    assert_array_equal(read_ensemble(written.path).fields["x"], FIELDS["x"] + 1)


@pytest.mark.parametrize("exchanges", [True, False])
def test_a_run_that_is_killed_when_it_puts_the_group_in_place(tmp_path, monkeypatch, exchanges):
    """What it leaves behind, the old group or its own, is not taken for one in the making."""

    def killed(one, two):
        if exchanges:
            exchange(one, two)
        raise KeyboardInterrupt

    def write(folder, seed):
        out = writer("zarr", path_of("zarr", folder), run={"seed": seed}, overwrite=True)
        for region in out.missing(REGIONS):
            out.write(part(region), region)
        out.finish()
        return sha256(out.path)

    exchange = zarr_file._exchanged
    write(tmp_path, 1)
    with monkeypatch.context() as patched:
        patched.setattr(zarr_file, "_exchanged", killed)
        with pytest.raises(KeyboardInterrupt):
            write(tmp_path, 2)
    assert write(tmp_path, 2) == write(tmp_path / "clean", 2)
    assert [p.name for p in tmp_path.iterdir() if p.name != "clean"] == ["a.zarr"]


def test_a_lost_part_is_no_missing_value(tmp_path):
    for kind, lost in (("virtual", "*.parts-*/*.h5"), ("zarr", "a.zarr/x/c/**/[0-9]")):
        out = writer(kind, path_of(kind, tmp_path))
        for region in REGIONS:
            out.write(part(region), region)
        finish(out, kind)
        next(file for file in tmp_path.glob(lost) if file.is_file()).unlink()
        with pytest.raises(ValueError, match=r"expected (the part|\d+ stored pieces)"):
            open_store(out.path)


def test_kills_at_random_moments(tmp_path):
    """The same trials as in `tools/kill_ensemble.py`, which runs 200 of each."""
    script = Path(__file__).parents[3] / "tools" / "kill_ensemble.py"
    if not script.exists():
        pytest.skip("tools/kill_ensemble.py is not beside the package")
    run = subprocess.run(
        [sys.executable, str(script), "--kills", "4"], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.count("4 trials") == 3
    assert "'absent': 0" in run.stdout or sys.platform != "linux"


@pytest.mark.parametrize("what", ["virtual", "zarr", "write_ensemble"])
def test_a_full_disk_leaves_nothing_half_written(tmp_path, what):
    """A limit on the size of files fails a write in its midst, as a full disk does."""
    code = f"""
import resource, sys, numpy as np
sys.path.insert(0, {str(Path(__file__).parent)!r})
import test_parallel_ensemble as t
from stormda.io import write_ensemble
path = t.path_of({what!r}, t.Path({str(tmp_path)!r}))
out = None if {what!r} == "write_ensemble" else t.writer({what!r}, path)
resource.setrlimit(resource.RLIMIT_FSIZE, (300, 300))
try:
    if out is None:
        write_ensemble(path, {{"x": t.FIELDS["x"]}}, times=t.AXES.times, grid=t.GRID,
                       attributes={{"x": {{"units": "K"}}}})
    else:
        out.write(t.part(t.REGIONS[0]), t.REGIONS[0])
except OSError as error:
    print("refused")
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout.strip()) == (0, "refused"), run.stderr
    assert not path_of(what, tmp_path).exists()
    if what != "write_ensemble":
        assert writer(what, path_of(what, tmp_path)).completed() == []
    assert not list(tmp_path.rglob("*.tmp"))


class TestWhatDoesNotFit:
    def test_regions(self, kind, tmp_path):
        out = writer(kind, path_of(kind, tmp_path))
        with pytest.raises(ValueError, match=r"^members: expected a range within 0 to 4, got 3"):
            out.write(part(REGIONS[0]), Region((3, 5), (0, 1), (0, 3), (0, 8)))
        with pytest.raises(ValueError, match=r"^fields: expected the variables \['x', 'y'\], g"):
            out.write({"x": FIELDS["x"][:2, :1, :3]}, REGIONS[0])
        with pytest.raises(ValueError, match=r"^fields: expected shape \(2, 1, 3, 8\) for 'x'"):
            out.write({**part(REGIONS[0]), "x": FIELDS["x"]}, REGIONS[0])

    def test_half_a_shard(self, tmp_path):
        with pytest.raises(
            ValueError,
            match=r"^members: expected whole shards of 2, which one process owns, got 1 to 2$",
        ):
            writer("zarr", tmp_path / "a.zarr").write({}, Region((1, 2), (0, 1), (0, 3), (0, 8)))

    def test_chunks_that_do_not_divide(self, tmp_path):
        with pytest.raises(ValueError, match=r"^chunk: expected a divisor of shard \(2, 1, 3"):
            EnsembleZarr(
                path=tmp_path / "a",
                axes=AXES,
                variables=["x"],
                run={},
                attributes={},
                shard=(2, 1, 3, 8),
                chunk=(2, 1, 2, 8),
            )

    def test_an_output_that_exists(self, kind, written):
        with pytest.raises(FileExistsError, match=r"expected an output that does not exist yet"):
            writer(kind, written.path)

    def test_no_members(self, kind, tmp_path):
        axes = FieldAxes(times=AXES.times, grid=GRID)
        with pytest.raises(ValueError, match=r"^axes: expected members, got none$"):
            writer(kind, tmp_path / "a", axes=axes)

    def test_no_levels(self, kind, tmp_path):
        axes = FieldAxes(times=AXES.times, grid=GRID, members=AXES.members)
        with pytest.raises(ValueError, match=r"^axes: expected levels for \['y'\], got none$"):
            writer(kind, tmp_path / "a", axes=axes)

    def test_bits_that_are_none(self, kind, tmp_path):
        with pytest.raises(ValueError, match=r"^bits: expected 1 to 23, got 0$"):
            writer(kind, tmp_path / "a", bits={"x": 0})


@given(
    st.lists(st.floats(-(2.0**99), 2.0**99, width=32), min_size=1, max_size=20), st.integers(1, 23)
)
@settings(deadline=None)
def test_rounding_keeps_a_relative_error(values, bits):
    x = np.array(values, np.float32)
    rounded = bit_round(x, bits)
    normal = np.abs(x) > np.finfo(np.float32).tiny
    error = np.abs(rounded.astype(np.float64) - x)[normal]
    assert (error <= 2.0 ** -(bits + 1) * np.abs(x.astype(np.float64))[normal] * (1 + 1e-9)).all()
    assert not (rounded.view(np.uint32) & ((1 << (23 - bits)) - 1)).any()


def test_bits_are_kept_and_told(tmp_path):
    sizes = {}
    for bits in ({}, {"x": 7}):
        out = writer("real", tmp_path / f"{len(bits)}.nc", bits=bits, compression=4)
        for region in REGIONS:
            out.write(part(region), region)
        out.finish(virtual=False)
        sizes[len(bits)] = Path(out.path).stat().st_size
        expected = bit_round(FIELDS["x"], bits.get("x", 23))
        assert_array_equal(read_ensemble(out.path).fields["x"], expected)
    assert sizes[1] < sizes[0]
    with xr.open_dataset(tmp_path / "1.nc", engine="h5netcdf") as dataset:
        assert dataset["x"].attrs["_QuantizeBitRoundNumberOfSignificantBits"] == 7
    with pytest.raises(ValueError, match=r"^bits: expected 1 to 23, got 24$"):
        writer("real", tmp_path / "b.nc", bits={"x": 24})


def test_mean_and_spread(written, tmp_path):
    write_summary(written.path, tmp_path / "summary.nc")
    store = open_store(tmp_path / "summary.nc")
    for name, x in FIELDS.items():
        double = x.astype(np.float64)
        assert_array_equal(store.read(name)[0], double.mean(0).astype(np.float32))
        assert_array_equal(
            store.read(f"{name}_spread")[0], double.std(0, ddof=1).astype(np.float32)
        )
    with xr.open_dataset(tmp_path / "summary.nc", engine="h5netcdf") as dataset:
        assert dataset["x_spread"].attrs["cell_methods"] == "realization: standard_deviation"


@given(st.lists(st.integers(1, 3), min_size=1, max_size=3), st.integers(0, 5), st.booleans())
def test_regions_are_counted_as_by_hand(sizes, which, lose):
    """Tiles of members of uneven sizes; one may be lost."""
    edges = np.cumsum([0, *sizes])
    regions = [
        Region((int(a), int(b)), (0, 2), (0, 3), (0, 4)) for a, b in itertools.pairwise(edges)
    ]
    shape = int(edges[-1]), 2, 3, 4
    if lose:
        del regions[which % len(regions)]
        with pytest.raises(ValueError, match=re.escape("expected one of every number, got no p")):
            require_whole(regions, shape)
    else:
        require_whole(regions, shape)
