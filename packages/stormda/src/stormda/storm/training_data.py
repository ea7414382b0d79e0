"""What a recipe learns from: the frames of its training period, as samples.

A recipe with a coarsening learns what fine fields are like given coarse ones; any other, what
comes next given what was.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from stormda.grid import LatLonGrid, PlaneGrid
from stormda.io import Store
from stormda.storm.downscaling.coarsening import Coarsening, trimmed
from stormda.storm.downscaling.pairs import CoarsePairs, fit_residuals
from stormda.storm.files import FileHistories, fit_normalization
from stormda.storm.frames import Frames, read_frames
from stormda.storm.modes import Modes
from stormda.storm.real_recipes import FileRecipe
from stormda.storm.superposition import Superposition


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Samples for training and validation, and what is known of the fields."""

    training: FileHistories
    validation: FileHistories | None
    mask: Tensor | None
    """True where the fields are always known, (variables, rows, cols); None for everywhere."""

    grid: LatLonGrid | PlaneGrid
    step_hours: float
    units: tuple[str, ...]


def load_training_data(
    recipe: FileRecipe, store: Store, device: torch.device | str
) -> TrainingData:
    """Read what a recipe learns from.

    Raises:
        ValueError: Where a variable is not there, or a period holds no sample.
    """
    everything = read_frames(store, recipe.network.variables)
    if recipe.coarsening > 1:
        everything = trimmed(everything, recipe.coarsening)
    step_hours = everything.step_hours()
    frames = _period(everything, recipe.split.training(everything.times), "training")
    mask = None if bool(frames.valid.all()) else frames.valid.all(0)
    make = _pairs if recipe.coarsening > 1 else _histories
    source = make(recipe, frames, mask, step_hours, device)
    modes = None
    if recipe.network.modes:
        exact = source(frames, exact=True, superposition=recipe.superposition)
        modes = exact.fit_modes(recipe.network.modes)
    held_back = None
    if recipe.split.validation_hours:
        chosen = recipe.split.validation(everything.times)
        part = _period(everything, chosen, "validation")
        held_back = source(part, modes=modes)
    return TrainingData(
        training=source(frames, superposition=recipe.superposition, modes=modes),
        validation=held_back,
        mask=mask,
        grid=frames.grid,
        step_hours=step_hours,
        units=frames.units,
    )


class _Source(Protocol):
    """Makes the samples of a period."""

    def __call__(
        self,
        part: Frames,
        *,
        exact: bool = False,
        superposition: Superposition | None = None,
        modes: Modes | None = None,
    ) -> FileHistories: ...


def _histories(
    recipe: FileRecipe,
    frames: Frames,
    mask: Tensor | None,
    step_hours: float,
    device: torch.device | str,
) -> _Source:
    """Return what makes samples of what comes next, normalised as the training period is."""
    del mask
    normalization = fit_normalization(frames, step_hours)

    def source(part: Frames, *, exact: bool = False, **settings: Any) -> FileHistories:  # noqa: ANN401
        return FileHistories(
            part,
            recipe.network.history,
            normalization,
            targets=recipe.network.targets,
            error=None if exact else recipe.error,
            step_hours=step_hours,
            **_shared(recipe, device),
            **settings,
        )

    return source


def _pairs(
    recipe: FileRecipe,
    frames: Frames,
    mask: Tensor | None,
    step_hours: float,
    device: torch.device | str,
) -> _Source:
    """Return what makes samples of fine fields given coarse ones."""
    del step_hours
    coarsening = Coarsening(frames.grid, recipe.coarsening, mask)
    normalization = fit_residuals(frames, coarsening, relative=recipe.relative)

    def source(part: Frames, *, exact: bool = False, **settings: Any) -> FileHistories:  # noqa: ANN401
        del exact  # coarse means always are
        return CoarsePairs(
            part,
            coarsening,
            normalization,
            relative=recipe.relative,
            **_shared(recipe, device),
            **settings,
        )

    return source


def _shared(recipe: FileRecipe, device: torch.device | str) -> dict[str, Any]:
    """Return the settings that all kinds of samples have."""
    return {
        "clock": recipe.network.clock,
        "season": recipe.season,
        "seed": recipe.training.seed,
        "device": device,
    }


def _period(frames: Frames, chosen: Any, name: str) -> Frames:  # noqa: ANN401
    if not len(chosen):
        raise ValueError(
            f"split: expected frames in the {name} period, got none between "
            f"{frames.times[0]} and {frames.times[-1]}"
        )
    return frames.select(np.asarray(chosen))
