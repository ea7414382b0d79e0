"""Fields on levels: found in files by name, trained on, observed where their pressure is."""

import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr

from stormda.io import observation_table, open_store, read_ensemble
from stormda.storm import AssimilationConfig, FileRecipe, StormConfig
from stormda.storm.assimilation_run import assimilate_files
from stormda.storm.filtering import FilterSettings
from stormda.storm.frames import read_frames
from stormda.storm.level_fields import find_field, holds, units_of
from stormda.storm.prior_training import train_on_files
from stormda.storm.real_observations import BETWEEN, match_variables

HOURS = np.datetime64("2020-01-01T00", "ns") + np.arange(24) * np.timedelta64(6, "h")
LEVELS = np.array([500, 850])


def weatherbench(path: Path) -> Path:
    """Write a Zarr store laid out as WeatherBench's: time, level [hPa], longitude, latitude."""
    lat, lon = np.arange(-75.0, 90, 30), np.arange(0.0, 360, 30)
    phase = np.deg2rad(lon)[:, None] - 0.3 * np.arange(24)[:, None, None]
    wave = 3 * np.sin(phase) * np.cos(np.deg2rad(lat))
    levels = np.stack([250 + wave, 280 + 2 * wave], 1)
    names = ("time", "level", "longitude", "latitude")
    xr.Dataset(
        {
            "temperature": (names, levels.astype("f4"), {"units": "K"}),
            "2m_temperature": (names[:1] + names[2:], (288 + wave).astype("f4"), {"units": "K"}),
        },
        {
            "time": HOURS,
            "level": ("level", LEVELS, {"units": "hPa"}),
            "longitude": ("longitude", lon, {"units": "degrees_east"}),
            "latitude": ("latitude", lat, {"units": "degrees_north"}),
        },
    ).to_zarr(path, zarr_format=2, consolidated=True)
    return path


@pytest.fixture(scope="module")
def fields(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return weatherbench(tmp_path_factory.mktemp("wb") / "fields.zarr")


NAMES = ("temperature_850", "temperature_500", "2m_temperature")


def test_a_level_is_found_by_its_pressure(fields: Path) -> None:
    store = open_store(fields)
    for name, index in (("temperature_500", 0), ("temperature_850", 1), ("2m_temperature", None)):
        assert find_field(store, name).level == index
        assert units_of(store, name) == "K"
    assert holds(store, "temperature_500")
    assert not holds(store, "temperature_700")
    frames = read_frames(store, NAMES)
    assert frames.values.shape == (24, 3, 6, 12)
    whole, _ = store.read("temperature")
    torch.testing.assert_close(frames.values[:, 0], torch.from_numpy(whole[:, 1]))
    torch.testing.assert_close(frames.values[:, 1], torch.from_numpy(whole[:, 0]))
    with pytest.raises(ValueError, match=r"^level: expected one of \[50000.0, 85000.0\] Pa"):
        find_field(store, "temperature_700")
    with pytest.raises(ValueError, match=r"or a level such as temperature_850, got"):
        read_frames(store, ["temperature"])


def test_observations_belong_to_the_level_that_they_were_made_on() -> None:
    table = observation_table(
        time="2020-01-06",
        lat=[0.0] * 4,
        lon=[0.0, 1.0, 2.0, 3.0],
        value=[7.0, -20.0, 0.0, 15.0],
        error=1.0,
        z=[85_000.0, 50_100.0, 70_000.0, np.nan],
        z_kind=["pressure", "pressure", "pressure", ""],
        variable=["temp", "temp", "temp", "2m_temperature"],
        units={"temp": "degC", "2m_temperature": "degC"},
    )
    named = {"temperature_850": "temp", "temperature_500": "temp"}
    matched = match_variables(
        table, named | {"2m_temperature": "2m_temperature"}, dict.fromkeys(NAMES, "K")
    )
    found = dict(zip(matched.variable.tolist(), matched.value.tolist(), strict=True))
    assert found == pytest.approx(
        {"2m_temperature": 288.15, "temperature_500": 253.15, "temperature_850": 280.15}
    )
    assert matched.rejected == {BETWEEN: 1}
    with pytest.raises(ValueError, match=r"^observed: expected one field for 'temp', got 't2m'"):
        match_variables(table, {**named, "t2m": "temp"}, dict.fromkeys((*NAMES, "t2m"), "K"))


def test_a_field_that_nothing_observes_is_no_error_but_a_wrong_name_is() -> None:
    table = observation_table(
        time="2020-01-06", lat=[0.0], lon=[0.0], value=[280.0], error=1.0, variable="a"
    )
    units = {"a": "K", "b": "K"}
    assert len(match_variables(table, {"a": "a", "b": "b"}, units)) == 1
    for observed, wrong in (({"a": "a", "b": "c"}, "c"), ({"b": "b"}, "b")):
        message = rf"^observed: expected a variable among \['a'\], got '{wrong}'$"
        with pytest.raises(ValueError, match=message):
            match_variables(table, observed, units)


def test_a_global_multi_level_prior_is_trained_and_cycled(fields: Path, tmp_path: Path) -> None:
    """WeatherBench's layout in, an ensemble on the same levels out."""
    recipe = FileRecipe(
        network=StormConfig(
            variables=NAMES, patch=(2, 2), width=16, heads=2, encoder_depth=1, depth=1
        )
    )
    recipe = replace(
        recipe,
        training=replace(recipe.training, steps=3, batch=4, area_weights=True),
    )
    store = open_store(fields)
    prior = train_on_files(recipe, store, tmp_path / "run", device=torch.device("cpu"))
    assert prior is not None
    table = observation_table(
        time="2020-01-07",
        lat=[15.0, 15.0],
        lon=[30.0, 30.0],
        value=[282.0, 251.0],
        error=0.01,
        z=[85_000.0, 50_000.0],
        z_kind="pressure",
        variable="temperature",
        units={"temperature": "K"},
    )
    out = tmp_path / "analysis.nc"
    settings = AssimilationConfig(members=3, gross=1e6, filter=FilterSettings(steps=8))
    outcome = assimilate_files(
        prior,
        store,
        table,
        out,
        settings,
        observed={"temperature_850": "temperature", "temperature_500": "temperature"},
        inputs=store.sha256(),
    )
    assert outcome.used == 2
    analysis = read_ensemble(out)
    assert set(analysis.fields) == set(NAMES)
    row, col = 3, 1
    assert abs(analysis.fields["temperature_850"][:, 0, row, col] - 282).max() < 1
    with xr.open_dataset(out, engine="h5netcdf") as written:
        assert written["temperature_850"].attrs["long_name"] == "temperature at level 850"


@pytest.mark.skipif("STORMDA_DATA" not in os.environ, reason="STORMDA_DATA is not set")
def test_real_levels() -> None:
    """ERA5's ensemble: z and t at 850 and 500 hPa, in Pa once it is read."""
    path = Path(os.environ["STORMDA_DATA"]) / "ens" / "era5_eda_zt_3deg_20170101.nc"
    store = open_store(path)
    assert [find_field(store, f"t_{level}").level for level in (850, 500)] == [0, 1]
    assert units_of(store, "t_500") == "K"
