"""Files that describe themselves: ragged arrays, Argo, IODA, HDF-EOS5, Parquet."""

import re

import h5py
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from stormda.io import (
    ColumnMapping,
    Quality,
    Quantity,
    observation_table,
    read_observations,
    write_ioda,
    write_parquet,
)
from stormda.io.atomic_time import decode_tai93
from stormda.io.observations import COLUMNS

START = np.datetime64("2017-10-27", "s")
SINCE = {"units": "hours since 2017-10-27"}


def same(one, two):
    for name in COLUMNS:
        assert_array_equal(getattr(one, name), getattr(two, name), err_msg=name)
    assert (one.dims, one.units, one.rejected) == (two.dims, two.units, two.rejected)


def mixed_table(n=40):
    rng = np.random.default_rng(0)
    kinds = rng.choice(["", "height", "depth", "pressure"], n)
    return observation_table(
        time=START + rng.integers(0, 3, n),
        lat=rng.integers(-2, 3, n) * 10.0,
        lon=rng.integers(0, 3, n) * 10.1,
        z=np.where(kinds == "", np.nan, rng.integers(1, 4, n)),
        z_kind=kinds,
        value=rng.normal(280, 10, n),
        error=np.where(rng.random(n) > 0.5, 1.0, np.nan),
        quality=rng.choice([Quality.GOOD, Quality.SUSPECT, Quality.UNKNOWN], n),
        channel=rng.integers(0, 3, n),
        variable=rng.choice(["airTemperature", "brightnessTemperature"], n),
        platform=rng.choice(["", "CYGW", "Lille Bælt"], n),
        units={"airTemperature": "K", "brightnessTemperature": "K"},
        rejected={"missing value": 3},
    )


class TestRagged:
    def profiles(self, **changes):
        contiguous = {
            "time": (("profile",), np.array([0.0, 6.0]), SINCE),
            "lat": (("profile",), np.array([50.0, 60.0]), {"units": "degrees_north"}),
            "lon": (("profile",), np.array([1.0, 2.0]), {"units": "degrees_east"}),
            "station": (("profile", "letters"), np.array([[b"a", b"1"], [b"b", b"2"]]), {}),
            "rowSize": (("profile",), np.array([2, 1]), {"sample_dimension": "obs"}),
            "z": (
                ("obs",),
                np.array([0.0, 10.0, 5.0]),
                {"units": "m", "standard_name": "depth", "positive": "down"},
            ),
            "t": (("obs",), np.array([1.0, 2.0, 3.0]), {"units": "degC"}),
        }
        return {k: v for k, v in (contiguous | changes).items() if v is not None}

    @pytest.mark.parametrize(
        "rows",
        [
            {},
            {
                "rowSize": None,
                "which": (("obs",), np.array([0, 0, 1]), {"instance_dimension": "profile"}),
            },
        ],
        ids=["contiguous", "indexed"],
    )
    def test_profiles_end_to_end(self, write, rows):
        table = read_observations(write(self.profiles(**rows)), variable="t")
        assert_array_equal(table.time, START + np.array([0, 0, 6]) * 3600)
        assert_array_equal(table.lat, [50.0, 50.0, 60.0])
        assert_array_equal(table.z, [0.0, 10.0, 5.0])
        assert_array_equal(table.z_kind, ["depth"] * 3)
        assert_array_equal(table.platform, ["a1", "a1", "b2"])
        assert_allclose(table.value, [274.15, 275.15, 276.15])

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"rowSize": (("profile",), np.array([2, 2]), {"sample_dimension": "obs"})},
                "rowSize: expected counts that sum to the 3 points along 'obs', got 4",
            ),
            (
                {"rowSize": (("profile",), np.array([2, 1]), {"sample_dimension": "rows"})},
                "rowSize: expected the counts of points along 'rows', got ('profile',)",
            ),
            (
                {"rowSize": (("profile",), np.array([2.0, 1.0]), {"sample_dimension": "obs"})},
                "rowSize: expected whole numbers, got values of type float64",
            ),
            (
                {
                    "rowSize": None,
                    "which": (("obs",), np.array([0, 0, 2]), {"instance_dimension": "profile"}),
                },
                "which: expected numbers from 0 to 1, got 0 to 2",
            ),
        ],
    )
    def test_counts_that_do_not_fit(self, write, changes, message):
        path = write(self.profiles(**changes))
        with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
            read_observations(path, variable="t")

    def test_series_of_several_stations(self, write):
        path = write(
            {
                "time": (("time",), np.array([0.0, 1.0]), SINCE),
                "lat": (("station",), np.array([50.0, 60.0]), {"units": "degrees_north"}),
                "lon": (("station",), np.array([1.0, 2.0]), {"units": "degrees_east"}),
                "t": (("station", "time"), np.array([[1.0, 2.0], [3.0, 4.0]]), {}),
            }
        )
        table = read_observations(path)
        assert_array_equal(table.value, [1.0, 3.0, 2.0, 4.0])
        assert_array_equal(table.lat, [50.0, 60.0, 50.0, 60.0])


