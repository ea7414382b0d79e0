"""Train a prior on files, in a folder that can be taken up again after any interruption.

    DIR/config.toml         the recipe and the inputs, with their checksums
    DIR/training.csv        loss of every step
    DIR/validation.csv      loss on the validation period, where there is one
    DIR/checkpoints/        what a resumed run starts from
    DIR/prior.safetensors   the result: averaged weights, statistics, grid, provenance

The same command in the same folder goes on where the last one stopped, and ends with the same
numbers as one that was never stopped.
"""

from __future__ import annotations

import copy
import csv
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from stormda.io import Store, atomic_path
from stormda.parallel import Communicator
from stormda.storm.config import to_dict
from stormda.storm.files import FileHistories, fit_normalization
from stormda.storm.frames import Frames, grid_of, read_frames
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.objective import denoising_loss
from stormda.storm.prior import Storm
from stormda.storm.provenance import provenance
from stormda.storm.real_recipes import FileRecipe
from stormda.storm.settings import first_difference, plain, read_settings, write_settings
from stormda.storm.streams import stream
from stormda.storm.training import Progress, Trainer

PRIOR = "prior.safetensors"
"""Name of the result in the folder of a run."""

VALIDATION = 3
"""What random numbers are for, beside those of `files`."""

_OWN = ("config.toml", "training.csv", "validation.csv", "best.safetensors", PRIOR)


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
        shutil.rmtree(folder / "checkpoints", ignore_errors=True)
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
    comm: Communicator | None = None,
    overwrite: bool = False,
    progress: Progress | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Storm | None:
    """Train a prior from what a folder holds already.

    Args:
        recipe: The settings.
        store: The files.
        folder: For the results; see the module.
        device: Where to compute.
        comm: Ranks that share every batch, or None for one process.
        overwrite: Whether what an earlier run left in the folder may be removed.
        progress: Called after every step.
        interrupted: Polled after every step.

    Returns:
        The prior, or None where `interrupted` stopped the run.

    Raises:
        FileExistsError: Where the folder holds a finished prior.
        ValueError: Where the files do not hold what the recipe asks for, or the folder holds
            another run.
    """
    first = comm is None or comm.rank == 0
    run = {"recipe": to_dict(recipe), "inputs": store.sha256()}
    data = load_training_data(recipe, store, device)
    if first:
        claim_folder(folder, run, overwrite=overwrite)
    if comm is not None:
        comm.barrier()
    network = _new_network(recipe, store, data).to(device)
    trainer = Trainer(network, data.training, recipe.training, directory=folder, comm=comm)
    trainer.resume()
    best = None
    if data.validation is not None and first:
        best = Best(recipe, data.validation, network, folder, trainer.step)

    def watch(step: int, loss: float) -> None:
        if best is not None and (
            step % recipe.validate_every == 0 or step == recipe.training.steps
        ):
            best.consider(step, trainer.average)
        if progress is not None:
            progress(step, loss)

    if not trainer.run(progress=watch, interrupted=interrupted):
        return None
    network = trainer.averaged()
    if best is not None:
        best.restore(network)
    record = provenance(
        recipe,
        inputs=run["inputs"],
        variables={name: data.units[i] for i, name in enumerate(recipe.network.variables)},
    )
    prior = Storm(network, data.training.normalization, data.step_hours, record)
    if first:
        prior.save(folder / PRIOR)
    return prior


def _new_network(recipe: FileRecipe, store: Store, data: TrainingData) -> StormNetwork:
    """Return the network that a run starts from, the same for the same seed."""
    torch.manual_seed(recipe.training.seed)
    network = StormNetwork(recipe.network, grid_of(store), valid=data.mask)
    if network.modes is not None and data.training.modes is not None:
        network.modes.set(data.training.modes)
    return network


