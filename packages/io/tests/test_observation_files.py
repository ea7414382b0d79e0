import re

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from stormda.io import (
    ColumnMapping,
    Quality,
    Quantity,
    VariableNotFound,
    observation_table,
    read_observations,
    read_provenance,
    write_ioda,
    write_observations,
)
from stormda.io.observations import COLUMNS

START = np.datetime64("2017-10-27", "s")
SWH = Quantity(column="swh")


@pytest.fixture
def csv(tmp_path):
    def csv(text, encoding="utf-8"):
        path = tmp_path / "obs.csv"
        path.write_bytes(text.encode(encoding))
        return path

    return csv


def mapping(**changes):
    return ColumnMapping(**({"lat": "lat", "lon": "lon", "quantities": {"swh": SWH}} | changes))


def same(one, two):
    for name in COLUMNS:
        assert_array_equal(getattr(one, name), getattr(two, name))
    assert one.dims == two.dims
    assert one.units == two.units
    assert one.rejected == two.rejected


class TestCsv:
    def test_usual_names_are_recognised(self, csv):
        path = csv("Date,Longitude,LAT,swh\n2017-10-27 04:37:37,3.5,54.0,1.2\n")
        table = read_observations(path, error=0.2)
        assert_array_equal(table.time, np.array(["2017-10-27T04:37:37"], "datetime64[s]"))
        assert (table.lat, table.lon, table.value, table.error) == (54.0, 3.5, 1.2, 0.2)
        assert (table.variable, table.units) == ("swh", {"swh": ""})

    def test_a_plane_and_several_variables(self, csv):
        path = csv("time,y,x,a,b,station\n2017-10-27,0,1e5,1,2,s1\n")
        table = read_observations(path, variable=["b", "a"])
        assert table.dims == ("y", "x")
        assert_array_equal(table.value, [1.0, 2.0])  # in the order of their names
        assert_array_equal(table.platform, ["s1", "s1"])

    def test_a_mapping_says_it_all(self, csv):
        text = (
            "# a comment\n"
            "when;where n;where e;T;Terr;ff;who\n"
            "20171027 0600;54,0;3;10;0.5;10;é\n"
            "20171027 0601;54.0;3;-9999;0.5;10;é\n"
        ).replace("54,0", "54.0")
        table = read_observations(
            csv(text, "cp1252"),
            mapping(
                time="when",
                lat="where n",
                lon="where e",
                platform="who",
                time_format="%Y%m%d %H%M",
                delimiter=";",
                comment="#",
                encoding="cp1252",
                quantities={
                    "t": Quantity(
                        column="T", units="degC", error_column="Terr", sentinels=(-9999,)
                    ),
                    "wind": Quantity(column="ff", units="kt", error=2.0),
                },
            ),
        )
        assert table.units == {"t": "K", "wind": "m s-1"}
        assert_array_equal(table.variable, ["t", "wind", "wind"])
        knot = 1852 / 3600
        np.testing.assert_allclose(table.value, [283.15, 10 * knot, 10 * knot], rtol=1e-15)
        np.testing.assert_allclose(table.error, [0.5, 2 * knot, 2 * knot], rtol=1e-15)
        assert_array_equal(table.platform, ["é"] * 3)
        assert table.rejected == {"missing value": 1}
        assert table.n_in == 4

    @pytest.mark.parametrize(
        ("form", "cell"),
        [
            (None, "2017-10-27T06:00:00Z"),
            (None, "2017-10-27 08:00+02:00"),
            (None, "20171027T06"),
            ("%d.%m.%Y %H", "27.10.2017 06"),
            ("hours since 2017-10-26", "30"),
        ],
    )
    def test_times(self, csv, form, cell):
        path = csv(f"time,lat,lon,swh\n{cell},54,3,1\n")
        table = read_observations(path, mapping(time_format=form))
        assert table.time[0] == np.datetime64("2017-10-27T06")

    @pytest.mark.parametrize(
        ("row", "reason"),
        [
            ("soon,54,3,1", "missing time"),
            ("2017-10-27,,3,1", "missing position"),
            ("2017-10-27,154,3,1", "position out of range"),
            ("2017-10-27,54,3,", "missing value"),
            ("2017-10-27,54,3,NA", "missing value"),
            ("2017-10-27,54,3,rough", "unreadable value"),
            ("2017-10-27,53,3,1", "duplicate"),
        ],
    )
    def test_rows_that_are_refused(self, csv, row, reason):
        path = csv(f"time,lat,lon,swh\n2017-10-27,53,3,1\n{row}\n")
        table = read_observations(path)
        assert table.rejected == {reason: 1}
        assert table.n_in == 2

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("", "expected a line of column names, got an empty file"),
            ("time,lat,lon,swh\n2017,1\n", "expected 4 cells in row 1, got 2"),
            (
                "time,lat,swh\n2017-10-27,1,2\n",
                "expected columns for time, lat and lon, or a mapping that names them, "
                "got ['time', 'lat', 'swh']",
            ),
            (
                "time,lat,lon,swh\n2017-10-27,54,3,\n",
                "expected at least one usable observation, "
                "got 0 of 1 observations used (1 missing value)",
            ),
        ],
    )
    def test_files_that_are_refused(self, csv, text, message):
        path = csv(text)
        with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
            read_observations(path)

    def test_a_column_that_is_not_there(self, csv):
        path = csv("time,lat,lon,hs\n2017-10-27,54,3,1\n")
        message = f"{path}: expected a column 'swh', got ['hs', 'lat', 'lon', 'time']"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            read_observations(path, mapping())
        message = f"variable: expected one of the columns of {path}, ['hs'], got 'swh'"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            read_observations(path, variable="swh")

    def test_a_choice_of_columns(self, csv):
        path = csv("time,lat,lon,hs,wind\n2017-10-27,54,3,1,2\n")
        message = f"variable: expected one of the columns of {path}, ['hs', 'wind'], got none"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            read_observations(path)

    def test_another_encoding(self, csv):
        path = csv("time,lat,lon,swh\n2017-10-27,54,3,é\n", "cp1252")
        message = (
            f"{path}: expected text encoded as utf-8-sig, got other bytes at position 33 "
            "(name the encoding in the mapping, for instance 'cp1252')"
        )
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            read_observations(path)


