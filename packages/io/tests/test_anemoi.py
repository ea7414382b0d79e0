"""Groups as anemoi-datasets writes them."""

import re

import numpy as np
import pytest
import zarr
from numpy.testing import assert_array_equal

from stormda.grid import CurvilinearGrid, LatLonGrid, PointGrid
from stormda.io import Pieces, Statistics, local_copy, open_store

NAMES = ["2t", "10u", "z_500"]
DATES = np.arange("2019-03-01", "2019-03-03", 6, "datetime64[h]").astype("datetime64[s]")
ROWS, COLS = 4, 6


def lattice():
    """Latitudes and longitudes of every cell of a lattice, row by row."""
    lat, lon = np.meshgrid([60.0, 40.0, 20.0, 0.0], 60.0 * np.arange(COLS), indexing="ij")
    return lat.ravel(), lon.ravel()


def numbers(members=1):
    shape = (len(DATES), len(NAMES), members, ROWS * COLS)
    return np.random.default_rng(0).normal(280.0, 5.0, shape).astype(np.float32)


@pytest.fixture
def write(tmp_path):
    """Write a group as anemoi-datasets does; arrays can be replaced, attributes added."""

    def write(members=1, zarr_format=2, chunks=None, attributes=None, **replaced):
        lat, lon = lattice()
        arrays = {
            "data": numbers(members),
            "dates": DATES,
            "latitudes": lat,
            "longitudes": lon,
            "mean": np.zeros(len(NAMES)),
            "stdev": np.ones(len(NAMES)),
            "minimum": np.zeros(len(NAMES)),
            "maximum": np.ones(len(NAMES)),
        } | replaced
        dims = {
            "data": ("time", "variable", "ensemble", "cell"),
            "dates": ("time",),
            "latitudes": ("cell",),
            "longitudes": ("cell",),
        }
        said = {
            "variables": NAMES,
            "start_date": str(DATES[0]),
            "frequency": "6h",
            "field_shape": [ROWS, COLS],
            "missing_dates": [],
        } | (attributes or {})
        path = tmp_path / "any.name"
        group = zarr.create_group(path, zarr_format=zarr_format, attributes=said)
        for name, array in arrays.items():
            named = (*dims.get(name, ("variable",)), "extra")[: array.ndim]
            own = {"dimension_names": named} if zarr_format == 3 else {}
            pieces = {"chunks": chunks or (1, *array.shape[1:])} if name == "data" else {}
            stored = group.create_array(
                name, shape=array.shape, dtype=array.dtype, **own, **pieces
            )
            stored[...] = array
            if zarr_format == 2:
                stored.attrs["_ARRAY_DIMENSIONS"] = list(named)
        return path

    return write


@pytest.mark.filterwarnings("ignore:The data type:zarr.errors.UnstableSpecificationWarning")
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_every_variable_is_a_field_of_its_own(write, zarr_format) -> None:
    store = open_store(write(zarr_format=zarr_format))
    assert [*store.variables] == NAMES
    assert isinstance(store.grid, LatLonGrid)
    assert store.grid.shape == (ROWS, COLS)
    assert_array_equal(store.times, DATES)
    assert store.gaps == []
    assert store.members.size == 0
    for i, name in enumerate(NAMES):
        values, valid = store.read(name)
        assert_array_equal(values, numbers()[:, i, 0].reshape(-1, ROWS, COLS))
        assert valid.all()
        assert store.variables[name].units == ""
        assert store.shape(name) == values.shape


def test_units_are_what_the_metadata_says(write) -> None:
    celsius = (numbers() - 273.15).astype(np.float32)
    said = {"2t": {"units": "degC", "mars": {"param": "2t"}}, "10u": {"mars": {"param": "10u"}}}
    path = write(data=celsius, attributes={"variables_metadata": said})
    store = open_store(path)
    assert [store.variables[name].units for name in NAMES] == ["K", "", ""]
    expected = (celsius[:, 0, 0].astype(np.float64) + 273.15).astype(np.float32)
    assert_array_equal(store.read("2t")[0], expected.reshape(-1, ROWS, COLS))
    assert_array_equal(store.read("10u")[0], celsius[:, 1, 0].reshape(-1, ROWS, COLS))
    assert open_store(path, units="as_is").variables["2t"].units == "degC"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["K"], "variables_metadata: expected an object for each variable, got ['K']"),
        (
            {"2t": {"units": 3}},
            "variables_metadata: expected units of '2t' as a text, got 3",
        ),
    ],
)
def test_metadata_that_say_no_units(write, said, message) -> None:
    path = write(attributes={"variables_metadata": said})
    with pytest.raises(ValueError, match=re.escape(message)):
        open_store(path)


