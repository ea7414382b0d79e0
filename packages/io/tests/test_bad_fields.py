"""The ways in which files of fields, ensembles and settings are bad, each with what is said.

The numbers are those of a list of 63 bad inputs that Earth-system files are known for; those of
observations stand in `test_bad_observations.py`. A few are no faults: they are read right, and the
test says how.
"""

import fcntl
import re
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from stormda.grid import LatLonGrid, TileLayout, projected_grid
from stormda.io import (
    EnsembleParts,
    FieldAxes,
    Rank,
    Statistics,
    TileDataset,
    WindowConfig,
    open_store,
    read_ensemble,
    write_ensemble,
    write_fields,
)

NORTH, EAST = {"units": "degrees_north"}, {"units": "degrees_east"}
KELVIN = {"units": "K"}


def refused(message, call, kind=ValueError):
    with pytest.raises(kind, match=f"^{re.escape(message)}$"):
        call()


def refused_file(message, path, **options):
    refused(f"{path}: {message}", lambda: open_store(path, **options))


def hours(*values, **attributes):
    units = {"units": "hours since 2019-03-01", **attributes}
    return ("time",), np.array(values, np.float64), units


def plane_of(values, units=None):
    return ("lat", "lon"), np.asarray(values), KELVIN if units is None else units


def test_1_a_file_that_is_not_there_or_empty_or_cut(field, tmp_path):
    path = tmp_path / "a.nc"
    refused(
        f"{path}: expected a file, got a path that does not exist",
        lambda: open_store(path),
        FileNotFoundError,
    )
    path.write_bytes(b"")
    refused_file("expected a NetCDF-3 or NetCDF-4 file, got an empty file", path)
    path.write_bytes(field().read_bytes()[:-1])
    with pytest.raises(
        ValueError,
        match=rf"^{re.escape(str(path))}: expected a readable NetCDF file, got a truncated or "
        r"damaged one \(.+\)$",
    ):
        open_store(path)


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"version https://git-lfs.github.com/spec/v1\n",
         "a Git-LFS pointer (fetch the file with `git lfs pull`)"),
        (b"<html>", "an HTML page (the download failed)"),
        (b"\x0e\x03\x13\x01", "an HDF4 file (convert it with `h4tonccf`)"),
        (b"BUFR\x00\x00\x00\x04", "a BUFR file (decode it with eccodes)"),
        (b"date,lon", "a file that starts with b'date,lon'"),
    ],
)  # fmt: skip
def test_2_and_3_other_files_named_nc(tmp_path, content, what):
    path = tmp_path / "a.nc"
    path.write_bytes(content)
    refused_file(f"expected a NetCDF-3 or NetCDF-4 file, got {what}", path)


def test_4_a_file_that_was_open_for_writing_when_it_was_copied(tmp_path):
    path = tmp_path / "a.nc"
    with h5py.File(tmp_path / "b.nc", "w", libver="latest") as file:
        file.swmr_mode = True
        path.write_bytes((tmp_path / "b.nc").read_bytes())
    with pytest.raises(
        ValueError,
        match=rf"^{re.escape(str(path))}: expected a readable NetCDF file, got a truncated or "
        r"damaged one \(.*already open for write.*h5clear.*\)$",
    ):
        open_store(path)


@pytest.mark.skipif(sys.platform != "linux", reason="locks are those of Linux")
def test_5_a_file_that_another_has_locked(tmp_path):
    path = tmp_path / "a.nc"
    h5py.File(path, "w").close()
    with path.open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with pytest.raises(
            ValueError,
            match=rf"^{re.escape(str(path))}: expected a readable NetCDF file, got a truncated or "
            r"damaged one \(.*unable to lock file.*\)$",
        ):
            open_store(path)


def test_6_a_folder_without_metadata(tmp_path):
    refused_file(
        "expected a file or a Zarr group, got a folder without Zarr metadata "
        "(zarr.json, .zgroup, .zmetadata)",
        tmp_path,
    )


def test_7_and_8_a_file_twice_and_a_pattern_without_a_match(field, tmp_path):
    path = field()
    refused(f"{path}: expected every file once, got it twice", lambda: open_store([path, path]))
    refused(
        f"{tmp_path}/*.grib: expected a pattern that matches a file, got no match",
        lambda: open_store(f"{tmp_path}/*.grib"),
        FileNotFoundError,
    )


