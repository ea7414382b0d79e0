"""Every real file there is: opened by the right reader, or refused for the known reason.

A file of the folder that stands in no list below fails a test, so that none is passed over.
"""

import re

import numpy as np
import pytest
import xarray as xr
from numpy.testing import assert_allclose, assert_array_equal

from stormda.io import (
    ARM_SONDE,
    ARM_SURFACE,
    ICOADS,
    METAR_CSV,
    SAO,
    ColumnMapping,
    Quality,
    Quantity,
    open_store,
    read_observations,
)

FIELDS = {
    "ens/era5_eda_zt_3deg_20170101.nc": ["z", "t"],
    "ens/mogreps_uk_precip_2mem_3lead.nc": ["lwe_precipitation_rate"],
    "ens/mogreps_uk_t15m_12mem_20181101.nc": ["air_temperature"],
    "grid/cmems_waves_dutch_20171028.nc": [
        "VHM0", "VHM0_SW1", "VHM0_SW2", "VHM0_WW", "VMDR", "VTM02", "VTPK",
    ],
    "grid/echam5_tsurf_6h_T63_20010101-05.nc": ["tC"],
    "grid/era5_conus_19950714T12.nc": ["u10", "v10", "d2m", "t2m", "sp", "t2m_C", "d2m_C"],
    "grid/era5_t2m_uk_hourly_20190301-16.nc": ["t2m"],
    "grid/era5_waves_dutch_20171027-28.nc": ["mwd", "mwp", "mp2", "pp1d", "swh"],
    "grid/mpiesm_tas_monthly_T63_2005H1.nc": ["tas"],
    "grid/mpiesm_uas_monthly_T63_2005H1.nc": ["uas"],
    "grid/mpiesm_vas_monthly_T63_2005H1.nc": ["vas"],
    "grid/ncep_uwnd200_ltm.nc": ["uwnd"],
    "grid/ncep_vwnd200_ltm.nc": ["vwnd"],
    "grid/oisst_v2_20040101.nc": ["sst"],
    "mesh/eur11_tas_rotated_412x424.nc": ["tas"],
    "mesh/geos_cubed_sphere_c12.nc4": ["T", "PHIS"],
    "mesh/nemo_tos_201501_330x360.nc": ["tos"],
    "static/landsea_1deg.nc": ["LSMASK"],
    "static/orog_rotated_201x194.nc": ["orog"],
    "static/sftlf_rotated_201x194.nc": ["sftlf"],
}  # fmt: skip
"""Fields, and their variables."""

NO_TIME = "time units: expected '<unit> since <date>', got none"
FIELDS_WITHOUT_TIME = {
    "grid/ncep_climo_T42.nc": ["2000-06-15"],
    **{
        f"grid/nmc_storm_{name}_19960105-12.cdf": np.arange("1996-01-05", "1996-01-13", 6, "M8[h]")
        for name in ("P", "T", "U", "U500", "V500")
    },
}
"""Fields whose times cannot be used, and the times that a caller may give."""

_ALTIMETER = {"variable": "significant_wave_height"}
_STATION = ColumnMapping(lat="y", lon="x", quantities={"h": Quantity(column="Hm0")})
_DRIFTER = ColumnMapping(
    time="JULD",
    lat="LATITUDE",
    lon="LONGITUDE",
    quantities={"x": Quantity(column="PARAM_UNKNOWN_1")},
)
_ARGO_INDEX = ColumnMapping(
    time="date", time_format="%Y%m%d%H%M%S", lat="latitude", lon="longitude", comment="#",
    quantities={"type": Quantity(column="profiler_type")})  # fmt: skip
_SNOW = ColumnMapping(
    time="DATETIME", time_format="%Y%m%d", platform="ID", label="ELEMENT",
    stations={"CA001011500": (48.9, -123.7)},
    quantities={"snow": Quantity(column="DATA_VALUE", units="mm", label="SNWD",
                                 quality_column="Q_FLAG",
                                 quality_codes={"": Quality.GOOD, "*": Quality.BAD})},
)  # fmt: skip

