"""One cycle after another: expect, check the observations, sample, remember.

    x_k^m ~ p(x_k | x_{k-K:k-1}^m, y_k)

All noise is a function of (seed, cycle, member), so that a run may stop and go on anywhere, and
processes may share the members.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from stormda.assimilation import Observation
from stormda.io import ObservationTable
from stormda.parallel import Communicator, SelfComm
from stormda.storm.assimilation_config import AssimilationConfig
from stormda.storm.assimilation_inputs import filled, step_of
from stormda.storm.ensemble_share import EnsembleShare
from stormda.storm.filtering import drawn_together, expected_error, sample_present
from stormda.storm.frames import Times, clock_features
from stormda.storm.observation_feedback import FeedbackColumn, feedback_columns
from stormda.storm.present import Present
from stormda.storm.prior import Storm
from stormda.storm.real_observations import GROSS, Expected, as_observation, credibility
from stormda.storm.streams import stream

CYCLE = 2
"""What random numbers are for, beside those of `assimilation_inputs`."""


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

    def step(self, cycle: int) -> tuple[Tensor, dict[str, Any], dict[str, FeedbackColumn]]:
        """Sample the analysis of a cycle.

        Returns:
            The analysis, the account of its observations, and what was expected and found where
            they were made.
        """
        clock = None if self.clock is None else self.clock[cycle]
        now = self.present(clock)
        half = step_of(self.prior) / 2
        rows = self.table.window(self.times[cycle] - half, self.times[cycle] + half)
        n = self.prior.normalization
        doubt = torch.maximum(self.share.mean(now.uncertainty()), n.std * n.increment)
        expected = Expected(self.share.everybody(now.forecast()), doubt)
        credible = credibility(rows, self.grid, self.variables, expected, self.config.gross)
        checked = rows.where(credible, GROSS)
        seen = as_observation(checked, self.grid, self.variables)
        analysis = self.sample(now, seen, stream(self.config.seed, CYCLE, cycle))
        analysis = filled(self.prior, self.share.everybody(analysis))
        self.past = torch.cat([self.past[:, 1:], analysis[:, None]], 1)
        account = {"used": len(checked), "refused": len(rows) - len(checked)}
        known = feedback_columns(rows, self.grid, self.variables, expected.ensemble, analysis)
        return analysis, account, {**known, "credible": credible}

    def present(self, clock: Tensor | None) -> Present:
        """Return what the past of every own member lets expect."""
        settings = self.config.filter
        past = drawn_together(self.past, settings.cohesion)[self.share.own]
        error = expected_error(
            self.past, self.prior.normalization, settings, self.prior.network.valid
        )
        given = self.prior.given(past, error=error, clock=clock)
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