LAT3 = [50.0, 51.0, 52.0]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"lat": None, "lon": None},  # 9
         "expected latitude and longitude, or y and x in metres, got coordinates ['time']"),
        ({"slat": (("slat",), np.array([50.5, 51.5]), NORTH)},  # 9
         "latitude: expected one coordinate, got ['lat', 'slat']"),
        ({"lat": (("lat",), np.array([50.0, 52.0, 51.0]), {})},  # 10
         "lat: expected strictly increasing or decreasing values, got 51.0 after 52.0 at index 2"),
        ({"lat": (("lat",), np.array([50.0, 51.0, 51.0]), {})},  # 10
         "lat: expected strictly increasing or decreasing values, got 51.0 after 51.0 at index 2"),
        ({"lat": (("lat",), np.array([50.0, 51.0, 99.0]), {})},  # 11
         "latitude 'lat': expected degrees between -90 and 90, got 50 to 99"),
        ({"lon": (("lon",), np.array([0.0, 1.0, 2.0, 800.0]), {})},  # 11
         "longitude 'lon': expected degrees between -360 and 720, got 0 to 800"),
        ({"lat": (("lat",), np.array([50.0, np.nan, 52.0]), {})},  # 12
         "coordinate 'lat': expected finite numbers, got 1 missing, the first at index (1,)"),
        ({"lat": (("lat",), np.array([50.0, 9.969209968386869e36, 52.0]), {})},  # 12
         "coordinate 'lat': expected finite numbers, got 1 missing, the first at index (1,)"),
        ({"lat": (("lat",), np.array([-1.5, 0.0, 1.5]), {})},  # 15
         "latitude 'lat': expected units, got none for values from -1.5 to 1.5, which look like "
         "radians"),
        ({"lat": (("lat",), np.array(LAT3), {"units": "Pa"})},  # 15
         "units: expected a unit that converts to 'degree', got 'Pa'"),
        ({"lat": (("y", "x"), np.full((3, 4), 50.0), NORTH),  # 18
          "lon": (("x", "y"), np.full((4, 3), 5.0), EAST),
          "x": (("y", "x"), np.zeros((3, 4)), KELVIN)},
         "expected latitude and longitude along the same dimensions, got 'lat' along ('y', 'x') "
         "and 'lon' along ('x', 'y')"),
        ({"x": (("time",), np.zeros(2), KELVIN)},  # 18
         "expected a variable on the grid (lat, lon), got none"),
        ({"time": None},  # 21
         "time: expected a coordinate variable of dimension 'time', got none"),
        ({"t0": (("valid_time",), np.zeros(1), {})},  # 21
         "time: expected one dimension, got ['time', 'valid_time']"),
        ({"time": (("time",), np.arange(2), {})},  # 22
         "time units: expected '<unit> since <date>', got none"),
        ({"time": (("time",), np.arange(2), {"units": "wibble"})},  # 23
         "time units: expected '<unit> since <date>', got 'wibble'"),
        ({"time": (("time",), np.arange(2), {"units": "months since 2000-01-01"})},  # 23
         "time units: expected a unit of fixed length such as days, got 'months since 2000-01-01' "
         "(rewrite the times as days since a date)"),
        ({"time": hours(0, 0)},  # 24
         "time: expected increasing times, got the same time twice at index 1: "
         "2019-03-01T00:00:00"),
        ({"time": hours(1, 0)},  # 25
         "time: expected increasing times, got a time before the one before it at index 1: "
         "2019-03-01T00:00:00"),
        ({"time": hours(0, 1, calendar="julian")},  # 27
         "calendar: expected standard, gregorian or proleptic_gregorian, got 'julian' (its days "
         "are not those of the Gregorian calendar)"),
        ({"time": (("time",), np.array([0.0, 1e18]), {"units": "days since 2000-01-01"})},  # 29
         "time: expected finite dates, got NaN, a fill value or a number too large"),
        ({"e": (("member", "ens"), np.zeros((2, 2)), {})},  # 44
         "member: expected one dimension, got ['member', 'ens']"),
        ({"number": (("number",), np.array([1, 1]), {})},  # 44
         "member: expected distinct whole numbers, got [1.0, 1.0]"),
        ({"number": (("number",), np.array([0.0, 0.5]), {})},  # 44
         "member: expected distinct whole numbers, got [0.0, 0.5]"),
    ],
)  # fmt: skip
def test_9_to_12_15_18_21_to_25_27_29_44_axes(field, change, message):
    refused_file(message, field(**change))


