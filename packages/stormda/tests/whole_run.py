"""A run of files on four ranks, for `test_mesh.py`: training with trials, then assimilation.

torchrun --nproc-per-node 4 whole_run.py DIRECTORY

The network takes its fields tile by tile. Trainings that read their part of the files, and those
of two sources, are those of one process.
"""

import csv
import sys
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import torch

from stormda.grid import LatLonGrid
from stormda.io import (
    observation_table,
    open_store,
    read_ensemble,
    read_observations,
    write_fields,
    write_observations,
)
from stormda.parallel import Mesh, StartedMesh, launch
from stormda.storm import AssimilationConfig, FileRecipe, Storm, StormConfig, TrainingConfig
from stormda.storm.assimilation_run import assimilate_files
from stormda.storm.files import Split
from stormda.storm.filtering import FilterSettings
from stormda.storm.multi_source import fit_priors
from stormda.storm.prior_training import PRIOR, fit_prior
from stormda.storm.source_recipes import MultiSourceRecipe
from stormda.storm.training_mesh import MESH_AXES, SAMPLING_AXES
from stormda.storm.trial import TrialConfig

PATIENCE = {"device": torch.device("cpu"), "timeout": timedelta(minutes=5)}
GRID = LatLonGrid(np.linspace(50, 53.5, 8), np.linspace(0, 5.5, 12))
HOURS = np.datetime64("2020-01-01T00", "s") + 3600 * np.arange(40)
FILTER = FilterSettings(error_factor=0.8, steps=4, sigma_max=40.0, iterations=3)
RECIPE = FileRecipe(
    network=StormConfig(
        variables=("t2m",),
        patch=(2, 2),
        width=16,
        heads=2,
        encoder_depth=1,
        depth=1,
        mixer="full",
        network_tiles=(2, 4),
        network_halo=(1, 1),
    ),
    split=Split(train_end="2020-01-02T06", embargo_hours=2.0, validation_hours=8.0),
    training=TrainingConfig(steps=4, batch=4, checkpoint_every=2, warmup=1, seed=3),
    validate_every=2,
    trial=TrialConfig(every=2, cycles=2, runs=1, members=4, observed=0.3, filter=FILTER),
)


def write_case(folder: Path) -> None:
    """Write two waves that travel, and observations of others."""
    y, x = np.meshgrid(np.arange(8), np.arange(12), indexing="ij")
    hour = np.arange(len(HOURS))[:, None, None]
    fields = 280 + 3 * np.sin(0.5 * x + 0.3 * hour) + np.cos(0.7 * y - 0.2 * hour)
    attributes = {"t2m": {"units": "K"}}
    path = folder / "fields.nc"
    write_fields(path, {"t2m": fields}, times=HOURS, grid=GRID, attributes=attributes)
    rng = np.random.default_rng(0)
    table = observation_table(
        time=HOURS[rng.integers(30, 32, 40)],
        lat=rng.uniform(50, 53.5, 40),
        lon=rng.uniform(0, 5.5, 40),
        value=280 + rng.normal(size=40),
        error=0.5,
        variable="t2m",
        units={"t2m": "K"},
    )
    write_observations(folder / "observations.nc", table)


def check_streaming(folder: Path, mesh: StartedMesh, world: StartedMesh) -> None:
    """Ranks that read their part of the files learn what one learns that holds them all."""
    still = replace(RECIPE, trial=TrialConfig(), split=Split(train_end="2020-01-02T06"))
    store = open_store(folder / "fields.nc")
    cpu = torch.device("cpu")
    if world.rank == 0:
        assert fit_prior(still, store, folder / "held", device=cpu)
    assert fit_prior(replace(still, streamed=True), store, folder / "read", device=cpu, mesh=mesh)
    if world.rank == 0:
        held, read = (numbers(folder / name / "training.csv") for name in ("held", "read"))
        np.testing.assert_allclose(read, held, rtol=2e-4)
        one, other = (Storm.load(folder / name / PRIOR) for name in ("held", "read"))
        torch.testing.assert_close(one.normalization.mean, other.normalization.mean)


