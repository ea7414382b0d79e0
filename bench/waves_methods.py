"""The record of `waves.py`, its priors, and the estimates of each method at every pass.

Every estimate at a pass is made without that pass, by filtering: of what comes later than half an
hour after it, nothing is used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormda.assimilation import (
    DiagonalError,
    Observation,
    great_circle_distance,
    optimal_interpolation,
    select,
)
from stormda.io import (
    ObservationTable,
    observation_table,
    open_store,
    passes,
    read_observations,
    write_fields,
)
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_inputs import filled
from stormda.storm.config import StormConfig
from stormda.storm.cycler import Cycler
from stormda.storm.disturbance import HistoryError
from stormda.storm.files import window_targets
from stormda.storm.filtering import FilterSettings
from stormda.storm.frames import Frames, Times, read_frames
from stormda.storm.objective import NoiseLevels
from stormda.storm.prior import Storm
from stormda.storm.prior_training import PRIOR, train_on_files
from stormda.storm.real_observations import cells_of, match_variables, usable
from stormda.storm.real_recipes import FileRecipe
from stormda.storm.training_config import TrainingConfig

FIELDS = "grid/era5_waves_dutch_20171027-28.nc"
TRACKS = "obs/altimetry_northsea_20171026-28.csv"
NAME, OBSERVED = "swh", "significant_wave_height"
HOUR = np.timedelta64(3600, "s")
BLOCK, EMBARGO = 12, 3
HISTORY, MEMBERS, WINDOWS = 2, 16, 500
FILTER = FilterSettings(error_factor=1.0, cohesion=0.0, steps=12, sigma_max=40.0)
SEED = 200
GAP_SECONDS = 300.0

Settings = Mapping[str, float]
Numbers = NDArray[np.float64]
Rows = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Record:
    """The fields, and the altimeter observations that can be compared with them."""

    frames: Frames
    table: ObservationTable
    number: NDArray[np.int64]
    """Pass of each observation."""

    hour: NDArray[np.int64]
    """Frame in whose window (t - 30 min, t + 30 min] each observation lies."""

    model: Numbers
    """The model at each observation, interpolated in space and time [m]."""

    @property
    def sea(self) -> Tensor:
        """Return where there are waves, (1, rows, cols)."""
        return self.frames.valid.all(0)

    @property
    def passes(self) -> list[Rows]:
        """Return which observations are of each pass."""
        return [self.number == i for i in range(self.number.max() + 1)]

    def error(self, estimate: Numbers) -> Numbers:
        """Return how far an estimate at each observation is off [m]."""
        return estimate - self.table.value

    def interpolated(self, field: Tensor, rows: Rows) -> Numbers:
        """Interpolate a field (1, 1, rows, cols) to some observations, (p,)."""
        operator = cells_of(self.table.where(rows, "other"), self.frames.grid, [NAME])
        return operator(field)[0].double().numpy()


def read_record(folder: Path) -> Record:
    """Read the fields, and the observations whose cells are all sea."""
    frames = read_frames(open_store(folder / FIELDS), [NAME])
    table = read_observations(folder / TRACKS, variable=[OBSERVED])
    table = match_variables(table, {NAME: OBSERVED}, {NAME: "m"})
    table = usable(table, frames.grid, [NAME], frames.valid.all(0))
    table = table.window(frames.times[0] - HOUR / 2, frames.times[-1] + HOUR / 2)
    after = (table.time - frames.times[0]).astype(float) / 3600
    series = cells_of(table, frames.grid, [NAME])(frames.values).double().numpy()
    before = np.minimum(np.floor(after).astype(np.int64), len(series) - 2)
    share, p = after - before, np.arange(len(table))
    record = Record(
        frames=frames,
        table=table,
        number=passes(table, gap_seconds=GAP_SECONDS),
        hour=np.ceil(after - 0.5).astype(np.int64),
        model=(1 - share) * series[before, p] + share * series[before + 1, p],
    )
    for rows in record.passes:
        if len(set(record.hour[rows])) > 1:
            raise ValueError(f"{folder / TRACKS}: expected every pass within one hour, got two")
    return record


def recipe(steps: int) -> FileRecipe:
    """Return a small prior of one field on 11 x 20 cells, one step of which takes milliseconds."""
    return FileRecipe(
        network=StormConfig(
            variables=(NAME,), history=HISTORY, patch=(2, 2), width=32, heads=4,
            encoder_depth=1, depth=1,
        ),
        error=HistoryError(smallest=0.02, exact=0.05),
        season=False,
        training=TrainingConfig(
            steps=steps, batch=16, learning_rate=2e-3, warmup=50, weight_decay=0.05, ema=0.99,
            noise=NoiseLevels(mean=0.7, spread=1.6), checkpoint_every=steps, seed=1,
        ),
    )  # fmt: skip


def trained(record: Record, block: int, out: Path, steps: int) -> Storm:
    """Return the prior of twelve hours, trained on fields that are hours away from them."""
    if (out / PRIOR).exists():
        return Storm.load(out / PRIOR)
    frames, index = record.frames, np.arange(len(record.frames.times))
    near = (index >= block * BLOCK - EMBARGO) & (index < (block + 1) * BLOCK + EMBARGO)
    windows = superposed(frames.select(np.flatnonzero(~near)), block + 1)
    hours = 2 * len(windows[0]) * np.arange(len(windows))[:, None] + np.arange(HISTORY + 1)
    out.mkdir(parents=True, exist_ok=True)
    write_fields(
        out / "windows.nc",
        {NAME: torch.where(record.sea, windows, torch.nan).flatten(0, 1)[:, 0].numpy()},
        times=frames.times[0] + HOUR * hours.flatten(),  # dates of no meaning; windows lie apart
        grid=frames.grid,
        attributes={NAME: {"units": "m"}},
        overwrite=True,
    )
    store = open_store(out / "windows.nc", plausible=False)  # superposed, not observed
    prior = train_on_files(recipe(steps), store, out, device=torch.device("cpu"), overwrite=True)
    assert prior is not None  # nothing interrupts it
    return prior


def superposed(frames: Frames, seed: int) -> Tensor:
    """Draw windows of history and present as random sums of two departures from the mean.

        x = m + s (cos(a) d_1 + sin(a) d_2),    log s ~ N(0, 0.5^2)

    Thirty hours hold few windows and one kind of sea; were the departures a linear process, these
    would be others of it, of other sizes.

    Returns:
        (windows, history + 1, variables, rows, cols).
    """
    generator = torch.Generator().manual_seed(seed)
    target = torch.from_numpy(window_targets(frames.times, 1.0, HISTORY))
    mean = frames.values.mean(0)
    departure = frames.values[target[:, None] + torch.arange(-HISTORY, 1)] - mean
    one, other = torch.randint(len(target), (2, WINDOWS), generator=generator)
    angle = 2 * torch.pi * torch.rand(WINDOWS, 1, 1, 1, 1, generator=generator)
    size = torch.exp(0.5 * torch.randn(WINDOWS, 1, 1, 1, 1, generator=generator))
    return mean + size * (angle.cos() * departure[one] + angle.sin() * departure[other])


def forecast_skill(record: Record, priors: Sequence[Storm]) -> str:
    """Say how well the priors know hours that they have not learned, beside persistence."""
    values, own, persistent = record.frames.values, [], []
    for hour in range(HISTORY, len(values)):
        past = values[hour - HISTORY : hour][None]
        now = priors[hour // BLOCK].given(past, error=torch.zeros(1))
        forecast = now.to_physical(torch.zeros_like(values[:1]))
        own.append((forecast[0] - values[hour])[record.sea].numpy())
        persistent.append((values[hour - 1] - values[hour])[record.sea].numpy())
    one, other = (root_mean_square(np.concatenate(errors)) for errors in (own, persistent))
    return f"1 h forecasts of hours not learned: rmse {one:.3f} m, persistence {other:.3f} m"


def oi(record: Record, settings: Settings) -> Numbers:
    """Return optimal interpolation's estimate at each pass, made without it.

    Its state is the model's error at the place and time of every observation.
    """
    table, estimate = record.table, record.model.copy()
    place = torch.from_numpy(table.position).mT
    hours = torch.from_numpy(table.time.astype(np.int64) / 3600)
    distance = great_circle_distance(*place, *place) / 1000
    lag = (hours[:, None] - hours).abs()
    covariance = torch.exp(-distance / settings["length_km"] - lag / settings["hours"])
    departure = torch.from_numpy(-record.error(record.model))
    error = DiagonalError(settings["error_ratio"] ** 0.5)
    for mine in record.passes:
        seen = np.flatnonzero(~mine & (record.hour <= record.hour[mine][0]))
        if len(seen):
            index = torch.from_numpy(seen)
            observation = Observation(departure[index], select(index), error)
            zero = torch.zeros_like(departure)
            estimate[mine] += (
                optimal_interpolation(zero, covariance, observation).mean[mine].numpy()
            )
    return estimate


def storm(
    record: Record, priors: Sequence[Storm], settings: Settings, *, altimeters: bool = True
) -> Numbers:
    """Return STORM's estimate at each pass: the model + the increment of the mean of the ensemble.

    The ensemble is cycled through all observations; the cycle of a pass is done a second time
    without it, which is what a run without the pass would have given.
    """
    frames, estimate = record.frames, record.model.copy()
    errors = np.full(len(record.table), settings["altimeter_error"])
    altimeter = replace(record.table, error=errors)
    config = AssimilationConfig(
        members=MEMBERS,
        seed=SEED,
        history_error=0.3,
        inflation=settings["inflation"],
        filter=FILTER,
    )
    past = disturbed(priors[0], frames, config)
    for hour in range(HISTORY, len(frames.times)):
        prior, model = priors[hour // BLOCK], sea_values(record, hour, settings["model_error"])
        here = (record.hour == hour) & altimeters
        cycle = partial(analysis, prior, past, frames.times, hour, config)
        for mine in (rows for rows in record.passes if record.hour[rows][0] == hour):
            mean = cycle(joined(model, altimeter.where(here & ~mine, "withheld"))).mean(0)
            increment = mean - frames.values[hour]
            estimate[mine] += record.interpolated(increment[None], mine)
        now = cycle(joined(model, altimeter.where(here, "other hour")))
        past = torch.cat([past[:, 1:], now[:, None]], 1)
    return estimate


def analysis(
    prior: Storm,
    past: Tensor,
    times: Times,
    hour: int,
    config: AssimilationConfig,
    table: ObservationTable,
) -> Tensor:
    """Sample the ensemble of an hour from its past and a table of observations."""
    cycler = Cycler(prior, table, times, config)
    cycler.past = past
    return cycler.step(hour)[0]


def disturbed(prior: Storm, frames: Frames, config: AssimilationConfig) -> Tensor:
    """Return the first frames, with the errors of every member."""
    generator = torch.Generator().manual_seed(config.seed)
    past = frames.values[:HISTORY]
    noise = torch.randn(config.members, 1, *past.shape[1:], generator=generator)
    return filled(prior, past + config.history_error * prior.normalization.std * noise)


def sea_values(record: Record, hour: int, error: float) -> ObservationTable:
    """Return the model's values at an hour as observations."""
    rows, cols = np.nonzero(record.sea[0].numpy())
    return observation_table(
        time=record.frames.times[hour],
        lat=record.frames.grid.coordinates["lat"].values[rows],
        lon=record.frames.grid.coordinates["lon"].values[cols],
        value=record.frames.values[hour, 0].numpy()[rows, cols],
        error=error,
        variable=NAME,
        platform="model",
        units={NAME: "m"},
    )


def joined(one: ObservationTable, other: ObservationTable) -> ObservationTable:
    """Return the rows of two tables as one."""
    names = ("time", "lat", "lon", "value", "error", "variable", "platform")
    columns: dict[str, Any] = {
        n: np.concatenate([getattr(one, n), getattr(other, n)]) for n in names
    }
    return observation_table(**columns, units=one.units)


def root_mean_square(x: Numbers) -> float:
    """Return the root of the mean of the squares."""
    return float(np.sqrt(np.square(x).mean()))