OBSERVATIONS = {
    "altimetry_northsea_20171026-28.csv": _ALTIMETER,
    "argo_5900446_prof.nc": {},
    "argo_profile_index.csv": {"mapping": _ARGO_INDEX},
    "drifter_craid_7966.nc": {"mapping": _DRIFTER},
    "era5_cities_daily_3cities.nc": {"variable": "tas"},
    "ghcn_snowdepth_20200228_first1000.csv": {"mapping": _SNOW},
    "icoads_1899-01-02.csv": {"mapping": ICOADS},
    "ioda_v3_layout_sample_synthetic.nc": {},
    "met_sgp_E13_20190101.cdf": {"mapping": ARM_SURFACE},
    "met_sgp_E13_20190102.cdf": {"mapping": ARM_SURFACE},
    "metar_20201001T06_lon_lt_-60.csv": {"mapping": METAR_CSV},
    "metar_20201001T06_lon_lt_-60_ioda.nc": {},
    "mls_temperature_2011d244.he5": {"variable": "Temperature"},
    **{f"sao_19950318T{hour}.cdf": {"mapping": SAO} for hour in ("00", "01", "02")},
    **{
        f"sonde_darwin_{start}.cdf": {"mapping": ARM_SONDE}
        for start in (
            "20060119.050300", "20060119.112000", "20060119.163300",
            "20060119.231600", "20060120.043800", "20060120.111900",
        )
    },
    "wave_station_HKNA.nc": {"mapping": _STATION},
}  # fmt: skip
"""Observations in `obs`, and how they are read."""

COUNTS = {
    "altimetry_northsea_20171026-28.csv": (628, {"missing value": 1}),
    "argo_5900446_prof.nc": (23448, {"unusable height": 562, "missing value": 70}),
    "argo_profile_index.csv": (
        2622,
        {"missing time": 73, "missing position": 1, "position out of range": 6},
    ),
    "drifter_craid_7966.nc": (675, {"missing position": 1097, "missing value": 294}),
    "era5_cities_daily_3cities.nc": (4383, {}),
    "ghcn_snowdepth_20200228_first1000.csv": (1, {"missing position": 999}),
    "icoads_1899-01-02.csv": (247, {"missing time": 5, "missing value": 38}),
    "ioda_v3_layout_sample_synthetic.nc": (6, {}),
    "met_sgp_E13_20190101.cdf": (7200, {}),
    "met_sgp_E13_20190102.cdf": (7200, {}),
    "metar_20201001T06_lon_lt_-60.csv": (26666, {"missing value": 604}),
    "metar_20201001T06_lon_lt_-60_ioda.nc": (26666, {"missing value": 604}),
    "mls_temperature_2011d244.he5": (138460, {"missing time": 1650, "bad quality": 38640}),
    "sao_19950318T00.cdf": (
        6670,
        {
            "missing position": 3174,
            "position out of range": 6,
            "missing value": 977,
            "duplicate": 1677,
        },
    ),
    "sao_19950318T01.cdf": (
        6734,
        {
            "missing position": 3372,
            "position out of range": 6,
            "missing value": 1029,
            "duplicate": 1735,
        },
    ),
    "sao_19950318T02.cdf": (
        6527,
        {
            "missing position": 3138,
            "position out of range": 6,
            "missing value": 982,
            "duplicate": 1617,
        },
    ),
    "sonde_darwin_20060119.050300.cdf": (3773, {"missing value": 5652}),
    "sonde_darwin_20060119.112000.cdf": (8560, {"missing position": 75}),
    "sonde_darwin_20060119.163300.cdf": (3149, {"missing value": 4716}),
    "sonde_darwin_20060119.231600.cdf": (16770, {}),
    "sonde_darwin_20060120.043800.cdf": (8516, {"missing value": 5674}),
    "sonde_darwin_20060120.111900.cdf": (8750, {}),
    "wave_station_HKNA.nc": (564, {"missing value": 11}),
}
"""How many observations are used, and how many are not and why."""

