"""Particle filters: weights instead of moves, exact for any law as the particles grow many.

    w_i <- w_i p(y | x_i),        resample where 1 / sum w_i^2, the effective number, is small.

Copies of one particle are told apart by a jitter with the covariance of the ensemble, whose size
is that of a kernel density estimate, so that it vanishes as the particles grow many. The optimal
proposal looks at the observation before it moves: for a model with additive Gaussian noise and a
linear operator it is known in closed form.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation.classical.kalman import Gaussian, kalman_update
from stormda.assimilation.errors import CorrelatedError


@dataclass(frozen=True, eq=False)
class Particles:
    """Weighted states."""

    states: Tensor
    """The particles, with shape `(m, *shape)`."""

    log_weights: Tensor
    """The logarithms of their weights, which sum to one, with shape `(m,)`."""

    @property
    def mean(self) -> Tensor:
        """The weighted mean, with shape `(*shape)`."""
        mean: Tensor = torch.tensordot(self.log_weights.exp(), self.states, 1)
        return mean

    @property
    def effective(self) -> float:
        """The effective number of particles, between 1 and `m`."""
        squares: float = self.log_weights.exp().square().sum().item()
        return 1 / squares


def equal_particles(states: Tensor) -> Particles:
    """Return particles `(m, *shape)` of equal weights.

    Examples:
        >>> equal_particles(torch.tensor([[0.0], [2.0]])).mean
        tensor([1.])
    """
    m = len(states)
    return Particles(states, states.new_full((m,), 1 / m).log())


def weigh(particles: Particles, log_likelihood: Tensor) -> Particles:
    """Multiply the weights by likelihoods: the analysis of the bootstrap filter.

    Source: Gordon, Salmond and Smith (1993), IEE Proc. F 140.

    Args:
        particles: The particles, forecast to the time of the observation.
        log_likelihood: The logarithm of `p(y | x_i)`, with shape `(m,)`, for example
            `observation.log_likelihood(predicted)`.

    Examples:
        >>> two = equal_particles(torch.tensor([[0.0], [2.0]]))
        >>> weigh(two, torch.tensor([0.0, 3.0]).log()).mean
        tensor([2.])
    """
    logs = particles.log_weights + log_likelihood
    return Particles(particles.states, logs.log_softmax(0))


def resample(
    particles: Particles,
    generator: torch.Generator,
    *,
    share: float = 0.5,
    jitter: float = 0.0,
) -> Particles:
    """Copy heavy particles in place of light ones, where the effective number has become small.

    Systematic resampling; then each further copy of a particle gets a jitter with the weighted
    covariance of the ensemble times `jitter h`, `h` being the bandwidth of Silverman's rule.

    Source: Kitagawa (1996), J. Comput. Graph. Stat. 5; regularisation as in Musso, Oudjane and Le
    Gland (2001), Improving regularised particle filters.

    Args:
        particles: The weighted particles.
        generator: Source of the choice and the jitter.
        share: Resample below this share of effective particles.
        jitter: The size of the jitter in bandwidths; 0 leaves copies alike.

    Raises:
        ValueError: If the share is not in [0, 1].

    Examples:
        >>> logs = torch.tensor([0.001, 0.999]).log()
        >>> g = torch.Generator().manual_seed(0)
        >>> resample(Particles(torch.tensor([[0.0], [2.0]]), logs), g, share=1.0).states
        tensor([[2.],
                [2.]])
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share: expected a number in [0, 1], got {share}")
    m = len(particles.states)
    if particles.effective >= share * m:
        return particles
    chosen = _systematic(particles.log_weights, generator)
    states = particles.states[chosen]
    if jitter > 0:
        again = torch.cat([chosen.new_zeros(1), (chosen.diff() == 0).long()]).bool()
        states = states + again.reshape(-1, *(1 for _ in states.shape[1:])) * _kernel(
            particles, jitter, generator
        )
    return equal_particles(states)


def optimal_proposal(
    particles: Particles,
    forecast: Tensor,
    noise: Tensor,
    y: Tensor,
    operator: Tensor,
    error: Tensor,
    generator: torch.Generator,
) -> Particles:
    """Move and weigh particles by `p(x' | x, y)` and `p(y | x)`, the least variance of weights.

    Source: Doucet, Godsill and Andrieu (2000), Statistics and Computing 10, section II-D.

    Args:
        particles: The particles before the step, of `n` numbers each.
        forecast: Where the model takes them without its noise, with shape `(m, n)`.
        noise: The covariance of the model's noise, with shape `(n, n)`.
        y: The observation, with shape `(p,)`.
        operator: The observation operator, with shape `(p, n)`.
        error: The variances of its errors, a number or shape `(p,)`, or the covariance.
        generator: Source of the draws.

    Examples:
        >>> g = torch.Generator().manual_seed(0)
        >>> start = equal_particles(torch.zeros(4000, 1))
        >>> y, one = torch.tensor([2.0]), torch.eye(1)
        >>> moved = optimal_proposal(start, start.states, one, y, one, torch.tensor(1.0), g)
        >>> round(moved.mean.item(), 1), round(moved.effective)  # N(1, 1 / 2), nobody is lost
        (1.0, 4000)
    """
    full = error.to(y) if error.ndim == 2 else error.to(y).expand(len(y)).diag()
    one = Gaussian(forecast.new_zeros(len(noise)), noise)
    posterior = kalman_update(one, torch.zeros_like(y), operator, full)
    total = operator @ noise @ operator.mT + full
    innovation = y - forecast @ operator.mT
    gain = torch.linalg.solve(total, operator @ noise).mT
    law = CorrelatedError([total])
    values, vectors = torch.linalg.eigh(posterior.covariance)
    white = torch.randn(
        forecast.shape, generator=generator, dtype=forecast.dtype, device=generator.device
    )
    kick = (white.to(forecast) * values.clamp(min=0).sqrt()) @ vectors.mT
    moved = Particles(forecast + innovation @ gain.mT + kick, particles.log_weights)
    return weigh(moved, law.log_prob(innovation))


def _systematic(log_weights: Tensor, generator: torch.Generator) -> Tensor:
    m = len(log_weights)
    edges = log_weights.double().exp().cumsum(0)
    start = torch.rand((), generator=generator, dtype=torch.float64, device=generator.device)
    points = (torch.arange(m, device=edges.device) + start.to(edges.device)) / m
    return torch.searchsorted(edges / edges[-1], points).clamp(max=m - 1)


def _kernel(particles: Particles, jitter: float, generator: torch.Generator) -> Tensor:
    """Draw from the kernels: random combinations of the members' deviations."""
    states = particles.states
    m, n = states.flatten(1).shape
    weights = particles.log_weights.exp()
    unbiased = 1 - weights.square().sum()
    deviation = (states - particles.mean).flatten(1) * (weights / unbiased).sqrt()[:, None]
    bandwidth = m ** (-1 / (n + 4))
    white = torch.randn(m, m, generator=generator, dtype=states.dtype, device=generator.device)
    drawn: Tensor = (white.to(states) @ deviation).reshape(states.shape) * (jitter * bandwidth)
    return drawn
