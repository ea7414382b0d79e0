"""One-stage filtering: every member samples the present from its own past and the observations.

    x_k^m ~ p(x_k | x_{k-K:k-1}^m, y_k)

There is no forecast step and no update step. The past of a member is its own analyses; how wrong
they are expected to be, which the network is told, follows from the spread of the ensemble.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from torch import Tensor

from stormda.assimilation import (
    Climate,
    Denoiser,
    Guidance,
    Observation,
    assimilate,
    dpmpp_2m,
    jfps,
    mmps,
)
from stormda.storm.ensemble_share import EnsembleShare
from stormda.storm.error_spectrum import error_spectrum
from stormda.storm.normalization import Normalization
from stormda.storm.prior import Conditioned, Storm
from stormda.storm.window import frames_of


class PhysicalDenoiser(Denoiser, Climate, Protocol):
    """A denoiser that knows what its states mean, and how they would vary were they Gaussian."""

    def to_physical(self, departure: Tensor, /) -> Tensor:
        """Return states in physical units."""
        ...


@dataclass(frozen=True, kw_only=True)
class FilterSettings:
    """How a trained prior is cycled.

    `error_factor`, `cohesion` and `steps` are found by `tools/tune_sqg.py`; the rest was set by
    hand, on seeds for tuning only.
    """

    error_factor: float = 0.5
    """Expected error of a member's past, in units of the ensemble's spread; with a law of motion,
    after it has acted."""

    cohesion: float = 0.2
    """Share by which the past of a member is drawn towards the mean of all pasts. A member that
    knows only its own past spreads too far, as its gain is that of one past and not of their mean:
    by a fifth, in the scalar case where forecast and observation are equally good."""

    smallest_error: float = 0.01
    """Least expected error, in standard deviations of the field."""

    steps: int = 9
    """Denoising steps."""

    sigma_max: float = 10.0
    """First noise level, in standard deviations of an increment. It must drown the largest waves,
    whose amplitude in white noise is small: many times the uncertainty at a point."""

    sigma_min: float = 0.02
    """Last noise level above zero."""

    rho: float = 7.0
    """Spacing of the noise levels (Karras et al., 2022)."""

    tolerance: float = 1e-2
    """Relative residual of the linear solves of the guidance."""

    iterations: int = 6
    """Most conjugate-gradient iterations of a solve."""

    covariance: Literal["network", "told"] = "network"
    """By whose covariance observations act: that which the network's Jacobian implies (`mmps`), or
    that of the Gaussian it starts from, whose spectrum it was told (`jfps`): faster, a little
    worse without a lag, and the one with which solves over a window converge
    (`bench/lookback.py`)."""

    def guidance(self, now: Climate) -> Guidance:
        """Return how samples of some conditionals are drawn to the observations."""
        if self.covariance == "network":
            return mmps(tolerance=self.tolerance, max_iterations=self.iterations)
        return jfps(climate=now, tolerance=self.tolerance, max_iterations=self.iterations)


def drawn_together(past: Tensor, cohesion: float) -> Tensor:
    """Draw the pasts of all members (members, ...) towards their mean by a share.

    Examples:
        >>> drawn_together(torch.tensor([0.0, 2.0]), 0.5)
        tensor([0.5000, 1.5000])
    """
    return torch.lerp(past, past.mean(0, keepdim=True), cohesion)


def expected_error(
    past: Tensor,
    normalization: Normalization,
    settings: FilterSettings,
    valid: Tensor | None = None,
) -> Tensor:
    """Return the error that the newest frame of a past is expected to have, (variables,).

    Args:
        past: (members, history, variables, rows, cols) [physical units].
        normalization: For the scale of the least error.
        settings: Factor and least error.
        valid: Where the fields exist, bool (variables, rows, cols); None for everywhere.
    """
    variance = past[:, -1].var(dim=0)
    mean = variance.flatten(1).mean(1)
    if valid is not None:
        mean = mean / valid.to(variance).flatten(1).mean(1).clamp_min(1e-12)
    spread = mean.sqrt()
    least = settings.smallest_error * normalization.std.flatten()
    return torch.maximum(settings.error_factor * spread, least)


def given_pasts(
    prior: Storm,
    pasts: Tensor,
    settings: FilterSettings,
    *,
    share: EnsembleShare | None = None,
    clock: Tensor | None = None,
) -> Conditioned:
    """Condition on the pasts of an ensemble, and on how wrong its spread says that they are.

    Where the prior has a law of motion, that is the spread of what it makes of them.
    Every process carries its own members on.

    Args:
        prior: The trained prior.
        pasts: Of all members, (members, history, variables, *grid.shape) [physical units].
        settings: Cohesion, factor and least error.
        share: Which members are conditioned on, and by whom the others; None for all by this
            process.
        clock: As in `Storm.given`.
    """
    share = share or EnsembleShare(len(pasts))
    drawn = drawn_together(pasts, settings.cohesion)[share.own]
    law, n = prior.network.transport, prior.normalization
    if law is None:
        error = expected_error(pasts, n, settings, prior.network.valid)
        return prior.given(drawn, error=error, clock=clock)
    with torch.no_grad():
        ahead = law.next_frame(n.to_z(pasts[share.own, -1])) / n.increment
    spread = (ahead - share.mean(ahead.mean(0))) / math.sqrt(1 - 1 / len(pasts))
    power = settings.error_factor**2 * share.mean(error_spectrum(spread).mean(0))
    least = (settings.smallest_error / n.increment.flatten()[:, None]).square()
    return prior.given(drawn, spectrum=torch.maximum(power, least), clock=clock)


def sample_present(
    now: PhysicalDenoiser,
    observation: Observation | None,
    *,
    members: int | Sequence[int],
    settings: FilterSettings,
    generator: torch.Generator,
    guidance: Guidance | None = None,
) -> Tensor:
    """Sample the present of every member from its conditional and the observations.

    Args:
        now: The conditionals.
        observation: What is observed [physical units]; None for a forecast.
        members: How many there are, or which; the noise of each follows from its number.
        settings: Noise levels and guidance.
        generator: Source of the noise.
        guidance: How samples are drawn to the observations; None for what the settings say.

    Returns:
        States [physical units], (members, channels, rows, cols): of several targets frame after
        frame.
    """
    departure = assimilate(
        now,
        observation,
        members=members,
        generator=generator,
        guidance=guidance or settings.guidance(now),
        sampler=dpmpp_2m(
            steps=settings.steps,
            sigma_min=settings.sigma_min,
            sigma_max=settings.sigma_max,
            rho=settings.rho,
        ),
        transform=now.to_physical,
    )
    return now.to_physical(departure)


class OneStageFilter:
    """The state of a cycled one-stage analysis: the recent past of every member.

    `past`, (members, history, variables, rows, cols), starts as the initial ensemble repeated.

    Args:
        prior: The trained prior.
        initial: Ensemble at the initial time [physical units], (members, variables, rows, cols).
        settings: How it is cycled.
        generator: Source of all noise.
        guidance: As in `sample_present`.
    """

    def __init__(
        self,
        prior: Storm,
        initial: Tensor,
        settings: FilterSettings,
        generator: torch.Generator,
        guidance: Guidance | None = None,
    ) -> None:
        self.prior, self.settings, self.generator = prior, settings, generator
        self.guidance = guidance
        self.past = torch.stack([initial] * prior.config.history, 1)

    def step(self, observation: Observation | None, *, clock: Tensor | None = None) -> Tensor:
        """Sample the next analysis, or a forecast where nothing is observed.

        Of a prior with several targets it is that of a window, and `observation` sees the frames
        one after the other.

        Returns:
            The analysis ensemble [physical units], (members, channels, rows, cols).
        """
        analysis = self.sample(observation, clock=clock)
        self.push(analysis)
        return analysis

    def sample(self, observation: Observation | None, *, clock: Tensor | None = None) -> Tensor:
        """Sample the present of every member, leaving the past as it is."""
        return sample_present(
            given_pasts(self.prior, self.past, self.settings, clock=clock),
            observation,
            members=len(self.past),
            settings=self.settings,
            generator=self.generator,
            guidance=self.guidance,
        )

    def push(self, analysis: Tensor) -> None:
        """Make an analysis ensemble the newest frame, or frames, of the past."""
        frames = frames_of(analysis, self.past.shape[2])
        self.past = torch.cat([self.past, frames], 1)[:, -self.past.shape[1] :]


def run_storm(
    prior: Storm,
    initial: Tensor,
    observations: Iterator[Observation | None],
    *,
    settings: FilterSettings,
    generator: torch.Generator,
    guidance: Guidance | None = None,
) -> Iterator[Tensor]:
    """Yield the analysis ensemble of every cycle, in physical units."""
    state = OneStageFilter(prior, initial, settings, generator, guidance)
    for observation in observations:
        yield state.step(observation)
