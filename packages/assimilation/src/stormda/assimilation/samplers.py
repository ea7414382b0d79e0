"""Samplers: from white noise to a state, along a falling noise level.

A denoiser defines the flow that carries noise to samples, and the noise level is its time:

    dx / dsigma = (x - x_hat(x, sigma)) / sigma.

A sampler is called with a function `denoise(x, sigma) -> x_hat` (guided or not) and a function
`noise(step)` that returns white noise `(m, *shape)`: step 0 starts the flow, a stochastic sampler
asks for more. It returns samples `(m, *shape)`. The noise levels are those of Karras et al.,

    sigma_i = (sigma_max^(1/rho) + i / (n - 1) (sigma_min^(1/rho) - sigma_max^(1/rho)))^rho,

and the last step, from `sigma_min` to 0, is to return the denoised state.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import exp, expm1, inf, log, sqrt
from typing import Protocol

from torch import Tensor

Denoise = Callable[[Tensor, Tensor], Tensor]
"""`x_hat` `(m, *shape)` of noisy states `(m, *shape)` at a noise level (no dimensions)."""

NoiseSource = Callable[[int], Tensor]
"""White noise `(m, *shape)` for a step."""


Levels = Callable[[int], list[float]]
"""Noise levels, falling and above 0, for a number of steps."""


class Sampler(Protocol):
    """A way to draw samples with a denoiser."""

    def __call__(self, denoise: Denoise, noise: NoiseSource) -> Tensor:
        """Return samples `(m, *shape)`."""


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The noise levels that all samplers of this module share."""

    steps: int = 64
    """The number of steps, the last one to noise level 0."""

    sigma_min: float = 0.002
    """The last noise level above 0, in units of the normalised state."""

    sigma_max: float = 80.0
    """The first noise level: so large that the state does not show through it."""

    rho: float = 7.0
    """How much closer the levels lie near `sigma_min` (1 spaces them evenly)."""

    levels: Levels | None = None
    """Other noise levels, as a function of the number of steps (`vp_levels`, `rectified_levels`):
    the three numbers above are then not used."""

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ValueError(f"steps: expected a positive count, got {self.steps}")
        if not 0 < self.sigma_min < self.sigma_max < inf:
            raise ValueError(
                "sigma_min: expected 0 < sigma_min < sigma_max, "
                f"got {self.sigma_min} and {self.sigma_max}"
            )
        if not self.rho > 0:
            raise ValueError(f"rho: expected a positive number, got {self.rho}")

    def sigmas(self) -> list[float]:
        """Return the noise levels at which the steps start, from `sigma_max` to `sigma_min`.

        Source: Karras et al. (2022), eq. 5, https://arxiv.org/abs/2206.00364

        Examples:
            >>> Schedule(steps=3, sigma_min=1.0, sigma_max=9.0, rho=2.0).sigmas()
            [9.0, 4.0, 1.0]
        """
        if self.levels is not None:
            return self.levels(self.steps)
        if self.steps == 1:
            return [self.sigma_max]
        top, bottom = self.sigma_max ** (1 / self.rho), self.sigma_min ** (1 / self.rho)
        shares = (i / (self.steps - 1) for i in range(1, self.steps - 1))
        inner = [(top + share * (bottom - top)) ** self.rho for share in shares]
        return [self.sigma_max, *inner, self.sigma_min]


@dataclass(frozen=True, kw_only=True)
class euler(Schedule):
    """Straight steps along the flow (DDIM): first order, one call of the denoiser a step.

    Source: Song et al. (2021), Denoising diffusion implicit models, eq. 13.

    Examples:
        >>> import torch
        >>> shrink = lambda x, sigma: x / (1 + sigma**2)  # the denoiser of N(0, 1)
        >>> euler(steps=2, sigma_max=1.0, sigma_min=0.5)(shrink, lambda step: torch.ones(1, 1))
        tensor([[0.6000]])
    """

    def __call__(self, denoise: Denoise, noise: NoiseSource) -> Tensor:
        """Return samples `(m, *shape)`."""
        sigmas = self.sigmas()
        x = noise(0) * sigmas[0]
        for now, then in pairwise(sigmas):
            x = _towards(denoise(x, x.new_tensor(now)), x, then / now)
        return denoise(x, x.new_tensor(sigmas[-1]))


