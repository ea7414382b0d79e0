"""Recipes for priors of fields that the user brings, by the name that the command line knows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from types import MappingProxyType

from stormda.storm.config import StormConfig
from stormda.storm.disturbance import HistoryError
from stormda.storm.files import Split
from stormda.storm.ladder import SIZES, ladder
from stormda.storm.objective import NoiseLevels
from stormda.storm.superposition import Superposition
from stormda.storm.training_config import TrainingConfig
from stormda.storm.trial import TrialConfig


@dataclass(frozen=True, kw_only=True)
class FileRecipe:
    """A prior of fields from files."""

    network: StormConfig
    """The network, with the variables to learn."""

    split: Split = field(default_factory=Split)
    """Which times it may learn from."""

    error: HistoryError = field(default_factory=HistoryError)
    """Errors put on the histories of samples."""

    superposition: Superposition = field(default_factory=Superposition)
    """How samples are superposed."""

    coarsening: int = 1
    """Cells along each side of the blocks whose means are given, for downscaling; 1 for a prior of
    what comes next."""

    relative: bool = False
    """Whether, for downscaling, every field is taken relative to the mean of its own coarse field
    and to the differences in it: where some places or days are much livelier than others, as in
    the sea; it then does not know the climate."""

    season: bool = True
    """Whether the clock tells the phase of the year; off where no whole year is learned from."""

    training: TrainingConfig = field(default_factory=TrainingConfig)
    """How it is fitted."""

    validate_every: int = 250
    """Steps between losses on the validation period, where there is one; the weights of the
    smallest loss are kept."""

    trial: TrialConfig = field(default_factory=TrialConfig)
    """Assimilations of the validation period, which choose the weights in place of the loss and
    can end the training."""

    streamed: bool = False
    """Whether every process reads its part of a batch from the files when it is needed, and holds
    no more of the training period in memory; else all hold all frames."""

    def __post_init__(self) -> None:
        self._require_streamable()
        if self.trial.every and not self.split.validation_hours:
            raise ValueError("split.validation_hours: expected some for trials, got 0")
        if self.trial.every and self.coarsening > 1:
            raise ValueError("trial.every: expected 0 for downscaling, which has no cycles")
        if self.network.transport:
            raise ValueError(
                "network.transport: expected 0 for files, as laws of motion are fitted to "
                f"simulations, got {self.network.transport}"
            )
        if self.validate_every < 1:
            raise ValueError(f"validate_every: expected at least 1, got {self.validate_every}")
        if self.coarsening < 1:
            raise ValueError(f"coarsening: expected at least 1, got {self.coarsening}")
        if self.relative and self.coarsening == 1:
            raise ValueError("relative: expected False but for downscaling, got True")
        if self.coarsening > 1 and self.network.history != 1:
            raise ValueError(
                "network.history: expected 1 for downscaling, the coarse field, "
                f"got {self.network.history}"
            )
        if self.coarsening > 1 and self.network.targets != 1:
            raise ValueError(
                f"network.targets: expected 1 for downscaling, got {self.network.targets}"
            )

    def _require_streamable(self) -> None:
        """Refuse what needs all frames in memory, where none are held."""
        wants = {
            "coarsening": self.coarsening > 1,
            "network.modes": self.network.modes > 0,
            "network.waves": self.network.waves,
            "superposition.share": self.superposition.share > 0,
        }
        if self.streamed and any(wants.values()):
            names = ", ".join(name for name, wanted in wants.items() if wanted)
            raise ValueError(f"streamed: expected False with {names}, which need all frames")


def fields(variables: tuple[str, ...]) -> FileRecipe:
    """Return the starting point for years of data: 256 x 6 + 4 blocks, K = 2, with the season."""
    return FileRecipe(
        network=StormConfig(
            variables=variables, width=256, heads=8, encoder_depth=6, depth=4, clock=True
        )
    )


def globe(variables: tuple[str, ...]) -> FileRecipe:
    """Return the starting point for the whole globe, such as years of WeatherBench.

    Cells count by area, as in the scores; of the last quarter of a year, every 1000 steps,
    observations are made up and assimilated, and the weights with the best analyses are kept.
    """
    start = fields(variables)
    return replace(
        start,
        network=replace(start.network, patch=(2, 2)),
        training=replace(start.training, area_weights=True),
        split=Split(validation_hours=24.0 * 90, embargo_hours=24.0 * 5),
        trial=TrialConfig(every=1_000, patience=5),
    )


def era5_uk(variables: tuple[str, ...]) -> FileRecipe:
    """Return the recipe for some weeks of one variable on a small regional grid, on a CPU.

    The steps are those after which the loss on held-back days stopped falling; with so few days,
    none can then be spared for holding back.
    """
    return FileRecipe(
        network=StormConfig(
            variables=variables,
            history=5,
            patch=(4, 4),
            width=64,
            heads=4,
            encoder_depth=2,
            depth=2,
            clock=True,
            modes=300,
        ),
        error=HistoryError(smallest=0.02, exact=0.05),
        superposition=Superposition(share=0.9, wander=1.0, length=12.0),
        season=False,
        training=TrainingConfig(
            steps=900,
            batch=16,
            learning_rate=5e-4,
            warmup=100,
            weight_decay=0.1,
            ema=0.995,
            noise=NoiseLevels(mean=0.7, spread=1.6),
            checkpoint_every=150,
            seed=1,
        ),
    )


def small(variables: tuple[str, ...]) -> FileRecipe:
    """Return a recipe to try things out with: minutes on a laptop, some hundreds of frames."""
    return FileRecipe(
        network=StormConfig(
            variables=variables,
            patch=(2, 2),
            width=64,
            heads=4,
            encoder_depth=2,
            depth=2,
            clock=True,
        ),
        season=False,
        training=TrainingConfig(
            steps=500, batch=16, warmup=50, learning_rate=1e-3, checkpoint_every=250, seed=1
        ),
    )


def downscaling(variables: tuple[str, ...]) -> FileRecipe:
    """Return the recipe for refining fields four times, from some hundred of them, on a CPU."""
    start = era5_uk(variables)
    return replace(
        start,
        network=replace(start.network, history=1, modes=200),
        superposition=Superposition(share=0.5, wander=1.0, length=12.0),
        coarsening=4,
        training=replace(start.training, noise=NoiseLevels(mean=-0.3, spread=1.6)),
    )


def at_size(variables: tuple[str, ...], *, size: str) -> FileRecipe:
    """Return the starting point for a network of the ladder, for accelerators.

    Blocks keep their inputs only and compute in bfloat16. The learning rates fall with the size as
    those of ORBIT-2 do; they were not tuned here.

    Source: Wang et al. (2025), ORBIT-2, https://arxiv.org/abs/2505.04802
    """
    start = fields(variables)
    rate = {"10M": 1e-3, "200M": 5e-4, "10B": 2e-4}[size]
    training = replace(start.training, learning_rate=rate, bfloat16=True, recompute=True)
    return replace(start, network=ladder(size, variables), training=training)


FILE_RECIPES: MappingProxyType[str, Callable[[tuple[str, ...]], FileRecipe]] = MappingProxyType(
    {
        "fields": fields,
        "small": small,
        "globe": globe,
        "era5-uk": era5_uk,
        "downscaling": downscaling,
        **{size: partial(at_size, size=size) for size in SIZES},
    }
)
"""Recipes by name; each takes the names of the variables."""
