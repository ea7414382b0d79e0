"""What a training step costs on a machine that is not there: time, memory, scaling."""

from stormda.parallel.cost.calibration import (
    Curve,
    Timing,
    fit_link,
    fit_rates,
    relative_errors,
)
from stormda.parallel.cost.machine import FRONTIER, H200_NODES, LAPTOP, Link, Machine
from stormda.parallel.cost.network import (
    Group,
    all_gather_seconds,
    all_reduce_seconds,
    all_to_all_seconds,
    reduce_scatter_seconds,
)
from stormda.parallel.cost.step import Run, StepCost, step_cost
from stormda.parallel.cost.transformer import LADDER, Transformer, device_bytes

__all__ = [
    "FRONTIER",
    "H200_NODES",
    "LADDER",
    "LAPTOP",
    "Curve",
    "Group",
    "Link",
    "Machine",
    "Run",
    "StepCost",
    "Timing",
    "Transformer",
    "all_gather_seconds",
    "all_reduce_seconds",
    "all_to_all_seconds",
    "device_bytes",
    "fit_link",
    "fit_rates",
    "reduce_scatter_seconds",
    "relative_errors",
    "step_cost",
]
