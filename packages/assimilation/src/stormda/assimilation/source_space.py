"""The exact posterior of a flow, found where it is simple: in the noise that the flow starts from.

A deterministic sampler is a map `x = Phi(z)` of white noise. The posterior of `z`,

    log p(z | y) = - |z|^2 / 2 + log p(y | A(Phi(z))) + constant,

is known up to a constant, and its gradient by differentiating through the sampler. Metropolis
adjusted Langevin steps draw from it, without any approximation of the likelihood of noisy states:
an oracle to judge guidance by, at hundreds of times its cost.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.denoiser import Denoiser
from stormda.assimilation.observation import Observation, Operator
from stormda.assimilation.randomness import Noise
from stormda.assimilation.samplers import Sampler, heun

_TARGET = 0.574
"""The share of accepted moves at which Langevin steps are the most efficient (Roberts 1998)."""


@dataclass(frozen=True, eq=False)
class Chain:
    """The end of a number of Markov chains."""

    states: Tensor
    """The states, with shape `(members, *prior.shape)`."""

    acceptance: float
    """The share of moves accepted after the warm-up."""

    step: float
    """The step that the warm-up found."""


def source_mala(
    prior: Denoiser,
    observation: Observation,
    *,
    members: int,
    generator: torch.Generator,
    iterations: int,
    step: float = 0.1,
    sampler: Sampler = heun(steps=16),  # noqa: B008 (frozen)
    context: Mapping[str, object] | None = None,
    transform: Operator | None = None,
) -> Chain:
    """Draw from the posterior of a deterministic flow by Langevin chains, one for each member.

    Source: Roberts and Tweedie (1996), Bernoulli 2 (the adjusted Langevin algorithm); the idea of
    the source space from Ben-Hamu et al. (2024), D-Flow, https://arxiv.org/abs/2402.14017.

    Args:
        prior: The denoiser, differentiable.
        observation: What was observed.
        members: How many chains.
        generator: Source of all noise.
        iterations: How many moves, of which the first half adapts the step.
        step: The step to start from.
        sampler: A deterministic sampler; its cost is paid in every move.
        context: The denoiser's keyword arguments.
        transform: Takes the denoiser's states to those that the operator observes.

    Raises:
        ValueError: If there are fewer than two iterations.

    Examples:
        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(1.0))
        >>> g = torch.Generator().manual_seed(0)
        >>> chain = source_mala(prior, seen, members=2000, generator=g, iterations=60)
        >>> round(chain.states.mean().item(), 1), round(chain.states.var().item(), 1)
        (1.0, 0.5)
    """
    if iterations < 2:
        raise ValueError(f"iterations: expected at least 2, got {iterations}")
    draw = Noise.drawn_from(generator)

    def fresh(index: int) -> Tensor:
        return draw.normals(
            prior.shape, members=range(members), step=index, dtype=prior.dtype, device=prior.device
        )

    def log_posterior(z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        z = z.detach().requires_grad_()
        with torch.enable_grad():
            x = sampler(lambda noisy, s: prior(noisy, s, **(context or {})), lambda _: z)
            seen = observation.operator(x if transform is None else transform(x))
            density = observation.log_likelihood(seen) - z.square().flatten(1).sum(-1) / 2
            slope = torch.autograd.grad(density.sum(), z)[0]
        return density.detach(), slope, x.detach()

    return _run(log_posterior, fresh, generator, iterations, step)


def _run(
    log_posterior: Callable[[Tensor], tuple[Tensor, Tensor, Tensor]],
    fresh: Callable[[int], Tensor],
    generator: torch.Generator,
    iterations: int,
    step: float,
) -> Chain:
    """Move all chains; the step is shared, and adapted in the first half only."""
    z = fresh(0)
    density, slope, x = log_posterior(z)
    accepted = 0.0
    for k in range(1, iterations + 1):
        kick = fresh(k)
        proposed = z + step * slope + (2 * step) ** 0.5 * kick
        new_density, new_slope, new_x = log_posterior(proposed)
        back = (z - proposed - step * new_slope).flatten(1).square().sum(-1) / (4 * step)
        forth = kick.flatten(1).square().sum(-1) / 2
        chance = (new_density - density - back + forth).nan_to_num(-torch.inf)
        draw = torch.rand(len(z), generator=generator, device=generator.device).to(chance)
        taken = draw.log() < chance
        rate = chance.clamp(max=0).exp().mean().item()
        wide = taken.reshape(-1, *(1 for _ in z.shape[1:]))
        z, slope = torch.where(wide, proposed, z), torch.where(wide, new_slope, slope)
        x, density = torch.where(wide, new_x, x), torch.where(taken, new_density, density)
        if k <= iterations // 2:
            step *= 2.718 ** ((rate - _TARGET) / k**0.5)
        else:
            accepted += rate
    return Chain(x, accepted / (iterations - iterations // 2), step)
