"""Train the prior of the twin experiment on its own simulation."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path

import torch

from stormda.assimilation.systems import SQG
from stormda.grid import PlaneGrid
from stormda.parallel import StartedMesh
from stormda.storm.normalization import Normalization
from stormda.storm.prior import Storm
from stormda.storm.provenance import provenance
from stormda.storm.recipes import SqgRecipe
from stormda.storm.training import Progress, Trainer
from stormda.storm.twin.archive import Archive, kept_archive, make_archive
from stormda.storm.twin.archive_modes import starting_network
from stormda.storm.twin.case import THETA_STD
from stormda.storm.twin.climatology import Climatology
from stormda.storm.twin.samples import ArchivedSamples

PERSISTENCE_ERROR = 6.5
"""Root mean square change of theta in 12 hours [K], the unit of an increment."""


def sqg_grid(recipe: SqgRecipe) -> PlaneGrid:
    """Return the doubly periodic plane of the recipe's flow."""
    n, spacing = recipe.model.points, recipe.model.spacing
    return PlaneGrid((n, n), spacing_m=(spacing, spacing), periodic=(True, True))


def sqg_normalization() -> Normalization:
    """Return the statistics of theta: the same for both boundaries, which mirror each other."""
    one = torch.ones(2, 1, 1)
    return Normalization(
        mean=0 * one, std=THETA_STD * one, increment=PERSISTENCE_ERROR / THETA_STD * one
    )


def train_sqg(
    recipe: SqgRecipe,
    directory: Path,
    *,
    mesh: StartedMesh | None = None,
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Storm | None:
    """Run the recipe to its end and write `prior.safetensors` and `climatology.safetensors`.

    A directory that already holds the archive or checkpoints of the recipe is gone on with.

    Args:
        recipe: The settings.
        directory: For the archive, checkpoints, the log and the two files.
        mesh: Ranks that share every batch (axis replica); None for one process.
        progress: Called after every step.
        interrupted: Polled after every step.

    Returns:
        The prior, or None where `interrupted` stopped the run.
    """
    directory.mkdir(parents=True, exist_ok=True)
    archive = archive_of(recipe, directory)
    source = ArchivedSamples(
        archive,
        sqg_normalization(),
        recipe.errors,
        history=recipe.network.history,
        seed=recipe.training.seed,
    )
    network = starting_network(recipe, sqg_grid(recipe), archive, source.normalization)
    trainer = Trainer(
        network,
        source,
        recipe.training,
        directory=directory,
        mesh=mesh,
        metadata={"recipe": asdict(recipe)},
    )
    trainer.resume()
    begun = time.time()
    if not trainer.run(progress=progress, interrupted=interrupted):
        return None
    prior = Storm(
        trainer.averaged(),
        source.normalization,
        recipe.archive.step_hours,
        provenance(recipe, seconds_of_last_run=round(time.time() - begun)),
    )
    if mesh is None or mesh.rank == 0:
        frames = archive.truth[:, :: 4 * archive.config.stride].flatten(0, 1)
        Climatology.from_states(frames).save(directory / "climatology.safetensors")
        prior.save(directory / "prior.safetensors", dtype=torch.float16)
    return prior


def archive_of(recipe: SqgRecipe, directory: Path) -> Archive:
    """Load the recipe's archive from the directory, or simulate and keep it there.

    Raises:
        ValueError: Where the archive in the directory was made with other settings.
    """
    make = partial(make_archive, recipe.archive, SQG(recipe.model))
    return kept_archive(recipe.archive, directory, make)
