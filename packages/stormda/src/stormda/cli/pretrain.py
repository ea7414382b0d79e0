"""`stormda pretrain`: priors of several sources of fields, with one trunk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
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
    show_settings,
)
from stormda.cli.output import Steps, note, result
from stormda.io import open_store
from stormda.parallel import Interruption, launch
from stormda.storm.config import override
from stormda.storm.multi_source import fit_priors
from stormda.storm.prior_training import PRIOR
from stormda.storm.real_recipes import FILE_RECIPES
from stormda.storm.source_recipes import MultiSourceRecipe, multi_source
from stormda.storm.training_mesh import MESH_AXES


@click.command(
    epilog="\b\nExamples:\n"
    "  stormda pretrain --source era5=t2m,msl:ERA5.zarr --source sst=sst:SST.nc --out PRIORS\n"
    "  stormda pretrain --source coarse=t2m:A.nc --source fine=t2m,u10:B.nc --out PRIORS "
    "--set fine:network.patch=8,8 --share coarse=3"
)
@click.option(
    "--source",
    "sources",
    multiple=True,
    required=True,
    metavar="NAME=VARIABLES:FILE",
    help="A source: its name, variables that commas separate, and file or pattern; two or more.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder."
)
@click.option(
    "--recipe",
    type=click.Choice(["fields", "small", "10M", "200M", "10B"]),
    default="fields",
    show_default=True,
    help="Settings to start from.",
)
@click.option(
    "--share",
    "shares",
    multiple=True,
    metavar="NAME=NUMBER",
    help="How much of every batch is a source's; 1 where none is said.",
)
@click.option(
    "--set",
    "assignments",
    multiple=True,
    metavar="[NAME:]FIELD=VALUE",
    help="Change one setting, of all sources or of one; may be given several times.",
)
@mesh_option
@device_option
@overwrite_option
@json_option
def pretrain(
    sources: tuple[str, ...],
    out: Path,
    recipe: str,
    shares: tuple[str, ...],
    assignments: tuple[str, ...],
    mesh_sizes: str | None,
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Train priors of several sources of fields together, with one trunk and heads of their own.

    Sources may differ in variables, grid, patch and step. Leaves in the folder --out a folder for
    every source, with a prior that every other command takes. If it is interrupted, the same
    command goes on where it stopped, on any number of processes.
    """
    given = _parse_sources(sources)
    start = multi_source({name: names for name, names, _ in given}, start=FILE_RECIPES[recipe])
    settings = _changed(start, assignments, shares)
    stores = {name: open_store(path) for name, _, path in given}
    with launch(
        parse_mesh(mesh_sizes, MESH_AXES), device=torch.device("cpu") if device == "cpu" else None
    ) as mesh:
        shown = mesh.rank == 0
        if shown:
            show_settings(settings, as_json=as_json)
            parts = ", ".join(f"{n} of {name}" for name, n in settings.batches.items())
            note(f"a batch is {parts}; {mesh.world.size} processes, {mesh.device}")
        with (
            Interruption(mesh.world) as interrupted,
            Steps(settings.training.steps, "step", shown=shown) as steps,
        ):

            def report(step: int, loss: float) -> None:
                steps.to(step, f"loss {loss:.4f}")

            done = fit_priors(
                settings,
                stores,
                out,
                device=mesh.device,
                mesh=mesh,
                overwrite=overwrite,
                progress=report,
                interrupted=interrupted,
            )
        if shown:
            _say([out / name / PRIOR for name in stores], done=done, as_json=as_json)
    if not done:
        click.get_current_context().exit(INTERRUPTED)


def _say(paths: Sequence[Path], *, done: bool, as_json: bool) -> None:
    text = "interrupted; the same command goes on from here"
    if done:
        text = "\n".join(f"wrote {path}" for path in paths)
    result(text, {"complete": done, "priors": list(paths) if done else None}, as_json=as_json)


def _parse_sources(texts: Sequence[str]) -> list[tuple[str, tuple[str, ...], str]]:
    """Return name, variables and file of every source."""
    given = [_parse_source(text) for text in texts]
    names = [name for name, _, _ in given]
    if len(set(names)) < len(names):
        raise ValueError(f"--source: expected distinct names, got {names}")
    return given


def _parse_source(text: str) -> tuple[str, tuple[str, ...], str]:
    """Return name, variables and file of a source.

    Examples:
        >>> _parse_source("era5=t2m,msl:era5_*.nc")
        ('era5', ('t2m', 'msl'), 'era5_*.nc')
    """
    name, sign, rest = text.partition("=")
    names, colon, path = rest.partition(":")
    if not (name and sign and colon and path):
        raise ValueError(f"--source: expected NAME=VARIABLES:FILE, got {text!r}")
    return name, parse_names(names, "--source"), path


def _changed(
    recipe: MultiSourceRecipe, assignments: Sequence[str], shares: Sequence[str]
) -> MultiSourceRecipe:
    """Return a recipe with the settings and shares of options."""
    changed = dict(recipe.sources)
    for path, value in parse_assignments(assignments).items():
        name, colon, own = path.partition(":")
        if colon and name not in changed:
            raise ValueError(f"--set: expected a source among {list(changed)}, got {name!r}")
        for one in [name] if colon else list(changed):
            changed[one] = override(changed[one], {own if colon else path: value})
    return replace(recipe, sources=changed, shares=_numbers(shares))


def _numbers(items: Sequence[str]) -> Mapping[str, float]:
    """Return names and numbers.

    Examples:
        >>> _numbers(["era5=3"])
        {'era5': 3.0}
    """
    parts = [item.partition("=") for item in items]
    try:
        return {name: float(number) for name, _, number in parts}
    except ValueError as error:
        raise ValueError(f"--share: expected NAME=NUMBER, got {list(items)}") from error
