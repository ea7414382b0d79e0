"""The networks of `ablations.py`: how they are made, trained, kept and judged by themselves."""

from __future__ import annotations

import itertools
import json
import math
import time
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from stormda.assimilation.systems import SQG
from stormda.storm import Storm, StormConfig
from stormda.storm.encoded import beside
from stormda.storm.network import DEPARTURE
from stormda.storm.objective import Batch, encoded
from stormda.storm.provenance import provenance
from stormda.storm.recipes import SqgRecipe, sqg
from stormda.storm.streams import stream
from stormda.storm.training import Trainer
from stormda.storm.training_config import TrainingConfig
from stormda.storm.twin.archive import ArchiveConfig, kept_archive, make_archive
from stormda.storm.twin.archive_modes import starting_network
from stormda.storm.twin.samples import ArchivedSamples
from stormda.storm.twin.training import (
    PERSISTENCE_ERROR,
    archive_of,
    sqg_grid,
    sqg_normalization,
)

TRAINING = ArchiveConfig(runs=12, days=30.0, seed=1)
VALIDATION = ArchiveConfig(runs=4, days=15.0, seed=200)
LONGEST = 8
"""Frames of the longest history: validation draws so many for all, and all look at the last."""

HYBRID = replace(
    sqg().network,
    mixer="tile+linear",
    tile=(4, 4),
    width=64,
    heads=2,
    encoder_depth=3,
    depth=2,
    waves=False,
    transport=0,
)
TILES = replace(HYBRID, mixer="full", network_tiles=(4, 4), network_halo=(1, 1), network_batch=16)
NETWORKS: dict[str, StormConfig] = {
    "hybrid": HYBRID,
    "linear": replace(HYBRID, mixer="linear"),
    "full": replace(HYBRID, mixer="full"),
    "tiles-4": replace(TILES, network_tiles=(2, 2), network_batch=4),
    "tiles-16": TILES,
    "tiles-16-cropped": replace(TILES, network_blend=False),
    "tiles-16-no-halo": replace(TILES, network_halo=(0, 0)),
    # The weights of the gates are given to the perceptrons.
    "no-gate": replace(HYBRID, noise_gate=False, mlp_ratio=4.8),
    "history-1": replace(HYBRID, history=1),
    "history-4": replace(HYBRID, history=4),
    "history-8": replace(HYBRID, history=LONGEST),
    "modes": replace(HYBRID, modes=200),
    "waves": replace(HYBRID, waves=True),
    "law": replace(HYBRID, waves=True, transport=sqg().network.transport),
    "muon": HYBRID,
}
"""`tiles-*` is the mode `storm`: exact attention in tiles that the whole network takes one by one;
with one tile it is `full`. `hybrid` has two frames of history. `modes` and `waves` start from a
covariance, `law` also from a law of motion; `muon` is trained by Muon, all others by AdamW."""

LEVELS = (0.1, 0.4, 1.6)
"""Noise levels of the errors of denoising."""

# ---- Training


@dataclass(frozen=True)
class Workshop:
    """Where everything is, and how long is trained."""

    folder: Path
    steps: int

    def place(self, name: str, seed: int) -> Path:
        """Return the folder of a network."""
        return self.folder / f"{name}-{seed}-{self.steps}"

    def recipe(self, name: str, seed: int) -> SqgRecipe:
        """Return the settings of a training."""
        training = TrainingConfig(
            steps=self.steps,
            batch=8,
            learning_rate=2e-3,
            warmup=100,
            cooldown=0.4,
            ema=0.99,
            bfloat16=True,
            optimizer="muon" if name == "muon" else "adamw",
            seed=seed,
        )
        return replace(sqg(), network=NETWORKS[name], archive=TRAINING, training=training)

    def prior(self, name: str, seed: int) -> Storm:
        """Return a trained prior, from its folder or by training it, as far as it is not."""
        place, recipe = self.place(name, seed), self.recipe(name, seed)
        stored = place / "prior.safetensors"
        if stored.is_file():
            prior = Storm.load(stored)
            settings = json.loads(json.dumps(asdict(recipe)))
            if prior.provenance["settings"] != settings:
                raise ValueError(f"{stored}: expected a prior of {settings}, got another")
            return prior
        place.mkdir(parents=True, exist_ok=True)
        archive = archive_of(recipe, self.folder / "training")
        network = starting_network(recipe, sqg_grid(recipe), archive, sqg_normalization())
        source = ArchivedSamples(
            archive, sqg_normalization(), recipe.errors, history=recipe.network.history, seed=seed
        )
        trainer = Trainer(network, source, recipe.training, directory=place)
        trainer.resume()
        clock = [time.process_time()]
        trainer.run(progress=lambda step, loss: clock.append(time.process_time()))
        steps = [b - a for a, b in itertools.pairwise(clock)]
        record = provenance(recipe, seconds_per_step=median(steps) if steps else math.nan)
        prior = Storm(trainer.averaged(), source.normalization, TRAINING.step_hours, record)
        prior.save(stored)
        return Storm.load(stored)

    def validation(self) -> ArchivedSamples:
        """Return the source of samples that none was trained on."""
        make = partial(make_archive, VALIDATION, SQG(sqg().model))
        archive = kept_archive(VALIDATION, self.folder / "validation", make)
        return ArchivedSamples(
            archive, sqg_normalization(), sqg().errors, history=LONGEST, seed=200
        )


