"""Fit a law of motion to pairs of states (`transport`).

The loss is the error of the later state in every wave, in units of what the waves of that
wavenumber change, so that long and short waves count; wavenumbers with many waves count by the
square root of their number. Numbers of single knots move together with what all knots have in
common, which is what they have to do first.

Source: Kingma and Ba (2015), Adam, https://arxiv.org/abs/1412.6980, with a cosine for the rate.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.storm.plane_waves import shell_sizes, shells
from stormda.storm.transport import Law, Spectral, knots

REFERENCE = 128
"""Pairs from which it is found how much waves change."""

Pairs = Callable[[int], tuple[Tensor, Tensor]]
"""Draws normalised states and those after them, each (number, variables, rows, cols)."""


@dataclass(frozen=True, kw_only=True)
class FitSettings:
    """How long and how fast."""

    steps: int = 1_500
    """Steps of the optimiser."""

    batch: int = 8
    """Pairs of a step."""

    rate: float = 0.1
    """Largest learning rate; it falls to zero along a cosine."""

    warmup: int = 20
    """Steps in which it rises."""


def fit_law(
    draw: Pairs,
    *,
    time: float,
    steps: int,
    settings: FitSettings | None = None,
    progress: Callable[[int, float], None] | None = None,
) -> Law:
    """Return the law that takes states to those after them.

    Args:
        draw: Source of pairs.
        time: Between the states of a pair, in intervals between frames.
        steps: Runge-Kutta steps in that time.
        settings: Of the optimiser.
        progress: Called with (step, relative error: 1 where nothing is known).

    Raises:
        ValueError: The states of a pair do not differ, or the law blew up: too few Runge-Kutta
            steps, or too high a rate.
    """
    settings = settings or FitSettings()
    before, after = draw(REFERENCE)
    weight = _weights(after - before)
    numbers = _Numbers(*before.shape[1:])
    optimizer = torch.optim.Adam(numbers.all, lr=settings.rate, betas=(0.9, 0.99))
    for step in range(settings.steps):
        warm = min(1.0, (step + 1) / settings.warmup)
        for group in optimizer.param_groups:
            fall = 0.5 * (1 + math.cos(math.pi * step / settings.steps))
            group["lr"] = settings.rate * warm * fall
        before, after = draw(settings.batch)
        acts = Spectral.of(numbers.law, *before.shape[-2:])
        missed = torch.fft.rfft2(acts.advance(before, steps, time) - after, norm="ortho")
        loss = (missed.abs().square().mean(0) * weight).sum()
        if not torch.isfinite(loss):
            raise ValueError(
                f"transport: expected more than {steps} Runge-Kutta steps for {time:g} of an "
                f"interval or a rate below {settings.rate}, got a law that blew up at step {step}"
            )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if progress is not None:
            progress(step, loss.item() ** 0.5)
    return Law(*(x.detach() for x in vars(numbers.law).values()))


class _Numbers:
    """A law in the making: what all knots share, a slope, and what each has for itself."""

    def __init__(self, variables: int, rows: int, cols: int) -> None:
        at = knots(rows, cols)[:, None, None]
        self._slope = at / at.max()
        square = (variables, variables)
        self.all = [
            torch.zeros(shape, requires_grad=True)
            for shape in (
                *((len(at), *square), square, square, (len(at), *square), square),
                (variables, rows),
            )
        ]

    @property
    def law(self) -> Law:
        wind, wind_shared, wind_slope, rate, rate_shared, forcing = self.all
        return Law(wind + wind_shared + wind_slope * self._slope, rate + rate_shared, forcing)


def _weights(change: Tensor) -> Tensor:
    """Return how much the waves of every variable count, (variables, rows, cols // 2 + 1)."""
    rows, cols = change.shape[-2:]
    k = shells(rows, cols)
    power = torch.fft.rfft2(change, norm="ortho").abs().square().mean((0, 1))
    sizes = torch.bincount(k.flatten())
    mean = power.new_zeros(len(sizes)).index_add_(0, k.flatten(), power.flatten()) / sizes
    mean[0] = mean[1]  # means hardly change: in their own units they would outweigh all
    if not (mean > 0).all():
        raise ValueError("transport: expected pairs of states that differ at every wavenumber")
    weight = (1 / (mean * shell_sizes(rows, cols).sqrt()))[k]
    weight[rows // 2], weight[:, cols // 2] = 0.0, 0.0
    whole: Tensor = weight / (weight * mean[k]).sum() / change.shape[1]
    return whole
