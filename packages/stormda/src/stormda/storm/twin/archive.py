"""An archive of simulated flows, with shadows that are wrong in the way analyses are wrong.

A prior that is cycled on its own analyses must know imperfect pasts. Beside each simulated truth x
runs a shadow p, treated every 12 hours as a filter would treat it:

    p <- x + shrink * (forecast(p) - x) + amplitude * noise.

Forecast errors grow along the flow, an analysis shrinks them and leaves fresh ones. Every shadow
has habits of its own (`shrink`, `amplitude`, colour of noise), redrawn now and then.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

from stormda.storm.encoded import beside


class Flow(Protocol):
    """What is simulated."""

    device: torch.device
    """Where its states live."""

    def spin_up(self, members: int, *, days: float, generator: torch.Generator) -> Tensor:
        """Return independent states (members, variables, *grid) at some age."""
        ...

    def forecast(self, x: Tensor, *, hours: float) -> Tensor:
        """Return states some hours later."""
        ...


@dataclass(frozen=True, kw_only=True)
class ArchiveConfig:
    """How much is simulated."""

    runs: int = 32
    """Independent flows."""

    together: int = 4
    """Runs simulated at once: few enough to stay in a processor's cache. Divides `runs`."""

    spin_up_days: float = 40.0
    """Integration from the perturbed jet before the first frame [days]."""

    days: float = 45.0
    """Length of the archive of each run [days]."""

    every_hours: float = 3.0
    """Time between frames of the truth [h]."""

    step_hours: float = 12.0
    """Time between frames of a shadow, and of the prior [h]."""

    smallest_error: float = 0.1
    """Smallest amplitude of a shadow's fresh error, in the unit of `Disturb`: [K] for SQG."""

    largest_error: float = 3.0
    """Largest amplitude of a shadow's fresh error, likewise."""

    renewal: float = 0.06
    """Chance that a shadow changes its habits at a step."""

    seed: int = 1
    """Seed of flows and errors; 1-99 are for training."""

    def __post_init__(self) -> None:
        if self.together < 1 or self.runs % self.together:
            raise ValueError(
                f"together: expected a divisor of runs={self.runs}, got {self.together}"
            )

    @property
    def stride(self) -> int:
        """Return the truth's frames in one step of a shadow."""
        return round(self.step_hours / self.every_hours)

    @property
    def steps(self) -> int:
        """Return the number of steps of a shadow."""
        return round(self.days * 24 / self.step_hours)


@dataclass(frozen=True)
class Archive:
    """Truths and shadows, in physical units.

    Args:
        config: How they were made.
        truth: (runs, frames, variables, *grid), frame 0 at the end of the spin-up.
        shadow: (runs, steps, variables, *grid), step s beside frame (s + 1) * stride of the truth.
    """

    config: ArchiveConfig
    truth: Tensor
    shadow: Tensor

    def save(self, path: Path) -> None:
        """Write to one safetensors file, atomically."""
        partial = path.with_name(path.name + ".tmp")
        header = {"config": json.dumps(asdict(self.config))}
        save_file({"truth": self.truth, "shadow": self.shadow}, partial, header)
        os.replace(partial, path)

    @classmethod
    def load(cls, path: Path) -> Archive:
        """Read an archive written by `save`."""
        with safe_open(str(path), framework="pt") as file:
            config = ArchiveConfig(**json.loads(file.metadata()["config"]))
            return cls(config, file.get_tensor("truth"), file.get_tensor("shadow"))


Disturb = Callable[[Tensor, Tensor, torch.Generator], Tensor]
"""Adds the fresh error of an analysis to states (runs, variables, *grid), given the habits
(shrink, amplitude, share of white noise) of each (runs, 3)."""


def disturb_periodic(x: Tensor, habits: Tensor, generator: torch.Generator) -> Tensor:
    """Add white and smooth noise to doubly periodic fields (runs, variables, rows, cols)."""

    def normal() -> Tensor:
        return torch.randn(x.shape, generator=generator, device=x.device, dtype=x.dtype)

    _, amplitude, white = (h[:, None, None, None] for h in habits.unbind(1))
    return x + amplitude * (white.sqrt() * normal() + (1 - white).sqrt() * smooth_noise(normal()))


