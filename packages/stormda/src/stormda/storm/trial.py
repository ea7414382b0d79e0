"""What a prior is worth while it is trained: observations of held-back frames are assimilated.

The loss of a denoiser says little of the analyses that are cycled with it, whose errors come back
through the history. A trial starts an ensemble within the validation period, draws observations of
the frames that follow, assimilates one frame after the other, and compares with the frames.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from stormda.assimilation import (
    DiagonalError,
    Observation,
    crps_fair,
    rmse,
    select,
    spread,
    weighted_mean,
)
from stormda.storm.disturbance import HistoryError
from stormda.storm.files import FileHistories
from stormda.storm.filtering import FilterSettings, OneStageFilter
from stormda.storm.network import StormNetwork
from stormda.storm.prior import Storm
from stormda.storm.streams import stream
from stormda.storm.window import frames_of

TRIAL = 5
"""What random numbers are for, beside those of `validation`."""


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """How a prior is tried out while it is trained."""

    every: int = 0
    """Steps between two trials; 0 for none. With trials, it is they that choose the weights."""

    patience: int = 0
    """Trials in a row that bring nothing better, after which the training ends; 0 trains on."""

    runs: int = 2
    """Ensembles, started at times that are spread over the validation period."""

    cycles: int = 6
    """Analyses of each."""

    members: int = 8
    """Members of each."""

    observed: float = 0.1
    """Share of the cells that are observed, others in every cycle."""

    error: float = 0.1
    """Error of the observations and of the first history, in standard deviations of a variable."""

    filter: FilterSettings = field(
        default_factory=lambda: FilterSettings(error_factor=0.8, steps=16, sigma_max=80.0)
    )
    """How every analysis is sampled."""

    def __post_init__(self) -> None:
        for name in ("every", "patience"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name}: expected a number that is not negative, got {getattr(self, name)}"
                )
        for name, least in (("runs", 1), ("cycles", 1), ("members", 2)):
            if getattr(self, name) < least:
                raise ValueError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if not 0 < self.observed <= 1:
            raise ValueError(f"observed: expected a share in (0, 1], got {self.observed}")
        if not self.error > 0:
            raise ValueError(f"error: expected a positive number, got {self.error}")


class Trial:
    """Judges weights by analyses: fair CRPS, RMSE and spread, in standard deviations.

    All are means over cells, by area, over variables, cycles and runs; a spread smaller than the
    RMSE is that of an ensemble that is too sure.

    Args:
        config: The settings.
        network: The network, whole or shared by ranks; its weights may change between calls.
        source: Samples of the validation period.
        step_hours: Time between frames [h].
        seed: Of observations, histories and samples.

    Raises:
        ValueError: Where no frame of the period has as many after it as there are cycles.
    """

    columns = ("crps", "rmse", "spread")

    def __init__(
        self,
        config: TrialConfig,
        network: StormNetwork,
        source: FileHistories,
        *,
        step_hours: float,
        seed: int,
    ) -> None:
        self.config, self.source, self.seed = config, source, seed
        self.network = network
        self.prior = Storm(network, source.normalization, step_hours)
        windows = range(0, config.cycles, network.config.targets)
        self.starts = _starts(source.targets, windows, config.runs)
        self.area = torch.from_numpy(np.array(network.grid.area)).to(source.z)

    def __call__(self) -> tuple[float, ...]:
        """Return CRPS, RMSE and spread of all analyses."""
        with _frozen(self.network):
            found = [
                self._scores(analysis, frame)
                for start in self.starts
                for frame, analysis in self._run(start)
            ]
        crps, squares, variances = torch.stack(found).mean(0).tolist()
        return crps, squares**0.5, variances**0.5

    def _run(self, start: int) -> Iterator[tuple[int, Tensor]]:
        """Yield the analyses of a run, with the numbers of their frames."""
        g = stream(self.seed, TRIAL, start)
        past = self._first_history(start, g)
        state = OneStageFilter(self.prior, past[:, -1], self.config.filter, g)
        state.past = past
        end, targets = start + self.config.cycles, self.prior.config.targets
        for first in range(start, end, targets):
            clock = None if self.source.clock is None else self.source.clock[first]
            window = state.step(self._observation(first, g), clock=clock)
            frames = frames_of(window, len(self.prior.config.variables)).unbind(1)
            yield from zip(range(first, end), frames, strict=False)

    def _first_history(self, start: int, generator: torch.Generator) -> Tensor:
        """Return pasts that are wrong as those of training are, (members, history, ...)."""
        z = self.source.z[start + self.source.offsets]
        size = self.config.error
        law = HistoryError(smallest=size, largest=size, exact=0.0)
        shape = (self.config.members, *z.shape)
        error, _ = law.draw(shape, generator)
        known = self.source.valid[start + self.source.offsets]
        return self.source.normalization.to_x(z + error.to(z) * known)

    def _observation(self, frame: int, generator: torch.Generator) -> Observation:
        """Return what is seen of the window from a frame on: some known cells of its fields."""
        frames = frame + self.source.ahead
        truth, std = self._truth(frames), self.source.normalization.std
        chosen = torch.rand(truth.shape, generator=generator) < self.config.observed
        known = chosen.to(truth.device) & self.source.valid[frames]
        index = torch.nonzero(known.flatten())[:, 0]
        error = (self.config.error * std).expand(truth.shape).flatten()[index]
        noise = torch.randn(truth.numel(), generator=generator).to(truth)[index]
        seen = truth.flatten()[index] + error * noise
        return Observation(seen, select(index), DiagonalError(error))

    def _truth(self, frame: int | Tensor) -> Tensor:
        return self.source.normalization.to_x(self.source.z[frame])

    def _scores(self, analysis: Tensor, frame: int) -> Tensor:
        """Return CRPS, squared error of the mean, and variance of one analysis."""
        std = self.source.normalization.std
        truth, analysis = self._truth(frame) / std, analysis / std
        weight = self.source.valid[frame] * self.area
        return torch.stack(
            [
                weighted_mean(crps_fair(analysis, truth), weight),
                rmse(analysis.mean(0), truth, weight).square(),
                spread(analysis, weight).square(),
            ]
        )


def _starts(targets: Tensor, windows: Iterable[int], runs: int) -> list[int]:
    """Return the first frames of runs, spread over the targets that have enough behind them.

    Args:
        targets: First frames of samples.
        windows: How far behind that of a run its windows start, the first 0.
        runs: How many there shall be.

    Examples:
        >>> _starts(torch.tensor([2, 3, 4, 8, 9]), [0, 1], 2)
        [2, 8]
    """
    there = set(targets.tolist())
    good = [t for t in sorted(there) if all(t + k in there for k in windows)]
    if not good:
        raise ValueError(
            "trial.cycles: expected at most the frames in a row for validation, "
            f"got windows that start {list(windows)} frames behind the first"
        )
    places = torch.linspace(0, len(good) - 1, min(runs, len(good))).round().long()
    return [good[i] for i in places.tolist()]


@contextmanager
def _frozen(network: StormNetwork) -> Iterator[None]:
    """Keep what differentiates through a network from following its weights."""
    learned = [p for p in network.parameters() if p.requires_grad]
    network.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learned:
            parameter.requires_grad_(True)
