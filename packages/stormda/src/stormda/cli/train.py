"""`stormda train`: a prior from files, on one process or many."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import torch

from stormda.cli import INTERRUPTED
from stormda.cli.options import (
    device_option,
    json_option,
    mesh_option,
    overwrite_option,
    parse_assignments,
    parse_mesh,
    parse_names,
    set_option,
    show_settings,
)
from stormda.cli.output import Steps, note, result
from stormda.io import open_store
from stormda.parallel import Interruption, launch
from stormda.storm.config import override
from stormda.storm.frames import grid_of
from stormda.storm.network import StormNetwork, parameter_count
from stormda.storm.prior_training import PRIOR, fit_prior
from stormda.storm.real_recipes import FILE_RECIPES, FileRecipe
from stormda.storm.training_mesh import MESH_AXES


@click.command(
    epilog="\b\nExamples:\n"
    "  stormda train FIELDS.nc --variables t2m --out PRIOR\n"
    "  stormda train FIELDS.nc --variables t2m --out PRIOR --recipe era5-uk\n"
    "  stormda train 't2m_*.nc' --variables t2m --train-end 2020-01-01 --out PRIOR\n"
    "  torchrun --nproc-per-node 4 -m stormda train FIELDS.nc --variables t2m --out PRIOR\n"
    "  torchrun --nproc-per-node 8 -m stormda train FIELDS.nc --variables t2m --out PRIOR "
    "--mesh lat=2,tensor=2"
)
@click.argument("files", nargs=-1, required=True, metavar="FILE...")
@click.option("--variables", required=True, help="Fields to learn, separated by commas.")
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder."
)
@click.option(
    "--recipe",
    type=click.Choice(list(FILE_RECIPES)),
    default="fields",
    show_default=True,
    help="Settings to start from.",
)
@click.option("--train-end", help="Learn from times before this date only.")
@click.option(
    "--embargo", type=float, help="Hours left out between training and validation periods."
)
@mesh_option
@set_option
@device_option
@overwrite_option
@json_option
def train(
    files: tuple[str, ...],
    variables: str,
    out: Path,
    recipe: str,
    train_end: str | None,
    embargo: float | None,
    mesh_sizes: str | None,
    assignments: tuple[str, ...],
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train a prior on the fields of FILE... (NetCDF files that follow one another in time).

    Leaves in the folder --out: prior.safetensors, config.toml, training.csv and checkpoints. If it
    is interrupted, the same command goes on where it stopped, on any number of processes. Under
    torchrun, mpirun or srun the processes share the work: every batch, or with --mesh also the
    fields, the heads and the memory of the parameters.
    """
    settings = FILE_RECIPES[recipe](parse_names(variables, "--variables"))
    settings = _with_split(settings, train_end, embargo)
    settings = override(settings, parse_assignments(assignments))
    store = open_store(files[0] if len(files) == 1 else list(files))
    with launch(
        parse_mesh(mesh_sizes, MESH_AXES), device=torch.device("cpu") if device == "cpu" else None
    ) as mesh:
        if mesh.rank == 0:
            show_settings(settings, as_json=as_json)
            size = parameter_count(StormNetwork(settings.network, grid_of(store)))
            note(f"{size:,} parameters, {mesh.world.size} processes, {mesh.device}")
        with (
            Interruption(mesh.world) as interrupted,
            Steps(settings.training.steps, "step", shown=mesh.rank == 0) as steps,
        ):

            def report(step: int, loss: float) -> None:
                steps.to(step, f"loss {loss:.4f}")

            done = fit_prior(
                settings,
                store,
                out,
                device=mesh.device,
                mesh=mesh,
                overwrite=overwrite,
                progress=report,
                interrupted=interrupted,
            )
        if mesh.rank == 0:
            _say(out / PRIOR, done=done, as_json=as_json)
    if not done:
        click.get_current_context().exit(INTERRUPTED)


def _say(path: Path, *, done: bool, as_json: bool) -> None:
    text = f"wrote {path}" if done else "interrupted; the same command goes on from here"
    result(text, {"complete": done, "prior": path if done else None}, as_json=as_json)


def _with_split(recipe: FileRecipe, train_end: str | None, embargo: float | None) -> FileRecipe:
    changes: dict[str, object] = {}
    if train_end is not None:
        changes["train_end"] = train_end
    if embargo is not None:
        changes["embargo_hours"] = embargo
    return replace(recipe, split=replace(recipe.split, **changes))  # type: ignore[arg-type]
