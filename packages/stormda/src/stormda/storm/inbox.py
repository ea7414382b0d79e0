"""Files of observations as they come: each read once, what is usable kept until it is analysed.

A file is complete when it appears (written aside, then renamed); names that begin with a dot or
end in `.tmp` or `.part` are not looked at. One that cannot be used is named with the reason, and
looked at again when it has changed.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from stormda.io import ObservationTable, join_tables, sha256
from stormda.storm.assimilation_inputs import prior_units, require_errors, step_of
from stormda.storm.prior import Storm
from stormda.storm.real_observations import match_variables, read_matching, usable

LATE, DONE, AHEAD = "late", "of analyses that are made", "too far ahead"
"""Why observations are not used: they came after their analysis, are of a former run, or have a
date that cannot be."""


@dataclass(frozen=True, kw_only=True)
class Sources:
    """Where a service gets its observations, and what they are called."""

    folder: Path
    """The folder that receives files."""

    observed: Mapping[str, str]
    """What each variable is called in the files, by the name of the field."""

    error: float | None = None
    """Standard deviation of observations that state none [SI units]."""

    patience: float = 0.0
    """Time without a new file after which the newest window is taken for complete [s]."""

    ahead: int = 100
    """Steps by which an observation may be ahead of the last analysis: one with a wrong date would
    be followed by forecasts up to it."""

    def __post_init__(self) -> None:
        if not self.folder.is_dir():
            raise ValueError(f"observations: expected a folder, got {self.folder}")
        if not self.patience >= 0:
            raise ValueError(
                f"patience: expected a number that is not negative, got {self.patience}"
            )
        if self.ahead < 1:
            raise ValueError(f"ahead: expected at least 1 step, got {self.ahead}")


class Inbox:
    """The usable observations of the files that have come so far.

    Args:
        prior: The prior, whose grid and variables they are compared with.
        sources: Where they come from.
        note: Told what is read and what is refused.
    """

    def __init__(self, prior: Storm, sources: Sources, note: Callable[[str], None]) -> None:
        self.prior, self.sources, self.note = prior, sources, note
        self.seen: dict[Path, tuple[int, int]] = {}
        self.read: dict[str, str] = {}
        self.looked, self.arrived = False, time.monotonic()
        self.rows: ObservationTable | None = None

    @property
    def newest(self) -> np.datetime64 | None:
        """Return the time of the last observation that waits, or None."""
        return None if self.rows is None or not len(self.rows) else self.rows.time[-1]

    @property
    def patient(self) -> bool:
        """Whether more may still come for the newest window."""
        return time.monotonic() - self.arrived < self.sources.patience

    def look(self, done: np.datetime64) -> None:
        """Read what is new, and forget what is done.

        Args:
            done: The end of the last window that has been analysed.
        """
        tables = [] if self.rows is None else [self.rows]
        latest = done + self.sources.ahead * step_of(self.prior)
        for path, table in self._new():
            near = table.where(table.time <= latest, AHEAD)
            in_time = near.where(near.time > done, LATE if self.looked else DONE)
            self.note(f"{path.name}: {in_time.summary}")
            tables.append(in_time)
        if tables:
            rows = join_tables(tables)
            self.rows = rows.where(rows.time > done, DONE)
        self.looked = True

    def _new(self) -> Iterator[tuple[Path, ObservationTable]]:
        for path in sorted(self.sources.folder.iterdir()):
            if path.name.startswith(".") or path.suffix in (".tmp", ".part"):
                continue
            state = path.stat()
            mark = state.st_size, state.st_mtime_ns
            if self.seen.get(path) == mark:
                continue
            again, self.seen[path] = path in self.seen, mark
            if again and str(path) in self.read:
                self.note(f"{path.name}: changed after it was read, not read again")
                continue
            self.arrived = time.monotonic()
            try:
                table = self._usable(path)
            except (ValueError, OSError) as problem:
                self.note(f"refused: {problem}")
                continue
            self.read[str(path)] = sha256(path)
            yield path, table

    def _usable(self, path: Path) -> ObservationTable:
        observed = self.sources.observed
        table = read_matching(path, observed, error=self.sources.error)
        known = set(table.variable.tolist())
        present = {ours: name for ours, name in observed.items() if name in known}
        table = match_variables(table, present, prior_units(self.prior))
        require_errors(table)
        return usable(
            table, self.prior.grid, self.prior.config.variables, self.prior.network.valid
        )
