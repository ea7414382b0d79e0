"""One analysis: samples of the state given the observations.

    x ~ p(x | y, context),        or without observations        x ~ p(x | context), a forecast.

A sampler follows a denoiser down to noise level 0, and guidance bends the denoiser towards the
observations on the way. There is no forecast step: what is known of the past is in the context.
"""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from stormda.assimilation.denoiser import Denoiser
from stormda.assimilation.guidance.base import Guidance, Guided
from stormda.assimilation.guidance.mmps import mmps
from stormda.assimilation.observation import Observation, Operator
from stormda.assimilation.randomness import Noise
from stormda.assimilation.samplers import Denoise, Sampler, heun

Monitor = Callable[[float, Mapping[str, Tensor]], None]
"""Is told the noise level and the diagnostics of the guidance, each `(m,)`, at every call."""


@torch.no_grad()
def assimilate(
    prior: Denoiser,
    observation: Observation | None,
    *,
    members: int | Sequence[int],
    generator: torch.Generator,
    guidance: Guidance = mmps(),  # noqa: B008 (frozen, and it reads better here)
    sampler: Sampler = heun(steps=64),  # noqa: B008
    context: Mapping[str, object] | None = None,
    transform: Operator | None = None,
    monitor: Monitor | None = None,
) -> Tensor:
    """Draw an ensemble of states, given observations.

    Args:
        prior: The denoiser.
        observation: What was observed; None gives draws of the prior, a forecast.
        members: How many members, or which: member 5 of a given generator state has the same
            noise alone, as in `members=[5]`, and among others.
        generator: One number is drawn from it, the key of all noise.
        guidance: How observations act.
        sampler: How the noise level falls.
        context: What the denoiser is conditioned on, its keyword arguments. Tensors that differ
            between members lead with the members, in the order of `members`.
        transform: Takes the denoiser's (normalised) states to those that the operator observes.
        monitor: Is called after each guided denoising.

    Returns:
        The analyses, with shape `(members, *prior.shape)`, as the denoiser scales them.

    Raises:
        ValueError: if `members` is empty, negative or repeats itself; if the operator does not
            give as many numbers as were observed; if the denoiser or the guidance give numbers
            that are not finite (the message names noise level and members).

    Examples:
        A prior N(0, 1) and an observation 2 +- 1 give the posterior N(1, 1 / 2):

        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> prior = GaussianPrior(torch.zeros(1), torch.eye(1))
        >>> seen = Observation(torch.tensor([2.0]), lambda x: x, DiagonalError(1.0))
        >>> g = torch.Generator().manual_seed(0)
        >>> x = assimilate(prior, seen, members=4000, generator=g, sampler=heun(steps=32))
        >>> x.shape, round(x.mean().item(), 1), round(x.var().item(), 1)
        (torch.Size([4000, 1]), 1.0, 0.5)
    """
    chosen = _chosen(members)
    context = context or {}
    if observation is not None:
        _check_operator(prior, observation, len(chosen), transform)
    noise = Noise.drawn_from(generator)

    def guide(x: Tensor, sigma: Tensor) -> Guided:
        if observation is None:
            return Guided(x_hat=prior(x, sigma, **context))
        return guidance(prior, x, sigma, observation, context, transform)

    watched = _watched(guide, prior, context, chosen, monitor)
    return sampler(watched, _source(prior, noise, chosen))


def _source(prior: Denoiser, noise: Noise, members: Sequence[int]) -> Callable[[int], Tensor]:
    """Return what draws the noise of a step for some members."""

    def source(step: int) -> Tensor:
        return noise.normals(
            prior.shape, members=members, step=step, dtype=prior.dtype, device=prior.device
        )

    return source


def _watched(
    guide: Callable[[Tensor, Tensor], Guided],
    prior: Denoiser,
    context: Mapping[str, object],
    chosen: Sequence[int],
    monitor: Monitor | None,
) -> Denoise:
    """Return the guided denoiser, whose every answer is checked and reported."""
    levels: set[float] = set()

    def denoise(x: Tensor, sigma: Tensor) -> Tensor:
        levels.add(sigma.item())
        guided = guide(x, sigma)
        if guided.x_hat.shape != x.shape:
            raise ValueError(
                f"prior: expected states {tuple(x.shape)}, got {tuple(guided.x_hat.shape)}"
            )
        if not guided.x_hat.isfinite().all():
            where = f"at step {len(levels) - 1} (sigma {sigma.item():.4g})"
            raise _not_finite(guided.x_hat, prior(x, sigma, **context), chosen, where)
        if monitor is not None:
            monitor(sigma.item(), guided.diagnostics)
        return guided.x_hat

    return denoise


def _chosen(members: int | Sequence[int]) -> list[int]:
    chosen = list(range(members)) if isinstance(members, int) else list(members)
    if not chosen or min(chosen) < 0 or len(set(chosen)) < len(chosen):
        raise ValueError(
            f"members: expected a positive count or distinct indices >= 0, got {members}"
        )
    return chosen


def _check_operator(
    prior: Denoiser, observation: Observation, members: int, transform: Operator | None
) -> None:
    state = torch.zeros(members, *prior.shape, dtype=prior.dtype, device=prior.device)
    predicted = observation.operator(state if transform is None else transform(state))
    expected = (members, len(observation.y))
    if predicted.shape != expected:
        raise ValueError(
            f"observation: expected an operator from {tuple(state.shape)} to {expected}, "
            f"got {tuple(predicted.shape)}"
        )


def _not_finite(guided: Tensor, x_hat: Tensor, chosen: Sequence[int], where: str) -> ValueError:
    broken = [m for m, x in zip(chosen, x_hat, strict=True) if not x.isfinite().all()]
    if broken:
        return ValueError(f"prior: expected finite states, got others {where} in members {broken}")
    broken = [m for m, x in zip(chosen, guided, strict=True) if not x.isfinite().all()]
    return ValueError(
        f"observation: expected finite guidance, got other numbers {where} in members {broken}"
    )
