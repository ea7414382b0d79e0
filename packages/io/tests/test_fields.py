"""Grids of every kind, formats, calendars, names and poles."""

import json
import re
import subprocess
import sys

import h5py
import numpy as np
import pytest
import xarray as xr
import zarr
from numpy.testing import assert_allclose, assert_array_equal

from stormda.grid import (
    CurvilinearGrid,
    LatLonGrid,
    PointGrid,
    ProjectedGrid,
    TileLayout,
    grid,
)
from stormda.io import open_store, write_fields


def numbered(*shape):
    return np.arange(np.prod(shape), dtype=np.float32).reshape(shape)


def globe(rows=6, cols=8, name="x", poles=False, frames=2):
    """A data set on a whole globe, as xarray has it."""
    step = 180 / rows
    lat = np.linspace(-90, 90, rows) if poles else np.arange(-90 + step / 2, 90, step)
    return xr.Dataset(
        {name: (("time", "lat", "lon"), numbered(frames, rows, cols), {"units": "m s-1"})},
        {
            "time": ("time", np.arange(frames), {"units": "hours since 2019-03-01"}),
            "lat": ("lat", lat, {"units": "degrees_north"}),
            "lon": ("lon", np.arange(0, 360, 360 / cols), {"units": "degrees_east"}),
        },
    )


@pytest.fixture(params=["nc3", "nc4", "zarr2", "zarr3"])
def stored(request, tmp_path):
    """Store a data set in each format."""

    def stored(dataset):
        path = tmp_path / f"a.{request.param}"
        if request.param.startswith("zarr"):
            version = int(request.param[-1])
            dataset.to_zarr(path, zarr_format=version, consolidated=False)
        elif request.param == "nc3":
            dataset.to_netcdf(path, engine="scipy")
        else:
            dataset.to_netcdf(path, engine="h5netcdf")
        return path

    return stored


def test_every_format_gives_the_same(stored):
    dataset = globe()
    store = open_store(stored(dataset))
    assert_array_equal(store.read("x")[0], dataset["x"].values)
    assert_array_equal(store.read("x", time=[1, 0])[0], dataset["x"].values[[1, 0]])
    assert store.grid.periodic == (False, True)
    assert store.times[1] == np.datetime64("2019-03-01T01")


@pytest.mark.parametrize("poles", [True, False])
@pytest.mark.parametrize("name", ["x", "u10"])
def test_tiles_go_over_the_poles(stored, poles, name):
    """Components of vectors change their sign there."""
    store = open_store(stored(globe(name=name, poles=poles)))
    layout = TileLayout.on(store.grid, tiles=(2, 2), halo=(2, 3))
    whole, _ = store.read(name)
    for i, window in enumerate(layout.windows()):
        tile = layout.take(whole, i)
        rows = np.arange(*window.extended[0])
        if name == "u10":
            tile = np.where(((rows < 0) | (rows >= 6))[:, None], -tile, tile)
        assert_array_equal(store.read(name, tile=window.extended)[0], tile)


def test_windows_beyond_what_a_pole_mirrors(stored):
    store = open_store(stored(globe()))
    with pytest.raises(ValueError, match=r"^tile rows: expected a window of cells within -6 to"):
        store.read("x", tile=(slice(-7, 2), slice(0, 2)))
    with pytest.raises(ValueError, match=r"^tile: expected 2 windows of cells, got 1$"):
        store.read("x", tile=(slice(0, 2),))