def test_21_a_file_without_a_frame(field):
    path = field(np.zeros((0, 3, 4), np.float32), time=hours())
    refused_file("time: expected at least one frame along 'time', got none", path)


def test_13_a_column_that_comes_twice(write):
    path = write(
        {
            "lat": (("lat",), np.array([-45.0, 0.0, 45.0]), NORTH),
            "lon": (("lon",), np.arange(0.0, 361, 60), EAST),
            "a": (("lat", "lon"), np.arange(21.0).reshape(3, 7), KELVIN),
        }
    )
    message = f"{path}: longitude 'lon': left out the last 1 of 7 columns, which repeat the first"
    with pytest.warns(UserWarning, match=f"^{re.escape(message)}$"):
        store = open_store(path)
    assert_array_equal(store.read("a")[0][0], np.arange(21.0).reshape(3, 7)[:, :6])


@pytest.mark.parametrize(
    ("y", "units", "message"),
    [
        ([0.0, 1.0, 3.0], "m",
         "expected increasing, evenly spaced metres, got 3 values from 0 to 3"),
        ([2.0, 1.0, 0.0], "m",
         "expected increasing, evenly spaced metres, got 3 values from 2 to 0"),
        ([0.0, 1.0, 2.0], "degrees",
         "expected latitude or longitude in degrees, or metres, got units 'degrees'"),
    ],
)  # fmt: skip
def test_14_planes_that_are_not_even(field, y, units, message):
    path = field(lat=None, lon=None, y=(("y",), np.array(y), {"units": units}),
                 x=(("x",), np.arange(4.0), {"units": "m"}),
                 t=(("time", "y", "x"), np.zeros((2, 3, 4)), KELVIN))  # fmt: skip
    refused_file(f"coordinate 'y': {message}", path)


def test_16_27_and_43_files_that_do_not_belong_together(field):
    one = field(name="a.nc")
    for change, what in (
        ({"lat": (("lat",), np.array([50.0, 51.0, 52.5]), NORTH)},
         "the grid of {one}: expected lat 52.0 at index 2, got 52.5"),
        ({"time": (("time",), np.array([30000.0, 30001.0]),
                   {"units": "days since 2000-01-01", "calendar": "noleap"})},
         "the calendar of {one}, gregorian, got noleap"),
        ({"z": plane_of(np.zeros((3, 4)))}, "the variables of {one}, ['x'], got ['x', 'z']"),
    ):  # fmt: skip
        two = field(name="b.nc", **({"time": hours(2, 3)} | change))
        refused(f"{two}: expected {what.format(one=one)}", lambda two=two: open_store([one, two]))

    def ensemble(name, members, start):
        x = (("number", "time", "lat", "lon"), np.zeros((members, 2, 3, 4)), KELVIN)
        number = (("number",), np.arange(members), {})
        return field(name=name, number=number, x=x, time=hours(start, start + 1))

    three, four = ensemble("c.nc", 3, 0), ensemble("d.nc", 4, 2)
    refused(
        f"{four}: expected the members of {three}, [0, 1, 2], got [0, 1, 2, 3]",
        lambda: open_store([three, four]),
    )


