"""The two models of Lorenz: a fluid heated from below, and a circle of latitude.

1963:   x' = s (y - x),    y' = r x - y - x z,    z' = x y - b z
1996:   x_i' = (x_{i+1} - x_{i-2}) x_{i-1} - x_i + F

The first contracts volumes at the constant rate -(s + 1 + b); its fixed points are known. In the
second the quadratic term conserves energy, sum x_i^2 / 2, and volumes contract at the rate -n.
Both are steady and cheap, chaotic, and everybody has scores for them.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.systems.base import check_state, runge_kutta


@dataclass(frozen=True, kw_only=True)
class Lorenz63:
    """Three numbers that describe convection.

    Source: Lorenz (1963), Deterministic nonperiodic flow, J. Atmos. Sci. 20, eq. 25-27.

    Examples:
        >>> Lorenz63().forecast(Lorenz63().start(), steps=100).shape
        torch.Size([3])
    """

    prandtl: float = 10.0
    """The Prandtl number s."""

    rayleigh: float = 28.0
    """The relative Rayleigh number r."""

    geometry: float = 8 / 3
    """The aspect of the rolls b."""

    dt: float = 0.01
    """The time step."""

    def __post_init__(self) -> None:
        if not self.dt > 0:
            raise ValueError(f"dt: expected a positive number, got {self.dt}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return (3,)

    def start(self) -> Tensor:
        """Return a point near the attractor, the customary start, float64."""
        return torch.tensor([1.509, -1.531, 25.46], dtype=torch.float64)

    def tendency(self, state: Tensor) -> Tensor:
        """Return the rate of change of states `(*batch, 3)`."""
        x, y, z = state.unbind(-1)
        return torch.stack(
            [
                self.prandtl * (y - x),
                self.rayleigh * x - y - x * z,
                x * y - self.geometry * z,
            ],
            -1,
        )

    def forecast(self, x: Tensor, *, steps: int) -> Tensor:
        """Return the states `(*batch, 3)` a number of time steps later."""
        check_state(x, self.shape)
        return runge_kutta(self.tendency, x, self.dt, steps)


@dataclass(frozen=True, kw_only=True)
class Lorenz96:
    """A chain of any length around a circle of latitude.

    Source: Lorenz (1996), Predictability: a problem partly solved, ECMWF seminar, eq. 1.

    Examples:
        >>> model = Lorenz96(points=8)
        >>> model.forecast(model.start(), steps=20).shape
        torch.Size([8])
    """

    points: int = 40
    """The number of points, at least 4."""

    forcing: float = 8.0
    """The forcing F; above about 4 the model is chaotic."""

    dt: float = 0.05
    """The time step; 0.05 is taken to be six hours."""

    def __post_init__(self) -> None:
        if self.points < 4:
            raise ValueError(f"points: expected at least 4, got {self.points}")
        if not self.dt > 0:
            raise ValueError(f"dt: expected a positive number, got {self.dt}")

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return (self.points,)

    def start(self) -> Tensor:
        """Return the customary start, 1 at the first point and 0 elsewhere, float64."""
        x = torch.zeros(self.points, dtype=torch.float64)
        x[0] = 1
        return x

    def tendency(self, x: Tensor) -> Tensor:
        """Return the rate of change of states `(*batch, points)`."""
        around = torch.cat([x[..., -2:], x, x[..., :1]], -1)
        ahead, behind, far = around[..., 3:], around[..., 1:-2], around[..., :-3]
        return (ahead - far) * behind - x + self.forcing

    def forecast(self, x: Tensor, *, steps: int) -> Tensor:
        """Return the states `(*batch, points)` a number of time steps later."""
        check_state(x, self.shape)
        return runge_kutta(self.tendency, x, self.dt, steps)
