"""Samples read from files when they are needed: each process reads its own part of a batch.

A process reads the frames of its samples, and of those its cells (`field_share`); what it holds in
memory is one batch, whatever the size of the data. Samples are those of `FileHistories`, number by
number. Statistics are found in one pass, of which each process reads its part too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from stormda.io import Store
from stormda.parallel import Communicator, SelfComm
from stormda.storm.disturbance import HistoryError
from stormda.storm.field_share import FieldShare
from stormda.storm.files import SAMPLES, scaled, shuffled, window_targets
from stormda.storm.frames import Indices, clock_features, grid_of, span
from stormda.storm.level_fields import find_field
from stormda.storm.normalization import Normalization
from stormda.storm.objective import Batch
from stormda.storm.streams import stream

CHUNK = 32
"""Frames that are read together for statistics."""


class OwnFrames:
    """The frames of files, as far as they are this process's cells.

    Args:
        store: The files.
        variables: Names of the fields.
        index: The numbers of the frames in the files.
        share: Which cells are this process's.
    """

    def __init__(
        self, store: Store, variables: Sequence[str], index: Indices, share: FieldShare
    ) -> None:
        self.variables, self.index, self.share = tuple(variables), index, share
        self.grid, self.times = grid_of(store), store.times[index]
        found = [find_field(store, name) for name in variables]
        self.readers = [
            store.reader(field.variable, share.rectangle, field.level) for field in found
        ]

    def read(self, frames: Indices) -> tuple[Tensor, Tensor]:
        """Return values and where they are known, (*frames.shape, variables, own rows, own cols).

        Every frame is read once, however often it is asked for.
        """
        once, places = np.unique(frames, return_inverse=True)
        blocks = [reader.read(self.index[once]) for reader in self.readers]
        values, known = (
            torch.stack([torch.from_numpy(block[i]) for block in blocks], 1) for i in (0, 1)
        )
        where = torch.from_numpy(places.reshape(frames.shape))
        return torch.where(known, values, 0.0)[where], known[where]


@dataclass(frozen=True, eq=False)
class Statistics:
    """What is known of frames that were read once."""

    normalization: Normalization
    """Of whole fields."""

    always: Tensor | None
    """Where whole fields are always known, (variables, *grid.shape); None for everywhere."""


def fit_streamed(
    frames: OwnFrames, step_hours: float, comm: Communicator | None = None
) -> Statistics:
    """Return the statistics of `fit_normalization` from one pass over the files.

    Sums are those of the processes that share the cells, each of its own, and of those that share
    the samples, each of some frames.

    Args:
        frames: The training period.
        step_hours: Time between the frames of a sample [h].
        comm: The processes that share the samples; None for one.

    Raises:
        ValueError: Where a variable never changes or is nowhere known.
    """
    comm, share = comm or SelfComm(), frames.share
    area = share.cut(torch.from_numpy(np.array(frames.grid.area)))
    follows = np.zeros(len(frames.times), bool)
    follows[window_targets(frames.times, step_hours, 1)] = True
    sums = torch.zeros(5, len(frames.variables), *area.shape, dtype=torch.float64)
    for piece in _pieces(len(frames.times), comm):
        before = max(piece[0] - 1, 0)
        x, known = frames.read(np.arange(before, piece[-1] + 1))
        x, valid = x.double(), known.double()
        mine = slice(piece[0] - before, None)
        sums[0] += valid[mine].sum(0)
        sums[1] += (x * valid)[mine].sum(0)
        sums[2] += (x.square() * valid)[mine].sum(0)
        later = piece[follows[piece]] - before
        both = valid[later] * valid[later - 1]
        sums[3] += both.sum(0)
        sums[4] += ((x[later] - x[later - 1]).square() * both).sum(0)
    count, total, squares, pairs, changes = comm.all_reduce(sums)
    mean = total / count.clamp_min(1)
    there = area * (count > 0)
    spatial = _summed(mean * there, share) / _summed(there, share).clamp_min(1e-300)
    mean = torch.where(count > 0, mean, spatial)
    departures = (squares - count * mean.square()).clamp_min(0)
    std = (_summed(departures * area, share) / _summed(count * area, share)).sqrt()
    change = (_summed(changes * area, share) / _summed(pairs * area, share)).sqrt()
    always = share.joined((count == len(frames.times)).double()) > 0.5
    return Statistics(
        scaled(frames.variables, share.joined(mean), std, change / std),
        None if bool(always.all()) else always,
    )


def _pieces(count: int, comm: Communicator) -> Iterator[Indices]:
    """Yield the frames of a process, some at a time."""
    own = np.array_split(np.arange(count), comm.size)[comm.rank]
    for start in range(0, len(own), CHUNK):
        yield own[start : start + CHUNK]


def _summed(x: Tensor, share: FieldShare) -> Tensor:
    """Return sums over the cells of all processes, (variables, 1, 1)."""
    return share.comm.all_reduce(x.sum((-2, -1), keepdim=True))


class StreamedHistories:
    """A `PartSource` of frames in files, with imperfect histories.

    Args:
        frames: The frames to learn from.
        history: Frames of history in a sample.
        normalization: Of the whole fields.
        targets: Frames of a sample after its history.
        error: Errors put on the histories.
        step_hours: Time between the frames of a sample [h].
        clock: Whether samples come with calendar features.
        season: Whether those tell the phase of the year.
        complete: Whether every value is known.
        seed: Of the order of the samples and of the errors.
        device: Where samples shall be.

    Raises:
        ValueError: Where no sample has its whole history and all targets.
    """

    def __init__(
        self,
        frames: OwnFrames,
        history: int,
        normalization: Normalization,
        *,
        targets: int,
        error: HistoryError,
        step_hours: float,
        clock: bool,
        season: bool,
        complete: bool,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        self.frames, self.error, self.complete = frames, error, complete
        self.seed, self.device = seed, device
        self.normalization = normalization.to(device)
        first = window_targets(frames.times, step_hours, history, targets)
        self.targets = torch.from_numpy(first)
        if not len(first):
            raise ValueError(
                f"history: expected at least {history + targets} frames {step_hours:g} h apart in "
                f"the training period, got {span(frames.times)}"
            )
        self.history, self.ahead = history, np.arange(-history, targets)
        features = clock_features(frames.times, frames.grid, season=season)
        self.clock = features if clock else None
        own = frames.share.cut(normalization.mean)
        self.own = Normalization(own, normalization.std, normalization.increment)

    def part(self, step: int, size: int, samples: Tensor) -> Batch:
        """Return some samples of an optimiser step, by number, and of them own cells."""
        positions = torch.arange(step * size, (step + 1) * size)
        chosen = self.targets[shuffled(positions, len(self.targets), self.seed)][samples]
        variables = len(self.frames.variables)
        shape = (size, self.history, variables, *self.frames.grid.shape)
        error, level = self.error.draw(shape, stream(self.seed, SAMPLES, step))
        values, known = self.frames.read(chosen.numpy()[:, None] + self.ahead)
        z = torch.where(known, self.own.to_z(values), 0.0)
        past = self.history
        history = z[:, :past] + self.frames.share.cut(error[samples]) * known[:, :past]
        both = known[:, past:] & known[:, past - 1 : -1]
        made = Batch(
            history,
            z[:, past:].flatten(1, 2),
            level[samples],
            None if self.clock is None else self.clock[chosen],
            None if self.complete else both.flatten(1, 2),
        )
        return made.to(self.device)

    def state_dict(self) -> dict[str, object]:
        """Return nothing: every batch is a function of its step."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take what `state_dict` returned."""
        del state
