"""Classical methods on fields from files, against what they must be in simple cases."""

import numpy as np
import torch

from stormda.assimilation import DiagonalError, Observation, optimal_interpolation, select
from stormda.grid import LatLonGrid
from stormda.storm.baselines import METHODS, Climate, Method, Task, interpolation, tune
from stormda.storm.frames import Frames

FULL = 1e6
"""A radius of localisation [km] that leaves the covariance nearly as it is."""


def frames(count: int) -> Frames:
    hour = torch.arange(count)[:, None, None, None]
    g = torch.Generator().manual_seed(0)
    pattern = torch.randn(2, 1, 4, 5, generator=g)
    daily = 3 * torch.cos(2 * torch.pi * hour / 24)
    slow = torch.sin(hour / 7.0) * pattern[0] + torch.cos(hour / 11.0) * pattern[1]
    values = 280 + daily + slow + 0.1 * torch.randn(count, 1, 4, 5, generator=g)
    return Frames(
        variables=("t2m",),
        units=("K",),
        grid=LatLonGrid(np.linspace(50, 53, 4), np.linspace(0, 4, 5)),
        times=np.datetime64("2020-01-01T00", "s") + 3600 * np.arange(count),
        values=values,
        valid=torch.ones_like(values, dtype=torch.bool),
    )


def observe(field: torch.Tensor, cycle: int) -> Observation:
    g = torch.Generator().manual_seed(cycle)
    index = torch.randperm(field.numel(), generator=g)[:6]
    y = field.flatten()[index].float() + 0.2 * torch.randn(6, generator=g)
    return Observation(y, select(index), DiagonalError(0.2))


def task(learned: int = 120, cycles: int = 24) -> tuple[Task, torch.Tensor]:
    everything = frames(learned + cycles)
    truth = everything.values[learned:].double()
    made = Task(
        train=everything.select(np.arange(learned)),
        times=everything.times[learned:],
        last=everything.values[learned - 1],
        observations=[observe(x, k) for k, x in enumerate(truth)],
    )
    return made, truth


def test_every_method_gives_a_gaussian_at_every_cycle_and_observations_help() -> None:
    made, truth = task()
    error = {}
    for name, method in METHODS.items():
        settings = {key: values[0] for key, values in method.grid.items()}
        analyses = list(method.run(made, settings))
        assert len(analyses) == len(truth)
        assert all(bool((a.variance > 0).all()) for a in analyses)
        means = torch.stack([a.mean.double() for a in analyses])
        error[name] = float((means - truth).square().mean().sqrt())
    assert error["oi"] < error["climatology"]
    assert error["eof-kf"] < error["climatology"]


def test_interpolation_without_memory_is_the_textbook_formula() -> None:
    made, _ = task(cycles=2)
    settings = {"daily": 0.0, "radius_km": FULL, "scale": 1.5, "damping": 0.0}
    climate = Climate.of(made.train, daily=False)
    covariance = climate.covariance(None, 1.5).float()
    for analysis, observation in zip(
        interpolation(made, settings), made.observations, strict=True
    ):
        assert observation is not None
        expected = optimal_interpolation(climate.mean[0].float(), covariance, observation)
        # localisation over a million kilometres still takes 1e-5 of the covariance
        torch.testing.assert_close(analysis.mean, expected.mean, rtol=1e-4, atol=1e-3)


def test_without_observations_interpolation_returns_its_background() -> None:
    made, _ = task(cycles=1)
    blind = Task(train=made.train, times=made.times, last=made.last, observations=[None])
    settings = {"daily": 1.0, "radius_km": FULL, "scale": 1.0, "damping": 0.0}
    [analysis] = interpolation(blind, settings)
    climate = Climate.of(made.train, daily=True)
    torch.testing.assert_close(analysis.mean, climate.at(made.times)[0].float())


def test_tuning_finds_the_daily_course() -> None:
    method = Method(METHODS["climatology"].run, {"daily": (0.0, 1.0)})
    assert tune(method, frames(120), observe) == {"daily": 1.0}
