"""Small departures from a course that a law of motion takes, carried forward and back.

    d(dz)/dt = -J(d psi, z) - J(psi, dz) + A dz,        d psi = S dz

Guidance over a window asks for many products with the Jacobian of a forecast and its transpose at
one and the same course. Here the gradients of psi and z at every stage of the Runge-Kutta steps
are kept, so that a product costs what a forecast does: less than going back through autograd's
graph, and half of going back through that of its backward pass (`bench/lookback.py`).

On fields every factor is simple to transpose: a derivative becomes its negative, S and A become
their transposes wave by wave, and refining the grid by the 3/2 rule becomes cutting, but for a
factor that the two occurrences cancel.

Source: tangent and adjoint models of 4D-Var, Talagrand and Courtier (1987), Q. J. R. Meteorol.
Soc. 113; the adjoint of the discrete steps, not of the equation.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from stormda.storm.transport import Spectral, Transport, cut, padded, times, wavenumbers

Product = Callable[[Tensor], Tensor]

TOGETHER = 4
"""Samples that are carried on together: their stages stay in the cache of a core."""


@dataclass(frozen=True, eq=False)
class FineGrid:
    """What takes spectra to gradients on the 3/2 finer grid, and products there back.

    Args:
        acts: The law.
        slope: Factors of d/dx and d/dy, (2, 1, 1, rows, cols // 2 + 1), imaginary.
    """

    acts: Spectral
    slope: Tensor

    @classmethod
    def of(cls, acts: Spectral) -> FineGrid:
        """Return that of a law."""
        shape = (acts.rows, acts.cols // 2 + 1)
        k = torch.stack([one.expand(shape) for one in wavenumbers(acts.rows, acts.cols)])
        return cls(acts, 1j * k[:, None, None].to(acts.rate))

    @property
    def shape(self) -> tuple[int, int]:
        """Return the rows and columns of the finer grid."""
        return 3 * self.acts.rows // 2, 3 * self.acts.cols // 2

    def gradients(self, y: Tensor) -> Tensor:
        """Return (psi_x, psi_y, z_x, z_y) of a spectrum, (4, batch, variables, *shape)."""
        both = torch.stack([times(self.acts.streamfunction, y), y])
        slopes = (self.slope * both[:, None]).flatten(0, 1)
        return self.refined(slopes)

    def refined(self, spectra: Tensor) -> Tensor:
        """Return spectra as fields on the finer grid."""
        fine: Tensor = torch.fft.irfft2(
            padded(spectra, self.acts.rows, self.acts.cols), s=self.shape
        )
        return fine

    def coarsened(self, fine: Tensor) -> Tensor:
        """Return the spectra of fields on the finer grid."""
        return cut(torch.fft.rfft2(fine), self.acts.rows, self.acts.cols)


@dataclass(frozen=True, eq=False)
class Stage:
    """The flow at one stage of a Runge-Kutta step.

    Args:
        grid: Of the law's products.
        flow: (psi_x, psi_y, z_x, z_y) on the finer grid, (4, batch, variables, *grid.shape).
    """

    grid: FineGrid
    flow: Tensor

    @property
    def rate(self) -> Tensor:
        """Return A."""
        return self.grid.acts.rate

    def carry(self, d: Tensor) -> Tensor:
        """Return the rate of change of departures; spectra (batch, variables, rows, cols//2+1)."""
        psi_x, psi_y, z_x, z_y = self.flow
        p_x, p_y, q_x, q_y = self.grid.gradients(d)
        carried = p_x.mul_(z_y).addcmul_(psi_x, q_y)
        carried = carried.addcmul_(p_y, z_x, value=-1).addcmul_(psi_y, q_x, value=-1)
        return times(self.rate, d) - self.grid.coarsened(carried)

    def carry_back(self, w: Tensor) -> Tensor:
        """Return the product of the transpose of `carry`, of fields as spectra."""
        back = self.grid.coarsened(self.flow * self.grid.refined(w))
        slope_x, slope_y = self.grid.slope
        own = slope_y * back[0] - slope_x * back[1]
        psi = slope_x * back[3] - slope_y * back[2]
        streamfunction = self.grid.acts.streamfunction.transpose(0, 1)
        pulled: Tensor = times(self.rate.transpose(0, 1), w) + times(streamfunction, psi) + own
        return pulled


@dataclass(frozen=True, eq=False)
class Tangent:
    """A forecast and its Jacobian, for fields (batch, variables, rows, cols).

    Args:
        acts: The law.
        dt: Of a Runge-Kutta step, in intervals between frames.
        steps: The four stages of every step.
    """

    acts: Spectral
    dt: float
    steps: list[tuple[Stage, Stage, Stage, Stage]]

    def forward(self, d: Tensor) -> Tensor:
        """Return what becomes of departures at the start."""
        y, dt = torch.fft.rfft2(d), self.dt
        for one, two, three, four in self.steps:
            k1 = one.carry(y)
            k2 = two.carry(y + dt / 2 * k1)
            k3 = three.carry(y + dt / 2 * k2)
            k4 = four.carry(y + dt * k3)
            y = y + dt / 6 * (k1 + 2 * (k2 + k3) + k4)
        return self._field(y)

    def back(self, w: Tensor) -> Tensor:
        """Return the product with the transpose: the gradient at the start for one at the end."""
        g, dt = torch.fft.rfft2(w), self.dt
        for one, two, three, four in reversed(self.steps):
            k4 = four.carry_back(dt / 6 * g)
            k3 = three.carry_back(dt / 3 * g + dt * k4)
            k2 = two.carry_back(dt / 3 * g + dt / 2 * k3)
            k1 = one.carry_back(dt / 6 * g + dt / 2 * k2)
            g = g + k1 + k2 + k3 + k4
        return self._field(g)

    def _field(self, y: Tensor) -> Tensor:
        field: Tensor = torch.fft.irfft2(y, s=(self.acts.rows, self.acts.cols))
        return field


def with_tangent(acts: Spectral, z: Tensor, steps: int) -> tuple[Tensor, Tangent]:
    """Carry fields on for one interval, and keep what their Jacobian is made of.

    Args:
        acts: The law.
        z: Fields, (batch, variables, rows, cols).
        steps: Runge-Kutta steps in the interval.

    Returns:
        The fields an interval later, as `Spectral.advance` has them, and the Jacobian, which
        takes the memory of `36 * steps` such fields.
    """
    y, dt, kept = torch.fft.rfft2(z), 1 / steps, []
    grid = FineGrid.of(acts)
    for _ in range(steps):
        k1, one = _rate(grid, y)
        k2, two = _rate(grid, y + dt / 2 * k1)
        k3, three = _rate(grid, y + dt / 2 * k2)
        k4, four = _rate(grid, y + dt * k3)
        y = y + dt / 6 * (k1 + 2 * (k2 + k3) + k4)
        kept.append((one, two, three, four))
    return torch.fft.irfft2(y, s=(acts.rows, acts.cols)), Tangent(acts, dt, kept)


def carried(law: Transport, z: Tensor, frames: int) -> list[Tensor]:
    """Return fields and what the law makes of them, differentiable by the fields, cheaply so.

    Where no gradient is asked for nothing is kept.

    Args:
        law: The law; no gradient reaches it.
        z: Normalised fields, (batch, variables, rows, cols).
        frames: How many follow.

    Returns:
        One field more than that.

    Examples:
        >>> still = Transport((1, 8, 8), steps=2)
        >>> z = torch.ones(1, 1, 8, 8, requires_grad=True)
        >>> carried(still, z, 3)[-1].sum().backward()
        >>> z.grad[0, 0, 0, :2]
        tensor([1., 1.])
    """
    acts = Spectral.of(law.law, law.rows, law.cols)
    course = [z]
    for _ in range(frames):
        some = torch.split(course[-1], TOGETHER)
        course.append(torch.cat([_next(acts, one, law.steps) for one in some]))
    return course


def _next(acts: Spectral, z: Tensor, steps: int) -> Tensor:
    if not (torch.is_grad_enabled() and z.requires_grad):
        return acts.advance(z, steps)
    with torch.no_grad():
        later, tangent = with_tangent(acts, z, steps)
    result: Tensor = _Carried.apply(z, later, tangent)  # type: ignore[no-untyped-call]
    return result


def _rate(grid: FineGrid, y: Tensor) -> tuple[Tensor, Stage]:
    """Return the rate of change of a spectrum, and the flow there."""
    flow = grid.gradients(y)
    psi_x, psi_y, z_x, z_y = flow
    moved = grid.coarsened(psi_x * z_y - psi_y * z_x)
    return times(grid.acts.rate, y) + grid.acts.forcing - moved, Stage(grid, flow)


class _Carried(torch.autograd.Function):
    """A value whose derivative is known as a product and that of its transpose."""

    @staticmethod
    def forward(ctx: Any, z: Tensor, later: Tensor, tangent: Tangent) -> Tensor:  # noqa: ANN401
        ctx.tangent = tangent
        return later

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (g,) = grads
        pulled: Tensor = _Linear.apply(g, ctx.tangent.back, ctx.tangent.forward)  # type: ignore[no-untyped-call]
        return pulled, None, None


class _Linear(torch.autograd.Function):
    """A product with a matrix; its derivative is one with the transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, there: Product, back: Product) -> Tensor:  # noqa: ANN401
        ctx.there, ctx.back = there, back
        return there(x)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:  # noqa: ANN401
        (g,) = grads
        pulled: Tensor = _Linear.apply(g, ctx.back, ctx.there)  # type: ignore[no-untyped-call]
        return pulled, None, None
