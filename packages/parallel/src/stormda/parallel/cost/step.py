"""One training step: compute, what of the communication is not hidden behind it, and stragglers.

    step = passes x depth x (layer + max(0, gathers - overlap layer) + tensor + sequence)
         + optimizer + replicas not hidden + stragglers

A layer takes 3 forward passes of work, 4 with recomputation. Ranks wait for the slowest of N:
with compute times spread by a fraction s, by about s sqrt(2 ln N) of the mean (the largest of N
normal numbers). That term is kept apart, as it says nothing about the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log, prod, sqrt

from stormda.parallel.cost.machine import Machine
from stormda.parallel.cost.network import (
    Group,
    all_gather_seconds,
    all_reduce_seconds,
    reduce_scatter_seconds,
)
from stormda.parallel.cost.transformer import Transformer, device_bytes


@dataclass(frozen=True, kw_only=True)
class Run:
    """How a model is trained on a machine."""

    model: Transformer
    """What is trained."""

    batch: float
    """Samples of a step, on all devices together."""

    replica: int = 1
    """Copies of the sharded model."""

    shard: int = 1
    """Devices over which parameters are sharded."""

    sequence: int = 1
    """Devices that share the tokens of a sample."""

    tensor: int = 1
    """Devices over which layers are cut."""

    recompute: bool = True
    """Whether layers keep their inputs only."""

    overlap: float = 0.8
    """Which part of the compute communication can hide behind, 0 to 1."""

    spread: float = 0.0
    """Standard deviation of the devices' compute times, as a fraction of the mean."""

    reduced: float = 4.0
    """Bytes of a gradient while it is summed."""

    moved: float = 2.0
    """Bytes of a parameter while it is gathered, and of an activation that is summed."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        for name in ("batch", "replica", "shard", "sequence", "tensor"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name}: expected a positive number, got {getattr(self, name)}")
        if not 0 <= self.overlap <= 1:
            raise ValueError(f"overlap: expected 0 to 1, got {self.overlap}")

    @property
    def devices(self) -> int:
        """The number of devices."""
        return prod((self.replica, self.shard, self.sequence, self.tensor))

    @property
    def tokens(self) -> float:
        """The tokens of a step that a device works on."""
        return self.batch * self.model.tokens / (self.replica * self.shard * self.sequence)


@dataclass(frozen=True, kw_only=True)
class StepCost:
    """The parts of a step [s], and the memory it needs."""

    compute: float
    """Layers and optimizer."""

    shard: float
    """Gathering parameters and scattering gradients, as far as it is not hidden."""

    replica: float
    """Summing gradients over replicas, as far as it is not hidden."""

    tensor: float
    """Sums inside cut layers."""

    sequence: float
    """Sums of attention states over the tokens' devices."""

    straggler: float
    """Waiting for the slowest device."""

    memory: float
    """Bytes on a device at the peak."""

    passes: int
    """Into how many passes the samples of a device are divided to fit its memory."""

    @property
    def communication(self) -> float:
        """All of the communication that is not hidden."""
        return self.shard + self.replica + self.tensor + self.sequence

    @property
    def seconds(self) -> float:
        """The whole step."""
        return self.compute + self.communication + self.straggler


