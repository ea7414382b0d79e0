"""One-stage filtering that looks back: what is seen now also tells of what was.

    x_s^m ~ p(x_s | x_{s-K:s-1}^m, y_s, ..., y_k),        s = k - lag,
    x_k^m = M(x_s^m),

with M the prior's law of motion over the lag. Each observation between is predicted by the law,
too: this is the sampler of a window, with a state at its start, as in strong-constraint 4D-Var.

WHY: a prior is told how wrong the past is as a spectrum, the same everywhere and in all
directions. Flow does not leave errors so. What it stretches is wrong along a few directions, which
an ensemble filter knows from its members. A state that is sampled earlier and carried on has them
from the law itself: two observations of one course tell how it went, where a spectrum cannot.

No observation counts twice: the past of x_s has seen nothing later than y_{s-1}. So analyses form
lag + 1 chains that take turns, and meet only in the older frames of a past. The law is taken to be
exact over the lag.

Source: 4D-Var's implicit evolution of its covariance, Thepaut, Hoffman and Courtier (1993), Mon.
Wea. Rev. 121; a filter that samples the state before it, Sakov, Oliver and Bertino (2012), Mon.
Wea. Rev. 140 (IEnKF).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation import Observation, observed_along
from stormda.storm.filtering import FilterSettings, given_pasts, sample_present
from stormda.storm.prior import Storm
from stormda.storm.transport_tangent import carried


@dataclass(frozen=True, kw_only=True)
class LookbackSettings(FilterSettings):
    """How a prior is cycled that may look back."""

    lag: int = 0
    """Intervals between the state that is sampled and the newest observation; 0 for a filter that
    samples the present."""

    def __post_init__(self) -> None:
        if self.lag < 0:
            raise ValueError(f"lag: expected a number >= 0, got {self.lag}")


class LookbackFilter:
    """The state of a cycled analysis that looks back.

    Until there are as many observations as it looks back on, it does with what there is.

    Args:
        prior: The trained prior, with a law of motion where there is a lag.
        initial: Ensemble at the initial time [physical units], (members, variables, rows, cols).
        settings: How it is cycled.
        generator: Source of all noise.

    Raises:
        ValueError: A lag, and a prior without a law of motion or with several targets.
    """

    def __init__(
        self,
        prior: Storm,
        initial: Tensor,
        settings: LookbackSettings,
        generator: torch.Generator,
    ) -> None:
        config = prior.config
        if settings.lag and not (config.transport and config.targets == 1):
            raise ValueError(
                f"lag: expected 0 where the prior has no law of motion or several targets, got "
                f"{settings.lag} with transport={config.transport}, targets={config.targets}"
            )
        self.prior, self.settings, self.generator = prior, settings, generator
        self.analyses = deque([initial] * config.history, maxlen=config.history + settings.lag)
        self.observations: deque[Observation | None] = deque(maxlen=1 + settings.lag)

    def step(self, observation: Observation | None) -> Tensor:
        """Sample the next analysis, or a forecast where nothing was observed.

        Returns:
            The analysis ensemble [physical units], (members, variables, rows, cols).
        """
        self.observations.append(observation)
        past = torch.stack(list(self.analyses)[: self.prior.config.history], 1)
        start = sample_present(
            given_pasts(self.prior, past, self.settings),
            observed_along(self.observations, self.course),
            members=len(past),
            settings=self.settings,
            generator=self.generator,
        )
        with torch.no_grad():
            analysis = self.course(start)[-1]
        self.analyses.append(analysis)
        return analysis

    def course(self, x: Tensor) -> list[Tensor]:
        """Return states and what the law makes of them at the times of the observations."""
        law, n = self.prior.network.transport, self.prior.normalization
        later = len(self.observations) - 1
        if law is None or later == 0:
            return [x]
        return [n.to_x(z) for z in carried(law, n.to_z(x), later)]


def run_lookback(
    prior: Storm,
    initial: Tensor,
    observations: Iterable[Observation | None],
    *,
    settings: LookbackSettings,
    generator: torch.Generator,
) -> Iterator[Tensor]:
    """Yield the analysis ensemble of every cycle, in physical units."""
    state = LookbackFilter(prior, initial, settings, generator)
    for observation in observations:
        yield state.step(observation)
