"""`stormda forecast`: an ensemble of forecasts from a history."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from stormda.cli.assimilate import prior_file
from stormda.cli.options import (
    device_option,
    json_option,
    mesh_option,
    overwrite_option,
    parse_assignments,
    prior_option,
    refuse_existing,
    set_option,
    show_settings,
)
from stormda.cli.output import result
from stormda.cli.running import run_in_steps, sharing_members
from stormda.io import open_store, sha256
from stormda.storm.config import override
from stormda.storm.forecasting import ForecastConfig, forecast_files
from stormda.storm.prior import Storm


@click.command(
    epilog="\b\nExamples:\n"
    "  stormda forecast --prior PRIOR --history FIELDS.nc --steps 48 --out FORECAST.nc\n"
    "  stormda forecast --prior PRIOR --history ANALYSIS.nc --steps 48 --out FORECAST.nc\n"
    "  stormda evaluate FORECAST.nc --truth FIELDS.nc"
)
@prior_option
@click.option(
    "--history", required=True, help="File with the frames before the start: fields or analyses."
)
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--steps", type=int, help="Frames to forecast.")
@click.option("--members", type=int, help="Size of the ensemble.")
@click.option("--seed", type=int, help="Seed of all noise.")
@click.option("--start", help="Time of the first frame; by default one step after the history.")
@mesh_option
@set_option
@device_option
@overwrite_option
@json_option
def forecast(
    prior_path: Path,
    history: str,
    out: Path,
    steps: int | None,
    members: int | None,
    seed: int | None,
    start: str | None,
    mesh_sizes: str | None,
    assignments: tuple[str, ...],
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Forecast from the end of a history, and write the ensemble to --out.

    A history of analyses gives every member its own past. If it is interrupted, the same command
    goes on after the last frame that was done. Under torchrun, mpirun or srun the processes share
    the members, or with --mesh also the network.
    """
    refuse_existing(out, overwrite=overwrite)
    given = {"steps": steps, "members": members, "seed": seed, "start": start}
    config = ForecastConfig(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    config = override(config, parse_assignments(assignments))
    with sharing_members(device, mesh_sizes) as mesh:
        path = prior_file(prior_path)
        prior, store = Storm.load(path, mesh=mesh).to(mesh.device), open_store(history)
        show_settings(config, as_json=as_json)
        run = partial(
            forecast_files,
            prior,
            store,
            out,
            config,
            inputs=store.sha256() | {str(path): sha256(path)},
            overwrite=overwrite,
            mesh=mesh,
        )
        count = run_in_steps(run, "frame", as_json=as_json, comm=mesh.world)
        done = {"complete": True, "frames": count, "forecast": out}
        result(f"{count} frames\nwrote {out}", done, as_json=as_json)