class TestArgo:
    def test_adjusted_values_where_there_are_any(self, write):
        def letters(*texts):
            return np.array([list(text) for text in texts]).astype("S1")

        levels = ("N_PROF", "N_LEVELS")
        path = write(
            {
                "PLATFORM_NUMBER": (("N_PROF", "STRING8"), letters("5900446 ", "5900446 "), {}),
                "DATA_MODE": (("N_PROF",), np.array([b"R", b"D"]), {}),
                "JULD": (("N_PROF",), np.array([0.0, 1.0]), SINCE),
                "JULD_QC": (("N_PROF",), np.array([b"1", b"1"]), {}),
                "LATITUDE": (("N_PROF",), np.array([50.0, 51.0]), {}),
                "LONGITUDE": (("N_PROF",), np.zeros(2), {}),
                "POSITION_QC": (("N_PROF",), np.array([b"1", b"1"]), {}),
                "PRES": (levels, np.array([[1.0, 2.0], [3.0, 4.0]]), {"units": "decibar"}),
                "PRES_QC": (levels, letters("11", "11"), {}),
                "PRES_ADJUSTED": (levels, np.array([[9.0, 9.0], [5.0, 6.0]]), {}),
                "PRES_ADJUSTED_QC": (levels, letters("44", "14"), {}),
                "TEMP": (levels, np.array([[1.0, 2.0], [3.0, 4.0]]), {"units": "degC"}),
                "TEMP_QC": (levels, letters("13", "44"), {}),
                "TEMP_ADJUSTED": (levels, np.array([[8.0, 8.0], [7.0, 8.0]]), {}),
                "TEMP_ADJUSTED_QC": (levels, letters("44", "11"), {}),
                "TEMP_ADJUSTED_ERROR": (levels, np.full((2, 2), 0.01), {}),
            }
        )
        table = read_observations(path)
        assert_allclose(table.value, [274.15, 275.15, 280.15])
        assert_allclose(table.z, [1e4, 2e4, 5e4])
        assert_array_equal(table.quality, [Quality.GOOD, Quality.SUSPECT, Quality.GOOD])
        assert_array_equal(table.error, [np.nan, np.nan, 0.01])
        assert table.rejected == {"bad quality": 1}  # its pressure is flagged bad
        assert set(table.platform) == {"5900446"}

    def test_a_real_float(self, real):
        table = read_observations(real / "obs/argo_5900446_prof.nc")
        assert table.n_in == 2 * 215 * 56
        assert set(table.rejected) == {"missing value", "unusable height"}
        temperature = table.where(table.variable == "sea_water_temperature", "salinity")
        assert temperature.value.min() > 273
        assert temperature.value.max() < 305
        assert np.nanmax(temperature.z) < 2100 * 1e4  # 2000 dbar, the depth of a float


