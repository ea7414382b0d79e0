"""Cycle a prior through real observations: history file in, ensemble of analyses out.

Every cycle is stored when it is done. A run that was killed goes on after the last one stored, and
ends with the same numbers, since all noise is a function of (seed, cycle).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from stormda.io import EnsembleWriter, ObservationTable, Store
from stormda.parallel import Communicator, StartedMesh
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_inputs import (
    begun,
    check_history,
    cycle_times,
    initial_past,
    prior_units,
    require_errors,
    step_of,
)
from stormda.storm.cycler import Cycler
from stormda.storm.ensemble_output import named_fields, run_writer
from stormda.storm.frames import Times
from stormda.storm.observation_feedback import write_run_feedback
from stormda.storm.prior import Storm
from stormda.storm.real_observations import match_variables, usable

__all__ = [
    "AssimilationConfig",
    "Cycler",
    "Outcome",
    "assimilate_files",
    "check_history",
    "cycle_times",
    "initial_past",
    "prior_units",
    "require_errors",
]


@dataclass(frozen=True, eq=False)
class Outcome:
    """What an assimilation did with its observations."""

    cycles: int
    used: int
    rejected: Counter[str]

    @property
    def summary(self) -> str:
        """Return the account in one line."""
        reasons = ", ".join(f"{n} {reason}" for reason, n in sorted(self.rejected.items()))
        return f"{self.cycles} cycles, {self.used} observations used" + (
            f", refused: {reasons}" if reasons else ""
        )


def assimilate_files(
    prior: Storm,
    history: Store,
    table: ObservationTable,
    out: Path,
    config: AssimilationConfig,
    *,
    observed: Mapping[str, str],
    inputs: Mapping[str, str],
    overwrite: bool = False,
    mesh: StartedMesh | None = None,
    progress: Callable[[int, int, np.datetime64], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Outcome | None:
    """Cycle a prior through a table of observations, and write the analyses.

    Args:
        prior: The trained prior.
        history: Frames before the first analysis.
        table: Observations with their errors.
        out: The CF file to write; cycles are kept in `<out>.parts` until it is complete. What
            became of each observation goes to `<stem of out>_feedback.nc` beside it.
        config: The settings.
        observed: What each variable is called in the table, by the name of the field.
        inputs: SHA-256 of the input files by path, for the record.
        overwrite: Whether an existing output may be replaced.
        mesh: The processes that share the members (axis `member`) and the network of `prior` (its
            other axes), all of which call this; the first writes. None for one.
        progress: Called after every cycle with its number, their count and its time.
        interrupted: Polled after every cycle, or window of cycles.

    Returns:
        The account, or None where `interrupted` stopped the run.

    Raises:
        FileExistsError: Where the output is there already.
        ValueError: Where history, observations and prior do not fit together, or no observation
            can be used.
    """
    mesh = StartedMesh.alone(axis="member") if mesh is None else mesh
    table, times = observations_of_run(prior, history, table, config, observed)
    cycler = Cycler(prior, table, times, config, mesh.comm("member"))
    writer = None
    if mesh.rank == 0:
        title = "STORM analyses"
        writer = run_writer(prior, history, out, config, inputs, title=title, overwrite=overwrite)
    initial = initial_past(prior, history, times[0], config)
    done, cycler.past = begun(prior, writer, initial, mesh.world)
    for first in range(done, len(times), prior.config.targets):
        window = cycler.window(first)
        cycles = range(first, min(first + len(window), len(times)))
        for cycle, (analysis, account, feedback) in zip(cycles, window, strict=False):
            if writer is not None:
                fields = named_fields(prior, analysis)
                writer.write(cycle, times[cycle], fields, state=feedback, metadata=account)
            if progress is not None:
                progress(cycle + 1, len(times), times[cycle])
        if interrupted() and cycles.stop < len(times):
            return None
    return _finish(writer, table, len(times), mesh.world)


def observations_of_run(
    prior: Storm,
    history: Store,
    table: ObservationTable,
    config: AssimilationConfig,
    observed: Mapping[str, str],
) -> tuple[ObservationTable, Times]:
    """Return the observations that a run assimilates, and the times of its analyses.

    Raises:
        ValueError: Where history, observations and prior do not fit together, or no observation
            can be used.
    """
    check_history(prior, history)
    candidates = match_variables(table, observed, prior_units(prior))
    require_errors(candidates)
    known = usable(candidates, prior.grid, prior.config.variables, prior.network.valid)
    times = cycle_times(config, history.times, known, step_of(prior))
    inside = known.window(times[0] - step_of(prior) / 2, times[-1] + step_of(prior) / 2)
    if not len(inside):
        raise ValueError(
            f"observations: expected at least one to assimilate, got none: {inside.summary}"
        )
    return inside, times


def _finish(
    writer: EnsembleWriter | None, table: ObservationTable, count: int, comm: Communicator
) -> Outcome:
    cycles = range(0 if writer is None else count)
    notes = [writer.read(cycle).metadata for cycle in cycles if writer is not None]
    sums = [sum(note[key] for note in notes) for key in ("used", "refused")]
    used, refused = comm.broadcast(torch.tensor(sums, device=comm.device)).tolist()
    rejected = table.rejected + Counter({"background check": refused})
    outcome = Outcome(cycles=count, used=used, rejected=rejected)
    if writer is None:
        return outcome
    account = {"used": outcome.used, "rejected": dict(outcome.rejected)}
    record = {**writer.provenance, "observations": account}
    write_run_feedback(writer, table, count, record)
    replace(writer, provenance=record).finish()
    return outcome
