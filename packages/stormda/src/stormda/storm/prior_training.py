"""Train a prior on files, in a folder that can be taken up again after any interruption.

    DIR/config.toml         the recipe and the inputs, with their checksums
    DIR/training.csv        loss of every step
    DIR/throughput.csv      how fast steps are, and how much of the device they use
    DIR/validation.csv      loss on the validation period, where there is one
    DIR/trials.csv          scores of assimilations of that period, where they are asked for
    DIR/checkpoints/        what a resumed run starts from
    DIR/best/               the weights that did best on the validation period
    DIR/prior.safetensors   the result: averaged weights, statistics, grid, provenance

The same command in the same folder goes on where the last one stopped, and ends with the same
numbers as one that was never stopped.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from stormda.io import Store
from stormda.parallel import PartsCheckpoint, StartedMesh
from stormda.storm.config import from_dict, to_dict
from stormda.storm.network import StormNetwork
from stormda.storm.prior import Storm
from stormda.storm.provenance import provenance
from stormda.storm.real_recipes import FileRecipe
from stormda.storm.settings import first_difference, plain, read_settings, write_settings
from stormda.storm.throughput import Throughput
from stormda.storm.training import AVERAGE, Progress, Trainer
from stormda.storm.training_data import TrainingData, load_training_data
from stormda.storm.training_mesh import fill_whole
from stormda.storm.trial import Trial
from stormda.storm.validation import DenoisingLoss, Judge, Validation

PRIOR = "prior.safetensors"
"""Name of the result in the folder of a run."""

BEST = "best"
"""Name of the folder with the weights that did best on the validation period."""

_OWN = ("config.toml", "training.csv", "validation.csv", "trials.csv", "throughput.csv", PRIOR)


def claim_folder(
    folder: Path, recipe: FileRecipe, inputs: dict[str, Any], *, overwrite: bool
) -> None:
    """Take a folder for a run, or go on in it if it is the same run and is not finished.

    A run that an older version began lacks settings that are newer: it has their defaults.

    Args:
        folder: Where the run shall live.
        recipe: Its settings.
        inputs: The checksums of its files.
        overwrite: Whether what an earlier run left there may be removed.

    Raises:
        FileExistsError: Where a finished run is there.
        ValueError: Where a run with other settings is there, or with settings that this version
            does not have.
    """
    run = {"recipe": to_dict(recipe), "inputs": inputs}
    if overwrite:
        clear_folder(folder)
    if (folder / PRIOR).exists():
        raise FileExistsError(
            f"{folder}: expected a folder without a finished prior, got one with {PRIOR} "
            "(pass --overwrite to train anew)"
        )
    record = folder / "config.toml"
    if record.exists():
        difference = first_difference(_recorded(record), plain(run))
        if difference:
            raise ValueError(
                f"{folder}: expected the run that was begun there, with {difference} "
                "(pass --overwrite to train anew)"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(record, run)


def clear_folder(folder: Path) -> None:
    """Remove what an earlier run left in a folder."""
    for name in ("checkpoints", BEST):
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in _OWN:
        (folder / name).unlink(missing_ok=True)


def _recorded(record: Path) -> dict[str, Any]:
    """Return the run that a file tells of, as this version would have written it."""
    run = read_settings(record)
    try:
        recipe = from_dict(FileRecipe, run.get("recipe", {}))
    except ValueError as error:
        raise ValueError(f"{record}: {error} (pass --overwrite to train anew)") from error
    complete: dict[str, Any] = plain(run | {"recipe": to_dict(recipe)})
    return complete


def train_on_files(
    recipe: FileRecipe,
    store: Store,
    folder: Path,
    *,
    device: torch.device,
    overwrite: bool = False,
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Storm | None:
    """Train a prior from what a folder holds already, on one process, and return it.

    The arguments are those of `fit_prior`.

    Returns:
        The prior, or None where `interrupted` stopped the run.
    """
    done = fit_prior(
        recipe,
        store,
        folder,
        device=device,
        overwrite=overwrite,
        progress=progress,
        interrupted=interrupted,
    )
    return Storm.load(folder / PRIOR).to(device) if done else None


def fit_prior(
    recipe: FileRecipe,
    store: Store,
    folder: Path,
    *,
    device: torch.device,
    mesh: StartedMesh | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> bool:
    """Train a prior, on any mesh, from what a folder holds already; leave it in the folder.

    Args:
        recipe: The settings.
        store: The files.
        folder: For the results; see the module.
        device: Where to compute.
        mesh: Ranks that train it together, with axes among `training_mesh.MESH_AXES`; None for one
            process. A run may go on on another mesh.
        overwrite: Whether what an earlier run left in the folder may be removed.
        progress: Called after every step.
        interrupted: Polled after every step.

    Returns:
        Whether it is finished; False where `interrupted` stopped the run.

    Raises:
        FileExistsError: Where the folder holds a finished prior.
        ValueError: Where the files do not hold what the recipe asks for, the folder holds
            another run, or the mesh does not fit grid and network.
    """
    mesh = StartedMesh.alone(device) if mesh is None else mesh
    if recipe.trial.every and "shard" in mesh.mesh.names and mesh.size("shard") > 1:
        raise ValueError("trial.every: expected 0 where ranks shard the parameters")
    inputs = store.sha256()
    data = load_training_data(recipe, store, device, mesh)
    network = new_network(recipe, data, mesh).to(device)
    if mesh.rank == 0:
        claim_folder(folder, recipe, inputs, overwrite=overwrite)
    mesh.world.barrier()
    trainer = Trainer(network, data.training, recipe.training, directory=folder, mesh=mesh)
    trainer.resume()
    judged = _validations(recipe, data, trainer, folder)
    if not run_judged(trainer, judged, recipe.trial.patience, folder, progress, interrupted):
        return False
    chosen, prefix = chosen_weights(trainer, judged)
    if mesh.rank == 0:
        whole = fill_whole(new_network(recipe, data), chosen, prefix)
        trained_prior(whole, recipe, data, inputs).save(folder / PRIOR)
    mesh.world.barrier()
    return True


def run_judged(
    trainer: Trainer,
    judged: Sequence[Validation],
    patience: int,
    folder: Path,
    progress: Progress | None,
    interrupted: Callable[[], bool],
) -> bool:
    """Train to the end, or until the last of what judges has found nothing better for long.

    Args:
        trainer: The run.
        judged: What judges it.
        patience: Judgements without progress that end it; 0 for no such end.
        folder: Of the run, for a record of its speed.
        progress: Called after every step.
        interrupted: Polled after every step.

    Returns:
        Whether it is finished.
    """
    clock = Throughput(trainer, folder / "throughput.csv")
    return trainer.run(
        progress=_all_of([clock.follow, *(v.follow for v in judged)], progress),
        interrupted=interrupted,
        enough=lambda: bool(judged) and judged[-1].stale(patience),
    )


def chosen_weights(trainer: Trainer, judged: Sequence[Validation]) -> tuple[PartsCheckpoint, str]:
    """Return the best weights of a run and how their names begin: averages, if nothing judged."""
    return (judged[-1].checkpoint(), "") if judged else (trainer.checkpoint(), AVERAGE)


def _all_of(followers: Sequence[Callable[[int], None]], progress: Progress | None) -> Progress:
    """Return what follows every step: the clock, what judges, and then who looks on."""

    def follow(step: int, loss: float) -> None:
        for follower in followers:
            follower(step)
        if progress is not None:
            progress(step, loss)

    return follow


def trained_prior(
    network: StormNetwork, recipe: FileRecipe, data: TrainingData, inputs: dict[str, Any]
) -> Storm:
    """Return a trained network with what must be known to use it."""
    units = dict(zip(recipe.network.variables, data.units, strict=True))
    record = provenance(recipe, inputs=inputs, variables=units)
    return Storm(network, data.training.normalization, data.step_hours, record)


def _validations(
    recipe: FileRecipe, data: TrainingData, trainer: Trainer, folder: Path
) -> list[Validation]:
    """Return what judges a run, where there is a validation period; the last one chooses."""
    if data.validation is None:
        return []
    loss = DenoisingLoss(trainer.tasks[0], data.validation, trainer.config)
    trial = trial_of(recipe, data, trainer.network) if recipe.trial.every else None
    return validations(recipe, trainer, folder, loss, trial)


def trial_of(recipe: FileRecipe, data: TrainingData, network: StormNetwork) -> Trial:
    """Return the assimilations of the validation period that judge a network."""
    assert data.validation is not None  # the recipe sees to it
    return Trial(
        recipe.trial,
        network,
        data.validation,
        step_hours=data.step_hours,
        seed=recipe.training.seed,
    )


def validations(
    recipe: FileRecipe, trainer: Trainer, folder: Path, loss: Judge, trial: Judge | None
) -> list[Validation]:
    """Return the records of a run's losses and of its trials, if there are any; the last chooses.

    Args:
        recipe: How often.
        trainer: The run.
        folder: Of the run.
        loss: On the validation period.
        trial: Assimilations of it.
    """
    best, every = folder / BEST, recipe.validate_every
    record = folder / "validation.csv"
    if trial is None:
        return [Validation(loss, trainer, record, every=every, best=best)]
    return [
        Validation(loss, trainer, record, every=every),
        Validation(trial, trainer, folder / "trials.csv", every=recipe.trial.every, best=best),
    ]


def new_network(
    recipe: FileRecipe, data: TrainingData, mesh: StartedMesh | None = None
) -> StormNetwork:
    """Return the network that a run starts from, the same for the same seed on any mesh."""
    torch.manual_seed(recipe.training.seed)
    network = StormNetwork(recipe.network, data.grid, valid=data.mask, mesh=mesh)
    if network.modes is not None and data.modes is not None:
        network.modes.set(data.modes)
    return network