def test_17_a_map_that_contradicts_the_places(write):
    """As in a HIRHAM file whose pole is 21 degrees off."""
    said = {
        "grid_mapping_name": "rotated_latitude_longitude",
        "grid_north_pole_latitude": 18.0,
        "grid_north_pole_longitude": -140.75,
    }
    true = said | {"grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}
    rows, cols = np.arange(-2.0, 2), np.arange(-3.0, 3)
    lat, lon = projected_grid(true, rows, cols).points
    degrees = {"units": "degrees"}
    path = write(
        {
            "pole": ((), np.int32(0), said),
            "rlat": (("rlat",), rows, degrees | {"standard_name": "grid_latitude"}),
            "rlon": (("rlon",), cols, degrees | {"standard_name": "grid_longitude"}),
            "lat": (("rlat", "rlon"), lat, NORTH),
            "lon": (("rlat", "rlon"), lon, EAST),
            "a": (("rlat", "rlon"), np.zeros((4, 6)),
                  KELVIN | {"grid_mapping": "pole", "coordinates": "lat lon"}),
        }
    )  # fmt: skip
    with pytest.raises(
        ValueError,
        match=rf"^{re.escape(str(path))}: declared: expected a grid that agrees with the "
        r"coordinates, got one whose cell \(0, 5\) lies at .+, where lat, lon say .+$",
    ):
        open_store(path)


def test_18_dimensions_in_another_order_are_put_in_order(write):
    data = np.arange(24.0).reshape(4, 3, 2)
    path = write(
        {
            "time": hours(0, 1),
            "lat": (("lat",), np.array(LAT3), NORTH),
            "lon": (("lon",), np.arange(4.0), EAST),
            "a": (("lon", "lat", "time"), data, KELVIN),
        }
    )
    assert_array_equal(open_store(path).read("a")[0], data.T)


class TestLevels:
    def path(self, field, name="file.nc", values=(850.0, 500.0), start=0, **attributes):
        lev = (("lev",), np.array(values), attributes)
        a = (("time", "lev", "lat", "lon"), np.zeros((2, 2, 3, 4)), {"units": "m"})
        return field(name=name, lev=lev, a=a, time=hours(start, start + 1))

    def test_19_levels_without_units(self, field):
        refused(
            "level: expected an axis that converts to 'hPa', got 'lev' with no units",
            lambda: open_store(self.path(field)).level("a", 500, "hPa"),
        )

    def test_19_hectopascals_and_pascals_are_one(self, field):
        one = self.path(field, "a.nc", units="hPa")
        two = self.path(field, "b.nc", values=(85000.0, 50000.0), start=2, units="Pa")
        assert_array_equal(open_store([one, two]).levels["lev"].values, [85000, 50000])
        two = self.path(field, "b.nc", start=2, units="Pa")
        refused(
            f"{two}: expected the levels of {one}, {{'lev': [85000.0, 50000.0]}}, "
            "got {'lev': [850.0, 500.0]}",
            lambda: open_store([one, two]),
        )

    def test_20_model_levels_of_which_no_pressure_is_known(self, field):
        path = self.path(field, standard_name="model_level_number", units="1")
        refused(
            "level: expected an axis that converts to 'hPa', got 'lev' (model_level_number) "
            "with 1, whose coefficients are not known",
            lambda: open_store(path).level("a", 500, "hPa"),
        )


def test_26_gaps_are_listed_and_no_window_crosses_them(field):
    store = open_store(field(np.zeros((5, 3, 4), np.float32), time=hours(0, 1, 2, 5, 6)))
    assert store.gaps == [(np.datetime64("2019-03-01T02"), np.datetime64("2019-03-01T05"))]
    data = TileDataset(store=store, variables=["x"], window=WindowConfig(history=1))
    assert len(data) == 3


@pytest.mark.parametrize(
    ("start", "fault"), [(1, "both hold 2019-03-01T01:00:00"), (0.5, "their times interleave")]
)
def test_28_files_that_overlap(field, start, fault):
    one, two = field(name="a.nc"), field(name="b.nc", time=hours(start, 2))
    first = np.datetime64("2019-03-01", "s") + int(start * 3600)
    refused(
        f"{two}: expected times after those of {one}, which ends at 2019-03-01T01:00:00, got a "
        f"file that starts at {first} ({fault})",
        lambda: open_store([one, two]),
    )


def test_31_a_variable_that_is_not_there(field):
    path = field(t2m=plane_of(np.zeros((3, 4))))
    refused(
        f"{path}: expected one of the variables ['t2m', 'x'], got 't2n' (did you mean 't2m'?)",
        lambda: open_store(path).read("t2n"),
    )


@pytest.mark.parametrize(
    ("name", "variable", "message"),
    [
        ("bad", plane_of(np.zeros((3, 4)), {}),  # 32
         "expected units, got none (pass units='as_is' to read it unconverted)"),
        ("bad", plane_of(np.zeros((3, 4)), {"units": "kevin"}),  # 32
         "units: expected a known unit, got 'kevin' (did you mean 'kelvin'?) (pass units='as_is' "
         "to read it unconverted)"),
        ("bad", plane_of(np.full((3, 4), -9.0), {"units": "K", "missing_value": -9.0}),  # 33
         "expected at least one valid value, got 12 missing ones"),
        ("bad", plane_of(np.full((3, 4), np.inf)),  # 35
         "expected finite values, got inf at index (0, 0, 0)"),
        ("t2m", plane_of(np.full((3, 4), 15.0)),  # 36
         "expected t2m between 161 and 359 K, got 15 at index (0, 0, 0) (wrong units or packing? "
         "pass plausible=False to read it as it is)"),
        ("bad", plane_of(np.zeros((3, 4)), {"units": "K", "scale_factor": 0.0}),  # 37
         "scale_factor: expected a finite number other than 0, got 0.0"),
        ("bad", plane_of(np.zeros((3, 4)), {"units": "K", "scale_factor": np.nan}),  # 37
         "scale_factor: expected a finite number other than 0, got nan"),
        ("bad", plane_of(np.full((3, 4), b"a", "S1")),  # 40
         "expected numbers, got values of type |S1"),
        ("bad", plane_of(np.full((3, 4), 1e39)),  # 42
         "expected finite values, got 1e+39 at index (0, 0, 0)"),
    ],
)  # fmt: skip
def test_32_33_35_to_37_40_42_a_bad_variable_spoils_no_other(field, name, variable, message):
    path = field(np.ones((2, 3, 4), np.float32), **{name: variable})
    store = open_store(path)
    refused(f"{path}: variable {name!r}: {message}", lambda: store.read(name))
    assert_array_equal(store.read("x")[0], np.ones((2, 3, 4)))


def test_32_units_of_another_kind_in_another_file(field):
    one, two = field(name="a.nc"), field(attributes={"units": "Pa"}, name="b.nc", time=hours(2, 3))
    refused(
        f"{two}: expected the units of {one}, {{'x': 'K'}}, got {{'x': 'Pa'}}",
        lambda: open_store([one, two]),
    )


def test_34_too_many_missing(field):
    x = np.ones((2, 3, 4), np.float32)
    x[0, 0] = np.nan
    store = open_store(field(x))
    refused(
        "variable 'x': expected at most 10.0% missing values, got 16.7%",
        lambda: Statistics.from_store(store, ["x"], max_missing=0.1),
    )


def test_38_files_packed_differently_are_unpacked_each_by_its_own(field):
    """The same 281.5 K; raw numbers put together would be wrong by degrees."""
    paths = [
        field(np.full((2, 3, 4), raw, np.int16), {"units": "K", "scale_factor": scale,
              "add_offset": offset}, f"{name}.nc", time=hours(start, start + 1))
        for name, raw, scale, offset, start in
        (("a", 150, 0.01, 280.0, 0), ("b", 30, 0.05, 280.0, 2))
    ]  # fmt: skip
    assert_allclose(open_store(paths).read("x")[0], 281.5, rtol=1e-7)


def test_39_codes_for_missing_of_another_type_or_that_disagree(field):
    x = np.ones((2, 3, 4), np.float32)
    x[0, 0, :3] = -999, np.float32(1e20), -9999
    codes = {"_FillValue": np.float64(1e20), "missing_value": np.array([-999, -9999], np.int16)}
    _, mask = open_store(field(x, KELVIN | codes)).read("x")
    assert_array_equal(np.argwhere(~mask), [[0, 0, 0], [0, 0, 1], [0, 0, 2]])


def test_41_a_field_that_is_constant(field):
    found = Statistics.from_store(open_store(field(np.full((2, 3, 4), 7.0, np.float32))), ["x"])
    refused(
        "name: expected a variable that varies, got 'x' with minimum 7.0 and maximum 7.0",
        lambda: found.std("x"),
    )


@pytest.mark.parametrize("dim", ["number", "ensemble", "member", "realization", "ens"])
def test_45_members_by_another_name_are_members(field, dim):
    x = ((dim, "time", "lat", "lon"), np.zeros((3, 2, 3, 4)), KELVIN)
    store = open_store(field(x=x, **{dim: ((dim,), np.array([5, 6, 7]), {})}))
    assert store.axes("x") == ("E", "T", "Y", "X")
    assert store.members.tolist() == [5, 6, 7]


def test_58_and_59_tiles_and_ranks_that_do_not_fit(field):
    store = open_store(field(np.zeros((4, 3, 4), np.float32)))
    refused(
        "tiles: expected between 1 and the cells (3, 4), got (5, 1)",
        lambda: TileLayout((3, 4), (5, 1)),
    )
    refused(
        "halo: expected between 0 and the cells (3, 4), got (0, 5)",
        lambda: TileLayout((3, 4), (1, 1), (0, 5)),
    )
    refused(
        "tile rows: expected a window of cells within 0 to 3, got slice(1, 4, None)",
        lambda: store.read("x", tile=(slice(1, 4), slice(0, 2))),
    )
    settings = {"store": store, "variables": ["x"], "window": WindowConfig(history=1)}
    layout = TileLayout((3, 4), (1, 2))
    refused(
        "tile: expected 0 to 1, the tiles of the layout, got 2",
        lambda: TileDataset(**settings, layout=layout, rank=Rank(tile=2)),
    )
    refused(
        "replicas: expected at most one for each of 6 samples, got 7",
        lambda: TileDataset(**settings, layout=layout, rank=Rank(replicas=7)),
    )


def test_60_the_state_of_another_run(field):
    data = TileDataset(
        store=open_store(field()), variables=["x"], window=WindowConfig(history=0), seed=5
    )
    for state, message in (
        ({"epoch": 0}, "state: expected seed, epoch and position, got ['epoch']"),
        ({"seed": 6, "epoch": 0, "position": 0}, "state: expected that of seed 5, got 6"),
        ({"seed": 5, "epoch": 0, "position": 3},
         "state: expected a position of 2 samples, got 3 (a run on other data?)"),
    ):  # fmt: skip
        refused(message, lambda state=state: data.load_state_dict(state))


def test_61_statistics_of_other_variables_or_units(field):
    x = np.arange(24, dtype=np.float32).reshape(2, 3, 4)
    statistics = Statistics.from_store(open_store(field(x)), ["x"])
    other = open_store(field(name="b.nc", x=None, y=plane_of(x[0])))
    refused(
        "store: expected the variables ['x'], got ['y']", lambda: statistics.require_match(other)
    )
    pressure = open_store(field(x, {"units": "Pa"}, "c.nc"))
    refused("store: expected 'x' in 'K', got 'Pa'", lambda: statistics.require_match(pressure))


GRID = LatLonGrid(LAT3, np.arange(4.0))
TIMES = np.array(["2000-01-01", "2000-01-02"], "M8[s]")


def test_62_an_output_that_is_there_already(tmp_path):
    path = tmp_path / "a.nc"
    path.write_text("precious")
    message = (
        f"{path}: expected an output that does not exist yet, got an existing file "
        "(pass overwrite=True to replace it)"
    )
    common = {"times": TIMES, "grid": GRID, "attributes": {"x": KELVIN}}
    axes = FieldAxes(times=TIMES, grid=GRID, members=np.arange(2))
    for write in (
        lambda: write_fields(path, {"x": np.zeros((2, 3, 4))}, **common),
        lambda: write_ensemble(path, {"x": np.zeros((2, 2, 3, 4))}, **common),
        lambda: EnsembleParts(path=path, axes=axes, variables=["x"], run={},
                              attributes={"x": KELVIN}),
    ):  # fmt: skip
        refused(message, write, FileExistsError)
    assert path.read_text() == "precious"


FULL_DISK = """
import resource, sys, numpy as np
from stormda.grid import LatLonGrid
from stormda.io import write_ensemble
path, size = sys.argv[1], int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    write_ensemble(path, {"x": np.ones((4, 2, 300, 400))}, attributes={"x": {"units": "K"}},
                   times=np.array(["2000-01-01", "2000-01-02"], "M8[s]"), overwrite=True,
                   grid=LatLonGrid(np.arange(300.0) / 4, np.arange(400.0) / 4))
except OSError as error:
    print(error.strerror)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of POSIX")
@pytest.mark.parametrize("size", [0, 300, 8000, 20000, 1_000_000, 3_500_000])
def test_63_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, size):
    path = tmp_path / "a.nc"
    write_ensemble(path, {"x": np.zeros((2, 2, 3, 4))}, times=TIMES, grid=GRID,
                   attributes={"x": KELVIN})  # fmt: skip
    code = [sys.executable, "-c", FULL_DISK, str(path), str(size)]
    run = subprocess.run(code, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "File too large\n"), run.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["a.nc"]
    assert read_ensemble(path).fields["x"].shape == (2, 2, 3, 4)


def test_every_number_of_the_list_has_a_test():
    found = set()
    for name in ("test_bad_fields.py", "test_bad_observations.py"):
        text = Path(__file__).with_name(name).read_text("utf-8")
        for title in re.findall(r"def test_((?:\d+_|and_|to_)+)", text):
            spans = re.sub(r"(\d+)_to_(\d+)", _counted, title)
            found |= {int(digits) for digits in re.findall(r"\d+", spans)}
    assert sorted(found) == [*range(1, 64)]


def _counted(match):
    first, last = (int(number) for number in match.groups())
    return "_".join(str(number) for number in range(first, last + 1))
