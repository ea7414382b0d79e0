"""A linear model with Gaussian noise, in equilibrium: everything about it is known.

    x_{k+1} = M x_k + w_k,        w_k ~ N(0, Q),        Q = C - M C M^T,

so that every x_k ~ N(0, C), and a trajectory of L states is one Gaussian vector with the blocks
`Cov[x_a, x_b] = M^(a-b) C` for a >= b. Its posterior, given observations at any times, is exact:
the test that any sampler of trajectories has to pass.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.systems.base import check_state


@dataclass(frozen=True, eq=False)
class LinearGaussian:
    """A stationary linear model.

    Examples:
        >>> model = LinearGaussian(torch.tensor([[0.5]]), torch.tensor([[1.0]]))
        >>> model.noise, model.trajectory_covariance(2)
        (tensor([[0.7500]]), tensor([[1.0000, 0.5000],
                [0.5000, 1.0000]]))
    """

    transition: Tensor
    """The model `M`, with shape `(n, n)` and all eigenvalues inside the unit circle."""

    covariance: Tensor
    """The covariance `C` of a state, with shape `(n, n)`; `C - M C M^T` has to be positive."""

    def __post_init__(self) -> None:
        n = len(self.covariance)
        if self.transition.shape != (n, n) or self.covariance.shape != (n, n):
            raise ValueError(
                f"transition: expected the square shape of covariance, got "
                f"{tuple(self.transition.shape)} and {tuple(self.covariance.shape)}"
            )
        least = torch.linalg.eigvalsh(self.noise).min().item()
        if not least > -1e-10 * self.covariance.diagonal().max().item():
            raise ValueError(
                f"covariance: expected C - M C M^T >= 0, got an eigenvalue of {least:.3g}"
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one state."""
        return (len(self.covariance),)

    @property
    def noise(self) -> Tensor:
        """The covariance `Q` of the model's noise, with shape `(n, n)`."""
        noise: Tensor = self.covariance - self.transition @ self.covariance @ self.transition.mT
        return noise

    def forecast(self, x: Tensor, *, steps: int) -> Tensor:
        """Return the expected states `(*batch, n)` a number of time steps later."""
        check_state(x, self.shape)
        later: Tensor = x @ torch.linalg.matrix_power(self.transition, steps).mT
        return later

    def trajectory_covariance(self, length: int) -> Tensor:
        """Return the covariance of `length` states in a row, `(length n, length n)`."""
        lagged = [
            torch.linalg.matrix_power(self.transition, k) @ self.covariance for k in range(length)
        ]
        rows = [
            torch.cat([lagged[a - b] if a >= b else lagged[b - a].mT for b in range(length)], 1)
            for a in range(length)
        ]
        return torch.cat(rows)

    def trajectories(self, count: int, length: int, generator: torch.Generator) -> Tensor:
        """Draw trajectories `(count, length, n)`, on the generator's device.

        Args:
            count: How many.
            length: States in each.
            generator: Source of the noise.
        """
        root, kick = _root(self.covariance), _root(self.noise)
        white = torch.randn(
            length,
            count,
            len(root),
            generator=generator,
            dtype=root.dtype,
            device=generator.device,
        ).to(root.device)
        states = [white[0] @ root.mT]
        for w in white[1:]:
            states.append(self.forecast(states[-1], steps=1) + w @ kick.mT)
        return torch.stack(states, 1)


def advected_ring(points: int = 16, *, damping: float = 0.95) -> LinearGaussian:
    """Return a ring on which waves are advected by 0.8 points a step, diffused and renewed.

    States are correlated over two points (a bell) with 1 % of white noise.

    Args:
        points: Points of the ring, at least 12 (fewer cannot hold the bell).
        damping: The share of a state that lasts to the next one, in (0, 1).

    Raises:
        ValueError: If the damping is not in (0, 1).

    Examples:
        >>> advected_ring().shape
        (16,)
    """
    if not 0 < damping < 1:
        raise ValueError(f"damping: expected a number in (0, 1), got {damping}")
    eye = torch.eye(points, dtype=torch.float64)
    model = damping * (0.7 * eye.roll(1, 0) + 0.2 * eye + 0.1 * eye.roll(2, 0))
    i = torch.arange(points)
    distance = torch.minimum((i[:, None] - i) % points, (i - i[:, None]) % points).double()
    return LinearGaussian(model, torch.exp(-((distance / 2) ** 2) / 2) + 0.01 * eye)


def _root(covariance: Tensor) -> Tensor:
    values, vectors = torch.linalg.eigh(covariance)
    root: Tensor = vectors * values.clamp(min=0).sqrt()
    return root
