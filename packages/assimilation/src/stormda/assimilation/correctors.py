"""Samplers that add noise on the way, so that errors are forgotten instead of carried along.

ancestral   x <- x_hat + (s / t)^2 (x - x_hat) + s (1 - (s / t)^2)^(1/2) eps
langevin    a straight step, then corrections  x <- x + tau (x_hat - x) + s (2 tau)^(1/2) eps

The first is the chain that diffusion models were first sampled with; its step takes `x_hat` for
what it estimates, so that few steps lose spread. The second lets each noise level come to rest: a
guidance that errs from level to level is put right by it, at one more call for each correction.
"""

from dataclasses import dataclass
from itertools import pairwise
from math import sqrt

from torch import Tensor

from stormda.assimilation.samplers import Denoise, NoiseSource, Schedule


@dataclass(frozen=True, kw_only=True)
class ancestral(Schedule):
    """Steps of the diffusion chain backwards: first order, one call of the denoiser a step.

    Source: Ho, Jain and Abbeel (2020), Denoising diffusion probabilistic models, eq. 6-7, in the
    noise level of Karras et al. (2022).

    Examples:
        >>> import torch
        >>> shrink = lambda x, sigma: x / (1 + sigma**2)  # the denoiser of N(0, 1)
        >>> noise = lambda step: torch.ones(1, 1) * (step == 0)
        >>> ancestral(steps=2, sigma_max=1.0, sigma_min=0.5)(shrink, noise)
        tensor([[0.5000]])
    """

    def __call__(self, denoise: Denoise, noise: NoiseSource) -> Tensor:
        """Return samples `(m, *shape)`."""
        sigmas = self.sigmas()
        x = noise(0) * sigmas[0]
        for step, (now, then) in enumerate(pairwise(sigmas), start=1):
            ratio = (then / now) ** 2
            x_hat = denoise(x, x.new_tensor(now))
            x = x_hat + ratio * (x - x_hat) + then * sqrt(1 - ratio) * noise(step)
        return denoise(x, x.new_tensor(sigmas[-1]))


@dataclass(frozen=True, kw_only=True)
class langevin(Schedule):
    """Straight steps, each followed by Langevin corrections at the noise level it reaches.

    Source: Song et al. (2021), Score-based generative modeling through stochastic differential
    equations, algorithms 2 and 4, with the step in units of the noise as in Rozet and Louppe
    (2023), https://arxiv.org/abs/2306.10574

    Examples:
        >>> import torch
        >>> shrink = lambda x, sigma: x / (1 + sigma**2)  # the denoiser of N(0, 1)
        >>> noise = lambda step: torch.ones(1, 1) * (step == 0)
        >>> langevin(steps=2, sigma_max=1.0, sigma_min=0.5)(shrink, noise)
        tensor([[0.5400]])
    """

    corrections: int = 1
    """How many after each step."""

    tau: float = 0.5
    """The size of a correction: the share of the way from `x` to `x_hat`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.corrections < 0:
            raise ValueError(f"corrections: expected a count >= 0, got {self.corrections}")
        if not 0 < self.tau <= 1:
            raise ValueError(f"tau: expected a number in (0, 1], got {self.tau}")

    def __call__(self, denoise: Denoise, noise: NoiseSource) -> Tensor:
        """Return samples `(m, *shape)`."""
        sigmas, draws = self.sigmas(), 0
        x = noise(0) * sigmas[0]
        for now, then in pairwise(sigmas):
            x_hat = denoise(x, x.new_tensor(now))
            x = x_hat + then / now * (x - x_hat)
            for _ in range(self.corrections):
                draws += 1
                x_hat = denoise(x, x.new_tensor(then))
                x = x + self.tau * (x_hat - x) + then * sqrt(2 * self.tau) * noise(draws)
        return denoise(x, x.new_tensor(sigmas[-1]))
