"""A field relative to what its own coarse means say of it: where it lies and how lively it is.

    z' = (z - m) / a,    m: mean of the blocks,    a: root mean square difference of neighbours

What is inside a block varies with what lies between blocks: a quiet sea and one with fronts look
alike in z', and one denoiser serves both, where in z the unit of one would be wrong for the other.
The price is the climate: a field in z' does not know whether it is warm.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from stormda.storm.downscaling.coarsening import Coarsening
from stormda.storm.normalization import Normalization

LEAST = 1e-3
"""The least liveliness, in standard deviations: a field without any difference has no scale."""


class Liveliness(NamedTuple):
    """What coarse means say of a field."""

    mean: Tensor
    """m, (..., variables, 1, 1)."""

    scale: Tensor
    """a, likewise, positive."""

    def relative(self, z: Tensor) -> Tensor:
        """Return z' of z, (..., variables, rows, cols)."""
        return (z - self.mean) / self.scale

    def within(self, statistics: Normalization) -> Normalization:
        """Return the statistics that take physical fields to z', and back."""
        n = statistics
        mean, std = n.mean + n.std * self.mean, n.std * self.scale
        return Normalization(mean=mean, std=std, increment=n.increment)


def liveliness(coarse: Tensor, blocks: Coarsening) -> Liveliness:
    """Return where fields lie and how much neighbouring blocks differ.

    Args:
        coarse: Means of the blocks, (..., variables, rows / f, cols / f).
        blocks: Which of them exist.

    Examples:
        >>> from stormda.grid import PlaneGrid
        >>> blocks = Coarsening(PlaneGrid((4, 4), (1e5, 1e5)), 2)
        >>> mean, scale = liveliness(torch.tensor([[[1.0, 3.0], [1.0, 3.0]]]), blocks)
        >>> float(mean), round(float(scale), 4)  # half of the neighbours differ, by 2
        (2.0, 1.4142)
    """
    known = blocks.known.expand(coarse.shape).to(coarse)
    count = known.sum((-2, -1), keepdim=True).clamp_min(1)
    mean = (coarse * known).sum((-2, -1), keepdim=True) / count
    squares, pairs = torch.zeros_like(mean), torch.zeros_like(mean)
    for dim in (-2, -1):
        n = coarse.shape[dim] - 1
        both = known.narrow(dim, 1, n) * known.narrow(dim, 0, n)
        squares = squares + (coarse.diff(dim=dim).square() * both).sum((-2, -1), keepdim=True)
        pairs = pairs + both.sum((-2, -1), keepdim=True)
    return Liveliness(mean, (squares / pairs.clamp_min(1)).sqrt().clamp_min(LEAST))
