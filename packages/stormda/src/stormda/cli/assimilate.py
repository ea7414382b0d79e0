"""`stormda assimilate`: an ensemble of analyses from a prior, a history and observations."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import click
import torch

from stormda.cli.options import (
    device_option,
    error_option,
    history_option,
    json_option,
    mesh_option,
    observed_option,
    overwrite_option,
    parse_assignments,
    prior_option,
    refuse_existing,
    set_option,
    show_settings,
)
from stormda.cli.output import note, result
from stormda.cli.running import run_in_steps, sharing_members
from stormda.io import ObservationTable, open_store, sha256
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_inputs import prior_units
from stormda.storm.assimilation_run import Outcome, assimilate_files
from stormda.storm.config import override
from stormda.storm.observation_feedback import feedback_path
from stormda.storm.prior import Storm
from stormda.storm.prior_training import PRIOR
from stormda.storm.real_observations import read_matching


@click.command(
    epilog="\b\nExamples:\n"
    "  stormda assimilate --prior PRIOR --history FIELDS.nc --observations OBS.csv --out AN.nc\n"
    "  stormda assimilate --prior PRIOR --history FIELDS.nc --observations OBS.csv \\\n"
    "    --out AN.nc --error 0.5 --observed t2m=temperature --members 32 --seed 1\n"
    "  torchrun --nproc-per-node 4 -m -- stormda assimilate --prior PRIOR --history FIELDS.nc \\\n"
    "    --observations OBS.csv --out AN.nc --members 256"
)
@prior_option
@history_option
@click.option("--observations", required=True, help="CSV, Parquet, NetCDF or HDF5 file.")
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--members", type=int, help="Size of the ensemble.")
@click.option("--seed", type=int, help="Seed of all noise.")
@click.option("--start", help="Time of the first analysis; by default one step after the history.")
@click.option("--end", help="Time of the last analysis; by default that of the last observation.")
@mesh_option
@error_option
@observed_option
@set_option
@device_option
@overwrite_option
@json_option
def assimilate(
    prior_path: Path,
    history: str,
    observations: str,
    out: Path,
    members: int | None,
    seed: int | None,
    start: str | None,
    end: str | None,
    error: float | None,
    observed: tuple[str, ...],
    mesh_sizes: str | None,
    assignments: tuple[str, ...],
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Cycle a prior through observations, and write the ensemble of analyses to --out.

    Each member samples the present from its own past and the observations of the present. If it is
    interrupted, the same command goes on after the last cycle that was done. Under torchrun,
    mpirun or srun the processes share the members, or with --mesh also the network.
    """
    refuse_existing(out, overwrite=overwrite)
    given = {"members": members, "seed": seed, "start": start, "end": end}
    config = AssimilationConfig(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    config = override(config, parse_assignments(assignments))
    with sharing_members(device, mesh_sizes) as mesh:
        prior = Storm.load(prior_file(prior_path), mesh=mesh).to(mesh.device)
        names = {name: name for name in prior.config.variables} | parse_observed(observed)
        store = open_store(history)
        table = read_matching(observations, names, error=error)
        show_settings(config, as_json=as_json)
        note(table.summary)
        note_assumed_units(table, names, prior)
        paths = [prior_file(prior_path), Path(observations)]
        run = partial(
            assimilate_files,
            prior,
            store,
            table,
            out,
            config,
            observed=names,
            inputs=store.sha256() | {str(path): sha256(path) for path in paths},
            overwrite=overwrite,
            mesh=mesh,
        )
        outcome = run_in_steps(run, "cycle", as_json=as_json, comm=mesh.world)
        _say(outcome, out, observed=len(table), as_json=as_json)


def _say(outcome: Outcome, out: Path, *, observed: int, as_json: bool) -> None:
    account = {"cycles": outcome.cycles, "used": outcome.used, "refused": dict(outcome.rejected)}
    if observed and not outcome.used:
        note("no observation was used: the analyses are forecasts; see the feedback file for why")
    result(
        f"{outcome.summary}\nwrote {out} and {feedback_path(out)}",
        {"complete": True, "analysis": out, "feedback": feedback_path(out), **account},
        as_json=as_json,
    )


def note_assumed_units(table: ObservationTable, names: Mapping[str, str], prior: Storm) -> None:
    """Say in which units observations are taken to be that state none."""
    for name, units in prior_units(prior).items():
        theirs = names.get(name, name)
        if theirs in table.variable and not table.units.get(theirs):
            note(f"{theirs}: no units stated; its values are taken to be in {units!r}")


def prior_file(path: Path) -> Path:
    """Return the file of a prior that is named by itself or by the folder of its training."""
    return path / PRIOR if path.is_dir() else path


def parse_observed(items: tuple[str, ...]) -> dict[str, str]:
    """Return names of observations by variable, from texts such as "swh=significant_wave_height".

    Raises:
        ValueError: Where a text has no "=".
    """
    for item in items:
        if "=" not in item:
            raise ValueError(f"--observed: expected VARIABLE=NAME, got {item!r}")
    return dict(item.split("=", 1) for item in items)


def on_device(prior: Storm, device: str) -> Storm:
    """Return a prior where a `--device` option wants it."""
    chosen = "cuda" if device == "auto" and torch.cuda.is_available() else "cpu"
    return prior.to(chosen)
