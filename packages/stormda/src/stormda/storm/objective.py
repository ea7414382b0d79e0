"""The objective: a forecast of the mean, and a denoiser of the departure from it.

    L = |m - w|^2 / s^2 + E_{sigma, n} (1/s^2 + 1/sigma^2) |D(d + sigma n; sigma, history) - d|^2,
    d = w - m,    ln sigma ~ Normal(mean, spread),

with w the normalised increment, m the forecast of the encoder, which the second term takes as
given, and s the typical size of a departure. The weight of the second term makes the network's own
output F the thing that is fitted, equally at every noise level.

Where a forecast alone is wanted, as in deterministic downscaling, a prior on the gradients of the
field that it leads to may be added, lambda TV(z / increment + m) with TV the mean absolute
difference of neighbours: the fit is then the maximum a posteriori of the mean.

Source: Karras et al. (2022), eq. 2 and table 1, https://arxiv.org/abs/2206.00364; total variation,
Rudin, Osher and Fatemi (1992), Physica D 60, as a prior for downscaling after ORBIT-2, Wang et al.
(2025), https://arxiv.org/abs/2505.04802
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from stormda.grid import Grid, PlaneGrid
from stormda.storm.encoded import Encoded, beside
from stormda.storm.error_spectrum import error_spectrum
from stormda.storm.field_share import FieldShare
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.window import from_increments, to_increments


@dataclass(frozen=True)
class Batch:
    """Samples of (history, present), in normalised units z.

    Args:
        history: (batch, history, variables, rows, cols).
        target: The present, and the frames after it that are sampled with it, frame after frame,
            (batch, targets * variables, rows, cols).
        level: Error of the last history frame in standard deviations, (batch, variables).
        clock: Calendar features of the present, (batch, 6), or None.
        valid: True where the target is known, broadcastable to it, or None for everywhere.
    """

    history: Tensor
    target: Tensor
    level: Tensor
    clock: Tensor | None = None
    valid: Tensor | None = None

    def select(self, samples: Tensor) -> Batch:
        """Return some of the samples, by number (n,)."""
        return Batch(
            self.history[samples],
            self.target[samples],
            self.level[samples],
            None if self.clock is None else self.clock[samples],
            None if self.valid is None else self.valid[samples],
        )

    def to(self, device: torch.device | str) -> Batch:
        """Return the samples on another device."""
        return Batch(
            self.history.to(device),
            self.target.to(device),
            self.level.to(device),
            None if self.clock is None else self.clock.to(device),
            None if self.valid is None else self.valid.to(device),
        )

    def cut(self, share: FieldShare) -> Batch:
        """Return the cells that a process has of the fields."""
        valid = None if self.valid is None else share.cut(self.valid)
        return replace(
            self, history=share.cut(self.history), target=share.cut(self.target), valid=valid
        )


class Source(Protocol):
    """Where training samples come from: files, or a simulation that runs beside the training."""

    @property
    def normalization(self) -> Normalization:
        """Return the statistics that the samples are normalised with."""
        ...

    def state_dict(self) -> dict[str, object]:
        """Return what `load_state_dict` needs to go on exactly here."""
        ...

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on where `state_dict` was taken."""
        ...


class SampleSource(Source, Protocol):
    """A source that has whole batches."""

    def batch(self, step: int, size: int) -> Batch:
        """Return the samples of one optimiser step, the same on every rank."""
        ...


@runtime_checkable
class PartSource(Source, Protocol):
    """A source that fetches no more of a batch than a process wants."""

    def part(self, step: int, size: int, samples: Tensor) -> Batch:
        """Return some samples of an optimiser step, by number, and of them own cells."""
        ...


AnySource = SampleSource | PartSource


