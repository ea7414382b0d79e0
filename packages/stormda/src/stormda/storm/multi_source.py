"""Train priors of several sources of fields together, in a folder that can be taken up again.

    DIR/sources.toml              the sources, and how many samples of a batch are of each
    DIR/training.csv              loss of every step, over all sources
    DIR/throughput.csv            how fast steps are
    DIR/validation.csv            losses on validation periods, of those sources that have one
    DIR/trials.csv                scores of assimilations of them, where they are asked for
    DIR/best/                     the weights that did best, by the mean over those sources
    DIR/checkpoints/              what a resumed run starts from
    DIR/NAME/config.toml          recipe and inputs of a source, with their checksums
    DIR/NAME/prior.safetensors    its result, a prior like any other

A source is a data set with variables, a grid and a step of its own. All priors have one trunk
(`shared_trunk`), which learns from every source in every step, so that years of one may serve
another of which there are weeks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import torch

from stormda.io import Store
from stormda.parallel import StartedMesh
from stormda.storm.network import StormNetwork
from stormda.storm.prior_training import (
    PRIOR,
    chosen_weights,
    claim_folder,
    clear_folder,
    new_network,
    run_judged,
    trained_prior,
    trial_of,
    validations,
)
from stormda.storm.settings import first_difference, plain, read_settings, write_settings
from stormda.storm.shared_trunk import SharedTrunk
from stormda.storm.source_recipes import MultiSourceRecipe
from stormda.storm.training import Progress, Trainer
from stormda.storm.training_data import TrainingData, load_training_data
from stormda.storm.training_mesh import fill_whole
from stormda.storm.validation import DenoisingLoss, MeanOf, Validation


def fit_priors(
    recipe: MultiSourceRecipe,
    stores: Mapping[str, Store],
    folder: Path,
    *,
    device: torch.device,
    mesh: StartedMesh | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> bool:
    """Train the priors of several sources together, from what a folder holds already.

    Args:
        recipe: The settings.
        stores: The files of every source.
        folder: For the results; see the module.
        device: Where to compute.
        mesh: Ranks that train them together; None for one process. A run may go on on another.
        overwrite: Whether what an earlier run left in the folder may be removed.
        progress: Called after every step.
        interrupted: Polled after every step.

    Returns:
        Whether they are finished; False where `interrupted` stopped the run.

    Raises:
        FileExistsError: Where the folder holds finished priors.
        ValueError: Where files and recipe do not fit together, the folder holds another run, or
            the mesh does not fit grids and networks.
    """
    if list(stores) != list(recipe.sources):
        raise ValueError(f"stores: expected those of {list(recipe.sources)}, got {list(stores)}")
    mesh = StartedMesh.alone(device) if mesh is None else mesh
    inputs = {name: store.sha256() for name, store in stores.items()}
    data = {
        name: load_training_data(one, stores[name], device, mesh)
        for name, one in recipe.sources.items()
    }
    networks = _new_networks(recipe, data, mesh).to(device)
    if mesh.rank == 0:
        _claim(folder, recipe, inputs, overwrite=overwrite)
    mesh.world.barrier()
    samples = {name: (data[name].training, n) for name, n in recipe.batches.items()}
    trainer = Trainer(networks, samples, recipe.training, directory=folder, mesh=mesh)
    trainer.resume()
    judged = _validations(recipe, data, trainer, networks, folder)
    if not run_judged(
        trainer, judged, recipe.judging.trial.patience, folder, progress, interrupted
    ):
        return False
    chosen, prefix = chosen_weights(trainer, judged)  # all ranks look at it together
    if mesh.rank == 0:
        whole = fill_whole(_new_networks(recipe, data), chosen, prefix).each
        for name, one in recipe.sources.items():
            prior = trained_prior(whole[name], one, data[name], inputs[name])
            prior.save(folder / name / PRIOR)
    mesh.world.barrier()
    return True


def _validations(
    recipe: MultiSourceRecipe,
    data: Mapping[str, TrainingData],
    trainer: Trainer,
    networks: SharedTrunk,
    folder: Path,
) -> list[Validation]:
    """Return what judges a run, of the sources with a validation period; the last one chooses."""
    tasks = dict(zip(recipe.sources, trainer.tasks, strict=True))
    losses = {
        name: DenoisingLoss(tasks[name], one.validation, trainer.config)
        for name, one in data.items()
        if one.validation is not None
    }
    if not losses:
        return []
    trials = {
        name: trial_of(one, data[name], networks.each[name])
        for name, one in recipe.sources.items()
        if one.trial.every
    }
    trial = MeanOf(trials) if trials else None
    return validations(recipe.judging, trainer, folder, MeanOf(losses), trial)


def _new_networks(
    recipe: MultiSourceRecipe, data: Mapping[str, TrainingData], mesh: StartedMesh | None = None
) -> SharedTrunk:
    """Return the networks that a run starts from, the same for the same seed on any mesh."""
    networks: dict[str, StormNetwork] = {
        name: new_network(one, data[name], mesh) for name, one in recipe.sources.items()
    }
    return SharedTrunk(networks)


def _claim(
    folder: Path,
    recipe: MultiSourceRecipe,
    inputs: Mapping[str, Mapping[str, str]],
    *,
    overwrite: bool,
) -> None:
    """Take a folder for a run, or go on in it if it is the same run and is not finished."""
    record, run = folder / "sources.toml", plain({"batch": recipe.batches})
    if overwrite:
        clear_folder(folder)
        record.unlink(missing_ok=True)
    if record.exists():
        if difference := first_difference(read_settings(record), run):
            raise ValueError(
                f"{folder}: expected the run that was begun there, with {difference} "
                "(pass --overwrite to train anew)"
            )
        priors = [folder / name / PRIOR for name in recipe.sources]
        if not all(path.exists() for path in priors):
            for path in priors:  # of a run that was killed while it wrote them
                path.unlink(missing_ok=True)
    for name, one in recipe.sources.items():
        claim_folder(folder / name, one, dict(inputs[name]), overwrite=overwrite)
    write_settings(record, run)
