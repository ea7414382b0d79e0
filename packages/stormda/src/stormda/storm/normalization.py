"""From physical fields to the numbers a network likes, and back.

    z = (x - mean) / std          a field of order one
    w = (z - z_last) / increment  what the prior samples: the change since the last history frame

The diffusion runs in w, so that one noise level means the same for every variable and the network
predicts a change, not the climate.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Normalization:
    """Statistics of the training data, in the order of the variables.

    Args:
        mean: Climatological mean [physical units], (variables, rows or 1, cols or 1); where the
            grid is a list, here and elsewhere (variables, cells or 1).
        std: Standard deviation about it [physical units], (variables, 1, 1) or (variables, 1).
        increment: Standard deviation of the change over one step, in units of `std`, like it.

    Raises:
        ValueError: Where a shape is wrong or a scale is not positive.

    Examples:
        >>> one = torch.ones(1, 1, 1)
        >>> Normalization(mean=280.0 * one, std=10.0 * one, increment=0.1 * one).to_z(290.0 * one)
        tensor([[[1.]]])
    """

    mean: Tensor
    std: Tensor
    increment: Tensor

    def __post_init__(self) -> None:
        for name in ("mean", "std", "increment"):
            value = getattr(self, name)
            space = self.mean.ndim
            if space not in (2, 3) or value.ndim != space or len(value) != len(self.mean):
                wanted = "(variables, cells)" if space == 2 else "(variables, rows, cols)"
                raise ValueError(f"{name}: expected {wanted}, got {tuple(value.shape)}")
            if not bool(torch.isfinite(value).all()):
                raise ValueError(f"{name}: expected finite values, got NaN or infinity")
        for name in ("std", "increment"):
            if not bool((getattr(self, name) > 0).all()):
                raise ValueError(f"{name}: expected positive values, got {getattr(self, name)}")

    def to_z(self, x: Tensor) -> Tensor:
        """Normalise physical fields (*batch, variables, rows, cols)."""
        return (x - self.mean) / self.std

    def to_x(self, z: Tensor) -> Tensor:
        """Return physical fields from normalised ones."""
        return self.mean + self.std * z

    def to(self, device: torch.device | str) -> Normalization:
        """Return the same statistics on another device."""
        return Normalization(self.mean.to(device), self.std.to(device), self.increment.to(device))
