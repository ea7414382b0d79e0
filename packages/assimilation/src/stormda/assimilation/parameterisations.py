"""Networks of other conventions as denoisers: one rule turns each into `E[x0 | x0 + sigma eps]`.

A network sees `z = a x0 + b eps` at a time `t`; `x = z / a` is then the noisy state of this
package, with the noise level `sigma = b / a`, and what the network predicts says what `x_hat` is:

noise       x_hat = (z - b eps_hat) / a
v           x_hat = a z - b v,           where v = a eps - b x0 and a^2 + b^2 = 1
velocity    x_hat = z + (1 - u) v,       where z = u x0 + (1 - u) eps and v = x0 - eps
score       x_hat = (z + b^2 score) / a

A *path* says how `a`, `b` and `t` depend on `sigma`: variance-preserving or rectified.
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import exp, sqrt
from typing import Any, Protocol

import torch
from torch import Tensor


class Path(Protocol):
    """A way from states to noise."""

    def place(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `a`, `b` and the time `t` of a noise level."""


@dataclass(frozen=True, kw_only=True)
class vp:
    """The variance-preserving diffusion with a linear rate, `t` from 0 to 1.

    `a = exp(-t^2 (rate_max - rate_min) / 4 - t rate_min / 2)` and `b = (1 - a^2)^(1/2)`.

    Source: Song et al. (2021), Score-based generative modeling through stochastic differential
    equations, eq. 33, https://arxiv.org/abs/2011.13456

    Examples:
        >>> a, b, t = vp().place(torch.tensor(1.0))
        >>> a, b, t  # signal and noise are equal
        (tensor(0.7071), tensor(0.7071), tensor(0.2590))
    """

    rate_min: float = 0.1
    """The rate of the diffusion at t = 0."""

    rate_max: float = 20.0
    """Its rate at t = 1."""

    def __post_init__(self) -> None:
        if not 0 < self.rate_min < self.rate_max:
            raise ValueError(
                f"rate_min: expected 0 < rate_min < rate_max, got {self.rate_min} "
                f"and {self.rate_max}"
            )

    def place(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `a`, `b` and the time `t` of a noise level."""
        a = (1 + sigma**2).rsqrt()
        grown = torch.log1p(sigma**2)  # the integral of the rate up to t
        span = self.rate_max - self.rate_min
        t = 2 * grown / (self.rate_min + (self.rate_min**2 + 2 * span * grown).sqrt())
        return a, sigma * a, t

    def sigma(self, t: float) -> float:
        """Return the noise level at a time."""
        grown = t * self.rate_min + t * t * (self.rate_max - self.rate_min) / 2
        return sqrt(exp(grown) - 1)


@dataclass(frozen=True, kw_only=True)
class rectified:
    """The straight path of flow matching, `z = u x0 + (1 - u) eps`, `u` from 0 to 1.

    Source: Liu, Gong and Liu (2023), Flow straight and fast, https://arxiv.org/abs/2209.03003

    Examples:
        >>> rectified().place(torch.tensor(1.0))
        (tensor(0.5000), tensor(0.5000), tensor(0.5000))
    """

    def place(self, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return `a`, `b` and the time `u` of a noise level."""
        u = 1 / (1 + sigma)
        return u, 1 - u, u

    def sigma(self, t: float) -> float:
        """Return the noise level at a time `u`."""
        return (1 - t) / t


Network = Callable[..., Tensor]
"""From `z` `(m, *shape)`, a time without dimensions and a context to a prediction like `z`."""

Reading = Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]
"""From `z`, the prediction, `a` and `b` to `x_hat`."""


