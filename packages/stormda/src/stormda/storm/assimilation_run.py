"""Cycle a prior through real observations: history file in, ensemble of analyses out.

    start - K steps ... start - 1 step     the history, from a file
    start, start + 1 step, ...             an analysis each, from its own past and the observations
                                           in (t - step / 2, t + step / 2]

Every cycle is stored when it is done. A run that was killed goes on after the last one stored, and
ends with the same numbers, since all noise is a function of (seed, cycle).
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stormda.assimilation import Observation
from stormda.grid import describe_difference
from stormda.io import EnsembleWriter, ObservationTable, Store
from stormda.storm.config import to_dict
from stormda.storm.files import Times, clock_features, read_frames
from stormda.storm.filtering import (
    FilterSettings,
    drawn_together,
    expected_error,
    sample_present,
)
from stormda.storm.present import Present
from stormda.storm.prior import Storm
from stormda.storm.provenance import provenance
from stormda.storm.real_observations import (
    Expected,
    as_observation,
    background_check,
    match_variables,
    usable,
)
from stormda.storm.settings import plain
from stormda.storm.streams import stream

START, CYCLE = 1, 2
"""What random numbers are for."""


@dataclass(frozen=True, kw_only=True)
class AssimilationConfig:
    """How a prior is cycled through observations."""

    members: int = 16
    """Size of the ensemble."""

    seed: int = 0
    """Seed of all noise."""

    start: str | None = None
    """Time of the first analysis; None for one step after the history file ends."""

    end: str | None = None
    """Time of the last analysis; None for the last that an observation belongs to."""

    history_error: float = 0.0
    """Error of the history that every member is given at the start, white in space, in standard
    deviations of each variable."""

    gross: float = 5.0
    """Background check: largest departure from what is expected, in standard deviations."""

    inflation: float = 1.0
    """Factor on the prior's departures from its forecast (see `present`)."""

    filter: FilterSettings = field(
        default_factory=lambda: FilterSettings(
            error_factor=1.0, cohesion=0.0, steps=12, sigma_max=40.0
        )
    )
    """How every analysis is sampled. Structures of many cells show through noise that drowns each
    cell: fields smoother than turbulence need a large `sigma_max`, or their spread is lost."""

    def __post_init__(self) -> None:
        if self.members < 2:
            raise ValueError(f"members: expected at least 2, got {self.members}")
        if self.seed < 0:
            raise ValueError(f"seed: expected a number that is not negative, got {self.seed}")
        if self.history_error < 0:
            raise ValueError(
                f"history_error: expected a number that is not negative, got {self.history_error}"
            )
        for name in ("gross", "inflation"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")


def prior_units(prior: Storm) -> dict[str, str]:
    """Return the units of a prior's variables, as its training recorded them."""
    return dict(prior.provenance["variables"])


def check_history(prior: Storm, store: Store) -> None:
    """Refuse a history that the prior was not trained for.

    Raises:
        ValueError: Where the grid, a variable or its units are others.
    """
    path = store.paths[0]
    difference = describe_difference(prior.grid, store.grid)
    if difference:
        raise ValueError(f"{path}: expected the grid of the prior: {difference}")
    for name, units in prior_units(prior).items():
        if name not in store.variables:
            raise ValueError(
                f"{path}: expected the variables of the prior {list(prior.config.variables)}, "
                f"got {sorted(store.variables)}"
            )
        if store.variables[name].units != units:
            raise ValueError(
                f"{path}: expected {name} in {units!r} as in training, "
                f"got {store.variables[name].units!r}"
            )


def cycle_times(
    config: AssimilationConfig, history: Times, table: ObservationTable, step: np.timedelta64
) -> Times:
    """Return the times of the analyses.

    Raises:
        ValueError: Where there is none.

    Examples:
        >>> from stormda.io import observation_table
        >>> hour = np.timedelta64(3600, "s")
        >>> past = np.array(["2019-03-01T00", "2019-03-01T01"], "datetime64[s]")
        >>> table = observation_table(time="2019-03-01T03:20", lat=[50.0], lon=[0.0], value=[1.0])
        >>> cycle_times(AssimilationConfig(), past, table, hour).astype("datetime64[h]").tolist()
        [datetime.datetime(2019, 3, 1, 2, 0), datetime.datetime(2019, 3, 1, 3, 0)]
    """
    start = history[-1] + step if config.start is None else np.datetime64(config.start, "s")
    if config.end is None:
        last = table.time[-1] - start
        count = -((step / 2 - last) // step) if len(table) else 0
        end = start + max(0, int(count)) * step
    else:
        end = np.datetime64(config.end, "s")
    if end < start:
        raise ValueError(f"end: expected a time at or after the start {start}, got {end}")
    return np.arange(start, end + np.timedelta64(1, "s"), step)


def initial_past(
    prior: Storm, store: Store, start: np.datetime64, config: AssimilationConfig
) -> Tensor:
    """Return the history of every member before the first analysis.

    Returns:
        Physical fields, (members, history, variables, rows, cols).

    Raises:
        ValueError: Where a frame or a value is missing.
    """
    count, step = prior.config.history, _step(prior)
    wanted = start - step * np.arange(count, 0, -1)
    frames = read_frames(store, prior.config.variables, start=wanted[0], end=wanted[-1])
    if not np.array_equal(frames.times, wanted):
        raise ValueError(
            f"{store.paths[0]}: expected frames at {', '.join(map(str, wanted))} before the first "
            f"analysis, got {', '.join(map(str, frames.times))}"
        )
    mask = prior.network.valid
    needed = frames.valid if mask is None else frames.valid | ~mask
    if not bool(needed.all()):
        raise ValueError(
            f"{store.paths[0]}: expected values wherever the prior was trained, "
            f"got {int((~needed).sum())} missing ones"
        )
    past = torch.where(frames.valid, frames.values, prior.normalization.mean)
    generator = stream(config.seed, START)
    noise = torch.randn(config.members, *past.shape[1:], generator=generator)[:, None]
    return past + config.history_error * prior.normalization.std * noise


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
    progress: Callable[[int, int, np.datetime64], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> Outcome | None:
    """Cycle a prior through a table of observations, and write the analyses.

    Args:
        prior: The trained prior.
        history: Frames before the first analysis.
        table: Observations with their errors.
        out: The CF file to write; cycles are kept in `<out>.parts` until it is complete.
        config: The settings.
        observed: What each variable is called in the table, by the name of the field.
        inputs: SHA-256 of the input files by path, for the record.
        overwrite: Whether an existing output may be replaced.
        progress: Called after every cycle with its number, their count and its time.
        interrupted: Polled after every cycle.

    Returns:
        The account, or None where `interrupted` stopped the run.

    Raises:
        FileExistsError: Where the output is there already.
        ValueError: Where history, observations and prior do not fit together, or no observation
            can be used.
    """
    check_history(prior, history)
    candidates = match_variables(table, observed, prior_units(prior))
    require_errors(candidates)
    known = usable(candidates, prior.grid, prior.config.variables, prior.network.valid)
    times = cycle_times(config, history.times, known, _step(prior))
    inside = known.window(times[0] - _step(prior) / 2, times[-1] + _step(prior) / 2)
    if not len(inside):
        raise ValueError(
            f"observations: expected at least one to assimilate, got none: {inside.summary}"
        )
    writer = _writer(prior, history, out, config, inputs, overwrite=overwrite)
    cycler = Cycler(prior, inside, times, config)
    done = len(writer.completed())
    cycler.past = _resumed(writer, initial_past(prior, history, times[0], config), done, prior)
    for cycle in range(done, len(times)):
        analysis, account = cycler.step(cycle)
        writer.write(cycle, times[cycle], _named(prior, analysis), metadata=account)
        if progress is not None:
            progress(cycle + 1, len(times), times[cycle])
        if interrupted() and cycle + 1 < len(times):
            return None
    return _finish(writer, inside, len(times))


def require_errors(table: ObservationTable) -> None:
    """Refuse a table in which an error of observation is not stated.

    Raises:
        ValueError: Where one is not.
    """
    unknown = int(np.isnan(table.error).sum())
    if unknown:
        raise ValueError(
            f"error: expected the error of every observation, got {unknown} of {len(table)} "
            "without one (pass --error)"
        )


class Cycler:
    """The state of a cycled assimilation of a table.

    Args:
        prior: The trained prior.
        table: Usable observations of the whole period.
        times: Of the analyses.
        config: The settings.
    """

    def __init__(
        self, prior: Storm, table: ObservationTable, times: Times, config: AssimilationConfig
    ) -> None:
        self.prior, self.table, self.times, self.config = prior, table, times, config
        season = bool(prior.provenance["settings"]["season"])
        self.clock = (
            clock_features(times, prior.grid, season=season) if prior.config.clock else None  # type: ignore[arg-type]
        )
        self.grid, self.variables = prior.grid, prior.config.variables
        self.past: Tensor

    def step(self, cycle: int) -> tuple[Tensor, dict[str, Any]]:
        """Sample the analysis of a cycle, and return it with the account of its observations."""
        clock = None if self.clock is None else self.clock[cycle]
        now = self.present(clock)
        half = _step(self.prior) / 2
        rows = self.table.window(self.times[cycle] - half, self.times[cycle] + half)
        checked = background_check(
            rows, self.grid, self.variables, self._expected(now), self.config.gross
        )
        seen = as_observation(checked, self.grid, self.variables)
        analysis = self.sample(now, seen, stream(self.config.seed, CYCLE, cycle))
        self.past = torch.cat([self.past[:, 1:], analysis[:, None]], 1)
        return analysis, {"used": len(checked), "refused": len(rows) - len(checked)}

    def present(self, clock: Tensor | None) -> Present:
        """Return what the past of every member lets expect."""
        settings = self.config.filter
        past = drawn_together(self.past, settings.cohesion)
        error = expected_error(self.past, self.prior.normalization, settings)
        given = self.prior.given(past, error=error, clock=clock)
        return Present(given, self.config.inflation)

    def sample(
        self, now: Present, observation: Observation | None, generator: torch.Generator
    ) -> Tensor:
        """Sample every member's present [physical units], (members, variables, rows, cols)."""
        return sample_present(
            now,
            observation,
            members=len(self.past),
            settings=self.config.filter,
            generator=generator,
        )

    def _expected(self, now: Present) -> Expected:
        """Return the forecast of each member, and the size of a change in one step."""
        n = self.prior.normalization
        return Expected(now.forecast(), (n.std * n.increment)[:, 0, 0])


def _writer(
    prior: Storm,
    history: Store,
    out: Path,
    config: AssimilationConfig,
    inputs: Mapping[str, str],
    *,
    overwrite: bool,
) -> EnsembleWriter:
    run = _sorted(plain({"settings": to_dict(config), "inputs": dict(inputs)}))
    record = provenance(
        config,
        title="STORM analyses",
        member_seeds=[f"{config.seed}/{member}" for member in range(config.members)],
        inputs=dict(inputs),
        prior=dict(prior.provenance),
    )
    attributes = {
        name: _attributes(history, name, units) for name, units in prior_units(prior).items()
    }
    return EnsembleWriter(
        path=out,
        grid=prior.grid,  # type: ignore[arg-type]
        attributes=attributes,
        run=run,
        provenance=record,
        overwrite=overwrite,
    )


def _attributes(store: Store, name: str, units: str) -> dict[str, str]:
    meta = store.variables[name]
    known = {"standard_name": meta.standard_name, "long_name": meta.long_name}
    return {"units": units} | {key: text for key, text in known.items() if text}


def _named(prior: Storm, analysis: Tensor) -> dict[str, Any]:
    """Return each variable of an ensemble, NaN where the prior knows no value."""
    mask = prior.network.valid
    if mask is not None:
        analysis = torch.where(mask, analysis, torch.nan)
    return {name: analysis[:, i].numpy() for i, name in enumerate(prior.config.variables)}


def _resumed(writer: EnsembleWriter, initial: Tensor, done: int, prior: Storm) -> Tensor:
    """Return the past before cycle `done`: the newest of the initial and the stored frames."""
    count = prior.config.history
    stored = [
        torch.stack(
            [torch.from_numpy(cycle.fields[name]) for name in prior.config.variables], dim=1
        )
        for cycle in map(writer.read, range(max(0, done - count), done))
    ]
    frames = [*initial.unbind(1), *stored]
    past = torch.stack(frames[-count:], dim=1)
    mask = prior.network.valid
    return past if mask is None else torch.where(mask, past, prior.normalization.mean)


def _finish(writer: EnsembleWriter, table: ObservationTable, count: int) -> Outcome:
    notes = [writer.read(cycle).metadata for cycle in range(count)]
    refused = sum(note["refused"] for note in notes)
    outcome = Outcome(
        cycles=count,
        used=sum(note["used"] for note in notes),
        rejected=table.rejected + Counter({"background check": refused}),
    )
    account = {"used": outcome.used, "rejected": dict(outcome.rejected)}
    replace(writer, provenance={**writer.provenance, "observations": account}).finish()
    return outcome


def _sorted(values: Any) -> Any:  # noqa: ANN401
    """Return nested values with their keys in one order, so that equal runs look equal."""
    return json.loads(json.dumps(values, sort_keys=True))


def _step(prior: Storm) -> np.timedelta64:
    return np.timedelta64(round(3600 * prior.step_hours), "s")
