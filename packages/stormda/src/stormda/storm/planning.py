"""What a training would need, before anything is allocated: tokens, memory, time, scaling.

The network is counted as the cost model of `stormda.parallel.cost` counts it, a stack of equal
layers over the tokens of one frame. Frames of history are keys and values beside it, two vectors a
token, which all layers share. Predictions are as good as the machine's numbers, of which some are
assumed: `bench/scaling.py` shows how far they were from what was measured.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from math import ceil, inf
from types import MappingProxyType
from typing import Any

from stormda.parallel.cost import (
    FRONTIER,
    H200_NODES,
    LADDER,
    LAPTOP,
    Machine,
    Run,
    StepCost,
    Transformer,
    step_cost,
)

MACHINES: MappingProxyType[str, Machine] = MappingProxyType(
    {"frontier": FRONTIER, "h200": H200_NODES, "laptop": LAPTOP}
)
"""Machines by the name that the command line knows."""

AXES = ("replica", "shard", "sequence", "tensor")
"""Ways to divide a training, from the outermost to the innermost."""

MOST_TENSOR = 8
"""Layers are not cut over more devices than share a node of today."""


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One training on one machine, with what it costs."""

    machine: Machine
    """Where."""

    run: Run
    """What, and how it is divided."""

    history: int
    """Frames of history."""

    cost: StepCost
    """What a step takes."""

    @property
    def history_tokens(self) -> int:
        """Tokens of all frames of history."""
        return self.history * self.run.model.tokens

    @property
    def history_bytes(self) -> float:
        """Keys and values of the histories of a pass on a device, in 16 bits [B]."""
        samples = self.run.batch / (self.run.replica * self.run.shard * self.cost.passes)
        tokens = self.history_tokens / self.run.sequence
        return 4 * self.run.model.width / self.run.tensor * tokens * max(1.0, samples)

    @property
    def fits(self) -> bool:
        """Whether model, activations and history fit the memory of a device."""
        return self.cost.memory + self.history_bytes <= self.machine.memory

    @property
    def utilisation(self) -> float:
        """Useful operations (three forward passes) over what the devices could do, 0 to 1."""
        model = self.run.model
        useful = 3 * model.depth * model.layer_flops(self.run.batch * model.tokens)
        return useful / (self.cost.seconds * self.run.devices * self.machine.peak)


def tokens_of(grid: tuple[int, int], patch: tuple[int, int]) -> int:
    """Return the tokens of a frame; patches at the rim are filled up.

    Examples:
        >>> tokens_of((721, 1440), (4, 4))
        65160
    """
    return ceil(grid[0] / patch[0]) * ceil(grid[1] / patch[1])


def model_of(name: str, tokens: int) -> Transformer:
    """Return a model of the ladder for frames of so many tokens.

    Raises:
        ValueError: Where there is no such model.
    """
    if name not in LADDER:
        raise ValueError(f"model: expected one of {list(LADDER)}, got {name!r}")
    return replace(LADDER[name], tokens=tokens)


def make_plan(
    machine: Machine,
    model: Transformer,
    *,
    devices: int,
    batch: int,
    history: int,
    mesh: Mapping[str, int] | None = None,
) -> Plan:
    """Find the division of a training that is quickest and fits, or judge a given one.

    Args:
        machine: Where.
        model: What is trained.
        devices: How many of the machine's devices take part.
        batch: Samples of a step, over all devices.
        history: Frames of history.
        mesh: Sizes of the axes by name, those not named 1; None to try all powers of two.

    Raises:
        ValueError: Where the machine is too small, the mesh is of another size, or nothing fits.

    Examples:
        >>> model = model_of("200M", tokens_of((721, 1440), (4, 4)))
        >>> plan = make_plan(FRONTIER, model, devices=512, batch=512, history=12)
        >>> plan.fits, plan.run.devices
        (True, 512)
    """
    if not 1 <= devices <= machine.devices:
        raise ValueError(
            f"devices: expected 1 to the {machine.devices} of {machine.name}, got {devices}"
        )
    if batch < 1 or history < 1:
        raise ValueError(f"batch, history: expected at least 1, got {batch} and {history}")
    sizes = [_checked(mesh, devices)] if mesh is not None else _divisions(devices, batch, model)
    plans, reason = [], "no division of the devices into powers of two"
    for division in sizes:
        axes: dict[str, Any] = {**division}
        run = Run(model=model, batch=batch, **axes)
        try:
            plan = Plan(machine=machine, run=run, history=history, cost=step_cost(machine, run))
        except ValueError as error:
            reason = str(error)
            continue
        if plan.fits:
            plans.append(plan)
        else:
            reason = f"{plan.history_bytes / 1e9:.0f} GB of history on a device"
    if not plans:
        raise ValueError(
            f"devices: expected enough for one sample and its history, got {devices}: {reason}"
        )
    return min(plans, key=lambda plan: plan.cost.seconds)


