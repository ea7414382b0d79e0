"""Train the prior of the sphere on its own simulation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from stormda.grid import grid
from stormda.storm.normalization import Normalization
from stormda.storm.prior import Storm
from stormda.storm.provenance import provenance
from stormda.storm.recipes import SphereRecipe
from stormda.storm.sphere.cells import OnCells, SamplesOnCells
from stormda.storm.sphere.flow import GlobalFlow
from stormda.storm.training import Progress, Trainer
from stormda.storm.twin.archive import Archive, kept_archive, make_archive
from stormda.storm.twin.archive_modes import starting_network
from stormda.storm.twin.samples import ArchivedSamples


def interpolation_of(recipe: SphereRecipe) -> OnCells | None:
    """Return what takes the fields of the flow to the cells of the prior, if they are others."""
    flow = GlobalFlow(recipe.flow).grid
    return None if recipe.grid is None else OnCells(flow, grid(recipe.grid))


def fit_archive(archive: Archive) -> Normalization:
    """Return the statistics of an archive: the climate does not know longitude or hemisphere.

    The mean is that of each latitude; northward wind, odd about the equator, has none.
    """
    truth = archive.truth.double()
    mean = truth.mean(dim=(0, 1, 4), keepdim=True)[0, 0]
    mean = (mean + mirrored(mean)) / 2
    std = (truth - mean).square().mean(dim=(0, 1, 3, 4)).sqrt()[:, None, None]
    change = truth.diff(dim=1).square().mean(dim=(0, 1, 3, 4)).sqrt()[:, None, None]
    return Normalization(mean.float(), std.float(), (change / std).float())


def mirrored(fields: Tensor) -> Tensor:
    """Exchange the hemispheres of fields (..., 3, rows, cols): northward wind changes sign."""
    return fields.flip(-2) * fields.new_tensor([1.0, -1.0, 1.0])[:, None, None]


def move_on_sphere(fields: Tensor, g: torch.Generator) -> Tensor:
    """Turn every sample (size, frames, 3, rows, cols) about the axis, and mirror half of them.

    Examples:
        >>> x = torch.rand(4, 3, 3, 8, 16)
        >>> moved = move_on_sphere(x, torch.Generator().manual_seed(0))
        >>> torch.allclose(moved.square().sum(dim=(1, 2, 3, 4)), x.square().sum(dim=(1, 2, 3, 4)))
        True
    """
    size, cols = len(fields), fields.shape[-1]
    shift = torch.randint(cols, (size, 1), generator=g)
    column = (torch.arange(cols) + shift) % cols
    fields = fields.gather(-1, column[:, None, None, None].expand_as(fields))
    other = torch.rand(size, 1, 1, 1, 1, generator=g) < 0.5
    return torch.where(other, mirrored(fields), fields)


def train_sphere(
    recipe: SphereRecipe,
    directory: Path,
    *,
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Storm | None:
    """Run the recipe to its end and write `prior.safetensors`.

    A directory that already holds the archive or checkpoints of the recipe is gone on with.

    Args:
        recipe: The settings.
        directory: For the archive, checkpoints, the log and the prior.
        progress: Called after every step.
        interrupted: Polled after every step.

    Returns:
        The prior, or None where `interrupted` stopped the run.
    """
    archive = archive_of(recipe, directory)
    normalization = fit_archive(archive)
    samples = ArchivedSamples(
        archive,
        normalization,
        recipe.errors,
        history=recipe.network.history,
        seed=recipe.training.seed,
        move=move_on_sphere,
        unit=normalization.std,
    )
    on = interpolation_of(recipe)
    source = samples if on is None else SamplesOnCells(samples, on)
    cells = GlobalFlow(recipe.flow).grid if on is None else on.target
    network = starting_network(
        recipe, cells, archive, source.normalization, move=move_on_sphere, on=on
    )
    metadata = {"recipe": asdict(recipe)}
    trainer = Trainer(network, source, recipe.training, directory=directory, metadata=metadata)
    trainer.resume()
    begun = time.time()
    if not trainer.run(progress=progress, interrupted=interrupted):
        return None
    record = provenance(recipe, seconds_of_last_run=round(time.time() - begun))
    prior = Storm(trainer.averaged(), source.normalization, recipe.archive.step_hours, record)
    prior.save(directory / "prior.safetensors", dtype=torch.float16)
    return prior


def archive_of(recipe: SphereRecipe, directory: Path) -> Archive:
    """Load the recipe's archive from the directory, or simulate and keep it there.

    Raises:
        ValueError: Where the archive in the directory was made with other settings.
    """
    flow = GlobalFlow(recipe.flow)
    make = partial(make_archive, recipe.archive, flow, disturb=flow.disturb)
    return kept_archive(recipe.archive, directory, make)
