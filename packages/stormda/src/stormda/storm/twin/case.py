"""A twin experiment: a truth we made, observations of it, and one initial ensemble for everybody.

Two-boundary surface quasi-geostrophic turbulence, analysed every 12 hours. Each cycle has a new
random network of points; an observation is y = H(theta) + N(0, std^2) with H the identity or the
saturating arctan(theta / 12.25 K). Where a network has shocks, the truth jumps now and then by
white noise that no model knows of.

Source: after Bao et al. (2025), Mon. Wea. Rev., arXiv:2404.00844, section 4.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from stormda.assimilation import DiagonalError, Observation, Operator, arctan, compose, select
from stormda.assimilation.systems import SQG
from stormda.storm.streams import stream

THETA_STD = 12.25
"""Climatological standard deviation of theta at 64 points a side [K]."""

SHOCK_PERIOD = 10
"""Cycles from one shock to the next, the first of them in the middle of that time."""

_SHOCKS = 7
"""What a stream of random numbers is for (`streams`): the shocks of a truth."""


@dataclass(frozen=True, kw_only=True)
class Network:
    """What is observed in each cycle, and how well."""

    density: float
    """Share of the points of both boundaries that is observed."""

    std: float
    """Standard deviation of the error of observation, in the units of the observation."""

    saturating: bool
    """Whether arctan(theta / THETA_STD) [1] is observed, or theta [K]."""

    shock: float = 0.0
    """Standard deviation of the white noise by which the truth jumps at the end of every
    `SHOCK_PERIOD`-th interval [K]; 0 for a truth that obeys the model."""

    def __post_init__(self) -> None:
        if not 0 < self.density <= 1:
            raise ValueError(f"density: expected a number in (0, 1], got {self.density}")
        if not self.std > 0:
            raise ValueError(f"std: expected a positive number, got {self.std}")
        if not self.shock >= 0:
            raise ValueError(f"shock: expected a number >= 0, got {self.shock}")

    def operator(self, index: Tensor) -> Operator:
        """Return H at the flat indices of the observed points."""
        if self.saturating:
            return compose(select(index), arctan(THETA_STD))
        return select(index)


NETWORKS: MappingProxyType[str, Network] = MappingProxyType(
    {
        "arctan-sparse": Network(density=0.10, std=0.1, saturating=True),
        "arctan-sparser": Network(density=0.05, std=0.1, saturating=True),
        "arctan-shocks": Network(density=0.5, std=0.1, saturating=True, shock=0.3 * THETA_STD),
        "linear-dense": Network(density=1.0, std=1.0, saturating=False),
        "linear-sparse": Network(density=0.05, std=1.0, saturating=False),
    }
)
"""The networks by their names in the tables."""


@dataclass(frozen=True, kw_only=True)
class TwinConfig:
    """One experiment."""

    network: str = "arctan-sparse"
    """A name in `NETWORKS`."""

    cycles: int = 30
    """Analyses."""

    discarded: int = 10
    """First cycles that are not scored."""

    members: int = 16
    """Size of every ensemble."""

    hours: float = 12.0
    """Time between analyses [h]."""

    initial_error: float = 3.0
    """Standard deviation of the white noise that makes the initial ensemble from the truth [K]."""

    spin_up_days: float = 100.0
    """Age of the turbulence at the start [days]."""

    seed: int = 200
    """Seed of truth, networks, errors and initial ensemble; 200-299 are for evaluation."""

    def __post_init__(self) -> None:
        if self.network not in NETWORKS:
            raise ValueError(f"network: expected one of {sorted(NETWORKS)}, got {self.network!r}")
        check_cycles(self.members, self.cycles, self.discarded)


def check_cycles(members: int, cycles: int, discarded: int) -> None:
    """Refuse an ensemble without spread, and a case of which nothing is scored.

    Raises:
        ValueError: For fewer than two members, or as many cycles discarded as there are.
    """
    if members < 2:
        raise ValueError(f"members: expected at least 2, got {members}")
    if not 0 <= discarded < cycles:
        raise ValueError(f"discarded: expected 0 <= discarded < cycles={cycles}, got {discarded}")


@dataclass(frozen=True)
class Observed:
    """The observations of one cycle."""

    index: Tensor
    """Flat indices of the observed points in a state (2, rows, cols), (p,) int64."""

    y: Tensor
    """Observed values, (p,)."""


@dataclass(frozen=True)
class Case:
    """Everything that a filter is given, and the truth it is scored against."""

    config: TwinConfig
    truth: Tensor
    """theta [K], (cycles + 1, 2, rows, cols); frame 0 is the initial time."""

    observed: tuple[Observed, ...]
    """One entry a cycle."""

    initial: Tensor
    """The ensemble at the initial time [K], (members, 2, rows, cols)."""

    @property
    def network(self) -> Network:
        """Return the observing network."""
        return NETWORKS[self.config.network]

    def observation(self, cycle: int) -> Observation:
        """Return the observation of a cycle, ready for `assimilate`."""
        seen = self.observed[cycle]
        return Observation(
            seen.y, self.network.operator(seen.index), DiagonalError(self.network.std)
        )


def make_case(config: TwinConfig, model: SQG) -> Case:
    """Run nature, observe it, and disturb its start.

    Args:
        config: The experiment.
        model: The flow, on the device where the case shall live.

    Examples:
        >>> from stormda.assimilation.systems import SQGConfig
        >>> config = TwinConfig(cycles=2, discarded=0, members=3, spin_up_days=1)
        >>> case = make_case(config, SQG(SQGConfig(points=16)))
        >>> case.truth.shape, len(case.observed[0].y), case.initial.shape
        (torch.Size([3, 2, 16, 16]), 51, torch.Size([3, 2, 16, 16]))
    """
    generator = torch.Generator(model.device).manual_seed(config.seed)
    state = model.spin_up(1, days=config.spin_up_days, generator=generator)[0]
    network, frames = NETWORKS[config.network], [state]
    for cycle in range(config.cycles):
        then = model.forecast(frames[-1], hours=config.hours)
        frames.append(shocked(then, network, config.seed, cycle))
    observed = tuple(observe(x, network, generator) for x in frames[1:])
    noise = torch.randn(
        config.members, *state.shape, generator=generator, device=model.device, dtype=state.dtype
    )
    return Case(config, torch.stack(frames), observed, state + config.initial_error * noise)


def shocked(x: Tensor, network: Network, seed: int, cycle: int) -> Tensor:
    """Return a true state (2, rows, cols) [K] after the shock of its cycle, if it has one.

    Source: the jumps of the last experiment of Bao et al. (2025), 30 % of the state with a chance
    of one in ten; here they come regularly, and the truth goes on from where it jumped to.
    """
    if network.shock == 0 or cycle % SHOCK_PERIOD != SHOCK_PERIOD // 2:
        return x
    noise = torch.randn(x.shape, generator=stream(seed, _SHOCKS, cycle)).to(x)
    return x + network.shock * noise


def observe(x: Tensor, network: Network, generator: torch.Generator) -> Observed:
    """Observe a state (2, rows, cols) [K] at points drawn anew."""
    count = max(1, round(network.density * x.numel()))
    order = torch.randperm(x.numel(), generator=generator, device=x.device)
    index = order[:count].sort().values
    exact = network.operator(index)(x[None])[0]
    error = torch.randn(count, generator=generator, device=x.device, dtype=x.dtype)
    return Observed(index, exact + network.std * error)
