"""Files as they are found in the world: what must be read, and what must be refused, and how."""

import re

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from stormda.grid import locate
from stormda.io import (
    METAR_CSV,
    SAO,
    Statistics,
    open_store,
    passes,
    read_observations,
    wind_components,
    write_ioda,
    write_observations,
    write_parquet,
)
from stormda.io.observations import COLUMNS


@pytest.mark.parametrize(
    ("file", "name", "shape", "first"),
    [
        ("grid/era5_t2m_uk_hourly_20190301-16.nc", "t2m", (384, 33, 49), "2019-03-01T00"),
        ("grid/era5_waves_dutch_20171027-28.nc", "swh", (48, 11, 20), "2017-10-27T00"),
        ("grid/cmems_waves_dutch_20171028.nc", "VHM0", (8, 27, 51), "2017-10-28T00"),
        ("grid/mpiesm_tas_monthly_T63_2005H1.nc", "tas", (6, 96, 192), "2005-01-16T12"),
        ("grid/ncep_uwnd200_ltm.nc", "uwnd", (12, 73, 144), "1970-01-01T00"),
        ("grid/era5_conus_19950714T12.nc", "sp", (1, 105, 237), "1995-07-14T12"),
        (
            "ens/mogreps_uk_t15m_12mem_20181101.nc",
            "air_temperature",
            (12, 1, 49, 53),
            "2018-11-01T03",
        ),
        ("ens/mogreps_uk_precip_2mem_3lead.nc", "lwe_precipitation_rate", (2, 3, 200, 200), None),
        ("ens/era5_eda_zt_3deg_20170101.nc", "z", (10, 2, 2, 61, 120), "2017-01-01T00"),
        ("mesh/eur11_tas_rotated_412x424.nc", "tas", (1, 1, 412, 424), None),
        ("mesh/geos_cubed_sphere_c12.nc4", "T", (1, 48, 864), "2000-04-15T06"),
        ("static/orog_rotated_201x194.nc", "orog", (1, 201, 194), None),
        ("static/sftlf_rotated_201x194.nc", "sftlf", (1, 201, 194), None),
    ],
)
@pytest.mark.filterwarnings("ignore:Duplicate dimension names")  # said by xarray, of "contacts"
def test_values_are_those_that_xarray_decodes(real, file, name, shape, first):
    store = open_store(real / file)
    values, mask = store.read(name)
    assert values.shape == shape == store.shape(name)
    if first is not None:
        assert store.times[0] == np.datetime64(first)
    engine = "scipy" if (real / file).read_bytes()[:3] == b"CDF" else "h5netcdf"
    with xr.open_dataset(real / file, engine=engine, decode_times=False) as dataset:
        other = dataset[name].transpose(*store.variables[name].dims).values.reshape(shape)
    assert_array_equal(mask, np.isfinite(other))
    # xarray unpacks int16 in float32: one unit in the last place of pressures near 1e5
    assert_allclose(values[mask], other[mask], rtol=2e-7)


def test_celsius_becomes_kelvin(real):
    store = open_store(real / "grid/echam5_tsurf_6h_T63_20010101-05.nc")
    kelvin, _ = store.read("tC", time=0)
    celsius, _ = open_store(store.paths, units="as_is").read("tC", time=0)
    assert_allclose(kelvin, celsius + 273.15, rtol=1e-6)  # float32
    assert store.variables["tC"].units == "K"


def test_land_is_masked_by_the_valid_range_or_the_fill_value(real):
    _, mask = open_store(real / "grid/oisst_v2_20040101.nc").read("sst")
    assert mask.mean() == pytest.approx(0.667, abs=1e-3)  # the sea in a global 0.25 degree grid


def test_the_global_mean_is_weighted_by_area(real):
    store = open_store(real / "grid/mpiesm_tas_monthly_T63_2005H1.nc")
    mean = Statistics.from_store(store, ["tas"], time="2005-01").mean("tas")
    # Gauss 285.437 K, cosine of latitude 285.435 K, unweighted 276.718 K; bounds lie between
    assert mean == pytest.approx(285.436, abs=0.05)