class TestMappings:
    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"quantities": {}}, "quantities: expected at least one, got none"),
            (
                {"lon": None},
                "coordinates: expected lat and lon, y and x, or stations, got ['lat']",
            ),
        ],
    )
    def test_columns(self, changes, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            mapping(**changes)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"error": -1.0}, "error: expected a positive standard deviation, got -1.0"),
            (
                {"error": 1.0, "error_column": "e"},
                "error: expected either error or error_column, got both",
            ),
            (
                {"units": "kevin"},
                "units: expected a known unit, got 'kevin' (did you mean 'kelvin'?)",
            ),
        ],
    )
    def test_quantities(self, changes, message):
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            Quantity(column="swh", **changes)


class TestNetcdf:
    def test_what_is_written_is_what_is_read(self, tmp_path):
        rng = np.random.default_rng(0)
        n = 20
        table = observation_table(
            time=START + rng.integers(0, 100, n),
            lat=rng.uniform(-90, 90, n),
            lon=rng.uniform(-180, 180, n),
            value=rng.normal(280, 10, n),
            error=np.where(rng.random(n) > 0.5, 1.0, np.nan),
            variable=rng.choice(["t2m", "sp"], n),
            platform=rng.choice(["", "sentinel-3a", "Lille Bælt"], n),
            quality=rng.choice([*Quality][:2], n),
            channel=rng.integers(0, 3, n),
            z=np.where(np.arange(n) < 9, np.nan, np.arange(n)),
            z_kind=np.repeat(["", "height", "depth", "pressure"], [9, 4, 4, 3]),
            units={"t2m": "K", "sp": "Pa"},
            rejected={"missing value": 3},
        )
        path = tmp_path / "obs.nc"
        write_observations(path, table, provenance={"source": "test", "seed": 3})
        same(read_observations(path), table)
        assert read_provenance(path) == {"source": "test", "seed": 3}
        with pytest.raises(FileExistsError, match=r"obs\.nc: expected an output that does not"):
            write_observations(path, table)

    def test_one_variable_of_several(self, tmp_path):
        table = observation_table(
            time=START, y=[0.0, 1.0], x=[0.0, 1.0], value=[1.0, 2.0], variable=["a", "b"]
        )
        write_observations(tmp_path / "obs.nc", table)
        assert_array_equal(read_observations(tmp_path / "obs.nc", variable="b").value, [2.0])

    def test_other_programs_can_read_it(self, tmp_path):
        table = observation_table(
            time=START, lat=[50.0, 51.0], lon=[0.0, 1.0], value=[1.0, 2.0], error=0.5, variable="a"
        )
        write_observations(tmp_path / "obs.nc", table)
        with xr.open_dataset(tmp_path / "obs.nc", engine="h5netcdf") as dataset:
            assert_array_equal(dataset["a"], [1.0, 2.0])
            assert_array_equal(dataset["a_error"], [0.5, 0.5])
            assert_array_equal(dataset["time"], [START, START])

    def test_any_list_of_points(self, write):
        path = write(
            {
                "time": (
                    ("obs",),
                    np.array([0.0, 1.0, np.nan]),
                    {"units": "hours since 2017-10-27"},
                ),
                "lat": (("obs",), np.array([50.0, np.nan, 52.0]), {"units": "degrees_north"}),
                "lon": (("obs",), np.zeros(3), {"units": "degrees_east"}),
                "t": (("obs",), np.array([1.0, 2.0, 3.0]), {"units": "degC"}),
                "qc_t": (("obs",), np.zeros(3), {}),
                "station": (("obs", "letters"), np.array([[b"a", b"b"]] * 3), {}),
            }
        )
        table = read_observations(path, error=0.1)
        assert_array_equal(table.value, [274.15])
        assert_array_equal(table.platform, ["ab"])
        assert table.units == {"t": "K"}
        assert table.rejected == {"missing time": 1, "missing position": 1}

    def test_platforms_as_strings(self, tmp_path):
        points = {
            "time": ("obs", np.arange(2.0), {"units": "hours since 2017-10-27"}),
            "lat": ("obs", [50.0, 51.0]),
            "lon": ("obs", [0.0, 1.0]),
            "t": ("obs", [1.0, 2.0]),
            "station": ("obs", ["Sable Island", "é "]),
        }
        xr.Dataset(points).to_netcdf(tmp_path / "obs.nc", engine="h5netcdf")
        table = read_observations(tmp_path / "obs.nc")
        assert_array_equal(table.platform, ["Sable Island", "é"])

    def test_a_station(self, write):
        path = write(
            {
                "time": (("time",), np.arange(3.0), {"units": "hours since 2017-10-27"}),
                "lat": ((), np.array(50.0), {"units": "degrees_north"}),
                "lon": ((), np.array(4.0), {"units": "degrees_east"}),
                "t": (("time",), np.arange(3.0), {"units": "wibble"}),
            }
        )
        table = read_observations(path)
        assert_array_equal(table.position, [[50.0, 4.0]] * 3)
        assert table.units == {"t": "wibble"}

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"time": None}, "time: expected a variable along 'obs', got none"),
            (
                {"lat": None},
                "expected latitude and longitude, or y and x in metres, "
                "got variables ['lon', 't', 'time']",
            ),
            (
                {"lat": ((), np.array(0.0), {}), "lon": ((), np.array(0.0), {})},
                "expected points along 'time', got dimensions ['obs']",
            ),
            (
                {"lat": (("profile",), np.zeros(2), {})},
                "expected a list of points, got positions along ['obs', 'profile'] "
                "(fields are opened by open_store)",
            ),
            (
                {"u": (("obs",), np.zeros(3), {})},
                "variable: expected the name of one of ['t', 'u'], got none",
            ),
        ],
    )
    def test_files_that_are_refused(self, write, changes, message):
        points = {
            "time": (("obs",), np.arange(3.0), {"units": "hours since 2017-10-27"}),
            "lat": (("obs",), np.zeros(3), {}),
            "lon": (("obs",), np.zeros(3), {}),
            "t": (("obs",), np.zeros(3), {}),
        }
        path = write({k: v for k, v in (points | changes).items() if v is not None})
        with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
            read_observations(path)

    def test_variables_that_are_not_there(self, tmp_path):
        table = observation_table(time=START, lat=[0.0], lon=[0.0], value=[1.0], variable="a")
        path = tmp_path / "obs.nc"
        write_observations(path, table)
        message = f"{path}: variable: expected one of ['a'], got 'b'"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            read_observations(path, variable="b")

    @pytest.mark.parametrize("name", ["", "2t", "wind speed", "lat"])
    def test_names_that_no_file_can_hold(self, tmp_path, name):
        table = observation_table(time=START, lat=[0.0], lon=[0.0], value=[1.0], variable=name)
        with pytest.raises(
            ValueError,
            match=r"^table: expected variable names of letters, digits and underscores other "
            rf"than \['channel', 'lat', .*\], got '{name}'$",
        ):
            write_observations(tmp_path / "obs.nc", table)

    def test_no_observations(self, tmp_path):
        table = observation_table(time=START, lat=[0.0], lon=[0.0], value=[np.nan])
        with pytest.raises(
            ValueError, match=r"^table: expected at least one observation, got none$"
        ):
            write_observations(tmp_path / "obs.nc", table)

    def test_a_mapping_says_it_all(self, write):
        path = write(
            {
                "when": (("n", "letters"), np.array([list("2017 300")]).astype("S1"), {}),
                "north": (("n",), np.array([50.0]), {}),
                "east": ((), np.array(4.0), {}),
                "t": (("n", "k"), np.array([[1.0, -9.0]]), {"units": "degC"}),
                "flag": (("n", "k"), np.array([[1, 4]]), {}),
                "p": (("k",), np.array([1000.0, 850.0]), {"units": "hPa"}),
            }
        )
        quantity = Quantity(
            column="t",
            quality_column="flag",
            quality_codes={"1": Quality.SUSPECT, "*": Quality.BAD},
        )
        table = read_observations(
            path,
            ColumnMapping(
                time="when",
                time_format="%Y %j",
                lat="north",
                lon="east",
                z="p",
                z_kind="pressure",
                quantities={"temperature": quantity},
            ),
        )
        assert_array_equal(table.time, np.array(["2017-10-27"], "datetime64[s]"))
        assert_array_equal(table.value, [274.15])
        assert_array_equal(table.z, [100_000.0])
        assert_array_equal(table.quality, [Quality.SUSPECT])
        assert table.rejected == {"bad quality": 1}


