"""The law of motion of an archive, and what becomes of errors under it."""

from __future__ import annotations

import torch
from torch import Tensor

from stormda.storm.config import StormConfig
from stormda.storm.error_spectrum import error_spectrum
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.objective import SampleSource
from stormda.storm.streams import stream
from stormda.storm.transport import Law
from stormda.storm.transport_fit import FitSettings, fit_law
from stormda.storm.twin.archive import Archive
from stormda.storm.twin.samples import move_on_plane

SAMPLES = 512
"""Samples that sizes are found from."""

_LAW = 4
"""What a stream of the training is for (`streams`): its law of motion."""


def archive_law(
    archive: Archive,
    normalization: Normalization,
    network: StormConfig,
    *,
    seed: int,
    settings: FitSettings | None = None,
) -> Law:
    """Fit a law of motion to the truths of an archive, moved by the symmetries of the plane.

    Pairs are frames of the archive one after the other, which may be closer than those of a
    history: over a shorter time the law is more nearly linear in its numbers.

    Args:
        archive: Truths.
        normalization: Of the fields.
        network: Whose law it is.
        seed: Of the choice of frames and of their moves.
        settings: Of the optimiser.

    Raises:
        ValueError: The Runge-Kutta steps of the law do not divide into those between frames.
    """
    stride = archive.config.stride
    if network.transport % stride:
        raise ValueError(
            f"transport: expected a multiple of {stride}, the frames of the archive in one of a "
            f"history, got {network.transport}"
        )
    g = stream(seed, _LAW)
    runs, frames = archive.truth.shape[:2]

    def draw(number: int) -> tuple[Tensor, Tensor]:
        run = torch.randint(runs, (number,), generator=g)
        frame = torch.randint(frames - 1, (number,), generator=g)
        pair = torch.stack([archive.truth[run, frame], archive.truth[run, frame + 1]], 1)
        before, after = normalization.to_z(move_on_plane(pair, g)).unbind(1)
        return before, after

    return fit_law(draw, time=1 / stride, steps=network.transport // stride, settings=settings)


@torch.no_grad()
def note_growth(network: StormNetwork, source: SampleSource) -> None:
    """Note what becomes of errors of a size, in the mean over samples.

    Args:
        network: With a fitted law of motion.
        source: Of samples.
    """
    transport = network.transport
    assert transport is not None
    batch = source.batch(0, SAMPLES)
    carried = transport.next_frame(batch.history[:, -1])
    spectrum = error_spectrum((batch.target - carried) / source.normalization.increment)
    transport.growth.copy_(spectrum.mean(0) / batch.level.square().mean(0)[:, None])
