"""What the test systems share: a way forward in time, and runs made on the fly.

A system takes a state `(*batch, *shape)` some time steps on; a batch of states advances together.
A *nature run* is one trajectory of it, the truth that observations are made of.
"""

from collections.abc import Callable, Iterator
from typing import Protocol

from torch import Tensor


class System(Protocol):
    """A model that can be run."""

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""

    def forecast(self, x: Tensor, *, steps: int) -> Tensor:
        """Return the states `(*batch, *shape)` a number of time steps later."""


def runge_kutta(tendency: Callable[[Tensor], Tensor], x: Tensor, dt: float, steps: int) -> Tensor:
    """Integrate an autonomous equation by the classical fourth-order scheme.

    Source: Kutta (1901), Z. Math. Phys. 46; Hairer et al. (1993), Solving ODEs I, table II.1.2.

    Args:
        tendency: The right-hand side, from `(*shape)` to `(*shape)`.
        x: The state, with shape `(*shape)`.
        dt: The time step, in the units of the equation.
        steps: The number of time steps.

    Examples:
        >>> import torch
        >>> x = runge_kutta(lambda x: -x, torch.ones(1, dtype=torch.float64), 0.1, 10)
        >>> round(x.item(), 5)  # exp(-1) = 0.36788
        0.36788
    """
    for _ in range(steps):
        k1 = tendency(x)
        k2 = tendency(x + (dt / 2) * k1)
        k3 = tendency(x + (dt / 2) * k2)
        k4 = tendency(x + dt * k3)
        x = x + (dt / 6) * (k1 + 2 * (k2 + k3) + k4)
    return x


def nature_run(system: System, x: Tensor, *, steps: int) -> Iterator[Tensor]:
    """Yield the states after `steps`, 2 `steps`, ... time steps, without end.

    Nothing is stored: a truth as long as wanted costs the memory of one state.

    Args:
        system: The model.
        x: The state at the start, with shape `(*batch, *shape)`.
        steps: Time steps between two states.

    Examples:
        >>> import torch
        >>> from itertools import islice
        >>> from stormda.assimilation.systems import Lorenz63
        >>> run = nature_run(Lorenz63(), Lorenz63().start(), steps=25)
        >>> torch.stack(list(islice(run, 4))).shape
        torch.Size([4, 3])
    """
    while True:
        x = system.forecast(x, steps=steps)
        yield x


def check_state(x: Tensor, shape: tuple[int, ...]) -> None:
    """Raise where a state does not end in the shape of a system."""
    if x.shape[-len(shape) :] != shape:
        expected = ", ".join(str(n) for n in shape)
        raise ValueError(f"x: expected (*batch, {expected}), got {tuple(x.shape)}")
