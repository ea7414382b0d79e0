"""`dataset.stormda`, against slow sums and what `open_store` makes of the same file."""

import re

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

import stormda.io.accessor  # noqa: F401  # registers it
from stormda.grid import CurvilinearGrid, LatLonGrid, PlaneGrid
from stormda.io import open_store, read_ensemble, write_ensemble

TIMES = np.array(["2019-03-01T00", "2019-03-01T06"], "datetime64[ns]")
LAT, LON = np.arange(-75.0, 90, 30), np.arange(0.0, 360, 45)


def ensemble(**replaced):
    """Three members of two fields on a globe, one of them on levels; dimensions in no order."""
    rng = np.random.default_rng(0)
    t = rng.normal(280, 5, (2, 3, 6, 8)).astype(np.float32)
    z = rng.normal(5e4, 5e2, (6, 8, 2, 2, 3)).astype(np.float32)
    parts = {
        "t": (("time", "number", "lat", "lon"), t, {"units": "K", "long_name": "warmth"}),
        "z": (("lat", "lon", "plev", "time", "number"), z, {"units": "m2 s-2"}),
        "number": [2, 5, 7],
        "time": TIMES,
        "plev": ("plev", [85000.0, 50000.0], {"units": "Pa", "standard_name": "air_pressure"}),
        "lat": ("lat", LAT, {"units": "degrees_north"}),
        "lon": ("lon", LON, {"units": "degrees_east"}),
    } | replaced
    return xr.Dataset({name: part for name, part in parts.items() if part is not None})


def area_by_hand(lat, width, step=30.0):
    """Weights of rows, by the sine of their edges."""
    north, south = (np.sin(np.deg2rad(lat + sign * step / 2)) for sign in (1, -1))
    return np.repeat((north - south)[:, None], width, axis=1)


def test_the_mean_counts_cells_by_their_area() -> None:
    dataset = ensemble()
    mean = dataset.stormda.area_mean("t")
    assert mean.dims == ("time", "number")
    assert mean.dtype == np.float64
    assert mean.attrs["units"] == "K"
    weights = area_by_hand(LAT, 8)
    for i in range(2):
        for j in range(3):
            field = dataset["t"].values[i, j].astype(np.float64)
            assert mean.values[i, j] == pytest.approx((field * weights).sum() / weights.sum())


def test_the_mean_leaves_missing_values_out() -> None:
    dataset = ensemble()
    dataset["t"][0, 0, 2, 3] = np.nan
    dataset["t"][1, 1] = np.nan
    mean = dataset.stormda.area_mean("t").values
    weights, field = area_by_hand(LAT, 8), dataset["t"].values[0, 0].astype(np.float64)
    weights[2, 3] = 0.0
    assert mean[0, 0] == pytest.approx((np.nan_to_num(field) * weights).sum() / weights.sum())
    assert np.isnan(mean[1, 1])
    assert np.isfinite(mean[1, [0, 2]]).all()


def test_the_mean_does_not_count_a_column_twice() -> None:
    once = ensemble(z=None)
    twice = xr.concat([once, once.isel(lon=[0]).assign_coords(lon=[360.0])], "lon")
    twice["lon"].attrs["units"] = "degrees_east"
    assert twice.stormda.grid.shape == (6, 8)
    assert_allclose(twice.stormda.area_mean("t"), once.stormda.area_mean("t"), rtol=1e-12)


def test_the_mean_of_a_cubed_sphere_is_over_faces_and_cells() -> None:
    lat, lon = np.random.default_rng(0).uniform(-80, 80, (2, 6, 3, 3))
    corner = np.stack([lat - 1, lat - 1, lat + 1, lat + 1], -1)
    corners = np.stack([lon - 1, lon + 1, lon + 1, lon - 1], -1)
    dims = ("face", "row", "column")
    dataset = xr.Dataset(
        {
            "x": (dims, np.arange(54.0).reshape(6, 3, 3)),
            "corner_lat": ((*dims, "corner"), corner),
            "corner_lon": ((*dims, "corner"), corners),
        },
        {
            "lat": (dims, lat, {"units": "degrees_north"}),
            "lon": (dims, lon, {"units": "degrees_east"}),
        },
    )
    area = dataset.stormda.grid.area
    by_hand = (area.ravel() * np.arange(54.0)).sum() / area.sum()
    assert float(dataset.stormda.area_mean("x")) == pytest.approx(by_hand)


def test_the_grid_is_that_of_the_file(tmp_path) -> None:
    ensemble().to_netcdf(tmp_path / "a.nc", engine="h5netcdf")
    with xr.open_dataset(tmp_path / "a.nc", engine="h5netcdf") as dataset:
        assert isinstance(dataset.stormda.grid, LatLonGrid)
        assert dataset.stormda.grid.to_dict() == open_store(tmp_path / "a.nc").grid.to_dict()