def _checked(mesh: Mapping[str, int], devices: int) -> dict[str, int]:
    unknown = sorted(set(mesh) - set(AXES))
    if unknown:
        raise ValueError(f"mesh: expected axes among {list(AXES)}, got {unknown}")
    sizes = {axis: mesh.get(axis, 1) for axis in AXES}
    count = sizes["replica"] * sizes["shard"] * sizes["sequence"] * sizes["tensor"]
    if count != devices:
        raise ValueError(f"mesh: expected sizes whose product is {devices}, got {count}")
    return sizes


def _divisions(devices: int, batch: int, model: Transformer) -> Iterator[dict[str, int]]:
    """Yield divisions whose inner axes are powers of two; replicas take the rest."""
    powers = [2**i for i in range(devices.bit_length()) if devices % 2**i == 0]
    for tensor in (p for p in powers if p <= MOST_TENSOR and model.heads % p == 0):
        for sequence in (p for p in powers if p * tensor <= devices and p <= model.tokens):
            for shard in (p for p in powers if p * sequence * tensor <= devices):
                inner = shard * sequence * tensor
                if devices % inner == 0 and devices // (sequence * tensor) <= batch:
                    yield {
                        "replica": devices // inner,
                        "shard": shard,
                        "sequence": sequence,
                        "tensor": tensor,
                    }


def strong_scaling(plan: Plan, steps: int = 4) -> list[dict[str, Any]]:
    """Return the same training on half as many devices, a quarter, ...; what does not fit ends it.

    Efficiency is devices times seconds of the smallest run that fits over that of each.
    """
    plans = [plan]
    for _ in range(steps):
        devices = plans[-1].run.devices // 2
        try:
            smaller = make_plan(
                plan.machine,
                plan.run.model,
                devices=devices,
                batch=int(plan.run.batch),
                history=plan.history,
            )
        except ValueError:
            break
        plans.append(smaller)
    plans.reverse()
    base = plans[0].run.devices * plans[0].cost.seconds if plans else inf
    return [
        {
            "devices": one.run.devices,
            **{axis: getattr(one.run, axis) for axis in AXES},
            "seconds": one.cost.seconds,
            "efficiency": base / (one.run.devices * one.cost.seconds),
        }
        for one in plans
    ]


def summary(plan: Plan) -> dict[str, Any]:
    """Return what there is to know of a plan, by name; units in the names."""
    run, cost = plan.run, plan.cost
    return {
        "machine": plan.machine.name,
        "devices": run.devices,
        **{axis: getattr(run, axis) for axis in AXES},
        "parameters": run.model.parameters,
        "tokens_per_frame": run.model.tokens,
        "history_tokens": plan.history_tokens,
        "batch": int(run.batch),
        "tokens_per_step": int(run.batch * run.model.tokens),
        "passes_per_step": cost.passes,
        "memory_GB": (cost.memory + plan.history_bytes) / 1e9,
        "memory_of_history_GB": plan.history_bytes / 1e9,
        "memory_there_is_GB": plan.machine.memory / 1e9,
        "step_s": cost.seconds,
        "compute_s": cost.compute,
        "communication_s": cost.communication,
        "straggler_s": cost.straggler,
        "utilisation": plan.utilisation,
        "state_bytes_per_layer": run.model.state_bytes,
    }