def make_archive(
    config: ArchiveConfig,
    model: Flow,
    progress: Callable[[int, int], None] | None = None,
    *,
    disturb: Disturb = disturb_periodic,
) -> Archive:
    """Simulate an archive, a few runs at a time.

    Args:
        config: How much.
        model: The flow, on the device to simulate on.
        progress: Called with (groups of runs done, groups in all).
        disturb: The fresh errors; by default those of periodic fields in K.

    Examples:
        >>> from stormda.assimilation.systems import SQG, SQGConfig
        >>> config = ArchiveConfig(runs=2, together=1, spin_up_days=0.5, days=1)
        >>> archive = make_archive(config, SQG(SQGConfig(points=16)))
        >>> archive.truth.shape, archive.shadow.shape
        (torch.Size([2, 9, 2, 16, 16]), torch.Size([2, 2, 2, 16, 16]))
    """
    groups = config.runs // config.together
    parts = []
    for group in range(groups):
        parts.append(simulate_group(config, model, group, disturb))
        if progress is not None:
            progress(group + 1, groups)
    truth, shadow = (torch.cat(tensors) for tensors in zip(*parts, strict=True))
    return Archive(config, truth, shadow)


def simulate_group(
    config: ArchiveConfig, model: Flow, group: int, disturb: Disturb = disturb_periodic
) -> tuple[Tensor, Tensor]:
    """Return truth and shadow of one group of runs; its random numbers are its own."""
    generator = torch.Generator(model.device).manual_seed(1000 * config.seed + group)
    x = model.spin_up(config.together, days=config.spin_up_days, generator=generator)
    habits = _draw_habits(config, generator, model.device)
    shadow = disturb(x, habits, generator)
    truths, shadows = [x], []
    for _ in range(config.steps):
        for _ in range(config.stride):
            x = model.forecast(x, hours=config.every_hours)
            truths.append(x)
        forecast = model.forecast(shadow, hours=config.step_hours)
        fresh = torch.rand(config.together, 1, generator=generator, device=model.device)
        redrawn = _draw_habits(config, generator, model.device)
        habits = torch.where(fresh < config.renewal, redrawn, habits)
        shrink = beside(habits[:, 0], x)
        shadow = disturb(x + shrink * (forecast - x), habits, generator)
        shadows.append(shadow)
    return torch.stack(truths, 1).cpu(), torch.stack(shadows, 1).cpu()


def _draw_habits(
    config: ArchiveConfig, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Draw (shrink, amplitude [K], share of white noise) for each run, (runs, 3)."""
    u = torch.rand(config.together, 4, generator=generator, device=device)
    low, high = math.log(config.smallest_error), math.log(config.largest_error)
    shrink = 0.1 + 0.75 * u[:, 0]
    amplitude = torch.exp(low + (high - low) * u[:, 1])
    white = torch.where(u[:, 2] < 0.5, u[:, 3], 0.0)
    return torch.stack([shrink, amplitude, white], 1)


def smooth_noise(noise: Tensor) -> Tensor:
    """Colour white noise (*batch, variables, rows, cols) as k^-1 in amplitude, variance one."""
    rows, cols = noise.shape[-2:]
    kx = cols * torch.fft.rfftfreq(cols, device=noise.device)
    ky = rows * torch.fft.fftfreq(rows, device=noise.device)
    k = torch.hypot(kx[None], ky[:, None])
    shape = torch.where(k > 0, 1 / k.clamp_min(2.0), 0.0).to(noise.dtype)
    field: Tensor = torch.fft.irfft2(torch.fft.rfft2(noise) * shape, s=(rows, cols))
    return field / field.std(dim=(-3, -2, -1), keepdim=True)


def kept_archive(config: ArchiveConfig, directory: Path, make: Callable[[], Archive]) -> Archive:
    """Load the archive from a directory, or make it and keep it there.

    Args:
        config: What it has to be.
        directory: Where `archive.safetensors` is, or will be; it is made if need be.
        make: Simulates it.

    Raises:
        ValueError: Where the archive in the directory was made with other settings.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path = directory / "archive.safetensors"
    if path.is_file():
        archive = Archive.load(path)
        if archive.config != config:
            raise ValueError(f"{path}: expected {config}, got {archive.config}")
        return archive
    archive = make()
    archive.save(path)
    return archive
