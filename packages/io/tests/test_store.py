import re

import h5netcdf
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stormda.grid import LatLonGrid, PlaneGrid, TileLayout
from stormda.io import open_store

LAT = (("lat",), np.array([50.0, 51.0, 52.0]), {"units": "degrees_north"})


def hours(*values, **attributes):
    units = {"units": "hours since 2019-03-01", **attributes}
    return ("time",), np.array(values, np.float64), units


def numbered(frames, start=0):
    """A field whose values say where they are: 100 t + 10 row + column."""
    t, i, j = np.ogrid[start : start + frames, :3, :4]
    return (100 * t + 10 * i + j).astype(np.float32)


def test_what_a_store_knows(field):
    store = open_store(field(numbered(2)))
    meta = store.variables["x"]
    assert (meta.units, meta.dims, meta.shape) == ("K", ("time", "lat", "lon"), (2, 3, 4))
    assert_array_equal(store.times, np.array(["2019-03-01T00", "2019-03-01T01"], "datetime64[s]"))
    assert store.times.dtype == "datetime64[s]"
    assert store.grid == LatLonGrid([50, 51, 52], [0, 1, 2, 3])
    assert store.axes("x") == ("T", "Y", "X")
    assert store.shape("x") == (2, 3, 4)
    assert len(store.members) == len(store.levels) == 0


def test_values_come_beside_a_mask(field):
    data = numbered(2)
    data[1, 2, 3] = -999
    store = open_store(field(data, {"units": "degC", "_FillValue": np.float32(-999)}))
    values, mask = store.read("x")
    assert values.dtype == np.float32
    assert mask.dtype == np.bool_
    assert not mask[1, 2, 3]
    assert mask.sum() == 23
    expected = np.where(mask, data + 273.15, 0).astype(np.float32)
    assert_array_equal(values, expected)


def test_units_can_be_left_as_they_are(field):
    store = open_store(field(numbered(1), {"units": "degC"}), units="as_is")
    assert store.variables["x"].units == "degC"
    assert_array_equal(store.read("x")[0], numbered(1))


def test_parts_are_parts_of_the_whole(field):
    store = open_store(field(numbered(5)))
    whole, _ = store.read("x")
    assert_array_equal(store.read("x", time=-1)[0], whole[-1:])
    assert_array_equal(store.read("x", time=slice(1, 4, 2))[0], whole[1:4:2])
    assert_array_equal(store.read("x", time=[3, 0, 3])[0], whole[[3, 0, 3]])
    assert_array_equal(store.read("x", time="2019-03-01T02")[0], whole[2:3])
    assert_array_equal(store.read("x", tile=(slice(1, 3), slice(0, 2)))[0], whole[:, 1:3, :2])


def test_tiles_of_a_global_grid_wrap(field):
    lon = (("lon",), np.array([0.0, 90.0, 180.0, 270.0]), {"units": "degrees_east"})
    store = open_store(field(numbered(2), lon=lon))
    layout = TileLayout((3, 4), tiles=(1, 2), halo=(1, 1), periodic=True)
    whole, _ = store.read("x")
    for i, window in enumerate(layout.windows()):
        assert_array_equal(store.read("x", tile=window.extended)[0], layout.take(whole, i))


def test_dimensions_in_any_order(write):
    shape = {"lon": 4, "member": 2, "lat": 3, "lev": 2, "time": 2}
    data = np.arange(96, dtype=np.float32).reshape(*shape.values())
    path = write(
        {
            "time": hours(0, 1),
            "lat": LAT,
            "lon": (("lon",), np.arange(4.0), {"units": "degrees_east"}),
            "lev": (("lev",), np.array([850.0, 500.0]), {"units": "hPa", "positive": "down"}),
            "member": (("member",), np.array([3, 7]), {}),
            "x": (tuple(shape), data, {"units": "K"}),
        }
    )
    store = open_store(path)
    assert store.axes("x") == ("E", "T", "Z", "Y", "X")
    assert_array_equal(store.members, [3, 7])
    assert_array_equal(store.levels["lev"].values, [85000.0, 50000.0])
    assert store.levels["lev"].units == "Pa"
    whole, _ = store.read("x")
    assert_array_equal(whole, np.einsum("xeyzt->etzyx", data))
    assert_array_equal(store.read("x", level=1)[0], whole[:, :, 1])
    assert_array_equal(store.read("x", level=slice(1, 2))[0], whole[:, :, 1:2])
    assert_array_equal(store.read("x", member=0, level=0, time=1)[0], whole[0, 1:2, 0])
    assert_array_equal(store.read("x", member=slice(1, 2))[0], whole[1:2])


def test_levels_and_members_without_coordinates_are_numbered(field):
    x = (("member", "lev", "lat", "lon"), np.zeros((2, 3, 3, 4)), {"units": "K"})
    store = open_store(field(x=x))
    assert_array_equal(store.members, [0, 1])
    assert_array_equal(store.levels["lev"].values, [0.0, 1.0, 2.0])


def test_a_scalar_time_is_one_frame(field):
    time = ((), np.array(6.0), {"units": "hours since 2019-03-01"})
    x = (("lat", "lon"), numbered(1)[0], {"units": "K"})
    store = open_store(field(time=time, x=x))
    assert_array_equal(store.times, np.array(["2019-03-01T06"], "datetime64[s]"))
    assert_array_equal(store.read("x", time="2019-03-01")[0], numbered(1))