# ---- The network alone


def judge(
    prior: Storm, source: ArchivedSamples, batches: int
) -> tuple[list[float], dict[str, float]]:
    """Return the loss of every batch, and the errors of forecasts and of denoising."""
    losses, errors, forecasts, targets = [], [], [], []
    for k in range(batches):
        g, batch = stream(200, 9, k), source.batch(k, 16)
        batch = replace(batch, history=batch.history[:, -prior.config.history :])
        sigma = TrainingConfig().noise.draw(len(batch.target), g)
        noise = torch.randn(batch.target.shape, generator=g)
        with torch.no_grad():
            loss = loss_of(prior, batch, sigma, noise)
            forecast, target, squared = denoised(prior, batch, noise)
        losses.append(loss.mean().item())
        errors.append(squared)
        forecasts.append(forecast)
        targets.append(target)
    rms = PERSISTENCE_ERROR * torch.stack(errors).mean(0).sqrt()
    names = ("forecast", *(f"denoised_{level}" for level in LEVELS))
    borders = tile_borders(prior.config)
    forecast, target = torch.cat(forecasts), torch.cat(targets)
    found = dict(zip(names, rms.tolist(), strict=True))
    found["seam_error"] = beside_seams(forecast - target, borders)
    found["seam_jump"] = jump_at_seams(forecast, borders) / jump_at_seams(target, borders)
    return losses, found


def loss_of(prior: Storm, batch: Batch, sigma: Tensor, noise: Tensor) -> Tensor:
    """Return the loss of the objective for each sample, with one size of departures for all."""
    past = encoded(prior.network, batch)
    target = (batch.target - batch.history[:, -1]) / prior.normalization.increment
    departure, level = target - past.forecast, beside(sigma, noise)
    estimate = prior.network(departure + level * noise, sigma, past)
    weight = 1 / DEPARTURE**2 + 1 / level.square()
    loss: Tensor = (estimate - departure).square() * weight + departure.square() / DEPARTURE**2
    return loss.flatten(1).mean(1)


def denoised(prior: Storm, batch: Batch, noise: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return forecasts, what they should be, and mean squared errors (1 + levels,)."""
    past = encoded(prior.network, batch)
    target = (batch.target - batch.history[:, -1]) / prior.normalization.increment
    departure = target - past.forecast
    squared = [departure.square().mean()]
    for level in LEVELS:
        sigma = torch.full((len(target),), level)
        estimate = prior.network(departure + beside(sigma, noise) * noise, sigma, past)
        squared.append((estimate - departure).square().mean())
    return past.forecast, target, torch.stack(squared)


def tile_borders(config: StormConfig) -> int:
    """Return the tiles along a side whose borders are looked at."""
    return config.network_tiles[0] if config.network_tiles != (1, 1) else 4


def beside_seams(error: Tensor, tiles: int) -> float:
    """Return the RMS of an error (..., rows, cols) near borders of tiles, over that elsewhere."""
    n = error.shape[-1]
    edge = torch.arange(n) % (n // tiles)
    near = (edge < 2) | (edge >= n // tiles - 2)
    near = near[:, None] | near[None, :]
    squared = error.square().flatten(0, -3).mean(0)
    return math.sqrt(squared[near].mean() / squared[~near].mean())


def jump_at_seams(x: Tensor, tiles: int) -> float:
    """Return the squared jump across borders of tiles over that across other borders of patches.

    Args:
        x: Periodic fields (..., rows, cols).
        tiles: Tiles along a side.
    """
    n, patch = x.shape[-1], HYBRID.patch[0]
    at_seam, beyond = [], []
    for dim in (-1, -2):
        jumps = (x - x.roll(1, dim)).square().movedim(dim, 0).flatten(1).mean(1)
        seam = torch.arange(n) % (n // tiles) == 0
        other = (torch.arange(n) % patch == 0) & ~seam
        at_seam.append(jumps[seam].mean())
        beyond.append(jumps[other].mean())
    return float(sum(at_seam) / sum(beyond))
