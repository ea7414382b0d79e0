"""Train a prior on files, in a folder that can be taken up again after any interruption.

    DIR/config.toml         the recipe and the inputs, with their checksums
    DIR/training.csv        loss of every step
    DIR/validation.csv      loss on the validation period, where there is one
    DIR/checkpoints/        what a resumed run starts from
    DIR/best/               the weights of the smallest loss on the validation period
    DIR/prior.safetensors   the result: averaged weights, statistics, grid, provenance

The same command in the same folder goes on where the last one stopped, and ends with the same
numbers as one that was never stopped.
"""

from __future__ import annotations

import csv
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from stormda.io import Store, atomic_path
from stormda.parallel import PartsCheckpoint, StartedMesh, open_parts, save_parts
from stormda.storm.config import to_dict
from stormda.storm.files import FileHistories
from stormda.storm.network import StormNetwork
from stormda.storm.objective import denoising_loss
from stormda.storm.prior import Storm
from stormda.storm.provenance import provenance
from stormda.storm.real_recipes import FileRecipe
from stormda.storm.settings import first_difference, plain, read_settings, write_settings
from stormda.storm.streams import stream
from stormda.storm.training import AVERAGE, Progress, Trainer
from stormda.storm.training_data import TrainingData, load_training_data
from stormda.storm.training_mesh import fill_whole

PRIOR = "prior.safetensors"
"""Name of the result in the folder of a run."""

BEST = "best"
"""Name of the folder with the weights of the smallest loss on the validation period."""

VALIDATION = 3
"""What random numbers are for, beside those of `files`."""

_OWN = ("config.toml", "training.csv", "validation.csv", PRIOR)


def claim_folder(folder: Path, run: dict[str, Any], *, overwrite: bool) -> None:
    """Take a folder for a run, or go on in it if it is the same run and is not finished.

    Args:
        folder: Where the run shall live.
        run: What the run is: recipe and inputs.
        overwrite: Whether what an earlier run left there may be removed.

    Raises:
        FileExistsError: Where a finished run is there.
        ValueError: Where a run with other settings is there.
    """
    if overwrite:
        for name in ("checkpoints", BEST):
            shutil.rmtree(folder / name, ignore_errors=True)
        for name in _OWN:
            (folder / name).unlink(missing_ok=True)
    if (folder / PRIOR).exists():
        raise FileExistsError(
            f"{folder}: expected a folder without a finished prior, got one with {PRIOR} "
            "(pass --overwrite to train anew)"
        )
    record = folder / "config.toml"
    if record.exists():
        difference = first_difference(read_settings(record), plain(run))
        if difference:
            raise ValueError(
                f"{folder}: expected the run that was begun there, with {difference} "
                "(pass --overwrite to train anew)"
            )
        return
    folder.mkdir(parents=True, exist_ok=True)
    write_settings(record, run)


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
    run = {"recipe": to_dict(recipe), "inputs": store.sha256()}
    data = load_training_data(recipe, store, device)
    network = _new_network(recipe, data, mesh).to(device)
    if mesh.rank == 0:
        claim_folder(folder, run, overwrite=overwrite)
    mesh.world.barrier()
    trainer = Trainer(network, data.training, recipe.training, directory=folder, mesh=mesh)
    trainer.resume()
    best = None
    if data.validation is not None:
        best = Best(recipe, data.validation, trainer, folder)
    watch = _watch(recipe, trainer, best, progress)
    if not trainer.run(progress=watch, interrupted=interrupted):
        return False
    chosen, prefix = (trainer.checkpoint(), AVERAGE) if best is None else (best.checkpoint(), "")
    if mesh.rank == 0:
        whole = fill_whole(_new_network(recipe, data), chosen, prefix)
        record = provenance(
            recipe,
            inputs=run["inputs"],
            variables={name: data.units[i] for i, name in enumerate(recipe.network.variables)},
        )
        prior = Storm(whole, data.training.normalization, data.step_hours, record)
        prior.save(folder / PRIOR)
    mesh.world.barrier()
    return True


def _watch(
    recipe: FileRecipe, trainer: Trainer, best: Best | None, progress: Progress | None
) -> Progress:
    """Return what follows every step: the loss on the validation period, the bar."""

    def watch(step: int, loss: float) -> None:
        due = step % recipe.validate_every == 0 or step == recipe.training.steps
        if best is not None and due:
            best.consider(step)
        if progress is not None:
            progress(step, loss)

    return watch


def _new_network(
    recipe: FileRecipe, data: TrainingData, mesh: StartedMesh | None = None
) -> StormNetwork:
    """Return the network that a run starts from, the same for the same seed on any mesh."""
    torch.manual_seed(recipe.training.seed)
    network = StormNetwork(recipe.network, data.grid, valid=data.mask, mesh=mesh)
    if network.modes is not None and data.training.modes is not None:
        network.modes.set(data.training.modes)
    return network


class Best:
    """The averaged weights with the smallest loss on a period that is not learned from.

    The loss is that of fixed samples at fixed noise, a function of the weights alone.

    Args:
        recipe: For the noise levels and the seed.
        source: Samples of the validation period.
        trainer: The run, at the step where it starts or goes on; what was noted of later steps is
            forgotten.
        folder: For `validation.csv` and `best`.
    """

    def __init__(
        self, recipe: FileRecipe, source: FileHistories, trainer: Trainer, folder: Path
    ) -> None:
        self.trainer, self.folder, self.source = trainer, folder, source
        generator = stream(recipe.training.seed, VALIDATION)
        targets = source.targets.repeat(-(-256 // len(source.targets)))
        batch = source.samples(targets, generator)
        device, share = batch.target.device, trainer.network.share
        self.sigma = recipe.training.noise.draw(len(targets), generator).to(device)
        noise = torch.randn(batch.target.shape, generator=generator).to(device)
        self.batch, self.noise = batch.cut(share), share.cut(noise)
        first = trainer.mesh.rank == 0
        self.record = folder / "validation.csv"
        self.smallest = _kept(self.record, trainer.step, write=first)

    def consider(self, step: int) -> float:
        """Judge the averaged weights of a step, keep them if they are best, return their loss."""
        trainer = self.trainer
        loss = self._loss()
        if loss < self.smallest:
            self.smallest = loss
            save_parts(
                self.folder / BEST, step, trainer.averaged_parts(), mesh=trainer.mesh, keep=1
            )
        if trainer.mesh.rank == 0:
            with self.record.open("a", newline="") as file:
                csv.writer(file).writerow([step, repr(loss)])
        return loss

    def checkpoint(self) -> PartsCheckpoint:
        """Return the best weights."""
        return open_parts(self.folder / BEST, comm=self.trainer.mesh.world)

    def _loss(self) -> float:
        trainer = self.trainer
        with trainer.averaging(), torch.no_grad():
            losses = denoising_loss(
                trainer.network, self.source.normalization, self.batch, self.sigma, self.noise
            )
        return float(trainer.network.share.comm.all_reduce(losses.mean()))


def _kept(record: Path, step: int, *, write: bool) -> float:
    """Drop what was noted after a step, and return the smallest loss of the rest."""
    if not record.is_file():
        return float("inf")
    rows = [row for row in csv.reader(record.read_text().splitlines()) if int(row[0]) <= step]
    if write:
        with atomic_path(record, overwrite=True) as path, path.open("w", newline="") as file:
            csv.writer(file).writerows(rows)
    return min((float(row[1]) for row in rows), default=float("inf"))
