"""Train priors of several sources of fields together, in a folder that can be taken up again.

    DIR/sources.toml              the sources and their shares of a batch
    DIR/training.csv              loss of every step, over all sources
    DIR/checkpoints/              what a resumed run starts from
    DIR/NAME/config.toml          recipe and inputs of a source, with their checksums
    DIR/NAME/prior.safetensors    its result, a prior like any other

A source is a data set with variables, a grid and a step of its own. All priors have one trunk
(`shared_trunk`), which learns from every source in every step; what it has learned from years of
one serves another of which there are weeks.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from stormda.io import Store
from stormda.parallel import StartedMesh
from stormda.storm.network import StormNetwork
from stormda.storm.prior_training import (
    PRIOR,
    claim_folder,
    clear_folder,
    new_network,
    trained_prior,
)
from stormda.storm.real_recipes import FileRecipe, fields
from stormda.storm.settings import first_difference, plain, read_settings, write_settings
from stormda.storm.shared_trunk import SharedTrunk
from stormda.storm.training import AVERAGE, Progress, Trainer
from stormda.storm.training_config import TrainingConfig
from stormda.storm.training_data import TrainingData, load_training_data
from stormda.storm.training_mesh import fill_whole


@dataclass(frozen=True, kw_only=True)
class MultiSourceRecipe:
    """Priors of several sources with one trunk."""

    sources: Mapping[str, FileRecipe]
    """The recipe of each; trunk and training are the same in all."""

    shares: Mapping[str, float] = field(default_factory=dict)
    """How much of a batch is each source's; where none is said, 1."""

    def __post_init__(self) -> None:
        if len(self.sources) < 2:
            raise ValueError(f"sources: expected at least 2, got {list(self.sources)}")
        if bad := [name for name in self.sources if not name.replace("-", "_").isidentifier()]:
            raise ValueError(f"sources: expected names of letters, digits, - and _, got {bad}")
        if unknown := sorted(set(self.shares) - set(self.sources)):
            raise ValueError(f"shares: expected names of {list(self.sources)}, got {unknown}")
        if not all(share > 0 for share in self.shares.values()):
            raise ValueError(f"shares: expected positive numbers, got {dict(self.shares)}")
        for name, recipe in self.sources.items():
            if recipe.training != self.training:
                raise ValueError(f"{name}: expected the training of the first source, got another")
            if recipe.coarsening > 1 or recipe.trial.every:
                raise ValueError(f"{name}: expected neither coarsening nor trials, got some")
            if recipe.split.validation_hours:
                raise ValueError(
                    f"{name}: expected no validation period, got "
                    f"{recipe.split.validation_hours:g} hours"
                )

    @property
    def training(self) -> TrainingConfig:
        """Return how all are fitted."""
        return next(iter(self.sources.values())).training

    @property
    def batches(self) -> dict[str, int]:
        """Return how many samples of a batch are each source's.

        Examples:
            >>> two = {"era5": ("t2m",), "sst": ("sst",)}
            >>> replace(multi_source(two), shares={"era5": 3.0}).batches
            {'era5': 48, 'sst': 16}
        """
        shares = [self.shares.get(name, 1.0) for name in self.sources]
        ends = [round(self.training.batch * sum(shares[:i]) / sum(shares))
                for i in range(len(shares) + 1)]  # fmt: skip
        return {
            name: stop - start
            for name, start, stop in zip(self.sources, ends[:-1], ends[1:], strict=True)
        }


def multi_source(
    sources: Mapping[str, tuple[str, ...]],
    *,
    start: Callable[[tuple[str, ...]], FileRecipe] = fields,
) -> MultiSourceRecipe:
    """Return the starting point for several sources: the same recipe for each, with one trunk.

    What the sources differ in is set with `dataclasses.replace`: patches, larger where a grid is
    finer, so that tokens are of one size; periods; errors.

    Args:
        sources: The variables of each source, by its name.
        start: The recipe, one of `FILE_RECIPES`.
    """
    return MultiSourceRecipe(sources={name: start(names) for name, names in sources.items()})


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
        name: load_training_data(one, stores[name], device) for name, one in recipe.sources.items()
    }
    networks = _new_networks(recipe, data, mesh).to(device)
    if mesh.rank == 0:
        _claim(folder, recipe, inputs, overwrite=overwrite)
    mesh.world.barrier()
    samples = {name: (data[name].training, n) for name, n in recipe.batches.items()}
    trainer = Trainer(networks, samples, recipe.training, directory=folder, mesh=mesh)
    trainer.resume()
    if not trainer.run(progress=progress, interrupted=interrupted):
        return False
    if mesh.rank == 0:
        whole = fill_whole(_new_networks(recipe, data), trainer.checkpoint(), AVERAGE).each
        for name, one in recipe.sources.items():
            prior = trained_prior(whole[name], one, data[name], inputs[name])
            prior.save(folder / name / PRIOR)
    mesh.world.barrier()
    return True


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
    priors = [folder / name / PRIOR for name in recipe.sources]
    if not all(path.exists() for path in priors):
        for path in priors:  # of a run that ended while it wrote them
            path.unlink(missing_ok=True)
    record, run = folder / "sources.toml", plain({"shares": recipe.batches})
    if overwrite:
        clear_folder(folder)
        record.unlink(missing_ok=True)
    if record.exists() and (difference := first_difference(read_settings(record), run)):
        raise ValueError(
            f"{folder}: expected the run that was begun there, with {difference} "
            "(pass --overwrite to train anew)"
        )
    for name, one in recipe.sources.items():
        claim_folder(folder / name, one, dict(inputs[name]), overwrite=overwrite)
    write_settings(record, run)