def own_part(source: AnySource, step: int, size: int, samples: Tensor, share: FieldShare) -> Batch:
    """Return some samples of an optimiser step, and of them the cells that a process has.

    Args:
        source: Where samples come from.
        step: The step.
        size: Samples of the whole batch.
        samples: The numbers of those that are wanted, (n,).
        share: The cells.
    """
    if isinstance(source, PartSource):
        return source.part(step, size, samples)
    return source.batch(step, size).select(samples).cut(share)


@dataclass(frozen=True, kw_only=True)
class NoiseLevels:
    """The distribution of ln sigma in training."""

    mean: float = -1.2
    """Mean of ln sigma."""

    spread: float = 1.2
    """Standard deviation of ln sigma."""

    largest: float = 80.0
    """No larger sigma is drawn."""

    def draw(self, size: int, generator: torch.Generator) -> Tensor:
        """Draw (size,) levels on the generator's device."""
        normal = torch.randn(size, generator=generator, device=generator.device)
        return torch.exp(self.mean + self.spread * normal).clamp_max(self.largest)


def denoising_loss(
    network: StormNetwork,
    normalization: Normalization,
    batch: Batch,
    sigma: Tensor,
    noise: Tensor,
    *,
    weight: Tensor | None = None,
    variation: float = 0.0,
) -> Tensor:
    """Return the loss of each sample, (batch,).

    Where ranks share the fields, every rank's result is its cells' addend to the loss.

    Args:
        network: The denoiser.
        normalization: For the scale of the increments.
        batch: Samples, of which this process has the cells of `network.share`.
        sigma: Noise levels, (batch,).
        noise: Unit normal, like `batch.target`.
        weight: Of this process's cells of every variable (see `loss_weight`); None weighs all
            alike.
        variation: Weight lambda of the total variation of the forecast field.

    Raises:
        ValueError: If a total variation is asked for where ranks share the fields, or the target
            has not the network's channels.
    """
    share = network.share
    if variation and not share.alone:
        raise ValueError(f"variation: expected 0 where ranks share the fields, got {variation}")
    channels = network.config.channels
    if batch.target.shape[1] != channels:
        raise ValueError(
            f"target: expected {channels} channels, variables of every frame, "
            f"got {batch.target.shape[1]}"
        )
    last = batch.history[:, -1]
    w = to_increments(batch.target, last, normalization.increment)
    past = encoded(network, batch)
    departure = (w - past.forecast).detach()
    scale = beside(sigma, w)
    estimate = network(departure + scale * noise, sigma, past)
    size = beside(past.size, w)
    denoising = (estimate - departure) ** 2 * (1 / size**2 + 1 / scale**2)
    squared: Tensor = denoising + (past.forecast - w) ** 2 / size**2
    mass = _mass(squared, batch.valid, weight)
    if mass is None:
        loss = squared.flatten(1).mean(1) * (squared[0].numel() / share.cells(squared[0]))
    else:
        total = share.comm.all_reduce(mass.flatten(1).sum(1))
        loss = (squared * mass).flatten(1).sum(1) / total.clamp_min(1e-12)
    if not variation:
        return loss
    increment = normalization.increment
    field = from_increments(past.forecast, last / increment, torch.ones_like(increment))
    return loss + variation * total_variation(field)


def encoded(network: StormNetwork, batch: Batch) -> Encoded:
    """Return the past of samples, as a network is told of it in training.

    Args:
        network: Without a law of motion it is told the level of the batch, with one the spectrum
            of what is wrong after the law has acted.
        batch: Samples, of which this process has the cells of `network.share`.
    """
    course = network.course(batch.history)
    level = batch.level if course is None else error_after(network, course, batch.target)
    return network.encode(batch.history, level, batch.clock, course=course)


def error_after(network: StormNetwork, course: Tensor, target: Tensor) -> Tensor:
    """Return the spectrum of what is wrong with where the law of motion leads.

    Args:
        network: With a law, which `StormNetwork.encode` tells the spectrum.
        course: From `StormNetwork.course`.
        target: The present, this process's cells of (batch, channels, *grid.shape).
    """
    assert network.modes is not None
    present = network.share.joined(target[:, : course.shape[2]])
    return error_spectrum((present - course[:, 1]) / network.modes.unit)


