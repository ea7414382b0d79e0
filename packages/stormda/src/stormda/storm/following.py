"""A service that may die at any moment: one analysis after another as observations come.

- The analysis of time t has the observations in (t - step / 2, t + step / 2]. It is made when one
  beyond that window has come, or when nothing has come for a while and the window has some. A
  window without any becomes a forecast once a later one is due.
- A folder receives `analysis_<time>.nc`, with what became of its observations beside it in
  `analysis_<time>_feedback.nc`. These files are the whole state: started again, the service reads
  the newest of them and goes on, with the numbers of one run over all observations.
- What comes for a window that is done is late: counted, and not used.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from stormda.io import (
    Feedback,
    ObservationTable,
    Store,
    read_ensemble,
    write_ensemble,
    write_feedback,
)
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_inputs import (
    check_history,
    continued_past,
    initial_past,
    prior_units,
    step_of,
)
from stormda.storm.config import to_dict
from stormda.storm.cycler import Cycler
from stormda.storm.ensemble_output import named_fields
from stormda.storm.inbox import Inbox
from stormda.storm.level_fields import attributes_of
from stormda.storm.observation_feedback import feedback_path
from stormda.storm.prior import Storm
from stormda.storm.provenance import provenance
from stormda.storm.real_observations import GROSS
from stormda.storm.settings import plain


class Follower:
    """A cycled assimilation whose state is the folder of its analyses.

    Args:
        prior: The trained prior.
        history: Frames before the first analysis.
        out: The folder of the analyses.
        config: The settings; `end` None for a service without one.
        inputs: SHA-256 of prior and history by path, for the record.

    Raises:
        ValueError: Where history and prior do not fit together, or the folder holds analyses of
            another run.
    """

    def __init__(
        self,
        prior: Storm,
        history: Store,
        out: Path,
        config: AssimilationConfig,
        *,
        inputs: Mapping[str, str],
    ) -> None:
        check_history(prior, history)
        if prior.config.targets > 1:
            raise ValueError(
                "prior: expected one of a single target for a service that follows observations, "
                f"got targets = {prior.config.targets}"
            )
        self.prior, self.history, self.out, self.config = prior, history, out, config
        self.inputs, self.step = dict(inputs), step_of(prior)
        self.run = plain({"settings": to_dict(config), "inputs": self.inputs})
        first = history.times[-1] + self.step if config.start is None else config.start
        self.start = np.datetime64(first, "s")
        out.mkdir(parents=True, exist_ok=True)
        self.done = self._found()
        self.past = self._resumed()

    @property
    def closed(self) -> np.datetime64:
        """Return the end of the last window that has been analysed."""
        return self.time(self.done - 1) + self.step / 2

    @property
    def complete(self) -> bool:
        """Whether the last analysis that was asked for has been made."""
        end = self.config.end
        return end is not None and bool(self.time(self.done) > np.datetime64(end, "s"))

    def time(self, cycle: int) -> np.datetime64:
        """Return the time of an analysis."""
        return self.start + cycle * self.step

    def path(self, cycle: int) -> Path:
        """Return the file of an analysis."""
        stamp = str(self.time(cycle)).replace("-", "").replace(":", "")
        return self.out / f"analysis_{stamp}.nc"

    def due(self, inbox: Inbox) -> bool:
        """Return whether the next analysis can be made with what has come."""
        if self.complete or inbox.newest is None:
            return False
        over = bool(inbox.newest > self.time(self.done) + self.step / 2)
        return over or not inbox.patient

    def analyse(self, inbox: Inbox) -> str:
        """Make the next analysis, write it, and return its account in one line."""
        assert inbox.rows is not None
        now, half = self.time(self.done), self.step / 2
        rows = replace(inbox.rows, rejected=Counter()).window(now - half, now + half)
        rows = replace(rows, rejected=Counter())
        times = self.start + np.arange(self.done + 1) * self.step
        cycler = Cycler(self.prior, rows, times, self.config)
        cycler.past = self.past
        analysis, account, feedback = cycler.step(self.done)
        self._write(inbox, rows, analysis, account, feedback)
        self.past, self.done = cycler.past, self.done + 1
        return f"{now}: {account['used']} observations used, {account['refused']} refused"

    def _write(
        self,
        inbox: Inbox,
        rows: ObservationTable,
        analysis: Tensor,
        account: Mapping[str, int],
        feedback: Mapping[str, Any],
    ) -> None:
        path = self.path(self.done)
        record = provenance(
            self.config,
            title="STORM analysis",
            member_seeds=[f"{self.config.seed}/{m}" for m in range(self.config.members)],
            inputs=self.inputs | inbox.read,
            prior=dict(self.prior.provenance),
            run=self.run,
            observations=dict(account),
        )
        columns = {name: value for name, value in feedback.items() if name != "credible"}
        refused = np.where(feedback["credible"], "", GROSS)
        if len(rows):  # first, so that an analysis that is there has it
            write_feedback(
                feedback_path(path), rows, Feedback(**columns, refused=refused),
                provenance=record, overwrite=True,
            )  # fmt: skip
        write_ensemble(
            path,
            {name: values[:, None] for name, values in named_fields(self.prior, analysis).items()},
            times=[self.time(self.done)],
            grid=self.prior.grid,  # type: ignore[arg-type]
            attributes={
                name: attributes_of(self.history, name, units)
                for name, units in prior_units(self.prior).items()
            },
            provenance=record,
        )

    def _found(self) -> int:
        """Return how many analyses there are, which must be the first ones of this run."""
        found = {p for p in self.out.glob("analysis_*.nc") if not p.stem.endswith("_feedback")}
        count = len(found)
        if found != {self.path(cycle) for cycle in range(count)}:
            raise ValueError(
                f"{self.out}: expected analyses from {self.start} on without a gap, "
                f"got {sorted(p.name for p in found)[0]} and others"
            )
        if count:
            run = read_ensemble(self.path(count - 1)).provenance["run"]
            if run != self.run:
                raise ValueError(
                    f"{self.out}: expected analyses with the settings, prior and history of this "
                    "run, got those of another"
                )
        return count

    def _resumed(self) -> Tensor:
        initial = initial_past(self.prior, self.history, self.start, self.config)
        newest = range(self.done)[-self.prior.config.history :]
        stored = [read_ensemble(self.path(cycle)).fields for cycle in newest]
        frames = [{name: values[:, 0] for name, values in one.items()} for one in stored]
        return continued_past(self.prior, initial, frames)


def follow(
    follower: Follower,
    inbox: Inbox,
    *,
    once: bool = False,
    poll: float = 1.0,
    interrupted: Callable[[], bool] = lambda: False,
) -> int:
    """Make every analysis that becomes due, until the end, or an interruption.

    Args:
        follower: The assimilation.
        inbox: Its observations.
        once: Whether to return when nothing is due any more, instead of waiting for files.
        poll: How often to look for files [s].
        interrupted: Polled after every analysis and every look.

    Returns:
        How many analyses there are, those of former runs included.
    """
    while not (interrupted() or follower.complete):
        inbox.look(follower.closed)
        if follower.due(inbox):
            inbox.note(follower.analyse(inbox))
        elif once and not inbox.patient:
            break
        else:
            time.sleep(poll)
    return follower.done
