"""One cycle after another: expect, check the observations, sample, remember.

    x_k^m ~ p(x_k | x_{k-K:k-1}^m, y_k)

A prior of several targets does so window by window: x_{k:k+T-1} given y_{k:k+T-1}, so that what is
seen of a frame also tells of those before it in the window.

All noise is a function of (seed, cycle, member), so that a run may stop and go on anywhere, and
processes may share the members.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from stormda.assimilation import Observation
from stormda.io import ObservationTable
from stormda.parallel import Communicator, SelfComm
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_inputs import filled, step_of
from stormda.storm.ensemble_share import EnsembleShare
from stormda.storm.filtering import given_pasts, sample_present
from stormda.storm.frames import Times, clock_features
from stormda.storm.observation_feedback import FeedbackColumn, feedback_columns
from stormda.storm.present import Present
from stormda.storm.prior import Storm
from stormda.storm.real_observations import (
    GROSS,
    Expected,
    credibility,
    observation_of_window,
)
from stormda.storm.streams import stream
from stormda.storm.window import frames_of

CYCLE = 2
"""What random numbers are for, beside those of `assimilation_inputs`."""

Analysed = tuple[Tensor, dict[str, Any], dict[str, FeedbackColumn]]
"""An analysis, the account of its observations, and what was expected and found where they were
made."""


class Cycler:
    """The state of a cycled assimilation of a table.

    Args:
        prior: The trained prior.
        table: Usable observations of the whole period.
        times: Of the analyses.
        config: The settings.
        comm: The processes that share the members; None for one.
    """

    def __init__(
        self,
        prior: Storm,
        table: ObservationTable,
        times: Times,
        config: AssimilationConfig,
        comm: Communicator | None = None,
    ) -> None:
        self.share = EnsembleShare(config.members, SelfComm() if comm is None else comm)
        self.prior, self.table, self.times, self.config = prior, table, times, config
        season = bool(prior.provenance["settings"]["season"])
        self.clock = (
            clock_features(times, prior.grid, season=season) if prior.config.clock else None  # type: ignore[arg-type]
        )
        self.grid, self.variables = prior.grid, prior.config.variables
        self.past: Tensor

    def step(self, cycle: int) -> Analysed:
        """Sample the analysis of a cycle, with a prior of one target."""
        (analysed,) = self.window(cycle)
        return analysed

    def window(self, cycle: int) -> list[Analysed]:
        """Sample the analyses of the targets of a cycle, its own and those after it."""
        clock = None if self.clock is None else self.clock[cycle]
        now, tables = self.present(clock), self._seen_from(cycle)
        expected = self._expected(now)
        credible = [
            credibility(rows, self.grid, self.variables, one, self.config.gross)
            for rows, one in zip(tables, expected, strict=True)
        ]
        checked = [rows.where(c, GROSS) for rows, c in zip(tables, credible, strict=True)]
        device = self.prior.normalization.std.device
        seen = observation_of_window(checked, self.grid, self.variables, device)
        analyses = self.sample(now, seen, stream(self.config.seed, CYCLE, cycle))
        frames = frames_of(self.share.everybody(analyses), len(self.variables))
        frames = filled(self.prior, frames)
        self.past = torch.cat([self.past, frames], 1)[:, -self.prior.config.history :]
        return [
            self._account(*one)
            for one in zip(frames.unbind(1), tables, expected, credible, strict=True)
        ]

    def _seen_from(self, cycle: int) -> list[ObservationTable]:
        """Return the observations of every frame of a window."""
        step = step_of(self.prior)
        times = self.times[cycle] + np.arange(self.prior.config.targets) * step
        return [self.table.window(time - step / 2, time + step / 2) for time in times]

    def _expected(self, now: Present) -> list[Expected]:
        """Return what is expected of every frame of a window."""
        n, frames = self.prior.normalization, range(self.prior.config.targets)
        least = torch.cat([n.std * n.increment * (frame + 1) ** 0.5 for frame in frames])
        doubt = torch.maximum(self.share.mean(now.uncertainty()), least)
        ensemble, variables = self.share.everybody(now.forecast()), len(self.variables)
        return [
            Expected(*one)
            for one in zip(
                torch.split(ensemble, variables, 1), torch.split(doubt, variables), strict=True
            )
        ]

    def _account(
        self,
        analysis: Tensor,
        rows: ObservationTable,
        expected: Expected,
        credible: NDArray[np.bool_],
    ) -> Analysed:
        used = int(credible.sum())
        account = {"used": used, "refused": len(rows) - used}
        known = feedback_columns(rows, self.grid, self.variables, expected.ensemble, analysis)
        return analysis, account, {**known, "credible": credible}

    def present(self, clock: Tensor | None) -> Present:
        """Return what the past of every own member lets expect."""
        settings = self.config.filter
        given = given_pasts(self.prior, self.past, settings, share=self.share, clock=clock)
        return Present(given, self.config.inflation)

    def sample(
        self, now: Present, observation: Observation | None, generator: torch.Generator
    ) -> Tensor:
        """Sample every own member's present [physical units], (own members, variables, ...)."""
        return sample_present(
            now,
            observation,
            members=self.share.own,
            settings=self.config.filter,
            generator=generator,
        )