def _mass(like: Tensor, valid: Tensor | None, weight: Tensor | None) -> Tensor | None:
    """Return how much each number counts, like the numbers; None where all count alike."""
    factors = [x.to(like) for x in (valid, weight) if x is not None]
    return math.prod(factors, start=torch.ones_like(like)) if factors else None


NEAREST = 89.0
"""Latitude beyond which weights grow no more [degrees]."""


def loss_weight(
    grid: Grid,
    variables: int,
    *,
    area: bool,
    polar: float = 0.0,
    by_variable: Sequence[float] = (),
) -> Tensor | None:
    """Return how much the cells of a grid count in the loss.

    Args:
        grid: The grid.
        variables: How many there are.
        area: Whether cells count by area, as in scores, and not all alike.
        polar: They count also by the cosine of their latitude to minus this power.
        by_variable: The weight of each variable; empty where all count alike.

    Returns:
        Weights (variables, *grid.shape), or None where all count alike.

    Raises:
        ValueError: If there is not one positive weight for each variable, or a plane has poles.

    Examples:
        >>> from stormda.grid import grid
        >>> weight = loss_weight(grid("30deg"), 2, area=True, by_variable=(1.0, 3.0))
        >>> weight.shape, round(float(weight[1, 2, 0] / weight[0, 0, 0]), 2)
        (torch.Size([2, 6, 12]), 11.2)
        >>> toward_poles = loss_weight(grid("30deg"), 1, area=False, polar=0.5)
        >>> round(float(toward_poles[0, 0, 0] / toward_poles[0, 2, 0]), 2)  # of 75 and 15 degrees
        1.93
    """
    if polar and isinstance(grid, PlaneGrid):
        raise ValueError(f"polar_weight: expected 0 on a plane, got {polar}")
    if by_variable and (len(by_variable) != variables or not min(by_variable) > 0):
        raise ValueError(
            f"variable_weights: expected {variables} positive numbers, got {tuple(by_variable)}"
        )
    if not area and not by_variable and not polar:
        return None
    cells = np.array(grid.area) if area else np.ones(grid.shape)
    if polar:
        latitude = np.minimum(np.abs(grid.points[0]), NEAREST)
        cells = cells * np.cos(np.radians(latitude)) ** -polar
    each = torch.tensor(by_variable or [1.0] * variables).reshape(-1, *[1] * len(grid.shape))
    return each * torch.from_numpy(cells / cells.mean()).float()


def loss_weight_of(
    network: StormNetwork,
    *,
    area: bool,
    polar: float = 0.0,
    by_variable: Sequence[float] = (),
) -> Tensor | None:
    """Return how much the cells of a process count, (channels, own cells), or None for alike.

    Args:
        network: Whose fields they are.
        area: As in `loss_weight`.
        polar: As in `loss_weight`.
        by_variable: As in `loss_weight`.
    """
    config, grid = network.config, network.grid
    variables = len(config.variables)
    weight = loss_weight(grid, variables, area=area, polar=polar, by_variable=by_variable)
    if weight is None:
        return None
    device = next(network.parameters()).device
    return network.share.cut(torch.cat([weight] * config.targets)).to(device)


def total_variation(field: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbours along rows plus that along columns.

    Args:
        field: (batch, variables, rows, cols).

    Raises:
        ValueError: The field has no rows and columns.

    Examples:
        >>> total_variation(torch.tensor([[[[0.0, 1.0], [0.0, 3.0]]]]))
        tensor([3.])
    """
    if field.ndim != 4:
        raise ValueError(
            "field: expected (batch, variables, rows, cols) for a total variation, "
            f"got {tuple(field.shape)}"
        )
    down = field.diff(dim=-2).abs().mean(dim=(1, 2, 3))
    across: Tensor = field.diff(dim=-1).abs().mean(dim=(1, 2, 3))
    return down + across