def check_sources(folder: Path, mesh: StartedMesh, world: StartedMesh) -> None:
    """Priors of two sources, one of them read in parts, are those of one process."""
    still = replace(RECIPE, trial=TrialConfig(), split=Split(train_end="2020-01-02T06"))
    recipe = MultiSourceRecipe(sources={"all": still, "half": replace(still, streamed=True)})
    stores = {name: open_store(folder / "fields.nc") for name in recipe.sources}
    cpu = torch.device("cpu")
    if world.rank == 0:
        assert fit_priors(recipe, stores, folder / "together", device=cpu)
    assert fit_priors(recipe, stores, folder / "shared", device=cpu, mesh=mesh)
    if world.rank == 0:
        one, many = (numbers(folder / name / "training.csv") for name in ("together", "shared"))
        np.testing.assert_allclose(many, one, rtol=2e-4)
        assert Storm.load(folder / "shared" / "half" / PRIOR).grid == GRID


def numbers(path: Path) -> np.ndarray:
    _, *rows = csv.reader(path.read_text().splitlines())
    return np.array(rows, float)


def train(folder: Path, mesh: StartedMesh | None = None, *, until: int = 4) -> bool:
    store, step = open_store(folder.parent / "fields.nc"), [0]
    return fit_prior(
        RECIPE,
        store,
        folder,
        device=torch.device("cpu"),
        mesh=mesh,
        progress=lambda now, _: step.__setitem__(0, now),
        interrupted=lambda: step[0] == until < RECIPE.training.steps,
    )


def check_training(folder: Path, meshes: list[StartedMesh], world: StartedMesh) -> None:
    """Losses, validation and trials are those of one process, also on a mesh that changes."""
    if world.rank == 0:
        assert train(folder / "one")
    assert not train(folder / "many", meshes[0], until=2)
    assert train(folder / "many", meshes[1])
    for name in ("training.csv", "validation.csv", "trials.csv"):
        if world.rank == 0:
            one, many = numbers(folder / "one" / name), numbers(folder / "many" / name)
            assert len(one) == (4 if name == "training.csv" else 2)
            np.testing.assert_allclose(many, one, rtol=2e-4, err_msg=name)  # float32


def assimilate(
    folder: Path, out: Path, prior: Storm, mesh: StartedMesh | None = None, *, until: int = 9
) -> bool:
    done = [0]
    outcome = assimilate_files(
        prior,
        open_store(folder / "fields.nc"),
        read_observations(folder / "observations.nc"),
        out,
        AssimilationConfig(members=4, filter=FILTER, start=str(HOURS[30]), history_error=0.1),
        observed={"t2m": "t2m"},
        inputs={},
        mesh=mesh,
        progress=lambda cycle, *_: done.__setitem__(0, cycle),
        interrupted=lambda: done[0] >= until,
    )
    return outcome is not None


def check_assimilation(folder: Path, meshes: list[StartedMesh], world: StartedMesh) -> None:
    """Members on some ranks and tiles on others give the analyses of one process."""
    path = folder / "one" / PRIOR
    if world.rank == 0:
        assert assimilate(folder, folder / "one.nc", Storm.load(path))
    for i, mesh in enumerate(meshes):
        prior = Storm.load(path, mesh=mesh)
        out = folder / f"many{i}.nc"
        assert not assimilate(folder, out, prior, mesh, until=1)
        assert assimilate(folder, out, prior, mesh)
        if world.rank == 0:
            one, many = read_ensemble(folder / "one.nc"), read_ensemble(out)
            assert one.fields["t2m"].shape[:2] == (4, 2)
            np.testing.assert_allclose(many.fields["t2m"], one.fields["t2m"], atol=2e-3)


def on_ranks(axes: tuple[str, ...], *sizes: dict[str, int]) -> list[StartedMesh]:
    return [launch(Mesh(dict.fromkeys(axes, 1) | size), **PATIENCE) for size in sizes]


def main(folder: Path) -> None:
    with launch(Mesh({"replica": -1}), **PATIENCE) as world:
        if world.rank == 0:
            write_case(folder)
        world.world.barrier()
        meshes = on_ranks(MESH_AXES, {"lat": 2, "lon": 2}, {"replica": 2, "lon": 2})
        check_training(folder, meshes, world)
        check_streaming(folder, meshes[1], world)
        check_sources(folder, meshes[0], world)
        world.world.barrier()
        meshes = on_ranks(SAMPLING_AXES, {"member": 2, "lon": 2}, {"lat": 2, "tensor": 2})
        check_assimilation(folder, meshes, world)
        world.world.barrier()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
