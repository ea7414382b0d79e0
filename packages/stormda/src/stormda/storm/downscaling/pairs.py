"""Training samples for downscaling: a fine field, and what is left of it as coarse means.

The departures of a field from the climate of its cells are taken to coarse means and spread
smoothly; a sample has that in place of a history, and the field itself as its target.
"""

from __future__ import annotations

import torch
from torch import Tensor

from stormda.storm.config import StormConfig
from stormda.storm.covariance import fit_directions
from stormda.storm.downscaling.coarsening import Coarsening
from stormda.storm.downscaling.liveliness import liveliness
from stormda.storm.files import (
    MODES,
    FileHistories,
    cell_areas,
    fit_climate,
    root_mean_square,
    scaled,
)
from stormda.storm.frames import Frames
from stormda.storm.modes import Directions
from stormda.storm.normalization import Normalization
from stormda.storm.objective import Batch
from stormda.storm.streams import stream
from stormda.storm.superposition import Superposition


def fit_residuals(
    frames: Frames, coarsening: Coarsening, *, relative: bool = False
) -> Normalization:
    """Return the statistics of frames, with what coarse means leave unknown as the increment.

    Args:
        frames: The fields.
        coarsening: The blocks.
        relative: Whether samples are taken relative to their own coarse field (`liveliness`).

    Raises:
        ValueError: Where a variable never changes, or coarse means tell all of it.

    Examples:
        >>> import numpy as np
        >>> from stormda.grid import PlaneGrid
        >>> grid = PlaneGrid((8, 8), (1.0, 1.0))
        >>> x = 280 + torch.randn(50, 1, 8, 8, generator=torch.Generator().manual_seed(0))
        >>> frames = Frames(variables=("t2m",), units=("K",), grid=grid, values=x,
        ...                 times=np.datetime64("2020-01-01", "s") + 3600 * np.arange(50),
        ...                 valid=torch.ones_like(x, dtype=torch.bool))
        >>> found = fit_residuals(frames, Coarsening(grid, 4))
        >>> found.mean.shape, round(float(found.std), 1)
        (torch.Size([1, 8, 8]), 1.0)
        >>> 0.9 < float(found.increment) < 1  # white noise, of which means tell little
        True
    """
    mean, std = fit_climate(frames)
    z = torch.where(frames.valid, (frames.values - mean) / std, 0.0).float()
    if relative:
        z = liveliness(coarsening.means(z), coarsening).relative(z) * frames.valid
    weight = frames.valid * cell_areas(frames)
    rest = root_mean_square((z - coarsening.smooth(z)).double(), weight)
    return scaled(frames.variables, mean, std, rest)


class CoarsePairs(FileHistories):
    """A `SampleSource` of fine fields with their smooth coarse fields for a history.

    Args:
        frames: The frames to learn from; the times between them do not matter.
        coarsening: The blocks.
        normalization: From `fit_residuals`.
        superposition: How samples are superposed; None for not at all.
        modes: Of what coarse means leave unknown, where there are modes.
        relative: Whether samples are taken relative to their own coarse field (`liveliness`).
        clock: Whether samples come with calendar features.
        season: Whether those tell the phase of the year.
        seed: Of the order of the samples.
        device: Where samples shall be.
    """

    def __init__(
        self,
        frames: Frames,
        coarsening: Coarsening,
        normalization: Normalization,
        *,
        superposition: Superposition | None = None,
        modes: Directions | None = None,
        relative: bool = False,
        clock: bool,
        season: bool,
        seed: int,
        device: torch.device | str = "cpu",
    ) -> None:
        super().__init__(
            frames,
            0,
            normalization,
            error=None,
            modes=modes,
            superposition=superposition,
            step_hours=1.0,
            clock=clock,
            season=season,
            seed=seed,
            device=device,
        )
        self.coarsening, self.relative = coarsening, relative

    def samples(self, targets: Tensor, generator: torch.Generator) -> Batch:
        """Return the samples of some frames, superposed with others by a generator."""
        z, known = self._fields(targets, generator)
        level = torch.zeros(z.shape[:2], device=self.device)
        clock = None if self.clock is None else self.clock[targets]
        valid = None if bool(self.valid.all()) else known
        return Batch(self.coarsening.smooth(z)[:, None], z, level, clock, valid)

    def _fields(self, targets: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return some frames, superposed with others, and where they are known."""
        window, known = self._superposed(targets, self.ahead, generator)
        z = window[:, 0]
        if self.relative:
            coarse = self.coarsening.means(z)
            z = liveliness(coarse, self.coarsening).relative(z) * known[:, 0]
        return z, known[:, 0]

    def fit_modes(self, network: StormConfig) -> Directions:
        """Return the modes or waves of what coarse means leave unknown."""
        repeats = -(-max(4 * network.modes, 1000) // len(self.targets))
        z, known = self._fields(self.targets.repeat(repeats), stream(self.seed, MODES))
        rest = (z - self.coarsening.smooth(z)) * known
        scale = self.normalization.increment
        return fit_directions(network, rest, rest / scale, scale)