def test_the_error_must_be_positive(tmp_path):
    (tmp_path / "obs.csv").touch()
    with pytest.raises(
        ValueError, match=r"^error: expected a positive standard deviation, got -0\.5$"
    ):
        read_observations(tmp_path / "obs.csv", error=-0.5)


def test_the_file_must_be_there(tmp_path):
    with pytest.raises(
        FileNotFoundError, match=r"obs\.csv: expected a file, got a path that does not exist$"
    ):
        read_observations(tmp_path / "obs.csv")


def test_a_variable_that_is_not_there_says_what_is(tmp_path):
    """The same error from every kind of file, with the names to choose from."""
    table = observation_table(
        time="2020-10-01", lat=[55.0] * 2, lon=[-77.0] * 2, value=[277.0, 3.0], error=1.0,
        variable=["temperature", "speed"], units={"temperature": "K", "speed": "m s-1"},
    )  # fmt: skip
    write_ioda(tmp_path / "ioda.nc", table)
    write_observations(tmp_path / "points.nc", table)
    text = "time,lat,lon,temperature,speed\n2020-10-01,55,-77,277,3\n"
    (tmp_path / "points.csv").write_text(text)
    for name in ("ioda.nc", "points.nc", "points.csv"):
        with pytest.raises(VariableNotFound, match=r"got 'swh'$") as refused:
            read_observations(tmp_path / name, variable=["speed", "swh"])
        assert sorted(refused.value.available) == ["speed", "temperature"], name
