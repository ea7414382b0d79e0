"""Training samples from files: a few frames of history and the frame, or frames, after them.

A sample never reaches over a gap in time or over the border between training and what is kept for
later, and between the two lies an embargo, so that neighbours in time do not leak. Which samples
step k uses, and the errors put on their history, are functions of (seed, k) alone: a run that was
killed goes on with the same numbers, whatever the number of ranks.

The frames of the training period are held in memory, as float32.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stormda.storm.config import StormConfig
from stormda.storm.covariance import fit_directions
from stormda.storm.disturbance import HistoryError, persistent_noise
from stormda.storm.frames import Frames, Indices, Times, clock_features, span
from stormda.storm.modes import Directions, resampled
from stormda.storm.normalization import Normalization
from stormda.storm.objective import Batch
from stormda.storm.streams import stream
from stormda.storm.superposition import Superposition, daily_course, superposed

SAMPLES, ORDER, MODES = 1, 2, 4
"""What random numbers are for."""


def window_targets(times: Times, step_hours: float, history: int, targets: int = 1) -> Indices:
    """Return which frames are the first of `targets` that have `history` frames before them.

    All are one step apart.

    Examples:
        >>> hours = np.array([0, 1, 2, 3, 5, 6, 7])
        >>> window_targets(np.datetime64("2000-01-01T00", "s") + 3600 * hours, 1.0, 2)
        array([2, 3, 6])
        >>> window_targets(np.datetime64("2000-01-01T00", "s") + 3600 * hours, 1.0, 2, targets=2)
        array([2])
    """
    step = np.timedelta64(round(3600 * step_hours), "s")
    follows = np.concatenate([[False], np.diff(times) == step])
    run = np.zeros(len(times), np.int64)
    for i in np.flatnonzero(follows):
        run[i] = run[i - 1] + 1
    return np.flatnonzero(run >= history + targets - 1) - (targets - 1)


@dataclass(frozen=True, kw_only=True)
class Split:
    """Which times a prior may learn from."""

    train_end: str | None = None
    """Date from which nothing is learned, such as 2019-03-13T00; None learns from all."""

    embargo_hours: float = 12.0
    """Time left out between training and validation [h]."""

    validation_hours: float = 0.0
    """The last part before `train_end` that only measures the loss [h]; 0 for none."""

    def __post_init__(self) -> None:
        for name in ("embargo_hours", "validation_hours"):
            if getattr(self, name) < 0:
                raise ValueError(
                    f"{name}: expected a number that is not negative, got {getattr(self, name)}"
                )
        if self.train_end is not None:
            _date("train_end", self.train_end)

    def training(self, times: Times) -> Indices:
        """Return which frames are for training."""
        held_back = self.validation_hours + (self.embargo_hours if self.validation_hours else 0.0)
        return np.flatnonzero(times < self._end(times) - _hours(held_back))

    def validation(self, times: Times) -> Indices:
        """Return which frames are for validation."""
        end = self._end(times)
        return np.flatnonzero((end - _hours(self.validation_hours) <= times) & (times < end))

    def _end(self, times: Times) -> np.datetime64:
        if self.train_end is None:
            return np.datetime64(times[-1]) + np.timedelta64(1, "s")
        return _date("train_end", self.train_end)


def _hours(number: float) -> np.timedelta64:
    return np.timedelta64(round(3600 * number), "s")


def _date(name: str, text: str) -> np.datetime64:
    try:
        return np.datetime64(text, "s")
    except ValueError as error:
        raise ValueError(f"{name}: expected a date such as 2019-03-13T00, got {text!r}") from error


def fit_normalization(frames: Frames, step_hours: float) -> Normalization:
    """Return the statistics of frames: a mean for every cell, one scale for every variable.

    Moments are weighted by the cells' areas and taken in float64.

    Raises:
        ValueError: Where a variable never changes or is nowhere known.
    """
    mean, std = fit_climate(frames)
    x, valid = frames.values.double(), frames.valid
    target = window_targets(frames.times, step_hours, 1)
    change = x[target] - x[target - 1]
    weight = valid[target] * valid[target - 1] * cell_areas(frames)
    return scaled(frames.variables, mean, std, root_mean_square(change, weight) / std)


def fit_climate(frames: Frames) -> tuple[Tensor, Tensor]:
    """Return the mean of every cell and the size of the departures from it, in float64.

    Returns:
        Mean, (variables, rows, cols), the mean over all cells where nothing is ever known; and
        root mean square, (variables, 1, 1).
    """
    area, x, valid = cell_areas(frames), frames.values.double(), frames.valid.double()
    count = valid.sum(0)
    mean = (x * valid).sum(0) / count.clamp_min(1)
    mean = torch.where(count > 0, mean, _spatial_mean(mean, area * (count > 0)))
    return mean, root_mean_square(x - mean, valid * area)


def cell_areas(frames: Frames) -> Tensor:
    """Return the areas of the cells, float64 (rows, cols)."""
    return torch.from_numpy(np.array(frames.grid.area))


def scaled(
    variables: Sequence[str], mean: Tensor, std: Tensor, increment: Tensor
) -> Normalization:
    """Return a normalisation, refusing fields that never change."""
    for i, name in enumerate(variables):
        if not (std[i] > 0 and increment[i] > 0):
            raise ValueError(f"{name}: expected a field that changes in time, got a constant one")
    return Normalization(mean.float(), std.float(), increment.float())


def _spatial_mean(x: Tensor, weight: Tensor) -> Tensor:
    total = weight.sum(dim=(-2, -1), keepdim=True).clamp_min(1e-300)
    return (x * weight).sum(dim=(-2, -1), keepdim=True) / total


def root_mean_square(x: Tensor, weight: Tensor) -> Tensor:
    """Return the root of the weighted mean square over (time, rows, cols), (variables, 1, 1)."""
    squares = (x.square() * weight).sum(dim=(0, 2, 3)) / weight.sum(dim=(0, 2, 3))
    return squares.sqrt()[:, None, None]


class FileHistories:
    """A `SampleSource` of frames from files, with imperfect histories.

    Args:
        frames: The frames to learn from.
        history: Frames of history in a sample.
        normalization: Of the fields.
        targets: Frames of a sample after its history.
        error: Errors put on the histories; None for exact ones.
        modes: What the errors leave alone and what not, where there are modes.
        superposition: How samples are superposed; None for not at all.
        step_hours: Time between the frames of a sample [h].
        clock: Whether samples come with calendar features.
        season: Whether those tell the phase of the year.
        seed: Of the order of the samples and of the errors.
        device: Where samples shall be; they are the same numbers everywhere.

    Raises:
        ValueError: Where no sample has its whole history and all targets.
    """

    def __init__(
        self,
        frames: Frames,
        history: int,
        normalization: Normalization,
        *,
        targets: int = 1,
        error: HistoryError | None,
        modes: Directions | None = None,
        superposition: Superposition | None = None,
        step_hours: float,
        clock: bool,
        season: bool,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.error, self.superposition = error, superposition or Superposition()
        self.seed, self.device = seed, device
        self.modes = None if modes is None else modes.to(device)
        self.normalization = normalization.to(device)
        first = window_targets(frames.times, step_hours, history, targets)
        self.targets = torch.from_numpy(first)
        if not len(self.targets):
            raise ValueError(
                f"history: expected at least {history + targets} frames {step_hours:g} h apart in "
                f"the training period, got {span(frames.times)}"
            )
        self.offsets, self.ahead = torch.arange(-history, 0), torch.arange(targets)
        self.valid = frames.valid.to(device)
        self.z = torch.where(frames.valid, normalization.to_z(frames.values), 0.0).to(device)
        features = clock_features(frames.times, frames.grid, season=season)
        self.clock = features.to(device) if clock else None
        _, hours = np.unique(frames.times.astype(np.int64) % 86400, return_inverse=True)
        self.climate = daily_course(self.z, torch.from_numpy(hours).to(device))

    def batch(self, step: int, size: int) -> Batch:
        """Return the samples of an optimiser step: every target once an epoch, in random order."""
        positions = torch.arange(step * size, (step + 1) * size)
        chosen = self.targets[shuffled(positions, len(self.targets), self.seed)]
        return self.samples(chosen, stream(self.seed, SAMPLES, step))

    def samples(self, targets: Tensor, generator: torch.Generator) -> Batch:
        """Return the samples with some first targets, with errors from a generator."""
        past, ahead = len(self.offsets), torch.cat([self.offsets, self.ahead])
        z, known = self._superposed(targets, ahead, generator)
        history, level = self._disturbed(z[:, :past], known[:, :past], generator)
        both = known[:, past:] & known[:, past - 1 : -1]
        return Batch(
            history,
            z[:, past:].flatten(1, 2),
            level,
            None if self.clock is None else self.clock[targets],
            None if bool(self.valid.all()) else both.flatten(1, 2),
        )

    def _disturbed(
        self, history: Tensor, known: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return frames with errors, and the size of the error of the last."""
        if self.error is None:
            return history, torch.zeros(len(history), history.shape[2], device=self.device)
        if self.modes is None:
            shape = tuple(history.shape)
            error, level = self.error.draw(shape, generator)  # type: ignore[arg-type]
            return history + error.to(self.device) * known, level.to(self.device)
        level = self.error.levels(len(history), 1, generator).to(self.device)
        noise = self.modes.noise(level.expand(-1, history.shape[2]))
        fresh = persistent_noise(tuple(history.shape), generator).to(self.device)
        return resampled(history, self.modes, noise, fresh) * known, self.modes.level(noise)

    def fit_modes(self, network: StormConfig) -> Directions:
        """Return the modes or waves of the frames, superposed with each other (see `modes`)."""
        generator = stream(self.seed, MODES)
        repeats = -(-max(4 * network.modes, 1000) // len(self.targets))
        z, known = self._superposed(self.targets.repeat(repeats), torch.arange(1), generator)
        now, before = self.targets, self.targets - 1
        change = (self.z[now] - self.z[before]) / self.normalization.increment
        return fit_directions(
            network,
            (z * known)[:, 0],
            change * (self.valid[now] & self.valid[before]),
            self.normalization.increment,
        )

    def _superposed(
        self, targets: Tensor, ahead: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Return frames ahead of targets (or behind), some of them superposed with others.

        Returns:
            Frames and where they are known, (batch, time, variables, rows, cols).
        """
        window = targets[:, None] + ahead
        z, known = self.z[window], self.valid[window]
        if not self.superposition.share:
            return z, known
        shape = (int(z.shape[-2]), int(z.shape[-1]))
        angle = self.superposition.angles(len(window), shape, generator).to(self.device)
        partner = torch.randint(len(self.targets), (len(window),), generator=generator)
        other = self.targets[partner][:, None] + ahead
        some = (angle != 0)[:, None, None]
        both = known & (self.valid[other] | ~some)
        mine, theirs = z - self.climate[window], self.z[other] - self.climate[other]
        mixed = self.climate[window] + superposed(mine, theirs, angle)
        return torch.where(both, mixed, 0.0), both

    def state_dict(self) -> dict[str, object]:
        """Return nothing: every batch is a function of its step."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Take what `state_dict` returned."""
        del state


def shuffled(positions: Tensor, count: int, seed: int) -> Tensor:
    """Return what stands at positions of an endless sequence of permutations of 0 ... count - 1.

    Examples:
        >>> order = shuffled(torch.arange(12), 4, seed=1).reshape(3, 4)
        >>> order.sort(dim=1).values.tolist()
        [[0, 1, 2, 3], [0, 1, 2, 3], [0, 1, 2, 3]]
    """
    epochs = positions // count
    result = torch.empty_like(positions)
    for epoch in sorted(set(epochs.tolist())):
        order = torch.randperm(count, generator=stream(seed, ORDER, epoch))
        here = epochs == epoch
        result[here] = order[positions[here] % count]
    return result
