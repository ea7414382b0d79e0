"""The methods that the demonstration sets side by side, and the settings that the tuner chose.

Every method is a function from a case to one analysis a cycle. They see the same observations and
start from the same ensemble; what else they need, the true model or a trained prior, is in their
`Equipment`.
"""

from __future__ import annotations

import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import as_file, files
from importlib.resources.abc import Traversable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from stormda.assimilation import GaussianAnalysis
from stormda.assimilation.systems import SQG, SQGConfig
from stormda.io import sha256
from stormda.storm.config import from_dict
from stormda.storm.filtering import FilterSettings
from stormda.storm.lookback import LookbackSettings, run_lookback
from stormda.storm.prior import Storm
from stormda.storm.twin.case import Case
from stormda.storm.twin.climatology import Climatology
from stormda.storm.twin.dense_interpolation import is_dense, run_dense_interpolation
from stormda.storm.twin.ensemble_filter import (
    EnsembleSettings,
    run_forecast,
    run_letkf,
    run_letkf_storm,
)
from stormda.storm.twin.interpolation import InterpolationSettings, run_interpolation


@dataclass(frozen=True, kw_only=True)
class Tuned:
    """The settings of the methods on one network, found by `tools/tune_sqg.py`."""

    storm: LookbackSettings = field(default_factory=LookbackSettings)
    """Of the one-stage filter."""

    letkf: EnsembleSettings = field(default_factory=EnsembleSettings)
    """Of the local transform filter with the true model."""

    letkf_storm: EnsembleSettings = field(default_factory=EnsembleSettings)
    """Of the local transform filter on STORM's forecasts."""

    letkf_storm_forecast: FilterSettings = field(
        default_factory=lambda: FilterSettings(cohesion=0.0)
    )
    """Of those forecasts."""

    oi: InterpolationSettings = field(default_factory=InterpolationSettings)
    """Of optimal interpolation."""


@dataclass(frozen=True)
class Equipment:
    """What the methods have beside the case.

    Args:
        model: The true model, with the case on its device.
        prior: The trained prior.
        climate: The climatology.
        tuned: Settings by the name of the network.
        inputs: SHA-256 of the files that prior and climatology were read from, by name.
    """

    model: SQG
    prior: Storm
    climate: Climatology
    tuned: Mapping[str, Tuned]
    inputs: Mapping[str, str] = field(default_factory=dict)

    def settings(self, case: Case) -> Tuned:
        """Return the settings for the case's network."""
        return self.tuned[case.config.network]


def load_tuned(source: Traversable | Path | None = None) -> dict[str, Tuned]:
    """Read tuned settings: a table a network, and in it a table a method.

    Args:
        source: A TOML file; the one that is shipped by default.

    Raises:
        ValueError: Where a name is unknown.

    Examples:
        >>> sorted(load_tuned())
        ['arctan-shocks', 'arctan-sparse', 'arctan-sparser', 'linear-dense', 'linear-sparse']
    """
    source = source or files("stormda.storm.twin") / "tuned.toml"
    tables: dict[str, Any] = tomllib.loads(source.read_text("utf-8"))
    return {network: from_dict(Tuned, table) for network, table in tables.items()}


def load_equipment(model: SQGConfig, weights: Path | None = None) -> Equipment:
    """Load prior and climatology, and build the model.

    Args:
        model: The flow.
        weights: A folder with `prior.safetensors` and `climatology.safetensors`, as the training
            leaves it; what is shipped by default.

    Raises:
        FileNotFoundError: Where a file is missing.
        ValueError: Where the prior is of another grid than the model.
    """
    prior_file, climate_file = _files(weights)
    with as_file(prior_file) as prior_path, as_file(climate_file) as climate_path:
        prior, climate = Storm.load(prior_path), Climatology.load(climate_path)
        inputs = {path.name: sha256(path) for path in (prior_path, climate_path)}
    if prior.grid.shape != (model.points, model.points):
        raise ValueError(
            f"model.points: expected {prior.grid.shape[0]}, the prior's grid, got {model.points}"
        )
    return Equipment(SQG(model), prior, climate, load_tuned(), inputs)


def storm(case: Case, equipment: Equipment) -> Iterator[Tensor]:
    """Sample p(state | own past, observations), each member for itself: no forecast to correct.

    The settings are those of the shipped prior; one without a law of motion does not look back.
    """
    observations = (case.observation(cycle) for cycle in range(case.config.cycles))
    settings = equipment.settings(case).storm
    if not equipment.prior.config.transport:
        settings = replace(settings, lag=0)
    return run_lookback(
        equipment.prior,
        case.initial,
        observations,
        settings=settings,
        generator=generator_of(case),
    )


def letkf(case: Case, equipment: Equipment) -> Iterator[Tensor]:
    """Forecast with the true model, then update by the local ensemble transform filter."""
    return run_letkf(case, equipment.model, equipment.settings(case).letkf)


def letkf_storm(case: Case, equipment: Equipment) -> Iterator[Tensor]:
    """Forecast with STORM, guidance off, then update by the local ensemble transform filter."""
    tuned = equipment.settings(case)
    return run_letkf_storm(
        case,
        equipment.prior,
        equipment.model.config.spacing,
        tuned.letkf_storm,
        tuned.letkf_storm_forecast,
        generator_of(case),
    )


def oi(case: Case, equipment: Equipment) -> Iterator[GaussianAnalysis]:
    """Interpolate between damped persistence and observations with the climate's covariance."""
    settings = equipment.settings(case).oi
    if is_dense(case.network):
        return run_dense_interpolation(case, equipment.climate, settings)
    return run_interpolation(case, equipment.climate, settings)


def forecast(case: Case, equipment: Equipment) -> Iterator[Tensor]:
    """Run the true model from the initial ensemble, without observations."""
    hours = case.config.hours
    return run_forecast(case, lambda x: equipment.model.forecast(x, hours=hours))


def climatology(case: Case, equipment: Equipment) -> Iterator[GaussianAnalysis]:
    """Say what is known without model and observations: the climate's mean and variance."""
    mean = equipment.climate.background()
    variance = equipment.climate.covariance().diagonal().reshape(mean.shape)
    for _ in range(case.config.cycles):
        yield GaussianAnalysis(mean, variance)


Method = Callable[[Case, Equipment], Iterator[Tensor] | Iterator[GaussianAnalysis]]
"""Yields the analysis of every cycle: an ensemble (members, 2, rows, cols) or a Gaussian."""

METHODS: MappingProxyType[str, Method] = MappingProxyType(
    {
        "storm": storm,
        "letkf": letkf,
        "letkf-storm": letkf_storm,
        "oi": oi,
        "forecast": forecast,
        "climatology": climatology,
    }
)
"""The methods by the names in the table."""


def generator_of(case: Case) -> torch.Generator:
    """Return the source of a method's noise, a stream that follows from the case's seed."""
    return torch.Generator().manual_seed(case.config.seed)


def _files(weights: Path | None) -> tuple[Traversable, Traversable]:
    """Return where prior and climatology are."""
    if weights is None:
        shipped = files("stormda.storm") / "weights"
        return shipped / "sqg.safetensors", shipped / "sqg_climatology.safetensors"
    return weights / "prior.safetensors", weights / "climatology.safetensors"
