"""A twin experiment on the globe: a truth, observations of it, one first ensemble for everybody.

Every 12 hours wind and depth are observed at other cells, drawn with chances as their areas, so
that the poles are not observed more closely than the equator: y = (u, v, h) + N(0, std^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation import DiagonalError, Observation, compose, select
from stormda.grid import Grid
from stormda.storm.sphere.cells import OnCells
from stormda.storm.sphere.flow import GlobalFlow
from stormda.storm.twin.case import Observed, check_cycles


@dataclass(frozen=True, kw_only=True)
class SphereCaseConfig:
    """One experiment."""

    density: float = 0.05
    """Share of the cells that is observed in each cycle."""

    std: tuple[float, float, float] = (2.0, 2.0, 20.0)
    """Standard deviations of the errors of u and v [m s-1] and h [m]."""

    cycles: int = 24
    """Analyses."""

    discarded: int = 8
    """First cycles that are not scored."""

    members: int = 16
    """Size of every ensemble."""

    hours: float = 12.0
    """Time between analyses [h]."""

    initial_error: float = 5.0
    """Wind of the balanced errors of the first ensemble: of its mean, and of each member about it
    [m s-1]."""

    spin_up_days: float = 9.0
    """Age of the flow at the start [days]."""

    seed: int = 200
    """Seed of truth, observations and first ensemble: 100-199 for tuning, 200-299 for evaluation;
    1-99 are of the training."""

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise ValueError(f"density: expected a number in (0, 1], got {self.density}")
        check_cycles(self.members, self.cycles, self.discarded)


@dataclass(frozen=True)
class SphereCase:
    """Everything that a filter is given, and the truth it is scored against."""

    config: SphereCaseConfig

    grid: Grid
    """Where truth, observations and analyses are."""

    on: OnCells | None
    """What takes states of the model there; None where they are there."""

    truth: Tensor
    """u, v [m s-1] and h [m], (cycles + 1, 3, *grid.shape); frame 0 is the initial time."""

    observed: tuple[Observed, ...]
    """One entry a cycle."""

    start: Tensor
    """The ensemble at the initial time, on the grid of the model, (members, 3, rows, cols)."""

    @property
    def initial(self) -> Tensor:
        """Return the ensemble at the initial time, (members, 3, *grid.shape)."""
        return self.known(self.start)

    def known(self, x: Tensor) -> Tensor:
        """Return states of the model (*batch, 3, rows, cols) on the grid of the case."""
        return x if self.on is None else self.on(x)

    def known_variance(self, x: Tensor) -> Tensor:
        """Return variances (3, rows, cols) there, as if neighbours went wrong together."""
        return x if self.on is None else self.on.sizes(x.sqrt()).square()

    def observation(self, cycle: int) -> Observation:
        """Return the observation of a cycle of states on the grid of the case."""
        seen = self.observed[cycle]
        return Observation(seen.y, select(seen.index), self._error(seen))

    def observation_of_model(self, cycle: int) -> Observation:
        """Return the observation of a cycle of states of the model."""
        seen = self.observed[cycle]
        return Observation(seen.y, compose(self.known, select(seen.index)), self._error(seen))

    def _error(self, seen: Observed) -> DiagonalError:
        variable = seen.index // self.truth[0, 0].numel()
        return DiagonalError(self.truth.new_tensor(self.config.std)[variable])


def make_sphere_case(
    config: SphereCaseConfig, flow: GlobalFlow, on: OnCells | None = None
) -> SphereCase:
    """Run nature, observe it, and disturb its start.

    Args:
        config: The experiment.
        flow: Nature.
        on: What takes its states to the grid of the case, where that is another.

    Examples:
        >>> from stormda.assimilation.systems import ShallowWaterConfig
        >>> from stormda.storm.sphere.flow import FlowConfig
        >>> small = ShallowWaterConfig(truncation=10, time_step=1800.0)
        >>> flow = GlobalFlow(FlowConfig(model=small, error_degrees=(2, 10)))
        >>> config = SphereCaseConfig(cycles=2, discarded=0, members=3, spin_up_days=1)
        >>> case = make_sphere_case(config, flow)
        >>> case.truth.shape, len(case.observed[0].y), case.initial.shape
        (torch.Size([3, 3, 16, 32]), 78, torch.Size([3, 3, 16, 32]))
    """
    g = torch.Generator().manual_seed(config.seed)
    frames = [flow.spin_up(1, days=config.spin_up_days, generator=g)[0]]
    for _ in range(config.cycles):
        frames.append(flow.forecast(frames[-1], hours=config.hours))
    grid: Grid = flow.grid if on is None else on.target
    area = torch.tensor(grid.area).flatten()
    truth = torch.stack(frames) if on is None else on(torch.stack(frames))
    observed = tuple(observe(x, config, area, g) for x in truth[1:])
    error = flow.error(config.members + 1, g)
    start = frames[0] + config.initial_error * (error[:1] + error[1:])
    return SphereCase(config, grid, on, truth, observed, start)


def observe(x: Tensor, config: SphereCaseConfig, area: Tensor, g: torch.Generator) -> Observed:
    """Observe all variables of a state (3, *grid) at cells drawn anew."""
    count = max(1, round(config.density * len(area)))
    cells = torch.multinomial(area, count, generator=g).sort().values
    index = torch.cat([cells + v * len(area) for v in range(len(x))])
    std = x.new_tensor(config.std).repeat_interleave(count)
    error = torch.randn(len(index), generator=g, dtype=x.dtype)
    return Observed(index, x.flatten()[index] + std * error)
