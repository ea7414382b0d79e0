"""The settings of a training: how long, how fast, what counts, what it may cost."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal

from stormda.storm.objective import NoiseLevels


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How long, how fast, how often."""

    steps: int = 10_000
    """Optimiser steps."""

    batch: int = 64
    """Samples of a step, over all ranks."""

    learning_rate: float = 1e-3
    """Peak learning rate."""

    warmup: int = 200
    """Steps of linear warm-up."""

    cooldown: float = 0.3
    """Share of the steps, at the end, over which the rate falls to zero; constant before."""

    weight_decay: float = 0.01
    """Share of the rate by which weights shrink, at every step."""

    optimizer: Literal["adamw", "muon"] = "adamw"
    """AdamW, or Muon for matrices and AdamW for the rest (`optimizer`), which learns from fewer
    samples where no rank has parts of matrices."""

    clip: float = 1.0
    """Largest norm of the gradient."""

    ema: float = 0.998
    """Decay of the moving average of the weights, per step; it is the average that is used."""

    noise: NoiseLevels = field(default_factory=NoiseLevels)
    """Noise levels of the objective."""

    area_weights: bool = False
    """Whether cells count in the loss by their area, as in scores; else all alike, which teaches
    the many small cells near the poles as well as any."""

    polar_weight: float = 0.0
    """Cells count also by the cosine of their latitude to minus this power: with more than 0 a
    network learns more of the few that lie around the poles, and less of all others."""

    variable_weights: tuple[float, ...] = ()
    """How much each variable counts in the loss; empty where all count alike."""

    variation: float = 0.0
    """Weight of the total variation of the forecast, a prior for deterministic downscaling; it
    smooths forecasts, so that samples are drawn around a mean that is none."""

    passes: int = 1
    """Parts of a batch that are computed one after the other, which takes less memory."""

    recompute: bool = False
    """Keep only the inputs of blocks for the backward pass, which takes less memory and more
    time."""

    bfloat16: bool = False
    """Compute in bfloat16 (weights, statistics and the loss stay in float32)."""

    compile: bool = False
    """Compile the blocks (minutes at the start); worth it for long runs."""

    checkpoint_every: int = 500
    """Steps between checkpoints."""

    seed: int = 0
    """Seed of the noise and of the initial weights."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "checkpoint_every", "passes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")
        if not 0 <= self.ema < 1:
            raise ValueError(f"ema: expected a number in [0, 1), got {self.ema}")

    def rate(self, step: int) -> float:
        """Return the learning rate of a step: linear up, constant, and down like a cosine.

        What comes before the cool-down does not depend on `steps`, so that a run can be made
        longer. Source: Hu et al. (2024), MiniCPM, section 4, https://arxiv.org/abs/2404.06395
        """
        if step < self.warmup:
            return self.learning_rate * (step + 1) / self.warmup
        left = (self.steps - step) / max(1.0, self.cooldown * self.steps)
        return self.learning_rate * 0.5 * (1 - math.cos(math.pi * min(1.0, left)))
