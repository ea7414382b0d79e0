"""Twisted sequential Monte Carlo: exact in the limit of many particles, also with several modes.

Guidance alone takes the likelihood of a noisy state to be Gaussian. Here the guided step is only
the proposal, and weights make up for what it gets wrong: from noise level `t` to `s`

    w <- w p(x_s | x_t) psi_s(x_s) / (q(x_s | x_t) psi_t(x_t)),
    psi(x) = N(y | A(x_hat), R + A V A^T),        V = sigma^2 J,

with `p` the step of the prior's diffusion, `q` the same about the guided mean, and at the end the
true likelihood in place of `psi`. Particles are resampled where their effective number falls below
a half. Each step needs as many products with the denoiser's Jacobian as there are observations, so
this is for small problems and for checking faster methods.
"""

from collections.abc import Mapping
from itertools import pairwise
from math import log, pi, sqrt
from typing import NamedTuple

import torch
from torch import Tensor

from stormda.assimilation.classical.particles import Particles, equal_particles, resample, weigh
from stormda.assimilation.denoiser import Denoiser, linearize
from stormda.assimilation.errors.base import white_noise
from stormda.assimilation.guidance.base import linearize_operator
from stormda.assimilation.observation import Observation, Operator
from stormda.assimilation.samplers import Schedule


@torch.no_grad()
def twisted_smc(
    prior: Denoiser,
    observation: Observation,
    *,
    particles: int,
    generator: torch.Generator,
    schedule: Schedule = Schedule(steps=100),  # noqa: B008 (frozen)
    context: Mapping[str, object] | None = None,
    transform: Operator | None = None,
    share: float = 0.5,
) -> Particles:
    """Draw weighted states, with shape `(particles, *prior.shape)`, given observations.

    Source: Wu et al. (2023), algorithm 1, https://arxiv.org/abs/2306.17775, with the
    moment-matching likelihood of Rozet et al. (2024) as the twisting function.

    Args:
        prior: The denoiser.
        observation: What was observed, a few tens of numbers at most.
        particles: How many.
        generator: Source of all noise.
        schedule: The noise levels.
        context: The denoiser's keyword arguments, shared by all particles.
        transform: Takes the denoiser's states to those that the operator observes.
        share: Resample below this share of effective particles.

    Raises:
        ValueError: If there are fewer than two particles.

    Examples:
        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(1.0))
        >>> g = torch.Generator().manual_seed(0)
        >>> fine = Schedule(steps=300)
        >>> drawn = twisted_smc(prior, seen, particles=4000, generator=g, schedule=fine)
        >>> round(drawn.mean.item(), 1)
        1.0
    """
    if particles < 2:
        raise ValueError(f"particles: expected at least 2, got {particles}")

    def look(x: Tensor, sigma: float) -> _Twist:
        return _twist(prior, x, x.new_tensor(sigma), observation, context or {}, transform)

    sigmas = schedule.sigmas()
    like = torch.empty(particles, *prior.shape, dtype=prior.dtype, device=prior.device)
    x = sigmas[0] * white_noise(like, generator)
    twist = look(x, sigmas[0])
    cloud = weigh(equal_particles(x), twist.log_psi)
    for now, then in pairwise(sigmas):
        kept, twist = _resample(cloud, twist, generator, share)
        moved = _propose(kept, twist, now, then, generator)
        twist = look(moved.states, then)
        cloud = weigh(moved, twist.log_psi)
    x = twist.guided
    seen = observation.operator(x if transform is None else transform(x))
    return weigh(Particles(x, cloud.log_weights), observation.log_likelihood(seen) - twist.log_psi)


class _Twist(NamedTuple):
    x_hat: Tensor
    guided: Tensor
    log_psi: Tensor


def _resample(
    cloud: Particles, twist: _Twist, generator: torch.Generator, share: float
) -> tuple[Particles, _Twist]:
    """Resample particles together with what has been worked out for them."""
    shape, parts = cloud.states.shape, (cloud.states, twist.x_hat, twist.guided)
    whole = torch.cat([*(part.flatten(1) for part in parts), twist.log_psi[:, None]], 1)
    kept = resample(Particles(whole, cloud.log_weights), generator, share=share)
    x, x_hat, guided = (part.reshape(shape) for part in kept.states[:, :-1].chunk(3, 1))
    return Particles(x, kept.log_weights), _Twist(x_hat, guided, kept.states[:, -1])


def _propose(
    cloud: Particles, twist: _Twist, now: float, then: float, generator: torch.Generator
) -> Particles:
    """Step about the guided mean, and weigh by `p / q` of the step over the twist before it."""
    ratio = (then / now) ** 2
    variance = then**2 * (1 - ratio)
    kick = sqrt(variance) * white_noise(cloud.states, generator)
    moved = twist.guided + ratio * (cloud.states - twist.guided) + kick
    shift = (1 - ratio) * (twist.guided - twist.x_hat)
    log_ratio = -(shift * (2 * kick + shift)).flatten(1).sum(-1) / (2 * variance)
    return weigh(Particles(moved, cloud.log_weights), log_ratio - twist.log_psi)


def _twist(
    prior: Denoiser,
    x: Tensor,
    sigma: Tensor,
    observation: Observation,
    context: Mapping[str, object],
    transform: Operator | None,
) -> _Twist:
    """Return the denoised and the guided states, and the logarithm of the twisting function."""
    x_hat, vjp = linearize(prior, x, sigma, context)
    line = linearize_operator(observation.operator, x_hat, transform)
    innovation = observation.innovation(line.predicted)
    error = observation.error.near(torch.zeros_like(innovation))
    p = innovation.shape[1]
    units = torch.eye(p).to(innovation)
    rows = torch.stack(
        [sigma**2 * vjp(line.adjoint(unit.expand_as(innovation))) for unit in units], 1
    )  # A V, one row for each observation
    spread = torch.stack([line.tangent(row) for row in rows.unbind(1)], 1)
    total = (spread + spread.mT) / 2 + torch.stack(
        [error.apply(u.expand_as(innovation)) for u in units], 1
    )
    values, vectors = torch.linalg.eigh(total)
    # a learned Jacobian may imply a variance below that of the observations: it may not be trusted
    values = values.clamp(min=error.variance.min().item() * 1e-3)
    along = (vectors.mT @ innovation[..., None])[..., 0]
    v = (vectors @ (along / values)[..., None])[..., 0]
    log_psi = -0.5 * (along.square() / values + values.log() + log(2 * pi)).sum(-1)
    guided = x_hat + (v[:, None] @ rows.flatten(2))[:, 0].reshape(x.shape)
    return _Twist(x_hat, guided, log_psi)