class TestHdfEos:
    def test_leap_seconds(self):
        first = 181 * 86400  # 1993-07-01, after one
        times = decode_tai93([first - 1, first, first + 1, -999.99])
        expected = ["1993-06-30T23:59:59", "1993-06-30T23:59:59", "1993-07-01T00:00:00", "NaT"]
        assert_array_equal(times, np.array(expected, "datetime64[s]"))

    def test_a_real_swath(self, real):
        path = real / "obs/mls_temperature_2011d244.he5"
        table = read_observations(path, variable="Temperature")
        with h5py.File(path) as file:
            fields = file["HDFEOS/SWATHS/Temperature/Data Fields"]
            values, errors = fields["L2gpValue"][...], fields["L2gpPrecision"][...]
            odd = fields["Status"][:] % 2 == 1
        usable = (values != np.float32(-999.99)) & (errors > 0) & ~odd[:, None]
        assert len(table) == usable.sum()
        assert table.n_in == values.size
        assert_allclose(np.sort(table.value), np.sort(values[usable]).astype(float))
        assert table.time[0] >= np.datetime64("2011-09-01")
        assert table.time[-1] < np.datetime64("2011-09-02")
        assert table.z.max() <= 1e5

    @pytest.mark.parametrize(
        ("variable", "message"),
        [
            (None, "variable: expected the name of one of {names}, got none"),
            ("Ozone", "variable: expected one of {names}, got 'Ozone'"),
            (
                ["Temperature", "WMOTPPressure-MLS"],
                "variable: expected one swath at a time, got ['Temperature', 'WMOTPPressure-MLS']",
            ),
        ],
    )
    def test_a_choice_of_swaths(self, real, variable, message):
        path = real / "obs/mls_temperature_2011d244.he5"
        names = ["Temperature", "WMOTPPressure-GEOS5", "WMOTPPressure-MLS"]
        expected = f"{path}: {message.format(names=names)}"
        with pytest.raises(ValueError, match=f"^{re.escape(expected)}$"):
            read_observations(path, variable=variable)