def test_an_ensemble_is_written_in_the_order_of_cf(tmp_path) -> None:
    dataset = ensemble(z=None, plev=None)
    dataset.stormda.to_ensemble(tmp_path / "an.nc", provenance={"seed": 3})
    written = read_ensemble(tmp_path / "an.nc")
    assert_array_equal(written.fields["t"], dataset["t"].values.swapaxes(0, 1))
    assert_array_equal(written.axes.members, [2, 5, 7])
    assert_array_equal(written.axes.times, TIMES)
    assert written.provenance == {"seed": 3}
    assert open_store(tmp_path / "an.nc").variables["t"].long_name == "warmth"


def test_levels_are_kept(tmp_path) -> None:
    dataset = ensemble()
    dataset.stormda.to_ensemble(tmp_path / "an.nc")
    store = open_store(tmp_path / "an.nc")
    by_hand = np.moveaxis(dataset["z"].values, (4, 3, 2), (0, 1, 2))
    assert_array_equal(store.read("z")[0], by_hand)
    assert store.level("z", 500.0, "hPa") == 1
    with pytest.raises(FileExistsError):
        dataset.stormda.to_ensemble(tmp_path / "an.nc")


def test_what_was_written_can_be_written_again(tmp_path) -> None:
    plane = PlaneGrid((4, 4), (1e5, 1e5))
    theta = np.random.default_rng(0).normal(size=(3, 2, 4, 4))
    write_ensemble(
        tmp_path / "one.nc",
        {"theta": theta},
        times=TIMES,
        grid=plane,
        attributes={"theta": {"units": "K"}},
    )
    with xr.open_dataset(tmp_path / "one.nc", engine="h5netcdf") as dataset:
        assert dataset.stormda.grid == plane
        dataset.stormda.to_ensemble(tmp_path / "two.nc")
    one, two = (read_ensemble(tmp_path / name) for name in ("one.nc", "two.nc"))
    assert_array_equal(one.fields["theta"], two.fields["theta"])
    assert one.axes.grid == two.axes.grid


def curvilinear():
    lat, lon = np.meshgrid(LAT[1:4], LON[:4], indexing="ij")
    dims = ("row", "column")
    return xr.Dataset(
        {"t": (("number", "time", *dims), np.zeros((1, 2, 3, 4)), {"units": "K"})},
        {
            "time": TIMES,
            "lat": (dims, lat + 0.1 * lon, {"units": "degrees_north"}),
            "lon": (dims, lon - 0.1 * lat, {"units": "degrees_east"}),
        },
    )


BAD = {
    "variable 't': expected dimensions for member, time, [level,] row and column, "
    "got ('time', 'lat', 'lon')": lambda: ensemble(z=None).isel(number=0, drop=True),
    "variable 'u': expected dimensions for member, time, [level,] row and column, "
    "got ('lat', 'lon')": lambda: ensemble(u=(("lat", "lon"), np.zeros((6, 8)))),
    "attributes: expected units for 't', got {'long_name': 'warmth'}": lambda: ensemble(
        z=None,
        t=(("number", "time", "lat", "lon"), np.zeros((3, 2, 6, 8)), {"long_name": "warmth"}),
    ),
    "time: expected dates (datetime64) along 'time', got values of type int64": lambda: ensemble(
        time=[0, 1]
    ),
    "dataset: expected a variable along ('lat', 'lon'), got none": lambda: ensemble(
        t=None, z=None
    ),
    "expected latitude and longitude, or y and x in metres, got coordinates "
    "['number', 'plev', 'time']": lambda: ensemble().drop_vars(["lat", "lon"]),
}


@pytest.mark.parametrize("message", BAD)
def test_what_is_no_ensemble_is_refused(tmp_path, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        BAD[message]().stormda.to_ensemble(tmp_path / "an.nc")
    assert not [*tmp_path.iterdir()]


def test_grids_that_an_ensemble_file_does_not_hold_are_refused(tmp_path) -> None:
    assert isinstance(curvilinear().stormda.grid, CurvilinearGrid)
    with pytest.raises(
        ValueError, match="dataset: expected a LatLonGrid or a PlaneGrid, got Curv"
    ):
        curvilinear().stormda.to_ensemble(tmp_path / "an.nc")


def test_means_of_what_is_not_on_the_grid_are_refused() -> None:
    dataset = ensemble(u=(("time",), [0.0, 1.0]))
    with pytest.raises(
        ValueError, match=r"'u': expected dimensions \('lat', 'lon'\), got \('time"
    ):
        dataset.stormda.area_mean("u")
    with pytest.raises(ValueError, match=r"expected one of the variables \['t', 'u', 'z'\], got"):
        dataset.stormda.area_mean("w")
