"""The ways in which observation files are bad, each with what is said about it.

The numbers are those of a list of 63 bad inputs that Earth-system files are known for.
"""

import re
import subprocess
import sys

import numpy as np
import pytest

from stormda.grid import LatLonGrid
from stormda.io import (
    ColumnMapping,
    Feedback,
    Quality,
    Quantity,
    observation_table,
    read_observations,
    write_feedback,
    write_ioda,
    write_observations,
    write_parquet,
)

HEAD = "time,lat,lon,t\n"
GOOD = "2017-10-27,54,3,1\n"


def points(**changes):
    columns = {"time": "2017-10-27", "lat": [54.0], "lon": [3.0], "value": [1.0], "variable": "t"}
    return observation_table(**(columns | changes))


def refused(message, path, **options):
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
        read_observations(path, **options)


@pytest.fixture
def text(tmp_path):
    def text(content, name="obs.csv", encoding="utf-8"):
        path = tmp_path / name
        path.write_bytes(content.encode(encoding) if isinstance(content, str) else content)
        return path

    return text


@pytest.mark.parametrize(
    ("content", "name", "message"),
    [
        ("", "obs.csv", "expected a line of column names, got an empty file"),  # 1
        (b"", "obs.nc", "expected a NetCDF-3 or NetCDF-4 file, got an empty file"),  # 1
        (
            "version https://git-lfs.github.com/spec/v1\n",
            "obs.nc",
            "expected a NetCDF-3 or NetCDF-4 file, "
            "got a Git-LFS pointer (fetch the file with `git lfs pull`)",
        ),  # 2
        (
            b"GRIB\x00\x00\x00\x01",
            "obs.csv",
            "expected observations in a CSV, Parquet, NetCDF or HDF5 file, "
            "got a GRIB file of fields (`open_store` opens it)",
        ),  # 3
        (
            b"BUFR\x00\x00\x00\x04",
            "obs.bufr",
            "expected a NetCDF-3 or NetCDF-4 file, got a BUFR file (decode it with eccodes)",
        ),  # 3
    ],
)
def test_1_to_3_files_of_another_kind(text, content, name, message):
    refused(message, text(content, name))


def test_1_a_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"obs\.csv: expected a file, got a path that"):
        read_observations(tmp_path / "obs.csv")


def test_4_a_truncated_file(tmp_path):
    path = tmp_path / "obs.nc"
    write_observations(path, points())
    path.write_bytes(path.read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"obs\.nc: expected readable values, got truncated or"):
        read_observations(path)


def test_46_columns_that_are_required(text):
    refused(
        "expected columns for time, lat and lon, or a mapping that names them, "
        "got ['ID', 'DATETIME', 'DATA_VALUE']",
        text("ID,DATETIME,DATA_VALUE\nAMM00037717,20200228,109\n"),
    )


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("soon,54,3,1", "missing time"),  # 47
        ("2017-02-30,54,3,1", "missing time"),  # 47
        ("2017-10-27T25:00,54,3,1", "missing time"),  # 47
        ("2017-10-27,54,-790.2,1", "position out of range"),  # 48
        ("2017-10-27,-9999,3,1", "position out of range"),  # 48
        ("2017-10-27,54,3,-9999", "missing value"),  # 49
        ("2017-10-27,54,3,999", "missing value"),  # 49
        ("2017-10-27,54,3,1e400", "infinite value"),  # 35
        ("2017-10-27,54,3,T", "unreadable value"),
        ("2017-10-26,54,3,1", "duplicate"),  # 53
    ],
)
def test_47_to_49_and_53_rows_are_counted(text, row, reason):
    mapping = ColumnMapping(
        lat="lat",
        lon="lon",
        quantities={"t": Quantity(column="t", sentinels=(999.0, -9999.0))},
    )
    table = read_observations(text(f"{HEAD}2017-10-26,54,3,1\n{row}\n"), mapping)
    assert table.rejected == {reason: 1}
    assert table.n_in == 2


def test_30_time_zones_are_mixed(text):
    rows = "2017-10-27T06:00+02:00,54,3,1\n2017-10-27T06:00Z,54,3,2\n2017-10-27T07:00,54,3,3\n"
    times = read_observations(text(HEAD + rows)).time.astype("datetime64[h]").astype(str)
    assert times.tolist() == ["2017-10-27T04", "2017-10-27T06", "2017-10-27T07"]