class TestIoda:
    def test_what_is_written_is_what_is_read(self, tmp_path):
        table = mixed_table()
        write_ioda(tmp_path / "obs.nc", table, dtype="f8", provenance={"seed": 1})
        same(read_observations(tmp_path / "obs.nc"), table)

    def test_single_precision_rounds_to_seven_digits(self, tmp_path):
        table = mixed_table()
        write_ioda(tmp_path / "obs.nc", table)
        again = read_observations(tmp_path / "obs.nc")
        assert_allclose(np.sort(again.value), np.sort(table.value), rtol=6e-8)  # float32
        assert again.n_in == table.n_in

    def test_the_layout_is_that_of_version_3(self, tmp_path):
        write_ioda(tmp_path / "obs.nc", mixed_table())
        with h5py.File(tmp_path / "obs.nc") as file:
            assert file.attrs["_ioda_layout"] == "ObsGroup"
            assert file.attrs["_ioda_layout_version"] == 3
            assert {n for n, item in file.items() if isinstance(item, h5py.Dataset)} == {
                "Location",
                "Channel",
            }
            value = file["ObsValue/airTemperature"]
            assert value.dtype == np.float32
            assert [scale.keys()[0] for scale in value.dims] == ["Location", "Channel"]
            assert value.attrs["units"] == "K"
            time = file["MetaData/dateTime"]
            assert time.dtype == np.int64
            assert time.attrs["units"] == "seconds since 1970-01-01T00:00:00Z"
            for group in ("ObsValue", "ObsError", "PreQC", "MetaData"):
                for name, item in file[group].items():
                    text = item.dtype == object
                    assert text or item.dtype == np.int64 or "_FillValue" in item.attrs, name

    def test_version_1(self, write):
        letters = np.array([list("2017-10-27T06:00:00Z")] * 2).astype("S1")
        path = write(
            {
                "latitude@MetaData": (("nlocs",), np.array([50.0, 51.0]), {}),
                "longitude@MetaData": (("nlocs",), np.zeros(2), {}),
                "datetime@MetaData": (("nlocs", "nstring"), letters, {}),
                "air_pressure@MetaData": (("nlocs",), np.array([850.0, 1e3]), {"units": "hPa"}),
                "air_temperature@ObsValue": (("nlocs",), np.array([1.0, 2.0]), {"units": "C"}),
                "air_temperature@ObsError": (("nlocs",), np.array([0.5, -1.0]), {}),
                "air_temperature@PreQC": (("nlocs",), np.array([0, 1]), {}),
            }
        )
        table = read_observations(path)
        assert_array_equal(table.variable, ["air_temperature"])
        assert_allclose(table.value, [274.15])
        assert_array_equal(table.z, [8.5e4])
        assert table.time[0] == np.datetime64("2017-10-27T06")
        assert table.quality[0] == Quality.UNKNOWN  # the file does not say what its codes mean
        assert table.rejected == {"error not positive": 1}

    def test_real_reports_in_version_3(self, real):
        table = read_observations(real / "obs/metar_20201001T06_lon_lt_-60_ioda.nc")
        assert table.n_in == 5 * 5454
        assert table.units["altimeterSetting"] == "Pa"
        assert table.rejected == {"missing value": 604}

    def test_codes_by_a_mapping(self, real):
        quantity = Quantity(
            column="ObsValue/airTemperature",
            quality_column="PreQC/airTemperature",
            quality_codes={"6": Quality.GOOD, "*": Quality.SUSPECT},
        )
        table = read_observations(
            real / "obs/metar_20201001T06_lon_lt_-60_ioda.nc",
            ColumnMapping(
                time="MetaData/dateTime",
                lat="MetaData/latitude",
                lon="MetaData/longitude",
                quantities={"t": quantity},
            ),
        )
        assert table.units == {"t": "K"}
        assert set(table.quality) == {Quality.GOOD, Quality.SUSPECT}

    def test_channels(self, real):
        table = read_observations(real / "obs/ioda_v3_layout_sample_synthetic.nc")
        assert (len(table), set(table.variable)) == (6, {"brightnessTemperature"})
        assert len(set(table.channel)) == 3

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"lat": [np.nan]}, "table: expected at least one observation, got none"),
            ({"lat": None, "lon": None, "y": [0.0], "x": [0.0]}, "table: expected coordinates "
             "('lat', 'lon'), got ('y', 'x')"),
            ({"variable": ""}, "table: expected variable names without '/', got ''"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_written(self, tmp_path, changes, message):
        columns = {"time": START, "lat": [0.0], "lon": [0.0], "value": [1.0], "variable": "a"}
        table = observation_table(**(columns | changes))
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            write_ioda(tmp_path / "obs.nc", table)
        assert not list(tmp_path.iterdir())


class TestParquet:
    def test_what_is_written_is_what_is_read(self, tmp_path):
        pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
        write_parquet(tmp_path / "obs.parquet", mixed_table())
        same(read_observations(tmp_path / "obs.parquet"), mixed_table())
        assert set(read_observations(tmp_path / "obs.parquet", variable="airTemperature").units)

    def test_columns_of_others(self, tmp_path):
        arrow = pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
        parquet = pytest.importorskip("pyarrow.parquet")
        columns = {
            "time": arrow.array(np.array([START, "NaT"], "datetime64[ns]")),
            "lat": [50.0, 51.0],
            "lon": [0.0, 1.0],
            "station": ["a", None],
            "swh": [1.5, 2.0],
        }
        parquet.write_table(arrow.table(columns), tmp_path / "obs.parquet")
        table = read_observations(tmp_path / "obs.parquet")
        assert_array_equal(table.value, [1.5])
        assert_array_equal(table.platform, ["a"])
        assert table.rejected == {"missing time": 1}

    def test_a_damaged_file(self, tmp_path):
        pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
        path = tmp_path / "obs.parquet"
        write_parquet(path, mixed_table())
        path.write_bytes(path.read_bytes()[:-9])
        with pytest.raises(
            ValueError,
            match=r"obs\.parquet: expected readable values, got truncated or damaged ones",
        ):
            read_observations(path)
