"""Downscale coarse fields from files: every time for itself, an ensemble or the forecast alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from stormda.assimilation import DiagonalError, Observation
from stormda.grid import describe_difference
from stormda.io import EnsembleWriter, Store
from stormda.storm.assimilation_inputs import prior_units
from stormda.storm.config import to_dict
from stormda.storm.downscaling.coarsening import Coarsening
from stormda.storm.downscaling.liveliness import liveliness
from stormda.storm.filtering import FilterSettings, sample_present
from stormda.storm.frames import Frames, clock_features, read_frames
from stormda.storm.level_fields import attributes_of, units_of
from stormda.storm.normalization import Normalization
from stormda.storm.present import Present
from stormda.storm.prior import Conditioned, Storm
from stormda.storm.provenance import provenance
from stormda.storm.settings import plain
from stormda.storm.streams import stream


@dataclass(frozen=True, kw_only=True)
class DownscalingConfig:
    """How fine fields are sampled."""

    members: int = 16
    """Size of the ensemble; 1 gives the forecast without sampling (the regression)."""

    seed: int = 0
    """Seed of all noise."""

    error: float = 0.0
    """Error of the coarse means, in standard deviations of what they leave unknown; with 0 every
    fine field has the given means."""

    inflation: float = 1.0
    """Factor on the prior's departures from its forecast (see `present`), found on fields that
    were held back: less than 1 where members differ too much."""

    filter: FilterSettings = field(
        default_factory=lambda: FilterSettings(
            steps=30, sigma_max=40.0, sigma_min=0.01, tolerance=1e-3, iterations=20
        )
    )
    """Noise levels and guidance; what is said there of pasts has no meaning here."""

    def __post_init__(self) -> None:
        if self.members < 1:
            raise ValueError(f"members: expected at least 1, got {self.members}")
        if self.seed < 0:
            raise ValueError(f"seed: expected a number that is not negative, got {self.seed}")
        if not self.error >= 0:
            raise ValueError(f"error: expected a number that is not negative, got {self.error}")
        if not self.inflation > 0:
            raise ValueError(f"inflation: expected a positive number, got {self.inflation}")


SEEN = 0.02
"""The error with which exact means are guided to, so that their equations can be solved; what is
left of it is then taken from every field."""


def coarsening_of(prior: Storm) -> Coarsening:
    """Return the blocks that a prior was trained to refine.

    Raises:
        ValueError: Where it was trained to forecast.
    """
    factor = int(prior.provenance["settings"].get("coarsening", 1))
    if factor < 2:
        raise ValueError(
            "prior: expected one trained with the recipe downscaling, got one that forecasts"
        )
    return Coarsening(prior.grid, factor, prior.network.valid)  # type: ignore[arg-type]


def downscale_fields(
    prior: Storm,
    coarse: Tensor,
    *,
    clock: Tensor | None,
    config: DownscalingConfig,
    generator: torch.Generator,
) -> Tensor:
    """Sample fine fields whose coarse means are given.

    Args:
        prior: Trained for downscaling.
        coarse: Means of the blocks [physical units], (variables, rows / f, cols / f).
        clock: Calendar features, (6,), where the prior uses them.
        config: Ensemble and noise levels.
        generator: Source of the noise.

    Returns:
        Fields [physical units], (members, variables, rows, cols).

    Examples:
        See `docs/tutorials/downscaling.md`, which runs as a test.
    """
    blocks, device = coarsening_of(prior), prior.normalization.std.device
    coarse = coarse.to(device)
    now = conditioned(prior, blocks, coarse, clock=clock, members=config.members)
    if config.members == 1:
        fine = now.to_physical(torch.zeros_like(now.last))
    else:
        seen = _observed(now.normalization, blocks, coarse, config.error or SEEN)
        fine = sample_present(
            Present(now, config.inflation),
            seen,
            members=config.members,
            settings=config.filter,
            generator=generator,
        )
    return fine if config.error else blocks.conserving(fine, coarse)


def _observed(n: Normalization, blocks: Coarsening, coarse: Tensor, error: float) -> Observation:
    """Return the means of blocks as observations with errors in units of what they leave open."""
    each = error * n.std * n.increment
    known = blocks.known.to(coarse.device).expand(coarse.shape)
    return Observation(
        coarse[known], blocks.observe, DiagonalError(each.expand(coarse.shape)[known])
    )


def conditioned(
    prior: Storm, blocks: Coarsening, coarse: Tensor, *, clock: Tensor | None, members: int
) -> Conditioned:
    """Return what a prior makes of the means of blocks, for each of some members."""
    n = prior.normalization
    departure = (coarse - blocks.means(n.mean)) / n.std
    smooth = n.to_x(blocks.spread(departure * blocks.known.to(coarse.device)))
    past = smooth.expand(members, 1, -1, -1, -1)
    if prior.provenance["settings"].get("relative", False):
        own = liveliness(departure, blocks).within(n)
        prior = replace(prior, normalization=own)
    return prior.given(past, error=torch.zeros(len(n.std)), clock=clock)


def downscale_files(
    prior: Storm,
    coarse: Store,
    out: Path,
    config: DownscalingConfig,
    *,
    inputs: Mapping[str, str],
    overwrite: bool = False,
    progress: Callable[[int, int, np.datetime64], None] | None = None,
    interrupted: Callable[[], bool] = lambda: False,
) -> int | None:
    """Downscale every time of a file, and write the ensemble.

    Args:
        prior: Trained for downscaling.
        coarse: Fields on the grid of the blocks.
        out: The CF file to write; what is done is kept in `<out>.parts` until it is complete.
        config: The settings.
        inputs: SHA-256 of the input files by path, for the record.
        overwrite: Whether an existing output may be replaced.
        progress: Called after every time with its number, their count and it.
        interrupted: Polled after every time.

    Returns:
        How many times there are, or None where `interrupted` stopped the run.

    Raises:
        FileExistsError: Where the output is there already.
        ValueError: Where coarse fields and prior do not fit together, or values are missing.

    Examples:
        See `docs/tutorials/downscaling.md`, which runs as a test.
    """
    frames = coarse_frames(prior, coarse)
    clock = None
    if prior.config.clock:
        season = bool(prior.provenance["settings"]["season"])
        clock = clock_features(frames.times, frames.grid, season=season)
    writer = _writer(prior, coarse, out, config, inputs, overwrite=overwrite)
    for step in range(len(writer.completed()), len(frames.times)):
        fine = downscale_fields(
            prior,
            frames.values[step],
            clock=None if clock is None else clock[step],
            config=config,
            generator=stream(config.seed, step),
        )
        writer.write(step, frames.times[step], _named(prior, fine))
        if progress is not None:
            progress(step + 1, len(frames.times), frames.times[step])
        if interrupted() and step + 1 < len(frames.times):
            return None
    writer.finish()
    return len(frames.times)


def coarse_frames(prior: Storm, coarse: Store) -> Frames:
    """Read coarse fields, refusing those that are not means of a prior's blocks.

    Raises:
        ValueError: Where the grid, a variable or its units are others, or values are missing.
    """
    path, blocks = coarse.paths[0], coarsening_of(prior)
    difference = describe_difference(blocks.grid(), coarse.grid)
    if difference:
        raise ValueError(f"{path}: expected the grid of the prior's blocks: {difference}")
    for name, units in prior_units(prior).items():
        if (found := units_of(coarse, name)) != units:
            raise ValueError(f"{path}: expected {name} in {units!r}, got {found!r}")
    frames = read_frames(coarse, prior.config.variables)
    missing = int((~frames.valid & blocks.known.expand(frames.valid.shape)).sum())
    if missing:
        raise ValueError(
            f"{path}: expected values wherever the prior was trained, got {missing} missing ones"
        )
    return frames


def _writer(
    prior: Storm,
    coarse: Store,
    out: Path,
    config: DownscalingConfig,
    inputs: Mapping[str, str],
    *,
    overwrite: bool,
) -> EnsembleWriter:
    attributes = {
        name: attributes_of(coarse, name, units) for name, units in prior_units(prior).items()
    }
    record = provenance(
        config, title="STORM downscaling", inputs=dict(inputs), prior=dict(prior.provenance)
    )
    return EnsembleWriter(
        path=out,
        grid=prior.grid,  # type: ignore[arg-type]
        attributes=attributes,
        run=plain({"settings": to_dict(config), "inputs": dict(inputs)}),
        provenance=record,
        overwrite=overwrite,
    )


def _named(prior: Storm, fine: Tensor) -> dict[str, Any]:
    mask = prior.network.valid
    if mask is not None:
        fine = torch.where(mask, fine, torch.nan)
    return {name: fine[:, i].cpu().numpy() for i, name in enumerate(prior.config.variables)}
