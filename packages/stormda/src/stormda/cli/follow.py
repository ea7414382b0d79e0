"""`stormda follow`: analyses as observations come."""

from __future__ import annotations

from pathlib import Path

import click

from stormda.cli import INTERRUPTED
from stormda.cli.assimilate import on_device, parse_observed, prior_file
from stormda.cli.options import (
    device_option,
    error_option,
    history_option,
    json_option,
    observed_option,
    parse_assignments,
    prior_option,
    set_option,
    show_settings,
)
from stormda.cli.output import note, result
from stormda.io import open_store, sha256
from stormda.parallel import Interruption
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.config import override
from stormda.storm.following import Follower, follow
from stormda.storm.inbox import Inbox, Sources
from stormda.storm.prior import Storm


@click.command(
    name="follow",
    epilog="\b\nExamples:\n"
    "  stormda follow --prior PRIOR --history FIELDS.nc --observations INBOX --out DIR\n"
    "  stormda follow --prior PRIOR --history FIELDS.nc --observations INBOX --out DIR --once",
)
@prior_option
@history_option
@click.option(
    "--observations",
    type=click.Path(path_type=Path),
    required=True,
    help="Folder that receives files; move them there when they are complete.",
)
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), required=True)
@click.option(
    "--patience",
    type=float,
    default=0.0,
    show_default=True,
    help="Wait so long for more of the newest window [s].",
)
@click.option("--once", is_flag=True, help="Return when nothing is due, as in a cron job.")
@error_option
@observed_option
@set_option
@device_option
@json_option
def follow_command(
    prior_path: Path,
    history: str,
    observations: Path,
    out: Path,
    patience: float,
    once: bool,
    error: float | None,
    observed: tuple[str, ...],
    assignments: tuple[str, ...],
    device: str,
    as_json: bool,
) -> None:
    """Assimilate files of observations as they come, one analysis after another into --out.

    The analyses are the state: killed at any moment, the same command goes on after the newest.
    SIGTERM stops it between analyses. Late observations are counted, not used.
    """
    config = override(AssimilationConfig(), parse_assignments(assignments))
    prior = on_device(Storm.load(prior_file(prior_path)), device)
    names = {name: name for name in prior.config.variables} | parse_observed(observed)
    sources = Sources(folder=observations, observed=names, error=error, patience=patience)
    store, path = open_store(history), prior_file(prior_path)
    inputs = store.sha256() | {str(path): sha256(path)}
    show_settings(config, as_json=as_json)
    with Interruption() as interrupted:
        follower = Follower(prior, store, out, config, inputs=inputs)
        inbox = Inbox(prior, sources, note)
        count = follow(follower, inbox, once=once, interrupted=interrupted)
    ended = once or follower.complete
    result(
        f"{count} analyses in {out}",
        {"complete": ended, "analyses": count, "folder": out},
        as_json=as_json,
    )
    if not ended:
        click.get_current_context().exit(INTERRUPTED)