def step_cost(machine: Machine, run: Run) -> StepCost:
    """Predict one training step.

    The tensor axis lies inside a node if it fits, then sequence, shard and replica, as the mesh
    numbers its ranks.

    Args:
        machine: On what.
        run: What, and how.

    Raises:
        ValueError: If one sample does not fit the memory of the devices that share it.

    Examples:
        >>> from stormda.parallel.cost import FRONTIER, LADDER
        >>> run = Run(model=LADDER["10B"], batch=4096, replica=8, shard=64, sequence=8)
        >>> cost = step_cost(FRONTIER, run)
        >>> round(cost.compute / cost.seconds, 3)
        0.996
    """
    model = run.model
    passes, memory = _passes(machine, run)
    tokens = run.tokens / passes
    layer = layer_seconds(machine, model, tokens, run.tensor, run.recompute)
    calls = passes * model.depth
    gathers = _gather_seconds(machine, run)
    optimizer = 28 * model.parameters / (run.shard * run.tensor) / machine.memory_bandwidth
    group = Group.of(machine, run.replica, run.shard * run.sequence * run.tensor)
    gradients = run.reduced * model.parameters / (run.shard * run.tensor)
    compute = calls * layer + optimizer
    summed = all_reduce_seconds(machine, group, gradients)
    last_backward = 2 / 3 * model.depth * layer
    return StepCost(
        compute=compute,
        shard=calls * max(0.0, gathers - run.overlap * layer),
        replica=max(0.0, summed - run.overlap * last_backward),
        tensor=calls * _tensor_seconds(machine, run, tokens),
        sequence=calls * _state_seconds(machine, run, tokens),
        straggler=run.spread * sqrt(2 * log(max(run.devices, 1))) * compute,
        memory=memory,
        passes=passes,
    )


def layer_seconds(
    machine: Machine, model: Transformer, tokens: float, tensor: int, recompute: bool
) -> float:
    """Return the time of a layer, forward and backward: the roof it hits, and its overhead.

    Examples:
        >>> from stormda.parallel.cost import FRONTIER, LADDER
        >>> round(1e3 * layer_seconds(FRONTIER, LADDER["10B"], 32_768, 1, True), 1)
        536.3
    """
    forwards = 4 if recompute else 3
    width = model.width / tensor
    rate = machine.peak * machine.achieved * width / (width + machine.half_width)
    work = forwards * model.layer_flops(tokens) / tensor / rate
    traffic = forwards * 2 * 34 * tokens * model.width / tensor / machine.memory_bandwidth
    return max(work, traffic) + machine.layer_overhead


def _passes(machine: Machine, run: Run) -> tuple[int, float]:
    """Return how often a device goes through the model in a step, and the memory that takes."""
    least = min(run.tokens, run.model.tokens / run.sequence)
    for passes in (1, *(2**i for i in range(1, 64))):
        tokens = max(run.tokens / passes, least)
        parts = device_bytes(
            run.model, tokens=tokens, shard=run.shard, tensor=run.tensor, recompute=run.recompute
        )
        memory = sum(parts.values())
        if memory <= machine.memory:
            return ceil(run.tokens / tokens), memory
        if tokens == least:
            break
    raise ValueError(
        f"run: expected at most {machine.memory / 1e9:.0f} GB on a device, got "
        f"{memory / 1e9:.0f} GB for one sample; use more of shard, sequence or tensor"
    )


def _gather_seconds(machine: Machine, run: Run) -> float:
    """Return the time of a layer's two all-gathers and one reduce-scatter."""
    group = Group.of(machine, run.shard, run.sequence * run.tensor)
    if run.shard == 1:
        return 0.0
    parameters = run.model.layer_parameters / run.tensor
    return 2 * all_gather_seconds(machine, group, run.moved * parameters) + reduce_scatter_seconds(
        machine, group, run.reduced * parameters
    )


def _tensor_seconds(machine: Machine, run: Run, tokens: float) -> float:
    """Return the time of a layer's sums: two forward and two backward, and again if recomputed."""
    group = Group.of(machine, run.tensor, 1)
    if run.tensor == 1:
        return 0.0
    sums = 6 if run.recompute else 4
    return sums * all_reduce_seconds(machine, group, run.moved * tokens * run.model.width)


def _state_seconds(machine: Machine, run: Run, tokens: float) -> float:
    """Return the time of a layer's sums of attention states, whose size tokens do not change."""
    group = Group.of(machine, run.sequence, run.tensor)
    if run.sequence == 1:
        return 0.0
    samples = tokens * run.sequence / run.model.tokens
    nbytes = run.model.state_bytes / run.tensor * max(1.0, samples)
    return (3 if run.recompute else 2) * all_reduce_seconds(machine, group, nbytes)
