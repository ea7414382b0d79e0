"""Fit a prior: AdamW, warm-up and cool-down, an exponential moving average, exact resumption.

Everything random in step k is a function of (seed, k), drawn for the global batch and then shared
out, so that a run that was killed, or that runs on another number of ranks, sees the same numbers.
"""

from __future__ import annotations

import csv
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stormda.parallel import (
    Communicator,
    clip_gradients,
    intact_checkpoints,
    load_checkpoint,
    save_checkpoint,
    sum_gradients,
)
from stormda.storm.network import StormNetwork
from stormda.storm.objective import Batch, NoiseLevels, SampleSource, denoising_loss
from stormda.storm.streams import stream

_NOISE = 1
"""What a stream of the training is for (`streams`): its noise."""

Progress = Callable[[int, float], None]
"""Called with (step, loss) after every optimiser step."""


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
    """Of AdamW."""

    clip: float = 1.0
    """Largest norm of the gradient."""

    ema: float = 0.998
    """Decay of the moving average of the weights, per step; it is the average that is used."""

    noise: NoiseLevels = field(default_factory=NoiseLevels)
    """Noise levels of the objective."""

    variation: float = 0.0
    """Weight of the total variation of the forecast, a prior for deterministic downscaling; it
    smooths forecasts, so that samples are drawn around a mean that is none."""

    bfloat16: bool = False
    """Compute in bfloat16 (weights, statistics and the loss stay in float32)."""

    compile: bool = False
    """Compile the blocks (minutes at the start); worth it for long runs."""

    checkpoint_every: int = 500
    """Steps between checkpoints."""

    seed: int = 0
    """Seed of the noise and of the initial weights."""

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "checkpoint_every"):
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


class Divergence(RuntimeError):
    """The loss or a gradient is no longer finite; the last checkpoint is still good."""


