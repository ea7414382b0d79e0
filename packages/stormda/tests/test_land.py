"""Fields that exist on part of the grid only, as waves do: from training to the file."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stormda.grid import LatLonGrid
from stormda.io import observation_table, open_store, read_ensemble, write_fields
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_inputs import filled, initial_past
from stormda.storm.assimilation_run import Outcome, assimilate_files
from stormda.storm.filtering import FilterSettings
from stormda.storm.prior import Storm
from stormda.storm.prior_training import PRIOR, train_on_files

HOURS = np.datetime64("2020-01-01T00", "s") + 3600 * np.arange(40)
GRID = LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9))
SEA = np.add.outer(np.arange(7), np.arange(9)) > 4
CONFIG = AssimilationConfig(
    members=3,
    seed=1,
    start="2020-01-02T06",
    end="2020-01-02T11",
    history_error=0.3,  # of what is put on the first frames, nothing may fall on land
    filter=FilterSettings(steps=3, iterations=2),
)


def waves(land: float = np.nan) -> np.ndarray:
    """A swell that passes [m]."""
    y, x = np.meshgrid(np.arange(7), np.arange(9), indexing="ij")
    hour = np.arange(len(HOURS))[:, None, None]
    height = 2 + np.sin(0.5 * x + 0.3 * hour) + 0.5 * np.cos(0.7 * y - 0.2 * hour)
    return np.where(SEA, height, land)


@dataclass(frozen=True)
class Coast:
    """A prior of waves, and the file that it was trained on."""

    folder: Path
    prior: Storm


@pytest.fixture(scope="module")
def coast(tmp_path_factory: pytest.TempPathFactory, recipe) -> Coast:
    folder = tmp_path_factory.mktemp("coast")
    write_fields(folder / "swh.nc", {"swh": waves()}, times=HOURS, grid=GRID,
                 attributes={"swh": {"units": "m"}})  # fmt: skip
    network = replace(recipe.network, variables=("swh",))
    split = replace(recipe.split, validation_hours=0.0)
    prior = train_on_files(
        replace(recipe, network=network, split=split),
        open_store(folder / "swh.nc"),
        folder / "run",
        device=torch.device("cpu"),
    )
    assert prior is not None
    return Coast(folder, prior)


def altimeter():
    rng = np.random.default_rng(0)
    return observation_table(
        time=HOURS[rng.integers(30, 36, 60)], lat=rng.uniform(50, 53, 60),
        lon=rng.uniform(0, 4, 60), value=2 + rng.normal(size=60), error=0.3,
        variable="swh", units={"swh": "m"},
    )  # fmt: skip


def run(coast: Coast, out: Path, *, stop_after: int | None = None) -> Outcome | None:
    done = []
    return assimilate_files(
        Storm.load(coast.folder / "run" / PRIOR),
        open_store(coast.folder / "swh.nc"),
        altimeter(),
        out,
        CONFIG,
        observed={"swh": "swh"},
        inputs={},
        progress=lambda cycle, count, time: done.append(cycle),
        interrupted=lambda: len(done) == stop_after,
    )


def test_the_mask_is_learned_and_kept_with_the_prior(coast) -> None:
    for prior in (coast.prior, Storm.load(coast.folder / "run" / PRIOR)):
        assert prior.network.valid is not None
        np.testing.assert_array_equal(prior.network.valid[0].numpy(), SEA)


def test_analyses_are_missing_on_land_and_nowhere_else(coast, tmp_path) -> None:
    outcome = run(coast, tmp_path / "an.nc")
    assert outcome is not None
    assert outcome.rejected["on missing cells"] > 0
    assert outcome.used + outcome.rejected.total() == 60
    swh = read_ensemble(tmp_path / "an.nc").fields["swh"]
    assert swh.shape == (3, 6, 7, 9)
    np.testing.assert_array_equal(np.isnan(swh), np.broadcast_to(~SEA, swh.shape))
    assert (swh[..., SEA].std(0) > 0).all()


def test_an_interrupted_run_ends_with_the_same_bits(coast, tmp_path) -> None:
    run(coast, tmp_path / "whole.nc")
    for stop in (1, 3):
        assert run(coast, tmp_path / "resumed.nc", stop_after=stop) is None
    assert run(coast, tmp_path / "resumed.nc") is not None
    whole, resumed = (read_ensemble(tmp_path / f"{n}.nc").fields for n in ("whole", "resumed"))
    np.testing.assert_array_equal(whole["swh"], resumed["swh"])


def test_what_stands_on_land_in_the_history_does_not_matter(coast, tmp_path) -> None:
    write_fields(tmp_path / "other.nc", {"swh": waves(land=9.0)}, times=HOURS, grid=GRID,
                 attributes={"swh": {"units": "m"}})  # fmt: skip
    start = np.datetime64(CONFIG.start, "s")
    one, other = (
        initial_past(coast.prior, open_store(path), start, CONFIG)
        for path in (coast.folder / "swh.nc", tmp_path / "other.nc")
    )
    torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_a_sea_cell_without_a_value_is_refused(coast, tmp_path) -> None:
    gap = waves()
    gap[29, 6, 8] = np.nan
    write_fields(tmp_path / "gap.nc", {"swh": gap}, times=HOURS, grid=GRID,
                 attributes={"swh": {"units": "m"}})  # fmt: skip
    message = "gap.nc: expected values wherever the prior was trained, got 1 missing ones$"
    with pytest.raises(ValueError, match=message):
        initial_past(
            coast.prior, open_store(tmp_path / "gap.nc"), np.datetime64(CONFIG.start, "s"), CONFIG
        )


def test_the_mean_stands_where_nothing_is_known(coast) -> None:
    fields = filled(coast.prior, torch.full((2, 3, 1, 7, 9), torch.nan))
    mean = coast.prior.normalization.mean[0].numpy()
    np.testing.assert_array_equal(fields[1, 2, 0].numpy()[~SEA], mean[~SEA])
    assert np.isnan(fields[1, 2, 0].numpy()[SEA]).all()
