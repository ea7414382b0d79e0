"""Classical methods on fields from files: what a learned prior has to beat.

Each gives a Gaussian at every cycle, from the training fields and the same observations:

    persistence    the last field before the period, for ever
    climatology    the mean of the training fields at that hour of the day
    oi             climatology corrected by the observations of one time: x_b + K (y - H x_b)
    oi-cycled      the same, with a background between climatology and the last analysis
    eof-kf         a Kalman filter on EOF amplitudes that follow a vector autoregression

They are tuned as well as the training fields allow: fitted on the first part of them and tried on
the rest, with observations of the same kind, then fitted on all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stormda.assimilation import (
    GaussianAnalysis,
    Observation,
    fit_eof_model,
    gaspari_cohn,
    great_circle_distance,
    grid_search,
    optimal_interpolation,
    rmse,
)
from stormda.grid import Grid, LatLonGrid
from stormda.storm.frames import Frames, Times

Settings = Mapping[str, float]
Runner = Callable[["Task", Settings], Iterator[GaussianAnalysis]]
Observe = Callable[[Tensor, int], Observation | None]
"""Observes a field (variables, rows, cols), for a cycle's number."""


@dataclass(frozen=True, eq=False, kw_only=True)
class Task:
    """What a method is given."""

    train: Frames
    """Fields to learn from, without gaps and without missing values."""

    times: Times
    """Of the analyses."""

    last: Tensor
    """The field one step before the first analysis, (variables, rows, cols)."""

    observations: Sequence[Observation | None]
    """What was observed at each of `times`."""


@dataclass(frozen=True, eq=False)
class Climate:
    """The training fields' mean at every hour of the day, and their departures from it.

    Args:
        mean: (24, variables, rows, cols).
        departures: (time, variables, rows, cols).
    """

    mean: Tensor
    departures: Tensor

    @classmethod
    def of(cls, frames: Frames, *, daily: bool) -> Climate:
        """Return the climate of frames, with a mean for every hour or one for all of them."""
        x, hour = frames.values.double(), _hour(frames.times)
        if daily and len(set(hour.tolist())) == 24 and len(x) >= 48:
            mean = torch.stack([x[hour == h].mean(0) for h in range(24)])
        else:
            mean = x.mean(0).expand(24, *x.shape[1:])
        return cls(mean, x - mean[hour])

    def at(self, times: Times) -> Tensor:
        """Return the mean at some times, (time, variables, rows, cols)."""
        return self.mean[_hour(times)]

    def covariance(self, localisation: Tensor | None, scale: float) -> Tensor:
        """Return the covariance of the departures, (n, n), localised and scaled."""
        flat = self.departures.flatten(1)
        full = scale * flat.mT @ flat / len(flat)
        return full if localisation is None else full * localisation


def persistence(task: Task, settings: Settings) -> Iterator[GaussianAnalysis]:
    """Keep the last field; its variance is that of changes over the lead time."""
    del settings
    x = task.train.values.double()
    for lead in range(1, len(task.times) + 1):
        lag = min(lead, len(x) - 1)
        variance = (x[lag:] - x[:-lag]).square().mean(0)
        yield GaussianAnalysis(task.last.double(), variance.clamp_min(1e-12))


def climatology(task: Task, settings: Settings) -> Iterator[GaussianAnalysis]:
    """Give the mean of the hour, or of all hours where `daily` is 0."""
    climate = Climate.of(task.train, daily=bool(settings["daily"]))
    variance = climate.departures.square().mean(0)
    for mean in climate.at(task.times):
        yield GaussianAnalysis(mean, variance)


def interpolation(task: Task, settings: Settings) -> Iterator[GaussianAnalysis]:
    """Correct climatology, or with `damping` > 0 what is left of the last analysis' departure."""
    climate = Climate.of(task.train, daily=bool(settings["daily"]))
    local = localisation(task.train.grid, len(task.train.variables), settings["radius_km"])
    covariance = climate.covariance(local, settings["scale"]).float()
    damping = settings["damping"]
    departure = task.last.double() - climate.at(task.times[:1] - _step(task))[0]
    for mean, observation in zip(climate.at(task.times), task.observations, strict=True):
        background = (mean + damping * departure).float()
        analysis = _corrected(background, covariance, observation)
        departure = analysis.mean.double() - mean
        yield analysis


