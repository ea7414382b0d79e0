"""A service that may die at any moment: one analysis after another as observations come.

- The analysis of time t has the observations in (t - step / 2, t + step / 2]. It is made when one
  beyond that window has come, or when nothing has come for a while and the window has some. A
  window without any becomes a forecast once a later one is due.
- A prior of several targets analyses as many times together, once the last of them is due.
- A folder receives `analysis_<time>.nc`, with what became of its observations beside it in
  `analysis_<time>_feedback.nc`. These files are the whole state: started again, the service reads
  the newest of them and goes on, with the numbers of one run over all observations. The files of
  a window are written into a folder aside, which is renamed when it is complete, and moved from
  there: a service that was killed on the way moves the rest when it starts.
- What comes for a window that is done is late: counted, and not used.
"""

from __future__ import annotations

import shutil
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

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
from stormda.storm.cycler import Analysed, Cycler
from stormda.storm.ensemble_output import named_fields
from stormda.storm.inbox import Inbox
from stormda.storm.level_fields import attributes_of
from stormda.storm.observation_feedback import feedback_path
from stormda.storm.prior import Storm
from stormda.storm.provenance import provenance
from stormda.storm.real_observations import GROSS
from stormda.storm.settings import plain

ASIDE = ".window_"
"""How the names of folders begin in which the files of a window are made ready."""


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
        self.prior, self.history, self.out, self.config = prior, history, out, config
        self.inputs, self.step = dict(inputs), step_of(prior)
        self.run = plain({"settings": to_dict(config), "inputs": self.inputs})
        first = history.times[-1] + self.step if config.start is None else config.start
        self.start = np.datetime64(first, "s")
        out.mkdir(parents=True, exist_ok=True)
        self._tidy()
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
        """Return whether the next analyses can be made with what has come."""
        if self.complete or inbox.newest is None:
            return False
        last = self.time(self._next()[-1])
        return bool(inbox.newest > last + self.step / 2) or not inbox.patient

    def analyse(self, inbox: Inbox) -> list[str]:
        """Make the analyses of the next window, write them, and return a line about each."""
        cycles = self._next()
        times = self.start + np.arange(cycles.stop) * self.step
        cycler = Cycler(self.prior, self._seen(inbox, cycles), times, self.config)
        cycler.past = self.past
        analysed = cycler.window(self.done)
        aside = self.out / f"{ASIDE}{self.path(self.done).stem}"
        unfinished = aside.with_suffix(".part")
        unfinished.mkdir()
        for cycle, one in zip(cycles, analysed, strict=False):
            self._write(cycle, unfinished, inbox, one)
        unfinished.rename(aside)
        self._move(aside)
        self.past, self.done = cycler.past, cycles.stop
        return [
            f"{self.time(cycle)}: {account['used']} observations used, "
            f"{account['refused']} refused"
            for cycle, (_, account, _) in zip(cycles, analysed, strict=False)
        ]

    def _next(self) -> range:
        """Return the cycles of the next window, none of them beyond the end."""
        stop = self.done + self.prior.config.targets
        if self.config.end is not None:
            until = (np.datetime64(self.config.end, "s") - self.start) // self.step
            stop = min(stop, int(until) + 1)
        return range(self.done, stop)

    def _seen(self, inbox: Inbox, cycles: range) -> ObservationTable:
        """Return the observations of some cycles."""
        assert inbox.rows is not None
        first, last, half = self.time(cycles[0]), self.time(cycles[-1]), self.step / 2
        rows = replace(inbox.rows, rejected=Counter()).window(first - half, last + half)
        return replace(rows, rejected=Counter())

    def _write(self, cycle: int, folder: Path, inbox: Inbox, analysed: Analysed) -> None:
        """Write an analysis, and what became of its observations, into a folder."""
        path = folder / self.path(cycle).name
        rows = self._seen(inbox, range(cycle, cycle + 1))
        analysis, account, feedback = analysed
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
        if len(rows):
            write_feedback(
                feedback_path(path),
                rows,
                Feedback(**columns, refused=refused),
                provenance=record,
            )
        write_ensemble(
            path,
            {name: values[:, None] for name, values in named_fields(self.prior, analysis).items()},
            times=[self.time(cycle)],
            grid=self.prior.grid,  # type: ignore[arg-type]
            attributes={
                name: attributes_of(self.history, name, units)
                for name, units in prior_units(self.prior).items()
            },
            provenance=record,
        )

    def _tidy(self) -> None:
        """Move what a killed service had ready, and remove what it had begun."""
        for folder in sorted(self.out.glob(f"{ASIDE}*")):
            if folder.suffix == ".part":
                shutil.rmtree(folder)
            else:
                self._move(folder)

    def _move(self, folder: Path) -> None:
        """Move the files of a window into the folder of analyses, feedback first."""
        for path in sorted(folder.iterdir(), key=lambda p: ("_feedback" not in p.name, p.name)):
            path.replace(self.out / path.name)
        folder.rmdir()

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
            for line in follower.analyse(inbox):
                inbox.note(line)
        elif once and not inbox.patient:
            break
        else:
            time.sleep(poll)
    return follower.done
