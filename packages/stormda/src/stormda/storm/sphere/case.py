"""A twin experiment on the globe: a truth, observations of it, one first ensemble for everybody.

Every 12 hours wind and depth are observed at other cells, drawn with chances as their areas, so
that the poles are not observed more closely than the equator: y = (u, v, h) + N(0, std^2).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from stormda.assimilation import DiagonalError, Observation, select
from stormda.storm.sphere.flow import GlobalFlow
from stormda.storm.twin.case import Observed


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
        if self.members < 2:
            raise ValueError(f"members: expected at least 2, got {self.members}")
        if not 0 <= self.discarded < self.cycles:
            raise ValueError(
                f"discarded: expected 0 <= discarded < cycles={self.cycles}, got {self.discarded}"
            )


@dataclass(frozen=True)
class SphereCase:
    """Everything that a filter is given, and the truth it is scored against."""

    config: SphereCaseConfig

    truth: Tensor
    """u, v [m s-1] and h [m], (cycles + 1, 3, rows, cols); frame 0 is the initial time."""

    observed: tuple[Observed, ...]
    """One entry a cycle."""

    initial: Tensor
    """The ensemble at the initial time, (members, 3, rows, cols)."""

    def observation(self, cycle: int) -> Observation:
        """Return the observation of a cycle, ready for `assimilate`."""
        seen = self.observed[cycle]
        variable = seen.index // self.truth[0, 0].numel()
        std = self.truth.new_tensor(self.config.std)[variable]
        return Observation(seen.y, select(seen.index), DiagonalError(std))


def make_sphere_case(config: SphereCaseConfig, flow: GlobalFlow) -> SphereCase:
    """Run nature, observe it, and disturb its start.

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
    area = torch.tensor(flow.grid.area).flatten()
    observed = tuple(observe(x, config, area, g) for x in frames[1:])
    error = flow.error(config.members + 1, g)
    initial = frames[0] + config.initial_error * (error[:1] + error[1:])
    return SphereCase(config, torch.stack(frames), observed, initial)


def observe(x: Tensor, config: SphereCaseConfig, area: Tensor, g: torch.Generator) -> Observed:
    """Observe all variables of a state (3, rows, cols) at cells drawn anew."""
    count = max(1, round(config.density * len(area)))
    cells = torch.multinomial(area, count, generator=g).sort().values
    index = torch.cat([cells + v * len(area) for v in range(len(x))])
    std = x.new_tensor(config.std).repeat_interleave(count)
    error = torch.randn(len(index), generator=g, dtype=x.dtype)
    return Observed(index, x.flatten()[index] + std * error)
