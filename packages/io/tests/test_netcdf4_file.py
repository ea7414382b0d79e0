import h5netcdf
import h5py
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from stormda.io.netcdf4_file import CFVariable, describe

DIMENSIONS = {"time": 3, "y": 20, "x": 30, "letters": 4}
VARIABLES = {
    "time": CFVariable(dims=("time",), attributes={"units": "days"}, data=np.arange(3)),
    "x": CFVariable(
        dims=("x",),
        attributes={"units": "m", "periodic": np.int32(1), "range": [0.0, 29.0]},
        data=np.arange(30.0),
    ),
    "lat": CFVariable(
        dims=("y", "x"), attributes={"units": "degrees_north"}, data=np.ones((20, 30))
    ),
    "name": CFVariable(
        dims=("time", "letters"), attributes={}, data=np.full((3, 4), b"a", "S1")
    ),
    "flag": CFVariable(
        dims=("time",),
        attributes={"flag_values": np.array([0, 1], np.int32), "flag_meanings": "no yes"},
        data=np.array([0, 1, 1], np.int32),
    ),
    "t2m": CFVariable(
        dims=("time", "y", "x"),
        attributes={"units": "K", "valid_min": 180.0},
        fill=np.nan,
        chunks=(1, 20, 30),
        compression=4,
    ),
    "error": CFVariable(
        dims=("time",), attributes={}, data=np.array([1.0, np.nan, 2.0]), fill=np.nan
    ),
}  # fmt: skip


def by_h5netcdf(path):
    """Write the same with the library that is made for it."""
    packed = {"compression": "gzip", "compression_opts": 4, "shuffle": True, "fletcher32": True}
    with h5netcdf.File(path, "w", libver=("v108", "v110")) as file:
        file.dimensions = DIMENSIONS
        for name, v in VARIABLES.items():
            created = file.create_variable(
                name,
                v.dims,
                dtype=v.dtype if v.data is None else v.data.dtype,
                data=v.data,
                fillvalue=None if v.fill is None else np.float32(v.fill),
                chunks=v.chunks,
                **(packed if v.chunks else {}),
            )
            created.attrs.update(v.attributes)


def content(path):
    """Return what a file says of its variables, in the words of HDF5."""
    with h5py.File(path) as file:
        return {name: variable(file, dataset) for name, dataset in file.items()}


def variable(file, dataset):
    linked = {"DIMENSION_LIST", "REFERENCE_LIST"}
    attributes = {}
    for name in set(dataset.attrs) - linked:
        stored = dataset.attrs.get_id(name)
        text = isinstance(stored.get_type(), h5py.h5t.TypeStringID)
        value = dataset.attrs[name]
        attributes[name] = (stored.shape, None if text else stored.dtype, np.array(value).tolist())
    scales = [[file[scale.name].name for scale in dim.values()] for dim in dataset.dims]
    users = {(file[r].name, i) for r, i in dataset.attrs.get("REFERENCE_LIST", ())}
    filters = [dataset.compression, dataset.compression_opts, dataset.shuffle, dataset.fletcher32]
    return {
        "attributes": attributes,
        "scales": scales,
        "users": users,
        "stored": (dataset.shape, dataset.dtype, dataset.chunks, filters),
        "fill": str(dataset.fillvalue),
    }


@pytest.fixture
def ours(tmp_path):
    path = tmp_path / "ours.nc"
    with h5py.File(path, "w", libver=("v108", "v110"), track_order=True) as file:
        describe(file, DIMENSIONS, VARIABLES)
    return path


def test_it_is_what_h5netcdf_writes(ours, tmp_path):
    by_h5netcdf(tmp_path / "theirs.nc")
    found, expected = content(ours), content(tmp_path / "theirs.nc")
    for one in (found, expected):  # NaN is not equal to itself
        for said in one.values():
            said["attributes"] = str(sorted(said["attributes"].items()))
    assert found == expected


def test_h5netcdf_reads_it(ours):
    with h5netcdf.File(ours, "r") as file:
        assert {name: dim.size for name, dim in file.dimensions.items()} == DIMENSIONS
        assert [*file.variables] == ["time", "x", "lat", "name", "flag", "t2m", "error"]
        for name, v in VARIABLES.items():
            assert file.variables[name].dimensions == v.dims
            if v.data is not None:
                assert_array_equal(file.variables[name][...], v.data)


def test_the_netcdf_library_reads_it(ours):
    netCDF4 = pytest.importorskip("netCDF4", reason="needs the library in C")
    with netCDF4.Dataset(ours) as file:
        assert {name: dim.size for name, dim in file.dimensions.items()} == DIMENSIONS
        assert file.variables["t2m"].dimensions == ("time", "y", "x")
        assert file.variables["t2m"].filters()["fletcher32"]
        assert file.variables["x"].range.tolist() == [0.0, 29.0]
        assert_array_equal(file.variables["flag"][...], [0, 1, 1])
