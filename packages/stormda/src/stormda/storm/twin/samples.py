"""Training samples from an archive: any window of any run, moved by a symmetry, wrong by a bit.

The flow on the plane does not change under shifts along x, under half a turn, nor when the
boundaries are exchanged and y is reflected; a sample undergoes a random one of these. Its past is

    p_k = x_k + factor * (shadow_k - x_k) + amplitude * noise_k,

a shadow's dynamically shaped error at any size, and fresh noise; or, some of the time, exact.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.storm.encoded import beside
from stormda.storm.normalization import Normalization
from stormda.storm.objective import Batch
from stormda.storm.streams import stream
from stormda.storm.twin.archive import Archive, smooth_noise

_SAMPLES = 2
"""What a stream of the training is for (`streams`): its samples."""


@dataclass(frozen=True, kw_only=True)
class PastErrors:
    """The distribution of the error of a sample's past."""

    factor: tuple[float, float] = (0.1, 1.3)
    """Range of the multiple of the shadow's error."""

    amplitude: tuple[float, float] = (0.02, 1.5)
    """Range of the fresh noise, uniform in logarithm: [K], or in units of `ArchivedSamples`."""

    exact: float = 0.05
    """Share of samples whose past is exact."""

    single: float = 0.08
    """Share of samples with one frame of history, repeated, as at the start of a cycle."""


Move = Callable[[Tensor, torch.Generator], Tensor]
"""Moves fields (size, frames, variables, *grid), each sample by a random symmetry of the flow."""


def move_on_plane(fields: Tensor, g: torch.Generator) -> Tensor:
    """Move every sample's fields by a random symmetry of the flow on the periodic plane."""
    size, cols = len(fields), fields.shape[-1]
    shift = torch.randint(cols, (size, 1), generator=g)
    column = (torch.arange(cols) + shift) % cols
    fields = fields.gather(-1, column[:, None, None, None].expand_as(fields))
    turn, swap = (torch.rand(2, size, 1, 1, 1, 1, generator=g) < 0.5).unbind(0)
    fields = torch.where(turn, _reflect(_reflect(fields, -1), -2), fields)
    return torch.where(swap, _reflect(fields.flip(2), -2), fields)


def _reflect(fields: Tensor, dim: int) -> Tensor:
    """Reflect about the first point of a periodic direction."""
    return fields.flip(dim).roll(1, dim)


class ArchivedSamples:
    """A `SampleSource`; the samples of a step depend on (seed, step) alone.

    Args:
        archive: Truths and shadows.
        normalization: Of the fields.
        errors: How wrong pasts are.
        history: Frames of history.
        seed: Seed of the order and the errors.
        move: The symmetries of the flow; by default those of the periodic plane.
        colour: Makes fresh noise of unit size out of white noise, half of the time.
        unit: Scale of that noise for each variable, (variables, ...), as it broadcasts to fields.
    """

    def __init__(
        self,
        archive: Archive,
        normalization: Normalization,
        errors: PastErrors,
        *,
        history: int = 2,
        seed: int = 1,
        move: Move = move_on_plane,
        colour: Callable[[Tensor], Tensor] = smooth_noise,
        unit: Tensor | float = 1.0,
    ) -> None:
        self.archive, self.errors, self.history, self.seed = archive, errors, history, seed
        self._move, self._colour, self._unit = move, colour, unit
        self._normalization = normalization

    @property
    def normalization(self) -> Normalization:
        """Return the statistics that the samples are normalised with."""
        return self._normalization

    def batch(self, step: int, size: int) -> Batch:
        """Return the samples of a step."""
        g = stream(self.seed, _SAMPLES, step)
        truth, shadow, target = self._windows(size, g)
        past = self._disturb(truth, shadow, g)
        fields = self._move(torch.cat([past, truth[:, -1:], target[:, None]], 1), g)
        past, last, target = fields[:, :-2], fields[:, -2], fields[:, -1]
        error = (past[:, -1] - last).square().flatten(2).mean(2).sqrt()
        z = self._normalization.to_z
        return Batch(z(past), z(target), error / self._normalization.std.flatten())

    def state_dict(self) -> dict[str, object]:
        """Return nothing: a step says it all."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on; there is nothing to restore."""
        del state

    def _windows(self, size: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Draw (truth past, shadow past, target); shadow and truth frames go hand in hand."""
        config = self.archive.config
        run = torch.randint(config.runs, (size,), generator=g)
        first = torch.randint(config.steps - self.history, (size,), generator=g)
        step = first[:, None] + torch.arange(self.history)
        frame = (step + 1) * config.stride
        truth = self.archive.truth[run[:, None], frame]
        shadow = self.archive.shadow[run[:, None], step]
        return truth, shadow, self.archive.truth[run, frame[:, -1] + config.stride]

    def _disturb(self, truth: Tensor, shadow: Tensor, g: torch.Generator) -> Tensor:
        size, errors = len(truth), self.errors
        u = [beside(number, truth) for number in torch.rand(size, 5, generator=g).unbind(1)]
        low, high = errors.factor
        factor = low + (high - low) * u[0]
        least, most = (math.log(a) for a in errors.amplitude)
        amplitude = torch.exp(least + (most - least) * u[1])
        white = torch.randn(truth.shape, generator=g)
        noise = self._unit * torch.where(u[2] < 0.5, white, self._colour(white))
        past = truth + factor * (shadow - truth) + amplitude * noise
        past = torch.where(u[3] < errors.exact, truth, past)
        return torch.where(u[4] < errors.single, past[:, -1:], past)