class TestGrids:
    def test_tripolar_with_repeated_cells(self, write):
        """Two columns round the seam and a row over the fold, as in files of NEMO."""
        turn = 2 * np.pi / 24 * np.arange(26)
        out = 2 * np.pi / 24 * (np.arange(8, -2, -1) + 0.5)
        z = np.cosh(out[:, None] + 1j * turn)
        lat, lon = 90 - 2 * np.degrees(np.arctan(0.2 * np.abs(z))), np.degrees(np.angle(z))
        north, east = {"units": "degrees_north"}, {"units": "degrees_east"}
        path = write(
            {
                "nav_lat": (("y", "x"), lat, north),
                "nav_lon": (("y", "x"), lon, east),
                "a": (("y", "x"), numbered(10, 26), {"units": "K"}),
            }
        )
        message = (
            f"^{path}: left out the last 1 of 10 rows and 2 of 26 columns, which repeat others$"
        )
        with pytest.warns(UserWarning, match=message):
            store = open_store(path)
        assert store.grid == CurvilinearGrid(lat[:9, :24], lon[:9, :24])
        assert store.grid.fold is not None
        assert_array_equal(store.read("a")[0][0], numbered(10, 26)[:9, :24])
        tile = (slice(5, 9), slice(20, 26))
        assert_array_equal(
            store.read("a", tile=tile)[0][0],
            numbered(10, 26)[5:9, [20, 21, 22, 23, 0, 1]],
        )

    def test_curvilinear(self, write):
        lat, lon = np.meshgrid(np.arange(40.0, 43), np.arange(0.0, 4), indexing="ij")
        north, east = {"units": "degrees_north"}, {"units": "degrees_east"}
        path = write(
            {
                "nav_lat": (("y", "x"), lat + 0.1 * lon, north),
                "nav_lon": (("y", "x"), lon - 0.1 * lat, east),
                "a": (("y", "x"), numbered(3, 4), {"units": "K"}),
            }
        )
        store = open_store(path)
        assert store.grid == CurvilinearGrid(lat + 0.1 * lon, lon - 0.1 * lat)
        assert [*store.variables] == ["a"]
        assert_array_equal(
            store.read("a", tile=(slice(1, 3), slice(0, 2)))[0][0], numbered(3, 4)[1:3, :2]
        )

    def rotated(self, write, pole=(39.25, -162.0), twist=0.0):
        mapping = {
            "grid_mapping_name": "rotated_latitude_longitude",
            "grid_north_pole_latitude": pole[0],
            "grid_north_pole_longitude": pole[1],
        }
        from stormda.grid import projected_grid

        true = {**mapping, "grid_north_pole_latitude": 39.25, "grid_north_pole_longitude": -162.0}
        g = projected_grid(true, np.arange(-2.0, 2), np.arange(-3.0, 3))
        lat, lon = g.points
        named = {"units": "K", "grid_mapping": "pole", "coordinates": "lat lon"}
        return write(
            {
                "pole": ((), np.int32(0), mapping),
                "rlat": (
                    ("rlat",),
                    np.arange(-2.0, 2),
                    {"standard_name": "grid_latitude", "units": "degrees"},
                ),
                "rlon": (
                    ("rlon",),
                    np.arange(-3.0, 3),
                    {"standard_name": "grid_longitude", "units": "degrees"},
                ),
                "lat": (("rlat", "rlon"), lat + twist, {"units": "degrees_north"}),
                "lon": (("rlat", "rlon"), lon, {"units": "degrees_east"}),
                "a": (("rlat", "rlon"), numbered(4, 6), named),
            }
        )

    def test_a_map_that_agrees_with_the_places(self, write):
        assert isinstance(open_store(self.rotated(write)).grid, ProjectedGrid)

    def test_a_map_that_contradicts_the_places(self, write):
        """As in a HIRHAM file whose pole is 21 degrees off."""
        path = self.rotated(write, pole=(18.0, -140.75))
        with pytest.raises(ValueError, match=r"declared: expected a grid that agrees with the"):
            open_store(path)

    def test_the_callers_grid_goes_before_the_files(self, field):
        given = LatLonGrid([10, 11, 12], [0, 1, 2, 3])
        assert open_store(field(), grid=given).grid == given
        with pytest.raises(ValueError, match=r"grid: expected shape \(3, 4\), got \(2, 4\)$"):
            open_store(field(), grid=LatLonGrid([10, 11], [0, 1, 2, 3]))

    @pytest.mark.parametrize("name", ["healpix2", "n32", "points"])
    def test_lists_of_cells(self, write, name):
        places = grid("n32" if name == "points" else name).points
        lat, lon = (p[::3] if name == "points" else p for p in places)
        n = len(lat)
        path = write(
            {
                "lat": (("cell",), lat, {"units": "degrees_north"}),
                "lon": (("cell",), lon, {"units": "degrees_east"}),
                "a": (("cell",), numbered(n), {"units": "K"}),
            }
        )
        store = open_store(path)
        expected = PointGrid(lat, lon) if name == "points" else grid(name)
        assert store.grid == expected
        assert store.axes("a") == ("T", "X")
        assert store.shape("a") == (1, n)
        assert_array_equal(store.read("a", tile=(slice(3, 9),))[0][0], numbered(n)[3:9])