def test_the_spread_of_a_real_ensemble(real):
    store = open_store(real / "ens/era5_eda_zt_3deg_20170101.nc")
    z, _ = store.read("z", time=0, level=1)
    spread = z.std(axis=0)
    assert spread.mean() / 9.80665 == pytest.approx(1.27, abs=0.01)
    assert spread[0, 0].std() < 1e-2  # the pole is one point, up to the packing of the source
    t, _ = store.read("t", time=0, level=0)
    assert t.std(axis=0).mean() == pytest.approx(0.31, abs=0.005)


def test_statistics_of_a_real_variable(real):
    store = open_store(real / "grid/era5_t2m_uk_hourly_20190301-16.nc")
    statistics = Statistics.from_store(store, ["t2m"], time=slice(None, "2019-03-12"))
    x, _ = store.read("t2m", time=slice(0, 288))
    area = np.broadcast_to(store.grid.area, x.shape)
    assert_allclose(statistics.mean("t2m"), np.average(x.astype(float), weights=area), rtol=1e-12)
    assert statistics.variables["t2m"].step_seconds == 3600


def test_altimeter_against_wave_model(real):
    """Bilinear in space, linear in time, where all cells around are sea."""
    store = open_store(real / "grid/era5_waves_dutch_20171027-28.nc")
    swh, mask = store.read("swh")
    track = read_observations(
        real / "obs/altimetry_northsea_20171026-28.csv", variable="significant_wave_height"
    )
    start, end = store.times[[0, -1]]
    inside = track.within(store.grid).window(start - np.timedelta64(1, "s"), end)
    matrix = locate(store.grid, inside.lat, inside.lon).matrix(swh[0].size)
    hour = (inside.time - start).astype(float) / 3600
    before = np.minimum(hour.astype(int), len(swh) - 2)
    row, part = np.arange(len(inside)), hour - before
    at_point = (matrix @ swh.reshape(len(swh), -1).T).T
    on_land = (matrix @ (~mask).reshape(len(swh), -1).T.astype(float)).T
    model = (1 - part) * at_point[before, row] + part * at_point[before + 1, row]
    sea = on_land[before, row] + on_land[before + 1, row] == 0
    difference = (model - inside.value)[sea]
    used = inside.where(sea, "missing cells")
    assert len(used) == 252
    assert difference.mean() == pytest.approx(-0.07, abs=0.005)
    assert np.sqrt((difference**2).mean()) == pytest.approx(0.32, abs=0.005)
    assert used.n_in == 629
    assert used.rejected == {
        "missing value": 1,
        "outside domain": 185,
        "outside window": 150,
        "missing cells": 41,
    }
    assert len(np.unique(passes(track, gap_seconds=300))) == 12


def test_reports_survive_the_way_to_ioda_and_back(real, tmp_path):
    table = read_observations(real / "obs/metar_20201001T06_lon_lt_-60.csv", METAR_CSV)
    assert table.n_in == 5 * 5454
    assert table.units["air_temperature"] == "K"
    direction = table.where(table.variable == "wind_from_direction", "others")
    assert len(direction) == 5454 - 89
    for write, name in ((write_ioda, "a.nc"), (write_observations, "b.nc"), (write_parquet, "c")):
        options = {"dtype": "f8"} if write is write_ioda else {}
        if write is write_parquet:
            pytest.importorskip("pyarrow", reason="Parquet needs the extra `parquet`")
        write(tmp_path / name, table, **options)
        again = read_observations(tmp_path / name)
        for column in COLUMNS:
            assert_array_equal(getattr(again, column), getattr(table, column), err_msg=column)
        assert (again.units, again.rejected) == (table.units, table.rejected)


def test_reports_against_the_same_reports_in_ioda(real):
    """Another program made the IODA file from the same CSV, with winds as components."""
    ours = wind_components(
        read_observations(real / "obs/metar_20201001T06_lon_lt_-60.csv", METAR_CSV)
    )
    theirs = read_observations(real / "obs/metar_20201001T06_lon_lt_-60_ioda.nc")
    for one, two in {
        "air_temperature": "airTemperature",
        "dew_point_temperature": "dewpointTemperature",
        "eastward_wind": "windEastward",
        "northward_wind": "windNorthward",
        "altimeter_setting": "altimeterSetting",
    }.items():
        mine, other = ours.variable == one, theirs.variable == two
        assert mine.sum() == other.sum()
        # stored in float32; their knot is 0.514444 m/s
        assert_allclose(
            np.sort(ours.value[mine]), np.sort(theirs.value[other]), rtol=2e-6, atol=1e-5
        )
    assert ours.n_in == 5 * 5454


