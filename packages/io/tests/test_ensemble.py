import re

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_array_equal

from stormda.grid import LatLonGrid, PlaneGrid, grid
from stormda.io import (
    LevelAxis,
    open_store,
    read_ensemble,
    read_provenance,
    write_ensemble,
    write_fields,
)

TIMES = np.array(["2000-01-01T00", "2000-01-01T12"], "datetime64[s]")
PLANE = PlaneGrid((4, 6), (1e5, 2e5), (True, False), origin_m=(5e4, 0.0))
KELVIN = {"theta": {"units": "K"}}
LEVELS = LevelAxis(
    name="level",
    values=np.array([85000.0, 50000.0]),
    units="Pa",
    standard_name="air_pressure",
    positive="down",
)


def fields(shape=(3, 2, 4, 6)):
    return {"theta": np.random.default_rng(0).normal(280, 5, shape).astype(np.float32)}


@pytest.mark.parametrize(
    "where",
    [
        PLANE,
        LatLonGrid([53.0, 52.0, 51.0, 50.0], np.arange(-3.0, 3.0)),
        LatLonGrid(
            [-45.0, -10.0, 10.0, 45.0],
            np.arange(0.0, 360, 60),
            [[-90, -20], [-20, 0], [0, 20], [20, 90]],
        ),
    ],
)
@pytest.mark.parametrize("compression", [0, 4])
def test_what_is_written_is_what_is_read(tmp_path, where, compression):
    written = fields()
    written["theta"][1, 0, 2, 3] = np.nan
    written["u"] = fields((3, 2, 2, 4, 6))["theta"]
    provenance = {"seeds": [1, 2, 3], "inputs": {"a.nc": "0" * 64}, "title": "A test"}
    write_ensemble(
        tmp_path / "a.nc",
        written,
        times=TIMES,
        grid=where,
        attributes={"theta": {"units": "K"}, "u": {"units": "m s-1"}},
        levels=LEVELS,
        members=[4, 5, 9],
        provenance=provenance,
        compression=compression,
    )
    read = read_ensemble(tmp_path / "a.nc")
    for name, values in written.items():
        assert_array_equal(read.fields[name], values)
    assert read.axes.grid == where
    assert_array_equal(read.axes.times, TIMES)
    assert_array_equal(read.axes.members, [4, 5, 9])
    assert_array_equal(read.axes.levels.values, LEVELS.values)
    assert read.units == {"theta": "K", "u": "m s-1"}
    assert read.provenance == provenance


def test_xarray_opens_it(tmp_path):
    written = fields()
    write_ensemble(tmp_path / "a.nc", written, times=TIMES, grid=PLANE, attributes=KELVIN)
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as dataset:
        assert dataset["theta"].dims == ("realization", "time", "y", "x")
        assert_array_equal(dataset["theta"], written["theta"])
        assert_array_equal(dataset["time"], TIMES)
        assert_array_equal(dataset["y"], PLANE.y)
        assert dataset["realization"].dtype == np.int32
        assert dataset["theta"].encoding["preferred_chunks"] == {
            "realization": 1,
            "time": 1,
            "y": 4,
            "x": 6,
        }
        assert dataset.attrs["Conventions"] == "CF-1.11"


def test_fields_without_members(tmp_path):
    truth = fields((2, 4, 6))
    write_fields(tmp_path / "truth.nc", truth, times=TIMES, grid=PLANE, attributes=KELVIN)
    store = open_store(tmp_path / "truth.nc")
    assert_array_equal(store.read("theta")[0], truth["theta"])
    assert store.grid == PLANE
    with pytest.raises(ValueError, match=r"truth\.nc: expected an ensemble dimension, got none$"):
        read_ensemble(tmp_path / "truth.nc")


def test_one_frame_of_a_global_grid(tmp_path):
    full = grid("f32")
    values = {"t": np.zeros((1, *full.shape))}
    write_fields(
        tmp_path / "t.nc", values, times=TIMES[:1], grid=full, attributes={"t": {"units": "K"}}
    )
    assert open_store(tmp_path / "t.nc").grid == full


def test_a_long_provenance_is_stored(tmp_path):
    provenance = {"inputs": {f"file{i}.nc": "0" * 64 for i in range(3000)}}
    write_ensemble(
        tmp_path / "a.nc",
        fields(),
        times=TIMES,
        grid=PLANE,
        attributes=KELVIN,
        provenance=provenance,
    )
    assert read_provenance(tmp_path / "a.nc") == provenance


def test_a_file_of_others_has_no_provenance(field):
    with pytest.raises(
        ValueError, match=r"file\.nc: expected a global attribute 'provenance', got none$"
    ):
        read_provenance(field())


def test_an_existing_output_is_refused_and_kept(tmp_path):
    path = tmp_path / "a.nc"
    path.write_text("precious")
    with pytest.raises(
        FileExistsError, match=r"a\.nc: expected an output that does not exist yet"
    ):
        write_ensemble(path, fields(), times=TIMES, grid=PLANE, attributes=KELVIN)
    assert path.read_text() == "precious"
    write_ensemble(path, fields(), times=TIMES, grid=PLANE, attributes=KELVIN, overwrite=True)
    assert read_ensemble(path).fields["theta"].shape == (3, 2, 4, 6)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"fields": fields((3, 2, 6, 4))},
            "fields: expected shape (3, 2, 4, 6) for 'theta', got (3, 2, 6, 4)",
        ),
        (
            {"fields": fields((3, 2, 3, 4, 6)), "levels": LEVELS},
            "fields: expected shape (3, 2, 2, 4, 6) or (3, 2, 4, 6) for 'theta', "
            "got (3, 2, 3, 4, 6)",
        ),
        (
            {"fields": {"theta": np.where(np.arange(144).reshape(3, 2, 4, 6) == 101, 1e39, 1.0)}},
            "fields: expected finite values or NaN in 'theta', got 1e+39 at index (2, 0, 0, 5)",
        ),
        (
            {"fields": {"x": fields()["theta"]}},
            "fields: expected names other than those of the coordinates, "
            "['realization', 'time', 'x', 'y'], got ['x']",
        ),
        (
            {"attributes": {"theta": {"long_name": "x"}}},
            "attributes: expected units for 'theta', got {'long_name': 'x'}",
        ),
        (
            {"times": TIMES[::-1]},
            "times: expected increasing dates, got repeated, falling or missing ones",
        ),
        (
            {"times": np.array(["2000-01-01", "NaT"], "datetime64[s]")},
            "times: expected increasing dates, got repeated, falling or missing ones",
        ),
    ],
)
def test_what_cannot_be_written(tmp_path, changes, message):
    arguments = {"fields": fields(), "times": TIMES, "grid": PLANE, "attributes": KELVIN}
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        write_ensemble(tmp_path / "a.nc", **(arguments | changes))
    assert [*tmp_path.iterdir()] == []