def eof_filter(task: Task, settings: Settings) -> Iterator[GaussianAnalysis]:
    """Filter EOF amplitudes, starting from the last field, which is known nearly exactly."""
    climate = Climate.of(task.train, daily=bool(settings["daily"]))
    model = fit_eof_model(climate.departures, rank=int(settings["rank"]))
    departure = task.last.double() - climate.at(task.times[:1] - _step(task))[0]
    state = type(model.climate)(model.project(departure), 1e-4 * model.climate.covariance)
    for mean, observation in zip(climate.at(task.times), task.observations, strict=True):
        state = model.forecast(state)
        if observation is not None:
            state = model.update(state, _about(observation, mean))
        field = model.field(state)
        yield GaussianAnalysis(mean + field.mean, field.variance.clamp_min(1e-12))


@dataclass(frozen=True)
class Method:
    """A method and the settings to choose from."""

    run: Runner
    grid: Mapping[str, Sequence[float]]


METHODS: Mapping[str, Method] = {
    "persistence": Method(persistence, {}),
    "climatology": Method(climatology, {"daily": (0.0, 1.0)}),
    "oi": Method(
        interpolation,
        {
            "daily": (0.0, 1.0),
            "radius_km": (400.0, 600.0, 800.0, 1200.0, 2400.0),
            "scale": (0.25, 0.5, 1.0, 2.0),
            "damping": (0.0,),
        },
    ),
    "oi-cycled": Method(
        interpolation,
        {
            "daily": (0.0, 1.0),
            "radius_km": (400.0, 600.0, 900.0, 1200.0),
            "scale": (0.1, 0.2, 0.3, 0.4, 0.6, 0.8),
            "damping": (0.6, 0.7, 0.8, 0.9, 1.0),
        },
    ),
    "eof-kf": Method(eof_filter, {"daily": (0.0, 1.0), "rank": (5.0, 10.0, 20.0, 40.0)}),
}
"""The methods by their names in tables, with what their tuning tries."""


def tune(
    method: Method, frames: Frames, observe: Observe, *, fitted: float = 2 / 3
) -> dict[str, float]:
    """Choose settings by the error on the last part of the training fields.

    Args:
        method: What to tune.
        frames: The training fields.
        observe: Makes observations of the kind that will come.
        fitted: Share of the frames that the trials are fitted on; they are tried on the rest.

    Returns:
        The best settings by name.
    """
    if all(len(values) == 1 for values in method.grid.values()):
        return {name: values[0] for name, values in method.grid.items()}
    cut = round(fitted * len(frames.times))
    rest = np.arange(cut + 1, len(frames.times))
    truth = frames.values[torch.from_numpy(rest)].double()
    task = Task(
        train=frames.select(np.arange(cut)),
        times=frames.times[rest],
        last=frames.values[cut],
        observations=[observe(x, cycle) for cycle, x in enumerate(truth)],
    )

    def run(settings: Settings) -> float:
        means = torch.stack([analysis.mean.double() for analysis in method.run(task, settings)])
        return float(rmse(means, truth))

    return dict(grid_search(run, method.grid)[0].settings)


def localisation(grid: Grid, variables: int, radius_km: float) -> Tensor:
    """Return Gaspari-Cohn factors between all cells of all variables, (n, n).

    Raises:
        ValueError: Where the grid is not one of latitudes and longitudes.
    """
    if not isinstance(grid, LatLonGrid):
        raise ValueError(f"grid: expected latitudes and longitudes, got dimensions {grid.dims}")
    lat, lon = np.meshgrid(grid.lat, grid.lon, indexing="ij")
    place = torch.from_numpy(lat.ravel()), torch.from_numpy(lon.ravel())
    factors = gaspari_cohn(great_circle_distance(*place, *place), 1000 * radius_km)
    return factors.repeat(variables, variables)


def _corrected(
    background: Tensor, covariance: Tensor, observation: Observation | None
) -> GaussianAnalysis:
    if observation is None:
        return GaussianAnalysis(background, covariance.diagonal().reshape(background.shape))
    analysis = optimal_interpolation(background, covariance, observation)
    return GaussianAnalysis(analysis.mean, analysis.variance.clamp_min(1e-12))


def _about(observation: Observation, mean: Tensor) -> Observation:
    """Return what was observed of the departure from a mean (the operator is linear)."""
    y = observation.y.double() - observation.operator(mean[None])[0]
    return Observation(y, observation.operator, observation.error)


def _hour(times: Times) -> Tensor:
    seconds = times.astype("datetime64[s]").astype(np.int64)
    return torch.from_numpy(seconds // 3600 % 24)


def _step(task: Task) -> np.timedelta64:
    return np.timedelta64(round(3600 * task.train.step_hours()), "s")
