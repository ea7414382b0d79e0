"""Recipes: functions that return the complete settings of a run.

A run is one of these, changed field by field with `dataclasses.replace` or `--set field=value`.
Seeds of training (1-99), tuning (100-199) and evaluation (200-299) never meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from stormda.assimilation.systems import SQGConfig
from stormda.storm.config import StormConfig
from stormda.storm.objective import NoiseLevels
from stormda.storm.sphere.flow import VARIABLES, FlowConfig
from stormda.storm.training_config import TrainingConfig
from stormda.storm.transport_fit import FitSettings
from stormda.storm.twin.archive import ArchiveConfig
from stormda.storm.twin.samples import PastErrors


@dataclass(frozen=True, kw_only=True)
class SqgRecipe:
    """A prior of surface quasi-geostrophic turbulence, trained on its own simulation."""

    network: StormConfig = field(
        default_factory=lambda: StormConfig(
            variables=("theta_lower", "theta_upper"),
            width=128,
            heads=4,
            encoder_depth=4,
            depth=2,
            waves=True,
            transport=16,
        )
    )
    """The network."""

    law: FitSettings = field(default_factory=FitSettings)
    """How its law of motion is fitted, if it has one."""

    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    """The simulation that samples are drawn from."""

    errors: PastErrors = field(default_factory=PastErrors)
    """How wrong the past of a sample is."""

    model: SQGConfig = field(default_factory=SQGConfig)
    """The flow."""

    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            steps=3_000,
            batch=16,
            learning_rate=1.5e-3,
            optimizer="muon",
            noise=NoiseLevels(mean=-1.8, spread=1.5),
            ema=0.998,
            bfloat16=True,
            seed=1,
        )
    )
    """How it is fitted. Noise levels reach down to departures from a law of motion, which are
    small where the past is well known."""


def sqg() -> SqgRecipe:
    """Return the recipe of the shipped demo prior: 64 x 64 x 2 points, every 12 hours.

    An hour of one core.
    """
    return SqgRecipe()


@dataclass(frozen=True, kw_only=True)
class SphereRecipe:
    """A prior of shallow water on the sphere: u, v and h together, every 12 hours."""

    network: StormConfig = field(
        default_factory=lambda: StormConfig(
            variables=VARIABLES, width=96, heads=4, encoder_depth=4, depth=2, modes=500
        )
    )
    """The network."""

    flow: FlowConfig = field(default_factory=FlowConfig)
    """The flow."""

    archive: ArchiveConfig = field(
        default_factory=lambda: ArchiveConfig(
            runs=64,
            together=32,
            spin_up_days=8.0,
            days=16.0,
            every_hours=12.0,
            smallest_error=0.1,
            largest_error=4.0,
        )
    )
    """The simulation that samples are drawn from; errors in m s-1 of balanced wind."""

    errors: PastErrors = field(
        default_factory=lambda: PastErrors(factor=(0.1, 1.3), amplitude=(0.002, 0.4))
    )
    """How wrong the past of a sample is; amplitudes in standard deviations."""

    grid: str | None = None
    """The list of cells that the prior lives on, by name; None for the grid of the flow."""

    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            steps=5_000,
            batch=16,
            learning_rate=2e-3,
            optimizer="muon",
            ema=0.998,
            polar_weight=0.4,
            bfloat16=True,
            seed=1,
        )
    )
    """How it is fitted."""


def sphere() -> SphereRecipe:
    """Return the recipe of the globe: 32 x 64 Gaussian points, about half an hour of one core."""
    return SphereRecipe()


def sphere_healpix() -> SphereRecipe:
    """Return a recipe for the fields interpolated to 3072 cells of HEALPix.

    Where all cells are of one size, fewer of them are near the poles.
    """
    start = sphere()
    training = replace(start.training, steps=3_000, polar_weight=0.5)
    return replace(start, grid="healpix16", training=training)


RECIPES: MappingProxyType[str, Callable[[], SqgRecipe | SphereRecipe]] = MappingProxyType(
    {"sqg": sqg, "sphere": sphere, "sphere-healpix": sphere_healpix}
)
"""Recipes of simulated flows by name."""