def test_a_part_is_that_part_of_the_whole(write) -> None:
    store = open_store(write(members=3, chunks=(2, 2, 1, 5)))
    whole = numbers(3)[:, 1].reshape(-1, 3, ROWS, COLS).swapaxes(0, 1)
    assert store.axes("10u") == ("E", "T", "Y", "X")
    assert_array_equal(store.read("10u")[0], whole)
    tile = (slice(1, 3), slice(4, 8))  # over the date line
    columns = [4, 5, 0, 1]
    one, _ = store.read("10u", time=slice(1, 7, 2), tile=tile, member=2)
    assert_array_equal(one, whole[2, 1:7:2, 1:3][..., columns])
    some, _ = store.read("10u", time=[5, 0], tile=tile, member=slice(0, 2))
    assert_array_equal(some, whole[:2, [5, 0], 1:3][..., columns])


def test_missing_dates_are_gaps(write) -> None:
    data = numbers()
    data[2:4] = np.nan
    missing = [str(date) for date in DATES[2:4]]
    store = open_store(write(data=data, attributes={"missing_dates": missing}))
    kept = [0, 1, 4, 5, 6, 7]
    assert_array_equal(store.times, DATES[kept])
    assert store.gaps == [(DATES[1], DATES[4])]
    values, valid = store.read("2t")
    assert valid.all()
    assert_array_equal(values, data[kept, 0, 0].reshape(-1, ROWS, COLS))
    assert_array_equal(store.read("2t", time=slice(1, 6, 2))[0], values[1:6:2])


def test_a_list_of_cells_stays_one(write) -> None:
    store = open_store(write(attributes={"field_shape": [ROWS * COLS]}))
    assert isinstance(store.grid, PointGrid)
    assert_array_equal(store.read("z_500", time=3)[0], numbers()[3:4, 2, 0])
    assert_array_equal(store.read("2t", time=0, tile=(slice(5, 9),))[0], numbers()[:1, 0, 0, 5:9])


def test_rows_that_are_no_parallels_make_a_curvilinear_grid(write) -> None:
    lat, lon = lattice()
    lat, lon = 0.3 * lat + 0.02 * lon, 0.1 * lon - 0.02 * lat
    store = open_store(write(latitudes=lat, longitudes=lon))
    assert isinstance(store.grid, CurvilinearGrid)
    assert_array_equal(store.read("2t", time=0)[0][0].ravel(), numbers()[0, 0, 0])


def test_zero_is_a_value_and_nan_is_none(write) -> None:
    """Zarr fills what nobody wrote with 0, which xarray takes for a missing value."""
    data = numbers()
    data[0, 0, 0, :2] = 0.0, np.nan
    values, valid = open_store(write(data=data)).read("2t", time=0)
    assert valid[0, 0].tolist() == [True, False, True, True, True, True]
    assert values[0, 0, 0] == 0.0


def test_only_the_pieces_that_are_asked_for_are_read(write, monkeypatch) -> None:
    path = write(chunks=(2, 1, 1, 12), attributes={"missing_dates": [str(DATES[3])]})
    store = open_store(path)
    read, get = [], zarr.storage.LocalStore.get

    async def noted(self, key, *args, **kwargs):
        read.append(key)
        return await get(self, key, *args, **kwargs)

    monkeypatch.setattr(zarr.storage.LocalStore, "get", noted)
    store.read("10u", time=slice(2, 4), tile=(slice(3, 4), slice(0, 2)))
    fields = sorted(key for key in read if re.fullmatch(r"data/[\d./]+", key))
    assert fields == ["data/1.1.0.1", "data/2.1.0.1"]  # frames 2 and 4 of the array


