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

from stormda.grid import LatLonGrid, Patching, PlaneGrid
from stormda.io import Store
from stormda.parallel import StartedMesh
from stormda.storm.downscaling.coarsening import Coarsening, trimmed
from stormda.storm.downscaling.pairs import CoarsePairs, fit_residuals
from stormda.storm.field_share import FieldShare
from stormda.storm.files import FileHistories, fit_normalization
from stormda.storm.frames import Frames, Indices, Times, grid_of, read_frames, usual_step
from stormda.storm.level_fields import units_of
from stormda.storm.modes import Directions
from stormda.storm.real_recipes import FileRecipe
from stormda.storm.streamed import OwnFrames, StreamedHistories, fit_streamed
from stormda.storm.superposition import Superposition
from stormda.storm.token_layout import has_poles
from stormda.storm.training_mesh import samples_comm


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Samples for training and validation, and what is known of the fields."""

    training: FileHistories | StreamedHistories
    validation: FileHistories | None
    mask: Tensor | None
    """True where the fields are always known, (variables, rows, cols); None for everywhere."""

    grid: LatLonGrid | PlaneGrid
    step_hours: float
    units: tuple[str, ...]

    modes: Directions | None = None
    """What the fields of the training period vary along, where the recipe has modes."""


def load_training_data(
    recipe: FileRecipe,
    store: Store,
    device: torch.device | str,
    mesh: StartedMesh | None = None,
) -> TrainingData:
    """Read what a recipe learns from.

    Args:
        recipe: The settings.
        store: The files.
        device: Where samples shall be.
        mesh: Ranks that share them, all of which call this; those of a streamed recipe read their
            part only. None for one process.

    Raises:
        ValueError: Where a variable is not there, or a period holds no sample.
    """
    if recipe.streamed:
        return _streamed(recipe, store, device, mesh)
    everything = read_frames(store, recipe.network.variables)
    if recipe.coarsening > 1:
        everything = trimmed(everything, recipe.coarsening)
    step_hours = everything.step_hours()
    frames = _period(everything, recipe.split.training(everything.times), "training")
    mask = None if bool(frames.valid.all()) else frames.valid.all(0)
    make = _pairs if recipe.coarsening > 1 else _histories
    source = make(recipe, frames, mask, step_hours, device)
    modes = None
    if recipe.network.modes or recipe.network.waves:
        exact = source(frames, exact=True, superposition=recipe.superposition)
        modes = exact.fit_modes(recipe.network)
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
        modes=modes,
    )


def _streamed(
    recipe: FileRecipe, store: Store, device: torch.device | str, mesh: StartedMesh | None
) -> TrainingData:
    """Return samples that are read when they are needed; those for validation are held."""
    network = recipe.network
    whole = Patching(grid_of(store), patch=network.patch)
    share = FieldShare(whole, mesh, poles=has_poles(whole))
    index = recipe.split.training(store.times)
    _require(index, store.times, "training")
    step_hours = usual_step(store.times)
    frames = OwnFrames(store, network.variables, index, share)
    known = fit_streamed(frames, step_hours, None if mesh is None else samples_comm(mesh))
    source = StreamedHistories(
        frames,
        network.history,
        known.normalization,
        targets=network.targets,
        error=recipe.error,
        step_hours=step_hours,
        complete=known.always is None,
        **_shared(recipe, device),
    )
    held_back = None
    if recipe.split.validation_hours:
        chosen = recipe.split.validation(store.times)
        _require(chosen, store.times, "validation")
        later = store.times[chosen]
        held_back = FileHistories(
            read_frames(store, network.variables, start=later[0], end=later[-1]),
            network.history,
            known.normalization,
            targets=network.targets,
            error=recipe.error,
            step_hours=step_hours,
            **_shared(recipe, device),
        )
    return TrainingData(
        training=source,
        validation=held_back,
        mask=known.always,
        grid=frames.grid,
        step_hours=step_hours,
        units=tuple(units_of(store, name) for name in network.variables),
    )


class _Source(Protocol):
    """Makes the samples of a period."""

    def __call__(
        self,
        part: Frames,
        *,
        exact: bool = False,
        superposition: Superposition | None = None,
        modes: Directions | None = None,
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


def _period(frames: Frames, chosen: Indices, name: str) -> Frames:
    _require(chosen, frames.times, name)
    return frames.select(np.asarray(chosen))


def _require(chosen: Indices, times: Times, name: str) -> None:
    """Refuse a period without a frame."""
    if not len(chosen):
        raise ValueError(
            f"split: expected frames in the {name} period, got none between "
            f"{times[0]} and {times[-1]}"
        )
