"""A cycle of analyses: observations stream in, ensembles come out.

    x_k^m ~ p(x_k | x_{k-K:k-1}^m, y_k),        k = first, first + 1, ...

`cycle` asks a stream for its observations, one at a time; `assimilations` is handed them, and may
wait for as long as it takes until the next is there. Both draw one number a cycle from the
generator, and nothing else: a run goes on from any cycle as if it had not been interrupted.
"""

import math
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence

import torch
from torch import Tensor

from stormda.assimilation.analysis import Monitor, assimilate
from stormda.assimilation.classical.filtering import check_innovation
from stormda.assimilation.classical.spread import Spread
from stormda.assimilation.denoiser import Denoiser
from stormda.assimilation.guidance.base import Guidance
from stormda.assimilation.guidance.mmps import mmps
from stormda.assimilation.observation import Observation, Operator
from stormda.assimilation.randomness import Noise
from stormda.assimilation.samplers import Sampler, heun

ContextBuilder = Callable[[int, Sequence[Tensor]], Mapping[str, object]]
"""Builds a context from the number of the cycle and the past states, the oldest first."""

Screen = Callable[[int, Observation, Sequence[Tensor]], Observation | None]
"""Quality control: from the number of the cycle, what was observed and the past states to what is
used of it; None where nothing is."""


def cycle(
    prior: Denoiser,
    observations: Iterable[Observation | None],
    *,
    history: Sequence[Tensor],
    context: ContextBuilder,
    members: int | Sequence[int],
    generator: torch.Generator,
    guidance: Guidance = mmps(),  # noqa: B008
    sampler: Sampler = heun(steps=64),  # noqa: B008
    transform: Operator | None = None,
    monitor: Monitor | None = None,
    screen: Screen | None = None,
    spread: Spread | None = None,
    limit: float = math.inf,
    first: int = 0,
) -> Iterator[Tensor]:
    """Assimilate a stream of observations, each analysis conditioned on those before it.

    The analyses come one by one, as the observations do: nothing ahead of the present is asked
    for. Each member carries its own history, so that the ensemble keeps its spread, and draws from
    `p(x_k | its own past, y_k)`. How likely `y_k` makes that past is not weighed: this is a
    particle filter with the optimal proposal and equal weights, close to the exact filter where a
    state is well known from its past and the present observations.

    Args:
        prior: The denoiser.
        observations: What was observed in each cycle; None where nothing was.
        history: The states before the first cycle, the oldest first, each `(members, *shape)`. As
            many are kept throughout.
        context: Builds the denoiser's context from the number of the cycle and the past states.
        members: How many members, or which.
        generator: One number is drawn from it in each cycle.
        guidance: How observations act.
        sampler: How the noise level falls.
        transform: Takes the denoiser's (normalised) states to those that the operators observe.
        monitor: Is called after each guided denoising.
        screen: Quality control: what is used of an observation.
        spread: The treatment of each analysis, as of classical filters. To relax towards the
            background, a forecast with the same noise is drawn as well.
        limit: The greatest ratio of the root mean square of what an analysis leaves of the
            observations to what its spread and their error allow for it. An analysis that trusts
            its past too far stays away from what is observed: the truth is lost.
        first: The number of the first cycle. To go on with a run, give the history before this
            cycle, the observations from it on, and a generator seeded as at the start of the run.

    Yields:
        The analyses of each cycle, with shape `(members, *prior.shape)`.

    Raises:
        FilterDiverged: Where the limit is passed; it keeps the analysis of the cycle before.

    Examples:
        A random walk with steps N(0, 1), of which the first two positions are seen exactly:

        >>> from stormda.assimilation import DiagonalError
        >>> class Walk:
        ...     shape, dtype, device = (1,), torch.float32, torch.device("cpu")
        ...     def __call__(self, x, sigma, *, before):
        ...         return before + (x - before) / (1 + sigma**2)
        >>> error = DiagonalError(0.01)
        >>> seen = [Observation(torch.tensor([y]), lambda x: x, error) for y in (3.0, 4.0)]
        >>> for x in cycle(
        ...     Walk(), [*seen, None], members=2000, history=[torch.zeros(2000, 1)],
        ...     context=lambda k, past: {"before": past[-1]}, sampler=heun(steps=32),
        ...     generator=torch.Generator().manual_seed(0),
        ... ):
        ...     print(f"{x.mean():.1f} +- {x.std():.1f}")
        3.0 +- 0.0
        4.0 +- 0.0
        4.0 +- 1.0
    """
    session = assimilations(
        prior,
        history=history,
        context=context,
        members=members,
        generator=generator,
        guidance=guidance,
        sampler=sampler,
        transform=transform,
        monitor=monitor,
        screen=screen,
        spread=spread,
        limit=limit,
        first=first,
    )
    next(session)
    for observation in observations:
        analysis = session.send(observation)
        assert analysis is not None  # only the first, before any observation
        yield analysis