def test_what_other_variables_of_a_piece_cost_is_counted(write) -> None:
    cost = open_store(write()).cost("2t", time=0)
    assert cost.amplification == len(NAMES)
    assert cost.wanted == 4 * ROWS * COLS


def test_dates_may_be_numbers_with_units(write) -> None:
    path = write(dates=6 * np.arange(len(DATES)))
    zarr.open_group(path)["dates"].attrs["units"] = "hours since 2019-03-01"
    assert_array_equal(open_store(path).times, DATES)


def test_an_index_remembers_it(write, tmp_path) -> None:
    path = write()
    stores = [open_store(path, index=tmp_path / "index.json") for _ in range(2)]
    assert stores[0].fingerprint == stores[1].fingerprint
    assert stores[0].variables == stores[1].variables
    assert_array_equal(*(store.read("10u")[0] for store in stores))


def test_statistics_are_those_of_the_fields(write) -> None:
    store = open_store(write())
    mean = Statistics.from_store(store, ["2t"]).variables["2t"].values.mean
    weights = store.grid.area / store.grid.area.sum()
    by_hand = (numbers()[:, 0, 0].reshape(-1, ROWS, COLS) * weights).sum(axis=(1, 2)).mean()
    assert mean == pytest.approx(by_hand, rel=1e-6)


def test_a_local_copy_holds_the_same_fields(write, tmp_path) -> None:
    store = open_store(write(attributes={"missing_dates": [str(DATES[3])]}))
    copy = local_copy(store, tmp_path / "copies", Pieces(frames=2, tile=(2, 3)))
    assert_array_equal(copy.times, store.times)
    assert_array_equal(copy.read("10u")[0], store.read("10u")[0])


BAD = {
    "variables: expected 3 names, as many as data has variables, got 2": {
        "attributes": {"variables": NAMES[:2]}
    },
    "variables: expected a list of different names, got ['a', 'a', 'b']": {
        "attributes": {"variables": ["a", "a", "b"]}
    },
    "variables: expected names other than those of coordinates, got ['time']": {
        "attributes": {"variables": ["a", "time", "b"]}
    },
    "time: expected increasing times, got a time before the one before it at index 1: "
    "2019-03-02T12:00:00": {"dates": DATES[::-1].copy()},
    "dates: expected dates, got NaT at index 7": {
        "dates": np.append(DATES[:-1], np.datetime64("NaT", "s"))
    },
    "missing_dates: expected dates of the group, got 2020-01-01T00:00:00": {
        "attributes": {"missing_dates": ["2020-01-01"]}
    },
    "missing_dates: expected ISO dates, got ['soon']": {"attributes": {"missing_dates": ["soon"]}},
    "time: expected at least one frame along 'time', got none": {
        "attributes": {"missing_dates": [str(date) for date in DATES]}
    },
    "field_shape: expected rows and columns that make the 24 cells of data, got [5, 5]": {
        "attributes": {"field_shape": [5, 5]}
    },
    "latitude 'latitudes': expected degrees between -90 and 90, got 100 to 100": {
        "latitudes": np.full(ROWS * COLS, 100.0)
    },
    "data: expected (dates, variables, ensemble, cells), got shape (8, 3, 24)": {
        "data": numbers()[:, :, 0]
    },
}


@pytest.mark.parametrize("message", BAD)
def test_a_group_that_contradicts_itself_is_refused(write, message) -> None:
    path = write(**BAD[message])
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
        open_store(path)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("dates", "dates: expected one for each of the 8 dates of data, got shape (5,)"),
        ("latitudes", "latitudes: expected one for each of the 24 cells of data, got shape (5,)"),
        (
            "longitudes",
            "longitudes: expected one for each of the 24 cells of data, got shape (5,)",
        ),
    ],
)
def test_coordinates_along_other_dimensions_are_refused(write, name, message) -> None:
    path = write()
    group = zarr.open_group(path)
    del group[name]
    odd = group.create_array(name, shape=(5,), dtype="f8")
    odd.attrs["_ARRAY_DIMENSIONS"] = ["place"]
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
        open_store(path)