@pytest.mark.parametrize("error", [0.0, -1.0])
def test_50_errors_that_are_not_positive(text, error):
    path = text(f"time,lat,lon,t,e\n2017-10-27,54,3,1,{error}\n2017-10-27,54,3,2,\n")
    quantities = {"t": Quantity(column="t", error_column="e")}
    table = read_observations(path, ColumnMapping(lat="lat", lon="lon", quantities=quantities))
    assert table.rejected == {"error not positive": 1}
    assert np.isnan(table.error).all()  # blank: nobody stated one
    message = f"error: expected a positive standard deviation, got {error:g}"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        points(error=error)


def test_51_variables_and_units_that_are_not_known(text):
    path = text(HEAD + GOOD)
    message = f"variable: expected one of the columns of {path}, ['t'], got 'swh'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_observations(path, variable="swh")
    message = "units: expected a known unit, got 'kevin' (did you mean 'kelvin'?)"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Quantity(column="t", units="kevin")


def test_51_units_of_heights_that_are_no_heights(text):
    mapping = ColumnMapping(
        lat="lat",
        lon="lon",
        z="t",
        z_kind="pressure",
        z_units="m",
        quantities={"t": Quantity(column="t")},
    )
    refused(
        "column 't': units: expected a unit that converts to 'Pa', got 'm'",
        text(HEAD + GOOD),
        mapping=mapping,
    )


def test_52_quality_codes_without_a_meaning(text):
    codes = {"1": Quality.GOOD, "4": Quality.BAD}
    quantity = Quantity(column="t", quality_column="q", quality_codes=codes)
    mapping = ColumnMapping(lat="lat", lon="lon", quantities={"t": quantity})
    refused(
        "column 'q': quality: expected codes among ['1', '4'], got '7'",
        text("time,lat,lon,t,q\n2017-10-27,54,3,1,7\n"),
        mapping=mapping,
    )


def test_54_outside_the_window_or_the_domain_is_counted():
    table = points(time=["2017-10-27", "2017-10-28", "2017-10-27"], lat=[54, 54, 10], lon=[3] * 3,
                   value=[1, 2, 3])  # fmt: skip
    inside = table.window("2017-10-26", "2017-10-27").within(LatLonGrid([53, 55], [2, 4]))
    assert inside.rejected == {"outside window": 1, "outside domain": 1}
    assert (len(inside), inside.n_in) == (1, 3)


def test_55_another_encoding(text):
    refused(
        "expected text encoded as utf-8-sig, got other bytes at position 31 "
        "(name the encoding in the mapping, for instance 'cp1252')",
        text(HEAD + "2017-10-27,54,3,é\n", encoding="cp1252"),
    )


def test_56_locations_of_another_length(write):
    path = write(
        {
            "latitude@MetaData": (("nlocs",), np.zeros(2), {}),
            "longitude@MetaData": (("nlocs",), np.zeros(2), {}),
            "datetime@MetaData": (("n",), np.zeros(3), {"units": "hours since 2017-10-27"}),
            "t@ObsValue": (("nlocs",), np.zeros(2), {}),
        }
    )
    refused(
        "MetaData/datetime: expected one value for each of the 2 locations of ObsValue/t, "
        "got shape (3,)",
        path,
    )


def test_56_metadata_that_are_not_there(write):
    path = write(
        {
            "latitude@MetaData": (("nlocs",), np.zeros(2), {}),
            "t@ObsValue": (("nlocs",), np.zeros(2), {}),
        }
    )
    refused("expected a variable 'MetaData/dateTime', got ['MetaData/latitude']", path)


def test_57_no_observation_is_left(text):
    refused(
        "expected at least one usable observation, "
        "got 0 of 1 observations used (1 position out of range)",
        text(HEAD + "2017-10-27,95,3,1\n"),
    )


