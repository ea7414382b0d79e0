"""Cycling through observations: nothing lost, nothing silently used, nothing new after a kill."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
import xarray as xr

from stormda.grid import LatLonGrid
from stormda.io import (
    observation_table,
    open_store,
    read_ensemble,
    read_observations,
    write_fields,
)
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_inputs import (
    check_history,
    cycle_times,
    initial_past,
    require_errors,
)
from stormda.storm.assimilation_run import assimilate_files
from stormda.storm.filtering import FilterSettings
from stormda.storm.real_observations import (
    Expected,
    background_check,
    cells_of,
    match_variables,
    usable,
)

CONFIG = AssimilationConfig(
    members=3, seed=1, start="2020-01-02T06", filter=FilterSettings(steps=3, iterations=2)
)


def table(**changes: object):
    columns: dict[str, object] = {
        "time": "2020-01-02T06",
        "lat": [51.0, 52.0],
        "lon": [1.0, 2.0],
        "value": [280.0, 281.0],
        "error": 0.5,
        "variable": "t2m",
        "units": {"t2m": "K"},
    }
    return observation_table(**(columns | changes))


def run(case, prior, out, *, stop_after: int | None = None, **changes: object):
    done = []
    return assimilate_files(
        prior,
        open_store(case.fields),
        read_observations(case.observations),
        out,
        replace(CONFIG, **changes),
        observed={"t2m": "t2m"},
        inputs={},
        progress=lambda cycle, count, time: done.append(cycle),
        interrupted=lambda: len(done) == stop_after,
    )


def test_every_observation_is_used_or_counted(case, prior, tmp_path) -> None:
    outcome = run(case, prior, tmp_path / "an.nc")
    assert outcome is not None
    assert outcome.cycles == 6
    assert outcome.used + outcome.rejected.total() == 60
    assert outcome.rejected["outside domain"] > 0
    written = read_ensemble(tmp_path / "an.nc")
    assert written.fields["t2m"].shape == (3, 6, 7, 9)
    assert written.provenance["observations"]["used"] == outcome.used


def test_an_interrupted_run_ends_with_the_same_numbers(case, prior, tmp_path) -> None:
    run(case, prior, tmp_path / "whole.nc")
    assert run(case, prior, tmp_path / "resumed.nc", stop_after=1) is None
    assert run(case, prior, tmp_path / "resumed.nc", stop_after=3) is None
    assert not (tmp_path / "resumed.nc").exists()
    assert run(case, prior, tmp_path / "resumed.nc") is not None
    whole, resumed = (read_ensemble(tmp_path / f"{n}.nc").fields for n in ("whole", "resumed"))
    np.testing.assert_array_equal(whole["t2m"], resumed["t2m"])


def test_feedback_says_what_became_of_each_observation(case, prior, tmp_path) -> None:
    outcome = run(case, prior, tmp_path / "whole.nc", gross=1.0)
    run(case, prior, tmp_path / "resumed.nc", gross=1.0, stop_after=2)
    run(case, prior, tmp_path / "resumed.nc", gross=1.0)
    with (
        xr.open_dataset(tmp_path / "whole_feedback.nc", engine="h5netcdf") as whole,
        xr.open_dataset(tmp_path / "resumed_feedback.nc", engine="h5netcdf") as resumed,
    ):
        xr.testing.assert_equal(whole, resumed)
        meanings = whole["outcome"].attrs["flag_meanings"].split()
        assert meanings == ["assimilated", "background_check"]
        assert outcome is not None
        assert int((whole["outcome"] == 0).sum()) == outcome.used
        assert int((whole["outcome"] == 1).sum()) == outcome.rejected["background check"] > 0
        analyses = read_ensemble(tmp_path / "whole.nc")
        rows = observation_table(
            time=whole["time"].values,
            lat=whole["lat"].values,
            lon=whole["lon"].values,
            value=whole["t2m"].values,
            variable="t2m",
        )
        found = whole["t2m"].values - whole["t2m_analysis_departure"].values
        for row in range(len(rows)):
            nearest = np.argmin(np.abs(analyses.axes.times - rows.time[row]))
            field = torch.from_numpy(analyses.fields["t2m"][:, nearest][:, None])
            one = rows.where(np.arange(len(rows)) == row, "others")
            predicted = cells_of(one, prior.grid, ["t2m"])(field)
            # float32 fields of 280 K
            np.testing.assert_allclose(found[row], predicted.mean().item(), rtol=1e-6)


def test_a_cycle_without_observations_is_a_forecast(case, prior, tmp_path) -> None:
    rows = read_observations(case.observations)
    hour = np.datetime64("2020-01-02T08", "s")
    seen = np.abs(rows.time - hour) > np.timedelta64(30, "m")
    assert 0 < seen.sum() < len(rows)
    outcome = assimilate_files(
        prior,
        open_store(case.fields),
        rows.where(seen, "withheld"),
        tmp_path / "an.nc",
        CONFIG,
        observed={"t2m": "t2m"},
        inputs={},
    )
    assert outcome is not None
    assert outcome.cycles == 6
    assert outcome.rejected["withheld"] == (~seen).sum()
    assert np.isfinite(read_ensemble(tmp_path / "an.nc").fields["t2m"]).all()
    with xr.open_dataset(tmp_path / "an_feedback.nc", engine="h5netcdf") as feedback:
        assert not (np.abs(feedback["time"].values - hour) <= np.timedelta64(30, "m")).any()


def test_another_seed_gives_other_numbers(case, prior, tmp_path) -> None:
    run(case, prior, tmp_path / "one.nc", end="2020-01-02T06")
    run(case, prior, tmp_path / "two.nc", end="2020-01-02T06", seed=2)
    one, two = (read_ensemble(tmp_path / f"{n}.nc").fields["t2m"] for n in ("one", "two"))
    assert not np.array_equal(one, two)


def test_the_history_is_that_of_the_file(case, prior) -> None:
    store, start = open_store(case.fields), np.datetime64("2020-01-02T06", "s")
    past = initial_past(prior, store, start, CONFIG)
    values, _ = store.read("t2m", time=slice(28, 30))
    assert past.shape == (3, 2, 1, 7, 9)
    for member in past:
        np.testing.assert_array_equal(member[:, 0].numpy(), values)
    disturbed = initial_past(prior, store, start, replace(CONFIG, history_error=0.5))
    departure = (disturbed - past) / prior.normalization.std
    torch.testing.assert_close(
        departure[:, 0], departure[:, 1], rtol=0, atol=1e-4
    )  # float32 of 280
    torch.testing.assert_close(departure.std(), torch.tensor(0.5), rtol=0.2, atol=0)  # 189 draws


def test_a_history_that_does_not_reach_the_start_is_refused(case, prior) -> None:
    store = open_store(case.fields)
    message = (
        f"{case.fields}: expected frames at 2020-01-02T15:00:00, 2020-01-02T16:00:00 before the "
        "first analysis, got 2020-01-02T15:00:00"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        initial_past(prior, store, np.datetime64("2020-01-02T17", "s"), CONFIG)


def write(path, name: str = "t2m", units: str = "K", cols: int = 9) -> None:
    write_fields(
        path,
        {name: np.ones((1, 7, cols))},
        times=np.array(["2020-01-01"], "datetime64[s]"),
        grid=LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, cols)),
        attributes={name: {"units": units}},
    )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cols": 8}, "expected the grid of the prior: expected shape (7, 9), got (7, 8)"),
        ({"name": "u10"}, "expected the variables of the prior ['t2m'], got ['u10']"),
        ({"units": "Pa"}, "expected t2m in 'K' as in training, got 'Pa'"),
    ],
)
def test_a_history_of_another_kind_is_refused(prior, tmp_path, changes, message: str) -> None:
    write(tmp_path / "other.nc", **changes)
    with pytest.raises(ValueError, match=f"^{re.escape(f'{tmp_path}/other.nc: {message}')}$"):
        check_history(prior, open_store(tmp_path / "other.nc"))


def test_cycles_cover_the_observations() -> None:
    past, hour = np.array(["2020-01-01T00"], "datetime64[s]"), np.timedelta64(3600, "s")
    for minutes, cycles in ((-90, 1), (30, 1), (90, 1), (91, 2), (150, 2)):
        late = past[0] + np.timedelta64(minutes, "m")
        times = cycle_times(AssimilationConfig(), past, table(time=late), hour)
        assert len(times) == cycles, minutes
        assert times[0] == past[0] + hour


def test_an_end_before_the_start_is_refused() -> None:
    config = AssimilationConfig(start="2020-01-02", end="2020-01-01")
    message = (
        "end: expected a time at or after the start 2020-01-02T00:00:00, got 2020-01-01T00:00:00"
    )
    with pytest.raises(ValueError, match=f"^{message}$"):
        cycle_times(config, np.array([], "datetime64[s]"), table(), np.timedelta64(3600, "s"))


def test_no_observation_left_is_refused_with_the_account(case, prior, tmp_path) -> None:
    message = (
        "observations: expected at least one to assimilate, got none: "
        "0 of 60 observations used (10 outside domain, 50 outside window)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        run(case, prior, tmp_path / "an.nc", start="2020-01-02T14", end="2020-01-02T14")


def test_an_unknown_error_is_refused() -> None:
    message = (
        "error: expected the error of every observation, got 2 of 2 without one (pass --error)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        require_errors(table(error=np.nan))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"members": 1}, "members: expected at least 2, got 1"),
        ({"seed": -1}, "seed: expected a number that is not negative, got -1"),
        (
            {"history_error": -0.1},
            "history_error: expected a number that is not negative, got -0.1",
        ),
        ({"gross": 0.0}, "gross: expected a positive number, got 0.0"),
    ],
)
def test_settings_refuse_nonsense(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        AssimilationConfig(**arguments)


def test_observations_take_the_names_and_units_of_the_fields() -> None:
    celsius = table(variable="temp", value=[7.0, 8.0], units={"temp": "degC"})
    matched = match_variables(celsius, {"t2m": "temp"}, {"t2m": "K"})
    np.testing.assert_allclose(matched.value, [280.15, 281.15])
    np.testing.assert_array_equal(matched.error, [0.5, 0.5])
    assert set(matched.variable.tolist()) == {"t2m"}


@pytest.mark.parametrize(
    ("observed", "units", "message"),
    [
        ({"u10": "t2m"}, {"t2m": "K"}, "observed: expected a field among ['t2m'], got 'u10'"),
        ({"t2m": "t"}, {"t2m": "K"}, "observed: expected a variable among ['t2m'], got 't'"),
        (
            {"t2m": "t2m"},
            {"t2m": "Pa"},
            "observations: variable 't2m' for 't2m': "
            "units: expected a unit that converts to 'Pa', got 'K'",
        ),
    ],
)
def test_what_does_not_match_is_refused(observed, units, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        match_variables(table(), observed, units)


def test_the_operator_interpolates_the_right_variable() -> None:
    grid = LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9))
    lat, lon = np.meshgrid(grid.lat, grid.lon, indexing="ij")
    state = torch.from_numpy(np.stack([0 * lat, 2 * lat + 3 * lon]))[None]
    some = table(lat=[51.2, 52.7], lon=[0.3, 3.9], variable="u10")
    predicted = cells_of(some, grid, ["t2m", "u10"])(state)[0]
    np.testing.assert_allclose(predicted, 2 * some.lat + 3 * some.lon)


def test_observations_on_missing_cells_are_counted() -> None:
    grid = LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9))
    mask = torch.ones(1, 7, 9, dtype=torch.bool)
    mask[0, 2, 2] = False  # the cell at 51 N, 1 E
    left = usable(table(lat=[51.0, 51.3, 52.0, 60.0], lon=[1.0, 1.2, 2.0, 2.0],
                        value=np.ones(4)), grid, ["t2m"], mask)  # fmt: skip
    assert len(left) == 1
    assert dict(left.rejected) == {"outside domain": 1, "on missing cells": 2}


def test_the_background_check_refuses_what_is_not_credible() -> None:
    grid = LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9))
    expected = Expected(torch.full((4, 1, 7, 9), 280.0), torch.full((1, 7, 9), 1.2))
    limit = 5 * np.hypot(1.2, 0.5)
    some = table(value=[280 + limit - 0.01, 280 + limit + 0.01])
    left = background_check(some, grid, ["t2m"], expected, 5.0)
    np.testing.assert_array_equal(left.value, some.value[:1])
    assert dict(left.rejected) == {"background check": 1}