@dataclass(frozen=True, kw_only=True)
class heun(Schedule):
    """Steps corrected by the slope at their end: second order, two calls of the denoiser a step.

    Source: Karras et al. (2022), algorithm 1, https://arxiv.org/abs/2206.00364

    Examples:
        >>> import torch
        >>> shrink = lambda x, sigma: x / (1 + sigma**2)  # the denoiser of N(0, 1)
        >>> heun(steps=2, sigma_max=1.0, sigma_min=0.5)(shrink, lambda step: torch.ones(1, 1))
        tensor([[0.6400]])
    """

    def __call__(self, denoise: Denoise, noise: NoiseSource) -> Tensor:
        """Return samples `(m, *shape)`."""
        sigmas = self.sigmas()
        x = noise(0) * sigmas[0]
        for now, then in pairwise(sigmas):
            slope = (x - denoise(x, x.new_tensor(now))) / now
            ahead = x + (then - now) * slope
            slope_ahead = (ahead - denoise(ahead, x.new_tensor(then))) / then
            x = x + (then - now) / 2 * (slope + slope_ahead)
        return denoise(x, x.new_tensor(sigmas[-1]))


@dataclass(frozen=True, kw_only=True)
class sde(Schedule):
    """DPM-Solver++(2M) with fresh noise in every step: errors of earlier steps are forgotten.

    Source: Lu et al. (2022), DPM-Solver++, SDE-DPM-Solver++(2M), https://arxiv.org/abs/2211.01095,
    in the noise level of Karras et al. and with a rate `eta` of renewal.

    Examples:
        >>> import torch
        >>> shrink = lambda x, sigma: x / (1 + sigma**2)  # the denoiser of N(0, 1)
        >>> still = lambda step: torch.zeros(1, 1) if step else torch.ones(1, 1)
        >>> sde(steps=2, sigma_max=1.0, sigma_min=0.5)(shrink, still)
        tensor([[0.5000]])
    """

    eta: float = 1.0
    """The rate of renewal: 0 is the deterministic flow, 1 the reverse diffusion."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.eta >= 0:
            raise ValueError(f"eta: expected a number >= 0, got {self.eta}")

    def __call__(self, denoise: Denoise, noise: NoiseSource) -> Tensor:
        """Return samples `(m, *shape)`."""
        return _multistep(self.sigmas(), denoise, noise, self.eta)


@dataclass(frozen=True, kw_only=True)
class dpmpp_2m(Schedule):
    """DPM-Solver++(2M): second order, one call of the denoiser a step, using the step before.

    Source: Lu et al. (2022), DPM-Solver++, algorithm 2, https://arxiv.org/abs/2211.01095

    Examples:
        >>> import torch
        >>> shrink = lambda x, sigma: x / (1 + sigma**2)  # the denoiser of N(0, 1)
        >>> dpmpp_2m(steps=2, sigma_max=1.0, sigma_min=0.5)(shrink, lambda step: torch.ones(1, 1))
        tensor([[0.6000]])
    """

    def __call__(self, denoise: Denoise, noise: NoiseSource) -> Tensor:
        """Return samples `(m, *shape)`."""
        return _multistep(self.sigmas(), denoise, noise, 0.0)


def _multistep(sigmas: list[float], denoise: Denoise, noise: NoiseSource, eta: float) -> Tensor:
    """Integrate in the time `-log sigma`, with `x_hat` extrapolated to the middle of the step."""
    x = noise(0) * sigmas[0]
    earlier, h_earlier = x, inf
    for step, (now, then) in enumerate(pairwise(sigmas), start=1):
        x_hat, h = denoise(x, x.new_tensor(now)), log(now / then)
        middle = x_hat + h / (2 * h_earlier) * (x_hat - earlier)
        x = _towards(middle, x, exp(-(1 + eta) * h))
        if eta > 0:
            x = x + then * sqrt(-expm1(-2 * eta * h)) * noise(step)
        earlier, h_earlier = x_hat, h
    return denoise(x, x.new_tensor(sigmas[-1]))


def _towards(x_hat: Tensor, x: Tensor, distance: float) -> Tensor:
    return x_hat + distance * (x - x_hat)