class TestCalendars:
    def test_dates_of_a_year_of_360_days(self, field):
        time = (
            ("time",),
            np.array([58.0, 59.0, 60.0]),
            {"units": "days since 2000-01-01", "calendar": "360_day"},
        )
        store = open_store(field(numbered(3, 3, 4), time=time))
        assert store.calendar == "360_day"
        assert store.dates == [f"2000-{d}T00:00:00" for d in ("02-29", "02-30", "03-01")]
        assert_array_equal(np.diff(store.times).astype(int), 86400)
        assert_array_equal(store.read("x", time="2000-02")[0], numbered(3, 3, 4)[:2])
        assert_array_equal(
            store.read("x", time=slice("2000-02-30", None))[0], numbered(3, 3, 4)[1:]
        )
        with pytest.raises(ValueError, match=r"^time: expected a date of the calendar 360_day"):
            store.read("x", time="2000-02-31")

    @pytest.mark.parametrize("calendar", ["noleap", "all_leap", "360_day", "365_day", "366_day"])
    def test_labels_are_those_of_cftime(self, field, calendar):
        cftime = pytest.importorskip("cftime")
        days = np.sort(np.random.default_rng(0).choice(200000, 40, replace=False)) + 0.25
        units = "days since 1850-03-01 12:00"
        time = ("time",), days, {"units": units, "calendar": calendar}
        store = open_store(field(numbered(40, 3, 4), time=time))
        other = cftime.num2date(days, units, calendar)
        assert store.dates == [d.isoformat()[:19] for d in other]

    def test_times_given_by_the_caller(self, field):
        path = field(time=(("time",), np.array([0.0, 0.0]), {"units": "months"}))
        times = ["2001-01-01", "2001-02-01"]
        assert_array_equal(open_store(path, times=times).times, np.array(times, "datetime64[s]"))
        with pytest.raises(ValueError, match=r"times: expected 2, got 1$"):
            open_store(path, times=["2001-01-01"])
        with pytest.raises(ValueError, match=r"^times: expected a single file to have them, g"):
            open_store([path, field(name="b.nc")], times=times)


class TestNames:
    @pytest.mark.parametrize("alias", ["2m_temperature", "t2m", "2t", "TAS", "air_temperature"])
    def test_aliases(self, field, alias):
        tas = (
            ("lat", "lon"),
            np.full((3, 4), 280.0),
            {"units": "K", "standard_name": "air_temperature"},
        )
        store = open_store(field(tas=tas))
        assert store.resolve(alias) == "tas"
        assert float(store.read(alias)[0].max()) == 280

    def test_more_than_one_fits(self, field):
        attributes = {"units": "m", "standard_name": "surface_altitude"}
        one = (("lat", "lon"), np.zeros((3, 4)), attributes)
        path = field(a=one, b=one)
        message = f"{path}: expected one variable for 'surface_altitude', got ['a', 'b']"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            open_store(path).read("surface_altitude")

    def test_what_is_not_plausible_is_read_if_asked_for(self, field):
        path = field(t2m=(("lat", "lon"), np.full((3, 4), 15.0), {"units": "K"}))
        assert float(open_store(path, plausible=False).read("t2m")[0].max()) == 15

    def test_an_increment_of_a_temperature_may_be_small(self, field):
        attributes = {"units": "K", "units_metadata": "temperature: difference"}
        path = field(t2m=(("lat", "lon"), np.full((3, 4), 0.5), attributes))
        assert float(open_store(path).read("t2m")[0].max()) == 0.5

    def test_codes_of_the_caller_are_missing(self, field):
        data = numbered(2, 3, 4)
        data[0, 0, :2] = -9999, 999
        _, mask = open_store(field(data), missing=[-9999, 999]).read("x")
        assert_array_equal(np.argwhere(~mask), [[0, 0, 0], [0, 0, 1]])


class TestLevels:
    def path(self, field, **attributes):
        lev = (("lev",), np.array([850.0, 500.0]), attributes)
        return field(lev=lev, a=(("lev", "lat", "lon"), numbered(2, 3, 4), {"units": "m"}))

    def test_by_their_value(self, field):
        store = open_store(self.path(field, units="hPa"))
        assert store.level("a", 500, "hPa") == 1
        assert store.level("a", 85000) == 0
        with pytest.raises(ValueError, match=r"^level: expected one of \[85000.0, 50000.0\] Pa"):
            store.level("a", 700, "hPa")
        with pytest.raises(ValueError, match=r"variable 'x': expected levels, got none$"):
            store.level("x", 500, "hPa")


