"""Random texts and damaged files: no crash, no hang, no wrong value, only errors that explain.

`STORMDA_FUZZ_CASES` sets how many cases there are; `tools/fuzz_observations.py` runs 10,000.
"""

import contextlib
import gc
import os
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from stormda.io import (
    ARM_SONDE,
    ICOADS,
    METAR_CSV,
    SAO,
    Quality,
    observation_table,
    read_observations,
    write_ioda,
    write_observations,
    write_parquet,
)

CASES = int(os.environ.get("STORMDA_FUZZ_CASES", "300"))
LIMIT = 20
"""The longest that a file of two megabytes may take [s]."""

SETTINGS = settings(
    max_examples=CASES // 3,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=CASES == 300,
)

CELLS = [
    *("", "nan", "-", "1", "-1.5", "1e3", "1e400", "inf", "٣", "1_000", "0x10", "54,0"),
    *("2017-10-27", "2017-10-27T06:00Z", "27.10.2017", "NaT", "9999", "é", '"', "'", "\\", "\x00"),
]

REAL = {
    "argo_5900446_prof.nc": {},
    "sonde_darwin_20060119.163300.cdf": {"mapping": ARM_SONDE},
    "sao_19950318T02.cdf": {"mapping": SAO},
    "wave_station_HKNA.nc": {},
    "ioda_v3_layout_sample_synthetic.nc": {},
    "era5_cities_daily_3cities.nc": {"variable": "tas"},
    "mls_temperature_2011d244.he5": {"variable": "WMOTPPressure-GEOS5"},
    "metar_20201001T06_lon_lt_-60_ioda.nc": {"variable": "airTemperature"},
    "icoads_1899-01-02.csv": {"mapping": ICOADS},
    "altimetry_northsea_20171026-28.csv": {"variable": "wind_speed"},
    "metar_20201001T06_lon_lt_-60.csv": {"mapping": METAR_CSV},
}


@contextlib.contextmanager
def limited(seconds):
    """Fail if a block takes longer."""

    def late(*_):
        raise AssertionError(f"took longer than {seconds} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def forget():
    """Let go of what scipy leaves open when it fails on a NetCDF-3 file, without its warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        gc.collect()


def read(path, **options):
    """Return a table that keeps its promises, or None where the file was refused."""
    with limited(LIMIT):
        try:
            table = read_observations(path, **options)
        except ValueError as error:
            refused = error.with_traceback(None)
        else:
            refused = None
    if refused is not None:
        if path.read_bytes()[:3] == b"CDF":
            forget()
        assert type(refused) is ValueError
        assert str(path) in str(refused)
        return None
    assert np.isfinite(table.value).all()
    assert np.isfinite(table.position).all()
    assert (np.abs(table.position[:, 0]) <= 90).all()
    assert not np.isnat(table.time).any()
    assert (np.diff(table.time).astype(int) >= 0).all()
    assert not (table.error <= 0).any()
    assert not (table.quality == Quality.BAD).any()
    assert all(count > 0 for count in table.rejected.values())
    return table


@SETTINGS
@given(st.lists(st.lists(st.sampled_from(CELLS), min_size=4, max_size=4), min_size=1, max_size=9))
def test_random_texts(tmp_path, rows):
    path = tmp_path / "random.csv"
    lines = ["time,lat,lon,t", *(",".join(row) for row in rows)]
    path.write_text("\n".join(lines) + "\n", "utf-8")
    table = read(path)
    if table is None:
        return
    assert table.n_in == len(rows)
    plain = {"1": 1.0, "-1.5": -1.5, "1e3": 1000.0, "9999": 9999.0}  # all that are numbers
    times = {"2017-10-27": "2017-10-27T00", "2017-10-27T06:00Z": "2017-10-27T06"}
    expected = {
        (times[time], plain[lat], plain[lon], plain[t])
        for time, lat, lon, t in rows
        if time in times and {lat, lon, t} <= set(plain)
    }
    usable = {row for row in expected if abs(row[1]) <= 90 and -360 <= row[2] <= 720}
    got = zip(table.time.astype("datetime64[h]"), *table.position.T, table.value, strict=True)
    assert {(str(time), *map(float, rest)) for time, *rest in got} == usable


@SETTINGS
@given(st.binary(max_size=400), st.sampled_from(["csv", "nc", "parquet", "txt"]))
def test_random_bytes(tmp_path, content, suffix):
    path = tmp_path / f"random.{suffix}"
    path.write_bytes(content)
    assert read(path) is None or suffix in ("csv", "txt")


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Intact files, ours and, where there are any, real ones."""
    folder = tmp_path_factory.mktemp("intact")
    table = observation_table(
        time=np.datetime64("2017-10-27", "s") + np.arange(50),
        lat=np.linspace(50, 55, 50),
        lon=np.zeros(50),
        value=np.arange(50.0),
        error=0.5,
        variable="t",
        platform="a",
        quality=Quality.GOOD,
    )
    write_observations(folder / "points.nc", table)
    write_ioda(folder / "ioda.nc", table)
    found = [folder / "points.nc", folder / "ioda.nc"]
    with contextlib.suppress(ImportError):
        write_parquet(folder / "table.parquet", table)
        found.append(folder / "table.parquet")
    data = os.environ.get("STORMDA_DATA")
    return found + [Path(data, "obs", name) for name in REAL if data]


def damage(content, rng):
    """Return bytes with some of them changed, or the end cut off, or both."""
    # half of the damage is where the structure is: at the start of the file
    reach = len(content) if rng.random() < 0.5 else min(4096, len(content))
    damaged = bytearray(content)
    for place in rng.integers(0, reach, rng.integers(0, 9)):
        damaged[place] = rng.integers(0, 256)
    if rng.random() < 0.5:
        return bytes(damaged[: rng.integers(0, reach)])
    return bytes(damaged)


@SETTINGS
@given(st.integers(0, 2**32))
def test_damaged_files(files, tmp_path, seed):
    rng = np.random.default_rng(seed)
    intact = files[rng.integers(len(files))]
    path = tmp_path / f"damaged{intact.suffix}"
    path.write_bytes(damage(intact.read_bytes(), rng))
    read(path, **REAL.get(intact.name, {}))