@dataclass(frozen=True, eq=False)
class TrainingData:
    """Samples for training and validation, and what is known of the fields."""

    training: FileHistories
    validation: FileHistories | None
    mask: Tensor | None
    """True where the fields are always known, (variables, rows, cols); None for everywhere."""

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
    step_hours = everything.step_hours()
    frames = _period(everything, recipe.split.training(everything.times), "training")
    normalization = fit_normalization(frames, step_hours)

    def source(part: Frames, **settings: Any) -> FileHistories:  # noqa: ANN401
        return FileHistories(
            part,
            recipe.network.history,
            normalization,
            step_hours=step_hours,
            clock=recipe.network.clock,
            season=recipe.season,
            seed=recipe.training.seed,
            device=device,
            **settings,
        )

    modes = None
    if recipe.network.modes:
        exact = source(frames, error=None, superposition=recipe.superposition)
        modes = exact.fit_modes(recipe.network.modes)
    held_back = None
    if recipe.split.validation_hours:
        chosen = recipe.split.validation(everything.times)
        part = _period(everything, chosen, "validation")
        held_back = source(part, error=recipe.error, modes=modes)
    training = source(frames, error=recipe.error, superposition=recipe.superposition, modes=modes)
    return TrainingData(
        training=training,
        validation=held_back,
        mask=None if bool(frames.valid.all()) else frames.valid.all(0),
        step_hours=step_hours,
        units=frames.units,
    )


def _period(frames: Frames, chosen: Any, name: str) -> Frames:  # noqa: ANN401
    if not len(chosen):
        raise ValueError(
            f"split: expected frames in the {name} period, got none between "
            f"{frames.times[0]} and {frames.times[-1]}"
        )
    return frames.select(np.asarray(chosen))


class Best:
    """The averaged weights with the smallest loss on a period that is not learned from.

    The loss is that of fixed samples at fixed noise, a function of the weights alone.

    Args:
        recipe: For the noise levels and the seed.
        source: Samples of the validation period.
        network: Of the kind whose weights are judged; it is copied.
        folder: For `validation.csv` and `best.safetensors`.
        step: Where the training starts or goes on; what was noted of later steps is forgotten.
    """

    def __init__(
        self,
        recipe: FileRecipe,
        source: FileHistories,
        network: StormNetwork,
        folder: Path,
        step: int,
    ) -> None:
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.normalization: Normalization = source.normalization
        self.folder = folder
        generator = stream(recipe.training.seed, VALIDATION)
        targets = source.targets.repeat(-(-256 // len(source.targets)))
        self.batch = source.samples(targets, generator)
        device = self.batch.target.device
        self.sigma = recipe.training.noise.draw(len(targets), generator).to(device)
        self.noise = torch.randn(self.batch.target.shape, generator=generator).to(device)
        self.smallest = _kept(folder / "validation.csv", step)

    def consider(self, step: int, weights: list[Tensor]) -> float:
        """Judge the weights of a step, keep them if they are the best, and return their loss."""
        with torch.no_grad():
            for own, new in zip(self.network.parameters(), weights, strict=True):
                own.copy_(new)
            losses = denoising_loss(
                self.network, self.normalization, self.batch, self.sigma, self.noise
            )
        loss = float(losses.mean())
        if loss < self.smallest:
            self.smallest = loss
            with atomic_path(self.folder / "best.safetensors", overwrite=True) as path:
                save_file(_named(self.network), path)
        with (self.folder / "validation.csv").open("a", newline="") as file:
            csv.writer(file).writerow([step, repr(loss)])
        return loss

    def restore(self, network: StormNetwork) -> None:
        """Put the best weights into a network."""
        network.load_state_dict(load_file(self.folder / "best.safetensors"))


def _named(network: StormNetwork) -> dict[str, Tensor]:
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def _kept(record: Path, step: int) -> float:
    """Drop what was noted after a step, and return the smallest loss of the rest."""
    if not record.is_file():
        return float("inf")
    rows = [row for row in csv.reader(record.read_text().splitlines()) if int(row[0]) <= step]
    with atomic_path(record, overwrite=True) as path, path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    return min((float(row[1]) for row in rows), default=float("inf"))