QUIRKS = {
    "lfs_pointer_as_nc.nc": "expected a NetCDF-3 or NetCDF-4 file, got a Git-LFS pointer (fetch "
    "the file with `git lfs pull`)",
    "arm_met_no_time.nc": "time: expected a coordinate variable of dimension 'time', got none",
    "arm_met_integer_time.nc": NO_TIME,
    "cf_invalid_units.nc": "time units: expected '<unit> since <date>', got 'wibble'",
    "duplicate_time_axis.nc": "time units: expected '<unit> since <date>', got 'mon'",
    "coords_fill_value_9e36.nc": "coordinate 'latitude': expected finite numbers, got 210 "
    "missing, the first at index (24, 7)",
}
"""Files in `quirks`, and why they are refused."""


def test_no_file_is_passed_over(real):
    found = {path.relative_to(real).as_posix() for path in real.rglob("*") if path.is_file()}
    known = {
        "PROVENANCE.md",
        *FIELDS,
        *FIELDS_WITHOUT_TIME,
        *(f"obs/{name}" for name in OBSERVATIONS),
        *(f"quirks/{name}" for name in QUIRKS),
    }
    assert found == known


def decoded(path, store, name):
    """Return a variable as xarray decodes it, in the order of the store."""
    engine = "scipy" if path.read_bytes()[:3] == b"CDF" else "h5netcdf"
    with xr.open_dataset(path, engine=engine, decode_times=False) as dataset:
        ordered = dataset[name].transpose(*store.variables[name].dims)
        return ordered.values.reshape(store.shape(name))


def assert_decoded_alike(path, store, name):
    values, mask = store.read(name)
    other = decoded(path, store, name).astype(np.float64)
    assert_allclose(values[mask], other[mask], rtol=2e-7)  # xarray unpacks some in float32
    # xarray does not know the fill value of the NetCDF library
    assert_array_equal(mask, np.isfinite(other) & (other < 9e36))
    assert mask.any()


@pytest.mark.filterwarnings("ignore:Duplicate dimension names")  # said by xarray, of "contacts"
@pytest.mark.parametrize("file", FIELDS)
def test_fields_are_those_that_xarray_decodes(real, file):
    store = open_store(real / file, units="as_is")
    assert sorted(store.variables) == sorted(FIELDS[file])
    for name in store.variables:
        assert_decoded_alike(real / file, store, name)


@pytest.mark.filterwarnings("ignore:.*has multiple fill values")  # said by xarray
@pytest.mark.parametrize("file", FIELDS_WITHOUT_TIME)
def test_fields_whose_times_the_caller_gives(real, file):
    path = real / file
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {NO_TIME}')}$"):
        open_store(path)
    store = open_store(path, times=FIELDS_WITHOUT_TIME[file], units="as_is")
    for name in store.variables:
        assert_decoded_alike(path, store, name)


@pytest.mark.parametrize("file", OBSERVATIONS)
def test_observations_are_read_and_counted(real, file):
    table = read_observations(real / "obs" / file, **OBSERVATIONS[file])
    assert (len(table), table.rejected) == COUNTS[file]
    assert table.n_in == len(table) + sum(table.rejected.values())
    assert np.isfinite(table.value).all()
    assert np.abs(table.lat).max() <= 90
    assert -180 <= table.lon.min() <= table.lon.max() <= 360


@pytest.mark.parametrize("file", OBSERVATIONS)
def test_observations_are_no_fields(real, file):
    path = real / "obs" / file
    with pytest.raises(ValueError, match=rf"^{re.escape(str(path))}: .*expected .+, got .+"):
        open_store(path)


@pytest.mark.parametrize("file", QUIRKS)
def test_quirks_are_refused(real, file):
    path = real / "quirks" / file
    with pytest.raises(ValueError, match=f"^{re.escape(f'{path}: {QUIRKS[file]}')}$"):
        open_store(path)