def test_static_fields_have_one_frame(field):
    z = (("lat", "lon"), numbered(1)[0], {"units": "m"})
    store = open_store(field(numbered(3), z=z))
    assert store.shape("z") == (1, 3, 4)
    assert_array_equal(store.read("z")[0], numbered(1))
    assert_array_equal(store.read("z", time=0)[0], numbered(1))
    with pytest.raises(ValueError, match=r"^time: expected frames 0 to 0, got 1$"):
        store.read("z", time=1)


def test_the_valid_time_goes_before_the_start_of_the_forecast(field):
    start = hours(0, 0, standard_name="forecast_reference_time")
    valid = (("time",), np.array([6.0, 12.0]), {"units": "hours since 2019-03-01"})
    valid[2]["standard_name"] = "time"
    store = open_store(field(time=start, valid_time=valid))
    assert_array_equal(store.times, np.array(["2019-03-01T06", "2019-03-01T12"], "datetime64[s]"))


def test_a_plane_in_kilometres(field):
    y = (("y",), np.array([10.0, 12.0, 14.0]), {"units": "km"})
    x = (("x",), np.array([0.0, 3.0, 6.0, 9.0]), {"units": "km", "periodic": np.int32(1)})
    t = (("time", "y", "x"), numbered(2), {"units": "K"})
    store = open_store(field(lat=None, lon=None, x=x, y=y, t=t))
    assert store.grid == PlaneGrid((3, 4), (2e3, 3e3), (False, True), origin_m=(1e4, 0.0))


def test_latitude_bounds_of_a_file_are_used(field):
    lat = (LAT[0], LAT[1], {"units": "degrees_north", "bounds": "lat_bnds"})
    edges = np.array([[49.0, 50.2], [50.2, 51.9], [51.9, 53.0]])
    store = open_store(field(lat=lat, lat_bnds=(("lat", "nv"), edges, {})))
    assert store.grid == LatLonGrid(LAT[1], np.arange(4.0), edges)


def test_netcdf_4_and_netcdf_3_are_one(field, tmp_path):
    three = open_store(field(numbered(2)))
    with h5netcdf.File(tmp_path / "four.nc", "w") as file:
        file.dimensions = {"time": 2, "lat": 3, "lon": 4}
        for name, dims, data, units in (
            ("time", ("time",), np.arange(2), "hours since 2019-03-01"),
            ("lat", ("lat",), np.array([50.0, 51, 52]), "degrees_north"),
            ("lon", ("lon",), np.arange(4.0), "degrees_east"),
            ("x", ("time", "lat", "lon"), numbered(2), "K"),
        ):
            file.create_variable(name, dims, data=data).attrs["units"] = units
    four = open_store(tmp_path / "four.nc")
    assert_array_equal(four.read("x")[0], three.read("x")[0])
    assert_array_equal(four.times, three.times)
    assert four.grid == three.grid


def test_variables_can_be_renamed(field):
    store = open_store(field(numbered(1)), names={"t2m": "x"})
    assert [*store.variables] == ["t2m"]
    assert store.variables["t2m"].name == "t2m"
    assert_array_equal(store.read("t2m")[0], numbered(1))


def test_checksums_are_those_of_the_files(field):
    path = field()
    [(name, digest)] = open_store(path).sha256().items()
    assert (name, len(digest)) == (str(path), 64)


class TestSeveralFiles:
    def test_they_follow_in_time_whatever_their_order(self, field):
        """Each is decoded by its own packing and its own reference date."""
        packed = {"units": "K", "scale_factor": 2.0, "add_offset": 200.0}
        late = field((numbered(2, start=3) - 200) / 2, packed, "a.nc", time=hours(3, 4))
        early = field(numbered(3), None, "b.nc")
        store = open_store([late, early])
        assert [path.name for path in store.paths] == ["b.nc", "a.nc"]
        assert store.variables["x"].shape == (5, 3, 4)
        assert_array_equal(store.read("x")[0], numbered(5))
        assert_array_equal(store.read("x", time=slice(2, 4))[0], numbered(5)[2:4])
        assert_array_equal(store.read("x", time=[4, 1, 3, 0])[0], numbered(5)[[4, 1, 3, 0]])

    def test_a_pattern(self, field, tmp_path):
        field(name="a1.nc")
        field(name="a2.nc", time=hours(5, 6))
        assert len(open_store(f"{tmp_path}/a*.nc").times) == 4

    def test_other_units_of_the_same_kind_are_converted(self, field):
        one = field(numbered(1), {"units": "K"}, "a.nc")
        two = field(numbered(1), {"units": "degC"}, "b.nc", time=hours(1))
        values, _ = open_store([one, two]).read("x")
        np.testing.assert_allclose(values[1] - values[0], 273.15, rtol=1e-6)  # float32

    def test_files_without_time(self, field):
        static = {"time": None, "x": (("lat", "lon"), numbered(1)[0], {"units": "K"})}
        one, two = field(name="a.nc", **static), field(name="b.nc", **static)
        message = f"{one}: expected a time to put 2 files in order, got none"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            open_store([one, two])


class TestBadChoices:
    def test_a_missing_frame_of_a_variable_is_only_masked(self, field):
        data = numbered(2)
        data[1] = np.nan
        store = open_store(field(data))
        assert not store.read("x", time=1)[1].any()

    def test_new_name_for_an_unknown_variable(self, field):
        path = field()
        message = f"names: expected a variable of {path} for 't2m', one of ['x'], got 'y'"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            open_store(path, names={"t2m": "y"})

    def test_unknown_choice_of_units(self, field):
        with pytest.raises(ValueError, match=r"^units: expected 'si' or 'as_is', got 'imperial'$"):
            open_store(field(), units="imperial")
