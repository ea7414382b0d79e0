"""From the rows and columns of a globe to a list of cells, such as HEALPix, winds included.

Bilinear interpolation; seen over a pole, both components of the wind change sign.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stormda.grid import Grid, LatLonGrid, locate
from stormda.storm.normalization import Normalization
from stormda.storm.objective import Batch
from stormda.storm.twin.samples import ArchivedSamples


class OnCells:
    """Interpolates u, v and h to the cells of another grid; an operator without weights.

    Args:
        source: The grid of the fields.
        target: Where they are wanted.

    Examples:
        >>> from stormda.grid import grid
        >>> on = OnCells(grid("f8"), grid("healpix8"))
        >>> on(torch.ones(2, 3, 16, 32)).shape
        torch.Size([2, 3, 768])
    """

    def __init__(self, source: LatLonGrid, target: Grid) -> None:
        self.source, self.target = source, target
        lat, lon = (np.ravel(c) for c in target.points)
        stencil = locate(source, lat, lon)
        apart = np.ravel(source.points[1])[stencil.cells] - lon[:, None]
        turned = np.where(np.cos(np.radians(apart)) < 0, -1.0, 1.0)
        self.cells = torch.from_numpy(stencil.cells)
        wind, depth = stencil.weights * turned, stencil.weights
        self.weights = torch.from_numpy(np.stack([wind, wind, depth])).float()

    def __call__(self, x: Tensor) -> Tensor:
        """Return fields (*batch, 3, cells) of fields (*batch, 3, rows, cols)."""
        return (x.flatten(-2)[..., self.cells] * self.weights.to(x)).sum(-1)

    def sizes(self, x: Tensor) -> Tensor:
        """Return what has no direction, such as standard deviations, likewise."""
        return (x.flatten(-2)[..., self.cells] * self.weights[-1].to(x)).sum(-1)


def normalization_on(on: OnCells, known: Normalization) -> Normalization:
    """Return the statistics of interpolated fields: their mean is the interpolated mean."""
    mean = known.mean.expand(-1, -1, on.source.shape[1])
    return Normalization(on(mean), known.std[..., 0], known.increment[..., 0])


class SamplesOnCells:
    """A `SampleSource`: the samples of a globe, interpolated after they were moved about.

    Args:
        source: Samples on rows and columns.
        on: The interpolation.
    """

    def __init__(self, source: ArchivedSamples, on: OnCells) -> None:
        self.source, self.on = source, on
        self._normalization = normalization_on(on, source.normalization)

    @property
    def normalization(self) -> Normalization:
        """Return the statistics that the samples are normalised with."""
        return self._normalization

    def batch(self, step: int, size: int) -> Batch:
        """Return the samples of a step."""
        made = self.source.batch(step, size)
        return Batch(self.on(made.history), self.on(made.target), made.level)

    def state_dict(self) -> dict[str, object]:
        """Return nothing: a step says it all."""
        return self.source.state_dict()

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Go on; there is nothing to restore."""
        self.source.load_state_dict(state)