class Trainer:
    """One training run in a directory that holds its checkpoints and its log.

    Args:
        network: The network, on its device; its weights are the start.
        source: Samples.
        config: The settings.
        directory: For checkpoints and `training.csv`; None keeps nothing.
        comm: Ranks that share the batch, or None for one process.
        metadata: JSON-able description stored in every checkpoint.
    """

    def __init__(
        self,
        network: StormNetwork,
        source: SampleSource,
        config: TrainingConfig,
        *,
        directory: Path | None = None,
        comm: Communicator | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self.network, self.source, self.config = network, source, config
        self.directory, self.comm, self.metadata = directory, comm, metadata or {}
        self.device = next(network.parameters()).device
        self.parameters: list[Tensor] = [p for p in network.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters,
            lr=config.learning_rate,
            betas=(0.9, 0.99),
            weight_decay=config.weight_decay,
            fused=self.device.type == "cuda",
        )
        self.average = [p.detach().clone() for p in self.parameters]
        self.step = 0
        if config.compile:
            network.compile_blocks()

    def run(
        self,
        *,
        progress: Progress | None = None,
        interrupted: Callable[[], bool] = lambda: False,
    ) -> bool:
        """Train to the last step, or to the next step boundary once `interrupted` is true.

        Returns:
            Whether the last step was reached.

        Raises:
            Divergence: Where the loss is no longer finite.
        """
        while self.step < self.config.steps:
            loss = self._advance()
            if progress is not None:
                progress(self.step, loss)
            stop = interrupted()
            if stop or self.step % self.config.checkpoint_every == 0:
                self.save()
            if stop:
                return False
        self.save()
        return True

    def averaged(self) -> StormNetwork:
        """Put the averaged weights into the network and return it, ready for use."""
        with torch.no_grad():
            for parameter, mean in zip(self.parameters, self.average, strict=True):
                parameter.copy_(mean)
        return self.network.eval().requires_grad_(False)

    def save(self) -> None:
        """Write a checkpoint, where there is a directory."""
        if self.directory is None:
            return
        state = {
            "parameters": [p.detach() for p in self.parameters],
            "average": self.average,
            "optimizer": self.optimizer.state_dict(),
            "source": self.source.state_dict(),
        }
        save_checkpoint(
            self.directory / "checkpoints", self.step, state, self.metadata, comm=self.comm
        )

    def resume(self) -> int:
        """Load the newest intact checkpoint, if there is one, and return the step it is at."""
        if self.directory is None or not intact_checkpoints(self.directory / "checkpoints"):
            return 0
        checkpoint = load_checkpoint(self.directory / "checkpoints", fallback=True)
        state: Any = checkpoint.state
        with torch.no_grad():
            for own, stored in zip(self.parameters, state["parameters"], strict=True):
                own.copy_(stored)
            for own, stored in zip(self.average, state["average"], strict=True):
                own.copy_(stored)
        self.optimizer.load_state_dict(state["optimizer"])
        self.source.load_state_dict(state["source"])
        self.step = checkpoint.step
        self._drop_log_after(self.step)
        return self.step

    def _advance(self) -> float:
        config = self.config
        for group in self.optimizer.param_groups:
            group["lr"] = config.rate(self.step)
        batch = self.source.batch(self.step, config.batch)
        sigma, noise = self._noise(batch)
        batch, sigma, noise = self._share(batch, sigma, noise)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=config.bfloat16):
            losses = denoising_loss(
                self.network,
                self.source.normalization,
                batch,
                sigma,
                noise,
                variation=config.variation,
            )
        loss = losses.sum() / config.batch
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if self.comm is not None:
            sum_gradients(self.parameters, self.comm)
        norm = clip_gradients(self.parameters, config.clip)
        value = self._global(loss.detach())
        if not math.isfinite(value) or not bool(torch.isfinite(norm)):
            raise Divergence(
                f"step {self.step}: expected a finite loss and gradient, got loss {value} and "
                f"norm {float(norm)}; the last checkpoint is intact, a lower rate may help"
            )
        self.optimizer.step()
        with torch.no_grad():
            torch._foreach_lerp_(self.average, self.parameters, self._average_weight())
        self.step += 1
        self._log(value)
        return value

    def _average_weight(self) -> float:
        """Let the average forget its start: (1 + k) / (10 + k) until it reaches the decay."""
        return 1 - min(self.config.ema, (1 + self.step) / (10 + self.step))

    def _noise(self, batch: Batch) -> tuple[Tensor, Tensor]:
        generator = stream(self.config.seed, _NOISE, self.step)
        sigma = self.config.noise.draw(len(batch.target), generator)
        noise = torch.randn(batch.target.shape, generator=generator)
        return sigma.to(self.device), noise.to(self.device)

    def _share(self, batch: Batch, *rest: Tensor) -> tuple[Any, ...]:
        if self.comm is None or self.comm.size == 1:
            return (batch, *rest)
        mine = slice(self.comm.rank, None, self.comm.size)

        def take(x: Tensor | None) -> Tensor | None:
            return None if x is None else x[mine]

        part = Batch(
            batch.history[mine],
            batch.target[mine],
            batch.level[mine],
            take(batch.clock),
            take(batch.valid),
        )
        return (part, *(x[mine] for x in rest))

    def _global(self, loss: Tensor) -> float:
        return float(loss if self.comm is None else self.comm.all_reduce(loss))

    def _log(self, loss: float) -> None:
        if self.directory is None or (self.comm is not None and self.comm.rank):
            return
        path = self.directory / "training.csv"
        new = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if new:
                writer.writerow(["step", "loss", "learning_rate"])
            writer.writerow([self.step, repr(loss), repr(self.config.rate(self.step - 1))])

    def _drop_log_after(self, step: int) -> None:
        path = self.directory / "training.csv" if self.directory else None
        if path is None or not path.is_file():
            return
        header, *rows = path.read_text().splitlines()
        kept = [row for row in rows if int(row.split(",")[0]) <= step]
        path.write_text("\n".join([header, *kept]) + "\n")
