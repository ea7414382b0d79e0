"""The flow of the experiment on the sphere: shallow water, as archives and cases ask for it.

Wind and depth start in balance and run freely: Rossby waves and vortices that decay slowly, with
few waves of gravity.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from stormda.assimilation.systems import ShallowWater, ShallowWaterConfig
from stormda.grid import LatLonGrid

VARIABLES = ("u", "v", "h")
"""Eastward and northward wind [m s-1] and depth [m]."""


@dataclass(frozen=True, kw_only=True)
class FlowConfig:
    """The model and where it starts."""

    model: ShallowWaterConfig = field(
        default_factory=lambda: ShallowWaterConfig(truncation=21, time_step=1200.0)
    )
    """Physics and numerics: T21 is 32 x 64 points."""

    speed: float = 25.0
    """Root mean square of the wind at the start [m s-1]."""

    depth: float = 1.0e4
    """Mean depth [m]."""

    error_degrees: tuple[int, int] = (2, 21)
    """Least and largest degree of the errors that are put on analyses."""


class GlobalFlow:
    """`ShallowWater` from a random balanced start, in float32; computed in float64.

    Examples:
        >>> small = ShallowWaterConfig(truncation=10, time_step=1800.0)
        >>> flow = GlobalFlow(FlowConfig(model=small, error_degrees=(2, 10)))
        >>> x = flow.spin_up(2, days=1, generator=torch.Generator().manual_seed(0))
        >>> x.shape, flow.grid.shape
        (torch.Size([2, 3, 16, 32]), (16, 32))
    """

    def __init__(self, config: FlowConfig) -> None:
        self.config = config
        self.model = ShallowWater(config.model)
        self.device = self.model.device

    @property
    def grid(self) -> LatLonGrid:
        """Return the Gaussian grid of the states."""
        cols = self.model.shape[-1]
        lat = np.degrees(self.model.lat_rad.numpy(force=True))
        return LatLonGrid(lat, np.arange(cols) * (360 / cols))

    def spin_up(self, members: int, *, days: float, generator: torch.Generator) -> Tensor:
        """Return independent states (members, 3, rows, cols) at some age [days]."""
        start = self.model.balanced(
            members, speed=self.config.speed, depth=self.config.depth, generator=generator
        )
        return self.forecast(start.float(), hours=24 * days)

    def forecast(self, x: Tensor, *, hours: float) -> Tensor:
        """Return states (*batch, 3, rows, cols) some hours later."""
        return self.model.forecast(x, steps=round(hours * 3600 / self.config.model.time_step))

    def error(self, members: int, generator: torch.Generator) -> Tensor:
        """Return errors in balance, with a wind of 1 m s-1, (members, 3, rows, cols)."""
        small = self.model.balanced(
            members,
            speed=1.0,
            depth=self.config.depth,
            degrees=self.config.error_degrees,
            generator=generator,
        ).float()
        small[:, 2] -= self.config.depth
        return small

    def disturb(self, x: Tensor, habits: Tensor, generator: torch.Generator) -> Tensor:
        """Add errors in balance to states, with amplitudes `habits[:, 1]` [m s-1]."""
        return x + habits[:, 1, None, None, None] * self.error(len(x), generator)