class TestIndex:
    def test_it_remembers_all_there_is(self, field, tmp_path):
        attributes = {"units": "degC", "scale_factor": 0.5, "_FillValue": np.float32(3)}
        paths = [
            field(numbered(2, 3, 4), attributes, "a.nc"),
            field(
                numbered(2, 3, 4),
                attributes,
                "b.nc",
                time=(("time",), np.array([5.0, 6.0]), {"units": "hours since 2019-03-01"}),
            ),
        ]
        fresh = open_store(paths)
        first = open_store(paths, index=tmp_path / "index.json")
        again = open_store(paths, index=tmp_path / "index.json")
        for store in (first, again):
            assert store.fingerprint == fresh.fingerprint
            assert store.variables == fresh.variables
            assert store.grid == fresh.grid
            for one, other in zip(store.read("x"), fresh.read("x"), strict=True):
                assert_array_equal(one, other)

    def test_a_file_is_not_opened_again(self, field, tmp_path, monkeypatch):
        path, index = field(), tmp_path / "index.json"
        open_store(path, index=index)
        monkeypatch.setattr("stormda.io.index_cache.index_file", lambda *_: pytest.fail("opened"))
        open_store(path, index=index)

    def test_a_file_that_changed_is(self, field, tmp_path):
        index = tmp_path / "index.json"
        assert len(open_store(field(), index=index).times) == 2
        assert len(open_store(field(numbered(3, 3, 4)), index=index).times) == 3
        assert open_store(field(), index=index, units="as_is").variables["x"].units == "K"

    def test_a_file_that_is_no_index(self, field, tmp_path):
        (tmp_path / "index.json").write_text("[]")
        with pytest.raises(ValueError, match=r"expected an index that open_store wrote"):
            open_store(field(), index=tmp_path / "index.json")


@pytest.mark.parametrize("turned", [False, True])
def test_the_layout_of_weatherbench(tmp_path, turned):
    """Zarr by xarray; rows from south to north, coarse stores with longitude before latitude."""
    data = numbered(2, 2, 3, 4)
    dims = ("time", "level", "latitude", "longitude")
    order = (*dims[:2], *dims[:1:-1]) if turned else dims
    dataset = xr.Dataset(
        {
            "geopotential": (dims, data, {"units": "m**2 s**-2", "standard_name": "geopotential"}),
            "2m_temperature": (("time", *dims[2:]), 280 + data[:, 0] / 100, {"units": "K"}),
        },
        {
            "time": np.array(["2020-01-01T00", "2020-01-01T06"], "M8[ns]"),
            "level": ("level", [500, 850], {"units": "hPa"}),
            "latitude": [-60.0, 0.0, 60.0],
            "longitude": [0.0, 90.0, 180.0, 270.0],
        },
    )
    dataset.transpose(*order, missing_dims="ignore").to_zarr(tmp_path / "wb.zarr", zarr_format=2)
    store = open_store(tmp_path / "wb.zarr")
    assert store.grid.periodic == (False, True)
    assert store.resolve("t2m") == "2m_temperature"
    level = store.level("z", 850, "hPa")
    assert_array_equal(store.read("z", level=level)[0], data[:, 1])
    assert_array_equal(
        store.read("t2m", tile=(slice(0, 3), slice(-1, 2)))[0],
        (280 + data[:, 0] / 100)[..., [3, 0, 1]].astype(np.float32),
    )


class TestPackages:
    """Formats that need more than the package itself."""

    def test_references(self, tmp_path):
        kerchunk = pytest.importorskip("kerchunk.hdf")
        pytest.importorskip("fsspec")
        globe().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
        refs = kerchunk.SingleHdf5ToZarr(str(tmp_path / "a.nc"), inline_threshold=0).translate()
        (tmp_path / "a.json").write_text(json.dumps(refs))
        store = open_store(tmp_path / "a.json")
        assert_array_equal(store.read("x")[0], globe()["x"].values)
        (tmp_path / "b.json").write_text(json.dumps({**refs, "templates": {"u": "{{x}}"}}))
        with pytest.raises(ValueError, match=r"expected references without templates, got templa"):
            open_store(tmp_path / "b.json")

    def test_a_url(self, tmp_path):
        pytest.importorskip("fsspec")
        globe().to_zarr(tmp_path / "a.zarr", zarr_format=3, consolidated=False)
        store = open_store(f"file://{tmp_path}/a.zarr")
        assert_array_equal(store.read("x")[0], globe()["x"].values)
        with pytest.raises(ValueError, match=r"expected a file of this machine, got a URL$"):
            store.sha256()

    def test_grib(self, tmp_path):
        pytest.importorskip("cfgrib")
        eccodes = pytest.importorskip("eccodes")
        message = eccodes.codes_grib_new_from_samples("regular_ll_sfc_grib2")
        eccodes.codes_set(message, "shortName", "2t")
        values = 280 + np.arange(eccodes.codes_get_size(message, "values")) * 0.01
        eccodes.codes_set_values(message, values)
        with (tmp_path / "a.grib").open("wb") as file:
            eccodes.codes_write(message, file)
        store = open_store(tmp_path / "a.grib")
        assert store.variables["t2m"].units == "K"
        assert_allclose(store.read("t2m")[0].ravel(), values, atol=0.01)  # packed in 16 bits

    def test_grib_without_cfgrib(self, tmp_path, monkeypatch):
        monkeypatch.setattr("stormda.io.files.find_spec", lambda _: None)
        (tmp_path / "a.grib").write_bytes(b"GRIB" + bytes(40))
        message = f"{tmp_path}/a.grib: expected the package cfgrib: pip install 'stormda-io[grib]'"
        with pytest.raises(ImportError, match=f"^{re.escape(message)}$"):
            open_store(tmp_path / "a.grib")


