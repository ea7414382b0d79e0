"""A tiny case in files: hourly fields, observations of them, a prior trained for a moment."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch

from stormda.grid import LatLonGrid
from stormda.io import observation_table, open_store, write_fields, write_observations
from stormda.storm.config import StormConfig
from stormda.storm.files import Split
from stormda.storm.prior import Storm
from stormda.storm.prior_training import train_on_files
from stormda.storm.real_recipes import FileRecipe
from stormda.storm.training_config import TrainingConfig

collect_ignore = ["on_a_device.py"]
"""A program that imports its neighbours: for doctest it is no module."""

HOURS = np.datetime64("2020-01-01T00", "s") + 3600 * np.arange(40)


def smooth_fields(rows: int, cols: int) -> np.ndarray:
    """Two waves that travel over a small grid [K], one frame for each of HOURS."""
    y, x = np.meshgrid(np.arange(rows), np.arange(cols), indexing="ij")
    hour = np.arange(len(HOURS))[:, None, None]
    return 280 + 3 * np.sin(0.5 * x + 0.3 * hour) + np.cos(0.7 * y - 0.2 * hour)


@dataclass(frozen=True)
class Case:
    """Paths of the tiny files."""

    folder: Path
    fields: Path
    observations: Path


@pytest.fixture(scope="session")
def case(tmp_path_factory: pytest.TempPathFactory) -> Case:
    folder = tmp_path_factory.mktemp("case")
    made = Case(folder, folder / "t2m.nc", folder / "observations.nc")
    write_fields(
        made.fields,
        {"t2m": smooth_fields(7, 9)},
        times=HOURS,
        grid=LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9)),
        attributes={"t2m": {"units": "K", "standard_name": "air_temperature"}},
    )
    rng = np.random.default_rng(0)
    table = observation_table(
        time=HOURS[rng.integers(30, 36, 60)],
        lat=rng.uniform(50, 53.5, 60),
        lon=rng.uniform(0, 4, 60),
        value=280 + rng.normal(size=60),
        error=0.5,
        variable="t2m",
        units={"t2m": "K"},
    )
    write_observations(made.observations, table)
    return made


@pytest.fixture(scope="session")
def recipe() -> FileRecipe:
    return FileRecipe(
        network=StormConfig(
            variables=("t2m",),
            history=2,
            patch=(3, 3),
            width=16,
            heads=2,
            encoder_depth=1,
            depth=1,
            clock=True,
        ),
        split=Split(train_end="2020-01-02T06", embargo_hours=2.0, validation_hours=6.0),
        season=False,
        training=TrainingConfig(steps=4, batch=4, checkpoint_every=2, warmup=1, seed=3),
        validate_every=2,
    )


@pytest.fixture(scope="session")
def prior(case: Case, recipe: FileRecipe) -> Storm:
    trained = train_on_files(
        replace(recipe, split=replace(recipe.split, validation_hours=0.0)),
        open_store(case.fields),
        case.folder / "run",
        device=torch.device("cpu"),
    )
    assert trained is not None
    return trained
