"""What the tests of this package share: files made on the spot, and the real ones."""

import os
from pathlib import Path

import numpy as np
import pytest
from scipy.io import netcdf_file

LAT = (("lat",), np.array([50.0, 51.0, 52.0]), {"units": "degrees_north"})
LON = (("lon",), np.array([0.0, 1.0, 2.0, 3.0]), {"units": "degrees_east"})


def hours(*values, since="2019-03-01"):
    """A time coordinate, as a (dims, data, attributes) triple."""
    return ("time",), np.array(values, np.float64), {"units": f"hours since {since}"}


@pytest.fixture
def write(tmp_path):
    """Write variables, each a (dims, data, attributes) triple, exactly as given, as NetCDF-3."""

    def write(variables, name="file.nc"):
        path = tmp_path / name
        with netcdf_file(path, "w") as file:
            sizes = {}
            for dims, data, _ in variables.values():
                sizes |= dict(zip(dims, np.shape(data), strict=True))
            for dim, size in sizes.items():
                file.createDimension(dim, size)
            for variable, (dims, data, attributes) in variables.items():
                array = np.asarray(data)
                if array.dtype == np.int64:
                    array = array.astype(np.int32)  # NetCDF-3 has no wider integers
                created = file.createVariable(variable, array.dtype, dims)
                created.data[...] = array
                for key, value in attributes.items():
                    setattr(created, key, value)
        return path

    return write


@pytest.fixture
def field(write):
    """Write a field x(time, lat, lon); coordinates can be replaced, or removed by None."""

    def field(data=None, attributes=None, name="file.nc", **coordinates):
        frames = 2 if data is None else len(data)
        data = np.zeros((frames, 3, 4), np.float32) if data is None else data
        variables = {
            "time": hours(*range(frames)),
            "lat": LAT,
            "lon": LON,
            "x": (
                ("time", "lat", "lon"),
                data,
                {"units": "K"} if attributes is None else attributes,
            ),
            **coordinates,
        }
        return write({key: value for key, value in variables.items() if value is not None}, name)

    return field


@pytest.fixture
def real():
    """The folder of real files; its tests are skipped where there is none."""
    folder = os.environ.get("STORMDA_DATA")
    if not folder:
        pytest.skip("STORMDA_DATA is not set: no real files to read")
    return Path(folder)