def test_a_file_that_was_replaced_is_opened_again(tmp_path):
    path, g = tmp_path / "a.nc", LatLonGrid([0, 1], [0, 1])
    for value in (1.0, 2.0):
        write_fields(
            path,
            {"x": np.full((1, 2, 2), value)},
            times=["2000-01-01"],
            grid=g,
            attributes={"x": {"units": "m"}},
            overwrite=True,
        )
        assert float(open_store(path).read("x")[0].max()) == value


def test_a_file_that_was_rewritten_in_place_is_not_read_as_it_was(tmp_path):
    """HDF5 shares what it knows of a file among all who have it open, by its place on the disk."""
    path, g = tmp_path / "a.nc", LatLonGrid([0, 1], [0, 1])
    kept = []
    for value, frames in ((1.0, 1), (2.0, 3), (3.0, 2)):
        other = tmp_path / "other.nc"
        write_fields(
            other,
            {"x": np.full((frames, 2, 2), value)},
            times=np.datetime64("2000-01-01") + np.arange(frames),
            grid=g,
            attributes={"x": {"units": "m"}},
            overwrite=True,
        )
        path.write_bytes(other.read_bytes())  # the same file to the file system
        store = open_store(path)
        reader = store.reader("x")
        values, _ = store.read("x")
        assert values.shape == (frames, 2, 2)
        assert (values == value).all()
        assert (reader.read(np.arange(frames))[0] == value).all()
        kept.append((store, reader))


def test_a_store_goes_to_another_process(tmp_path):
    """Nothing that is open goes with it."""
    import pickle

    globe().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    store = open_store(tmp_path / "a.nc")
    store.read("x")
    (tmp_path / "store.pickle").write_bytes(pickle.dumps(store))
    code = (
        "import pickle, sys; store = pickle.load(open(sys.argv[1], 'rb'));"
        "print(store.read('x')[0].sum())"
    )
    out = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "store.pickle")],
        capture_output=True,
        check=True,
        text=True,
    )
    assert float(out.stdout) == globe()["x"].values.sum()


def test_the_cost_of_a_tile(tmp_path):
    with h5py.File(tmp_path / "a.nc", "w") as file:
        for name, n in (("time", 8), ("lat", 16), ("lon", 32)):
            file[name] = np.arange(float(n))
            file[name].make_scale(name)
        for name, chunks in (("frames", (1, 16, 32)), ("tiles", (4, 8, 8)), ("whole", None)):
            x = file.create_dataset(name, (8, 16, 32), "f4", chunks=chunks)
            x.attrs["units"] = "m"
            for i, dim in enumerate(("time", "lat", "lon")):
                x.dims[i].attach_scale(file[dim])
        file["time"].attrs["units"] = "hours since 2000-01-01"
    store = open_store(tmp_path / "a.nc")
    tile = (slice(0, 8), slice(8, 16))
    amplification = {n: store.cost(n, slice(0, 4), tile).amplification for n in store.variables}
    assert amplification == {"frames": 8.0, "tiles": 1.0, "whole": 1.0}
    assert store.cost("tiles", slice(2, 6), tile).amplification == 2.0


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda p: p.mkdir(),
            "expected a file or a Zarr group, got a folder without Zarr metadata "
            "(zarr.json, .zgroup, .zmetadata)",
        ),
        (
            lambda p: zarr.create_array(p, shape=(2,), dtype="f4", zarr_format=2),
            "expected a Zarr group, got a single Zarr array",
        ),
        (lambda p: p.write_text("{}"), "expected references to a Zarr group, got none"),
        (
            lambda p: p.write_text("{nonsense"),
            "expected references as kerchunk writes them, got other text",
        ),
    ],
)
def test_what_is_no_store(tmp_path, make, message):
    path = tmp_path / "a"
    make(path)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
        open_store(path)
