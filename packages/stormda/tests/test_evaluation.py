"""Scores of files: the plain definitions, and no score where nothing can be compared."""

import re

import numpy as np
import pytest
import torch

from stormda.grid import LatLonGrid
from stormda.io import observation_table, open_store, write_ensemble, write_fields
from stormda.storm.evaluation import against_observations, against_truth, score_points

GRID = LatLonGrid(np.linspace(50, 56, 4), np.linspace(0, 5, 6))
TIMES = np.datetime64("2020-01-01T00", "s") + 3600 * np.arange(5)
K = {"t2m": {"units": "K"}}


def files(folder, ensemble, truth=None, *, times=TIMES, grid=GRID, attributes=K):
    write_ensemble(
        folder / "an.nc", {"t2m": ensemble}, times=TIMES, grid=GRID, attributes=K, overwrite=True
    )
    if truth is not None:
        write_fields(
            folder / "truth.nc", {"t2m": truth}, times=times, grid=grid, attributes=attributes
        )
        return open_store(folder / "an.nc"), open_store(folder / "truth.nc", units="as_is")
    return open_store(folder / "an.nc")


def draws(*shape: int) -> np.ndarray:
    return np.random.default_rng(0).normal(280, 1, shape).astype(np.float32)


def test_against_a_truth_is_the_area_weighted_definition(tmp_path) -> None:
    ensemble, truth = draws(6, 5, 4, 6), draws(5, 4, 6)[1:4] + 1
    truth[1, 2, 3] = np.nan
    row = against_truth(*files(tmp_path, ensemble, truth, times=TIMES[1:4]), "t2m").row
    x, y = ensemble[:, 1:4].astype(float), truth.astype(float)
    weight = np.broadcast_to(GRID.area, y.shape) * np.isfinite(y)
    mse = np.nansum(weight * (x.mean(0) - y) ** 2) / weight.sum()
    variance = (weight * x.var(0, ddof=1)).sum() / weight.sum()
    np.testing.assert_allclose(row.rmse, np.sqrt(mse))
    np.testing.assert_allclose(row.spread_skill, np.sqrt(7 / 6 * variance / mse))
    pairs = np.abs(x[:, None] - x[None]).sum((0, 1)) / (2 * 6 * 5)
    crps = np.abs(x - y).mean(0) - pairs
    np.testing.assert_allclose(row.crps, np.nansum(weight * crps) / weight.sum())


def test_observations_see_the_field_at_their_place_and_time(tmp_path) -> None:
    lat, lon = np.meshgrid(GRID.lat, GRID.lon, indexing="ij")
    field = 2 * lat + lon + 3 * np.arange(5)[:, None, None]
    ensemble = np.stack([field - 1, field + 1])
    place = {"lat": [51.0, 55.5], "lon": [0.7, 4.1]}
    time = TIMES[0] + np.array([1800, 3 * 3600 + 900])
    exact = 2 * np.array(place["lat"]) + np.array(place["lon"]) + 3 * np.array([0.5, 3.25])
    table = observation_table(time=time, value=exact, variable="t2m", **place)
    scored, used = against_observations(files(tmp_path, ensemble), table, "t2m")
    assert len(used) == 2
    np.testing.assert_allclose(scored.row.rmse, 0, atol=1e-4)  # float32 in the file
    np.testing.assert_allclose(scored.bias, 0, atol=1e-4)


def test_an_honest_ensemble_is_honest_about_erroneous_observations(tmp_path) -> None:
    rng = np.random.default_rng(1)
    ensemble, truth = draws(16, 5, 4, 6), rng.normal(280, 1, (4, 6))
    lat, lon = np.meshgrid(GRID.lat, GRID.lon, indexing="ij")
    table = observation_table(
        time=TIMES[2],
        lat=lat.ravel(),
        lon=lon.ravel(),
        value=(truth + rng.normal(0, 2, (4, 6))).ravel(),
        error=2.0,
        variable="t2m",
    )
    scored, _ = against_observations(files(tmp_path, ensemble), table, "t2m")
    assert 0.7 < scored.row.spread_skill < 1.4  # 24 draws: the error of an rms is about 15 %
    assert scored.row.coverage90 > 0.7


def test_observations_that_cannot_be_compared_are_counted(tmp_path) -> None:
    table = observation_table(
        time=[TIMES[0], TIMES[1], TIMES[-1] + 3600],
        lat=[52.0, 70.0, 52.0],
        lon=[2.0, 2.0, 2.0],
        value=[280.0] * 3,
        variable="t2m",
    )
    store = files(tmp_path, draws(3, 5, 4, 6))
    _, used = against_observations(store, table, "t2m")
    assert dict(used.rejected) == {"outside domain": 1, "outside period": 1}
    late = table.where(table.time > TIMES[-1], "early")
    message = (
        "observations: expected at least one to compare with, got none: "
        "0 of 3 observations used (2 early, 1 outside period)"
    )
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        against_observations(store, late, "t2m")


def test_a_truth_of_another_kind_is_refused(tmp_path) -> None:
    ensemble = draws(3, 5, 4, 6)
    other = LatLonGrid(np.linspace(50, 56, 4), np.linspace(0, 4, 5))
    cases = {
        "grid": (
            {"truth": draws(5, 4, 5), "grid": other},
            "expected the grid of the analysis: expected shape (4, 6), got (4, 5)",
        ),
        "times": (
            {"truth": draws(5, 4, 6), "times": TIMES + 999},
            "expected times of the analysis, 2020-01-01T00:00:00 to 2020-01-01T04:00:00, "
            "got 2020-01-01T00:16:39 to 2020-01-01T04:16:39",
        ),
        "units": (
            {"truth": draws(5, 4, 6), "attributes": {"t2m": {"units": "degC"}}},
            "expected t2m in 'K', got 'degC'",
        ),
    }
    for name, (given, message) in cases.items():
        (tmp_path / name).mkdir()
        stores = files(tmp_path / name, ensemble, **given)
        message = f"{tmp_path}/{name}/truth.nc: {message}"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            against_truth(*stores, "t2m")


def test_a_file_without_members_is_refused(tmp_path) -> None:
    _, truth = files(tmp_path, draws(3, 5, 4, 6), draws(5, 4, 6))
    message = f"{tmp_path}/truth.nc: expected an ensemble of at least 2 members, got 0"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        against_truth(truth, truth, "t2m")


def test_no_point_is_refused() -> None:
    message = "truth: expected at least one value to compare with, got none"
    with pytest.raises(ValueError, match=f"^{message}$"):
        score_points(torch.zeros(2, 0), torch.zeros(0), torch.zeros(0), network="n", method="m")
