"""Training samples from an archive: any window of any run, anywhere on the plane, wrong by a bit.

The flow does not change under shifts along x, under half a turn of the plane, nor when the
boundaries are exchanged and y is reflected; a sample undergoes a random one of these. Its past is

    p_k = x_k + factor * (shadow_k - x_k) + amplitude * noise_k,

a shadow's dynamically shaped error at any size, and fresh noise; or, some of the time, exact.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

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
    """Range of the fresh noise [K], uniform in logarithm."""

    exact: float = 0.05
    """Share of samples whose past is exact."""

    single: float = 0.08
    """Share of samples with one frame of history, repeated, as at the start of a cycle."""


class ArchivedSamples:
    """A `SampleSource`; the samples of a step depend on (seed, step) alone.

    Args:
        archive: Truths and shadows.
        normalization: Of the fields.
        errors: How wrong pasts are.
        history: Frames of history.
        seed: Seed of the order and the errors.
    """

    def __init__(
        self,
        archive: Archive,
        normalization: Normalization,
        errors: PastErrors,
        *,
        history: int = 2,
        seed: int = 1,
    ) -> None:
        self.archive, self.errors, self.history, self.seed = archive, errors, history, seed
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
        past, last, target = _transform(past, truth[:, -1], target, g)
        error = (past[:, -1] - last).square().mean(dim=(-2, -1)).sqrt()
        z = self._normalization.to_z
        return Batch(z(past), z(target), error / self._normalization.std[:, 0, 0])

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
        u = torch.rand(size, 5, 1, 1, 1, 1, generator=g).unbind(1)
        low, high = errors.factor
        factor = low + (high - low) * u[0]
        least, most = (math.log(a) for a in errors.amplitude)
        amplitude = torch.exp(least + (most - least) * u[1])
        white = torch.randn(truth.shape, generator=g)
        noise = torch.where(u[2] < 0.5, white, smooth_noise(white))
        past = truth + factor * (shadow - truth) + amplitude * noise
        past = torch.where(u[3] < errors.exact, truth, past)
        return torch.where(u[4] < errors.single, past[:, -1:], past)


def _transform(
    past: Tensor, last: Tensor, target: Tensor, g: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Move every sample by a random symmetry of the flow."""
    fields = torch.cat([past, last[:, None], target[:, None]], 1)
    size, cols = len(fields), fields.shape[-1]
    shift = torch.randint(cols, (size, 1), generator=g)
    column = (torch.arange(cols) + shift) % cols
    fields = fields.gather(-1, column[:, None, None, None].expand_as(fields))
    turn, swap = (torch.rand(2, size, 1, 1, 1, 1, generator=g) < 0.5).unbind(0)
    fields = torch.where(turn, _reflect(_reflect(fields, -1), -2), fields)
    fields = torch.where(swap, _reflect(fields.flip(2), -2), fields)
    return fields[:, :-2], fields[:, -2], fields[:, -1]


def _reflect(fields: Tensor, dim: int) -> Tensor:
    """Reflect about the first point of a periodic direction."""
    return fields.flip(dim).roll(1, dim)