@pytest.mark.parametrize("write", [write_observations, write_ioda, write_parquet])
def test_62_an_output_that_is_there_already(tmp_path, write):
    if write is write_parquet:
        pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
    path = tmp_path / "obs.nc"
    write(path, points())
    before = path.read_bytes()
    with pytest.raises(FileExistsError, match=r"obs\.nc: expected an output that does not exist"):
        write(path, points())
    assert path.read_bytes() == before
    write(path, points(value=[2.0]), overwrite=True)
    assert read_observations(path).value[0] == 2.0


FULL_DISK = """
import resource, sys, numpy as np, stormda.io
table = stormda.io.observation_table(time="2017-10-27", lat=np.linspace(-80, 80, 4000),
                                     lon=np.linspace(0, 100, 4000), value=np.arange(4000.0),
                                     variable="t")
size = int(sys.argv[3])
resource.setrlimit(resource.RLIMIT_FSIZE, (size, size))
try:
    getattr(stormda.io, sys.argv[1])(sys.argv[2], table, overwrite=True)
except OSError as error:
    print("refused")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="limits of files are those of POSIX")
@pytest.mark.parametrize("size", [300, 40000])
@pytest.mark.parametrize("write", [write_observations, write_ioda, write_parquet])
def test_63_a_full_disk_leaves_the_old_file_and_nothing_else(tmp_path, write, size):
    if write is write_parquet:
        pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
    path = tmp_path / "obs.nc"
    write(path, points())
    before = path.read_bytes()
    code = [sys.executable, "-c", FULL_DISK, write.__name__, str(path), str(size)]
    run = subprocess.run(code, capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout, run.stderr) == (0, "refused\n", "")
    assert [p.name for p in tmp_path.iterdir()] == ["obs.nc"]
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_kind": "depth"}, "z_kind: expected one of ['pressure', 'height', 'depth'] with z, "
         "got 'depth' with None"),
        ({"lat": None, "lon": None, "stations": {}}, "platform: expected the column of the "
         "stations' names, got none"),
        ({"quantities": {"t": Quantity(column="t", label="T")}}, "label: expected the column of "
         "the labels of ['t'], got none"),
        ({"time": ("year", "month")}, "time: expected columns of year, month, day and up to "
         "hour, minute, second, got ('year', 'month')"),
        ({"delimiter": ", "}, "delimiter: expected one character, got ', '"),
    ],
)  # fmt: skip
def test_mappings_that_make_no_sense(changes, message):
    mapping = {"lat": "lat", "lon": "lon", "quantities": {"t": Quantity(column="t")}}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        ColumnMapping(**(mapping | changes))


def test_codes_need_their_column():
    message = "quality_codes: expected with quality_column, got {} with 'q'"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Quantity(column="t", quality_column="q")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("time,lat,lon,t,t\n2017-10-27,54,3,1,1\n", "expected every column once, got 't' twice"),
        (HEAD + '2017-10-27,54,3,"1\n', "expected delimited text, got unexpected end of data"),
        (HEAD + "2017-10-27,54,3\n", "expected 4 cells in row 1, got 3"),
    ],
)
def test_texts_that_are_no_tables(text, content, message):
    refused(message, text(content))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"z_kind": "layer"}, "z_kind: expected values among ['', 'pressure', 'height', 'depth'], "
         "got 'layer'"),
        ({"value": [1.0, 2.0]}, "value: expected shape (1,), got (2,)"),
    ],
)  # fmt: skip
def test_columns_that_make_no_table(changes, message):
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        points(**changes)


def test_a_height_that_is_not_known_is_counted():
    table = points(lat=[54, 55], lon=[3, 3], value=[1, 2], z=[np.nan, 10.0], z_kind="height")
    assert table.rejected == {"unusable height": 1}


def test_bad_quality_is_counted():
    table = points(lat=[54, 55], lon=[3, 3], value=[1, 2], quality=[Quality.BAD, Quality.GOOD])
    assert table.rejected == {"bad quality": 1}


def test_feedback_of_another_length(tmp_path):
    columns = ("background", "background_spread", "analysis", "analysis_spread")
    feedback = Feedback(**{name: [0.0] for name in columns}, refused=["", ""])
    with pytest.raises(ValueError, match=r"^refused: expected shape \(1,\), got \(2,\)$"):
        write_feedback(tmp_path / "feedback.nc", points(), feedback)
