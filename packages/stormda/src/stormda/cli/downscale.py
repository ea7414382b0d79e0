"""`stormda downscale`: fine fields from coarse ones."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import click

from stormda.cli.assimilate import on_device, prior_file
from stormda.cli.options import (
    device_option,
    json_option,
    overwrite_option,
    parse_assignments,
    prior_option,
    refuse_existing,
    set_option,
    show_settings,
)
from stormda.cli.output import result
from stormda.cli.running import run_in_steps
from stormda.io import open_store, sha256
from stormda.storm.config import override
from stormda.storm.downscaling import DownscalingConfig, downscale_files
from stormda.storm.prior import Storm


@click.command(
    epilog="\b\nExamples:\n"
    "  stormda train FINE.nc --variables t2m --recipe downscaling --out PRIOR\n"
    "  stormda downscale COARSE.nc --prior PRIOR --members 32 --out FINE_AGAIN.nc"
)
@click.argument("files", nargs=-1, required=True, metavar="COARSE...")
@prior_option
@click.option("--out", type=click.Path(path_type=Path, dir_okay=False), required=True)
@click.option("--members", type=int, help="Size of the ensemble; 1 for the forecast alone.")
@click.option("--seed", type=int, help="Seed of all noise.")
@set_option
@device_option
@overwrite_option
@json_option
def downscale(
    files: tuple[str, ...],
    prior_path: Path,
    out: Path,
    members: int | None,
    seed: int | None,
    assignments: tuple[str, ...],
    device: str,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Sample fine fields whose block means are the fields of COARSE..., and write them to --out.

    The prior is trained on fine fields: stormda train FINE.nc --recipe downscaling. If it is
    interrupted, the same command goes on after the last time that was done.
    """
    refuse_existing(out, overwrite=overwrite)
    given = {"members": members, "seed": seed}
    config = DownscalingConfig(**{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    config = override(config, parse_assignments(assignments))
    prior = on_device(Storm.load(prior_file(prior_path)), device)
    store = open_store(files[0] if len(files) == 1 else list(files))
    show_settings(config, as_json=as_json)
    path = prior_file(prior_path)
    run = partial(
        downscale_files,
        prior,
        store,
        out,
        config,
        inputs=store.sha256() | {str(path): sha256(path)},
        overwrite=overwrite,
    )
    count = run_in_steps(run, "time", as_json=as_json)
    result(
        f"{count} times\nwrote {out}",
        {"complete": True, "times": count, "fields": out},
        as_json=as_json,
    )