def predicts_noise(z: Tensor, prediction: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return `x_hat` of a network that predicts `eps`.

    Examples:
        >>> x0, eps, a, b = (torch.tensor(number) for number in (2.0, 1.0, 0.6, 0.8))
        >>> predicts_noise(a * x0 + b * eps, eps, a, b)
        tensor(2.)
    """
    return (z - b * prediction) / a


def predicts_v(z: Tensor, prediction: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return `x_hat` of a network that predicts `a eps - b x0`, where `a^2 + b^2 = 1`.

    Examples:
        >>> x0, eps, a, b = (torch.tensor(number) for number in (2.0, 1.0, 0.6, 0.8))
        >>> predicts_v(a * x0 + b * eps, a * eps - b * x0, a, b)
        tensor(2.)
    """
    return a * z - b * prediction


def predicts_velocity(z: Tensor, prediction: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return `x_hat` of a network that predicts `x0 - eps` on the straight path.

    Examples:
        >>> x0, eps, u = torch.tensor(2.0), torch.tensor(1.0), torch.tensor(0.25)
        >>> predicts_velocity(u * x0 + (1 - u) * eps, x0 - eps, u, 1 - u)
        tensor(2.)
    """
    return z + b * prediction


def predicts_score(z: Tensor, prediction: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """Return `x_hat` of a network that predicts the score of `z`.

    Examples:
        >>> z, a, b = torch.tensor(2.0), torch.tensor(0.6), torch.tensor(0.8)
        >>> predicts_score(z, -z, a, b)  # of N(0, 1), whose x_hat is a z
        tensor(1.2000)
    """
    return (z + b**2 * prediction) / a


@dataclass(frozen=True, eq=False, kw_only=True)
class FromNetwork:
    """A network of another convention as a denoiser.

    Examples:
        The velocity of N(0, 1) along the straight path, as a network would learn it:

        >>> def velocity(z, u):
        ...     return (2 * u - 1) / (u**2 + (1 - u) ** 2) * z
        >>> prior = FromNetwork(
        ...     network=velocity, path=rectified(), reading=predicts_velocity, shape=(1,)
        ... )
        >>> prior(torch.tensor([[1.0]]), torch.tensor(2.0))  # 1 / (1 + 2^2)
        tensor([[0.2000]])
    """

    network: Network
    """The network."""

    path: Path
    """The path that it was trained along."""

    reading: Reading
    """What it predicts."""

    shape: tuple[int, ...]
    """The shape of one state."""

    dtype: torch.dtype = torch.float32
    """The data type of the states."""

    device: torch.device = torch.device("cpu")  # noqa: RUF009 (immutable)
    """The device of the states."""

    def __call__(self, x: Tensor, sigma: Tensor, /, **context: Any) -> Tensor:  # noqa: ANN401
        """Return `E[x0 | x]` of noisy states `(m, *shape)`."""
        a, b, t = self.path.place(sigma)
        z = a * x
        return self.reading(z, self.network(z, t, **context), a, b)


def score(denoised: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """Return the slope of the log-density of noisy states, `(x_hat - x) / sigma^2`.

    Source: Tweedie's formula, Robbins (1956); Efron (2011), J. Am. Stat. Assoc. 106.

    Examples:
        >>> score(torch.tensor([0.5]), torch.tensor([1.0]), torch.tensor(1.0))
        tensor([-0.5000])
    """
    return (denoised - x) / sigma**2


def vp_levels(steps: int) -> list[float]:
    """Return noise levels at equal steps of the time of the variance-preserving path.

    Examples:
        >>> [round(sigma, 2) for sigma in vp_levels(3)]
        [152.17, 3.51, 0.04]
    """
    path = vp()
    return [path.sigma(1 + i / max(steps - 1, 1) * (1e-2 - 1)) for i in range(steps)]


def rectified_levels(steps: int) -> list[float]:
    """Return noise levels at equal steps of the time of the straight path.

    Examples:
        >>> [round(sigma, 3) for sigma in rectified_levels(3)]
        [199.0, 0.996, 0.003]
    """
    path = rectified()
    first, last = 0.005, 0.997
    return [path.sigma(first + i / max(steps - 1, 1) * (last - first)) for i in range(steps)]