@pytest.mark.parametrize("hour", ["01", "02"])
def test_the_other_hours_of_surface_reports(real, hour):
    table = read_observations(real / f"obs/sao_19950318T{hour}.cdf", SAO)
    with xr.open_dataset(
        real / f"obs/sao_19950318T{hour}.cdf", engine="scipy", decode_cf=False
    ) as file:
        assert table.n_in == 6 * file.sizes["report"]
    pressure = table.value[table.variable == "air_pressure_at_mean_sea_level"]
    assert 9e4 < pressure.min() < pressure.max() < 1.1e5


def test_a_balloon_and_a_station_in_netcdf(real):
    sonde = read_observations(real / "obs/sonde_darwin_20060119.112000.cdf", variable="tdry")
    assert (len(sonde), sonde.rejected) == (1712, {"missing position": 15})
    station = read_observations(real / "obs/met_sgp_E13_20190101.cdf", variable="temp_mean")
    assert len(station) == 1440
    assert_allclose(station.lat, 36.605, atol=1e-3)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            "obs/argo_5900446_prof.nc",
            "expected cells of a grid, got 'LATITUDE' and 'LONGITUDE' of observations along "
            "('N_PROF',) (read them with `read_observations`)",
        ),
    ],
)
def test_fields_that_are_refused(real, file, message):
    path = real / file
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
        open_store(path)


@pytest.mark.parametrize(
    ("file", "message"),
    [
        (
            "obs/ghcn_snowdepth_20200228_first1000.csv",
            "expected columns for time, lat and lon, or a mapping that names them, got ['ID', "
            "'DATETIME', 'ELEMENT', 'DATA_VALUE', 'M_FLAG', 'Q_FLAG', 'S_FLAG', 'OBS_TIME']",
        ),
        (
            "obs/icoads_1899-01-02.csv",
            "expected text encoded as utf-8-sig, got other bytes at position 3463 "
            "(name the encoding in the mapping, for instance 'cp1252')",
        ),
        (
            "obs/sao_19950318T00.cdf",
            "time: expected a variable along 'report', got none",
        ),
        (
            "quirks/arm_met_no_time.nc",
            "time: expected a variable along 'time', got none",
        ),
        (
            "obs/drifter_craid_7966.nc",
            "latitude: expected one coordinate, got ['LAUNCH_LATITUDE', 'DROGUE_OFF_LATITUDE', "
            "'END_MISSION_LATITUDE', 'LATITUDE']",
        ),
        (
            "obs/wave_station_HKNA.nc",
            "expected latitude and longitude, or y and x in metres, "
            "got variables ['Hm0', 'time', 'x', 'y']",
        ),
        (
            "quirks/lfs_pointer_as_nc.nc",
            "expected a NetCDF-3 or NetCDF-4 file, "
            "got a Git-LFS pointer (fetch the file with `git lfs pull`)",
        ),
        (
            "quirks/cf_invalid_units.nc",
            "expected latitude and longitude, or y and x in metres, "
            "got variables ['cube_0', 'cube_1', 'height', 'time']",
        ),
        (
            "quirks/duplicate_time_axis.nc",
            "expected a list of points, got positions along ['xcoord', 'ycoord'] "
            "(fields are opened by open_store)",
        ),
        (
            "quirks/coords_fill_value_9e36.nc",
            "expected a list of points, got positions along ['rLat', 'rLon'] "
            "(fields are opened by open_store)",
        ),
    ],
)
def test_observations_that_are_refused(real, file, message):
    path = real / file
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {message}')}$"):
        read_observations(path, variable="x")


def test_times_without_units_are_refused(real):
    path = real / "quirks/arm_met_integer_time.nc"
    message = f"{path}: time units: expected '<unit> since <date>', got none"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_observations(path, variable="temp_mean")
