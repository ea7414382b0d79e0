"""Recipes: functions that return the complete settings of a run.

A run is one of these, changed field by field with `dataclasses.replace` or `--set field=value`.
Seeds of training (1-99), tuning (100-199) and evaluation (200-299) never meet.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from types import MappingProxyType

from stormda.assimilation.systems import SQGConfig
from stormda.storm.config import StormConfig
from stormda.storm.training import TrainingConfig
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
            encoder_depth=6,
            depth=2,
        )
    )
    """The network."""

    archive: ArchiveConfig = field(default_factory=ArchiveConfig)
    """The simulation that samples are drawn from."""

    errors: PastErrors = field(default_factory=PastErrors)
    """How wrong the past of a sample is."""

    model: SQGConfig = field(default_factory=SQGConfig)
    """The flow."""

    training: TrainingConfig = field(
        default_factory=lambda: TrainingConfig(
            steps=6_000,
            batch=16,
            learning_rate=1.5e-3,
            ema=0.998,
            bfloat16=True,
            compile=True,
            seed=1,
        )
    )
    """How it is fitted."""


def sqg() -> SqgRecipe:
    """Return the recipe of the shipped demo prior: 64 x 64 x 2 points, every 12 hours."""
    return SqgRecipe()


RECIPES: MappingProxyType[str, Callable[[], SqgRecipe]] = MappingProxyType({"sqg": sqg})
"""Recipes by the name that the command line knows."""