def assimilations(
    prior: Denoiser,
    *,
    history: Sequence[Tensor],
    context: ContextBuilder,
    members: int | Sequence[int],
    generator: torch.Generator,
    guidance: Guidance = mmps(),  # noqa: B008
    sampler: Sampler = heun(steps=64),  # noqa: B008
    transform: Operator | None = None,
    monitor: Monitor | None = None,
    screen: Screen | None = None,
    spread: Spread | None = None,
    limit: float = math.inf,
    first: int = 0,
) -> Generator[Tensor | None, Observation | None, None]:
    """Return a generator that is sent observations and answers with analyses.

    The arguments are those of `cycle`. Start it with `next`, which returns None.

    Examples:
        >>> from stormda.assimilation import DiagonalError, GaussianPrior
        >>> filter = assimilations(
        ...     GaussianPrior(torch.zeros(1), torch.eye(1)), history=[torch.zeros(50, 1)],
        ...     context=lambda k, past: {}, members=50, generator=torch.Generator().manual_seed(0),
        ... )
        >>> next(filter)
        >>> seen = Observation(torch.tensor([1.0]), lambda x: x, DiagonalError(0.01))
        >>> filter.send(seen).mean().round(decimals=1)
        tensor(1.)
    """
    past = deque(history, maxlen=len(history))
    for _ in range(first):
        Noise.drawn_from(generator)
    analysis, k = None, first
    while True:
        observation = yield analysis
        if observation is not None and screen is not None:
            observation = screen(k, observation, tuple(past))

        def draw(seen: Observation | None, source: torch.Generator) -> Tensor:
            return assimilate(
                prior,
                seen,
                members=members,
                generator=source,
                guidance=guidance,
                sampler=sampler,
                context=context(k, tuple(past)),  # noqa: B023 (called at once)
                transform=transform,
                monitor=monitor,
            )

        before = generator.clone_state()
        analysis = draw(observation, generator)
        _check(analysis, observation, transform, limit, k, past[-1])
        if spread is not None:
            analysis = _spread(spread, analysis, draw, before)
        past.append(analysis)
        k += 1


def _check(
    analysis: Tensor,
    observation: Observation | None,
    transform: Operator | None,
    limit: float,
    k: int,
    before: Tensor,
) -> None:
    """Raise where an analysis stays away from what is observed."""
    if observation is not None:
        seen = analysis if transform is None else transform(analysis)
        check_innovation(observation.operator(seen), observation, limit, k, before)


def _spread(
    spread: Spread,
    analysis: Tensor,
    draw: Callable[[Observation | None, torch.Generator], Tensor],
    generator: torch.Generator,
) -> Tensor:
    """Return an analysis with its spread treated; a forecast has the noise of its analysis."""
    relaxed = spread.rtps > 0 or spread.rtpp > 0
    background = draw(None, generator.clone_state()) if relaxed else analysis
    return spread(analysis, background, generator)
