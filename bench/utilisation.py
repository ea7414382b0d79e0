"""How much of what a device can multiply does a training step of the network use?

    python bench/utilisation.py [--recipe 10M 200M] [--mode linear hybrid full storm]
                                [--dtype float32 bfloat16] [--tokens 4096] [--repeats 5]
                                [--device cpu] [--compile]

Does a step of the 200M network reach 40 % of what a GPU multiplies in bfloat16? There answers,
without the mode of quadratic cost, whose logits are 17 GB in each block,

    python bench/utilisation.py --device cuda --recipe 200M --dtype bfloat16 --tokens 16384
                                --mode linear hybrid storm [--compile]

In turns, the best of the repeats: the product of two square matrices, of 2048 rows on a CPU and
8192 on a GPU, and a whole step (tokenizer, encoder, trunk, loss, gradients, AdamW and the moving
average) of the network of `ladder`, one sample, both in the same type. Weights and sums of a step
in bfloat16 stay in float32, as in every training. On a CPU it is processor time, on one thread; on
a GPU wall time from when it is idle to when it is idle again.

The work of a step is that of its matrix products as PyTorch's profiler counts them, forward and
backward, what is computed twice included, what is done element by element not; `share` is its rate
over that of the product. It is counted without compilation, whose kernels are not all seen.

Writes bench/results/utilisation.csv, or utilisation_cuda.csv, with machine, versions and commit: a
table holds one run.
"""

from __future__ import annotations

import argparse
import math
from itertools import product

import torch
from measuring import device_name, device_of, seconds_of, table_name
from memory import show
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from stormda.grid import PlaneGrid
from stormda.storm import (
    Normalization,
    StormConfig,
    StormNetwork,
    Trainer,
    TrainingConfig,
    ladder,
)
from stormda.storm.ladder import MODES
from stormda.storm.network import parameter_count
from stormda.storm.objective import Batch

VARIABLES = ("t2m", "u10", "v10")
RECIPES = ("10M", "200M")
DTYPES = ("float32", "bfloat16")
SIZE = {"cpu": 2048, "cuda": 8192}
"""Rows of the matrices whose product is the measure of a device."""


class Noise:
    """Samples of nothing but noise, all alike."""

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        one = torch.ones(len(VARIABLES), 1, 1, device=device)
        self.normalization = Normalization(0 * one, one, one)
        fields = torch.randn(1, 3, len(VARIABLES), *shape, generator=generator())
        level, clock = torch.full((1, len(VARIABLES)), 0.1), torch.zeros(1, 6)
        self.sample = Batch(fields[:, :-1], fields[:, -1], level, clock).to(device)

    def batch(self, step: int, size: int) -> Batch:
        """Return the one sample."""
        del step, size
        return self.sample

    def state_dict(self) -> dict[str, object]:
        """Return nothing."""
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        """Take nothing."""
        del state


def generator() -> torch.Generator:
    """Return the numbers of the only seed."""
    return torch.Generator().manual_seed(1)


def trainer(
    network: StormConfig, tokens: int, settings: TrainingConfig, device: torch.device
) -> Trainer:
    """Return a run of a network on a square field of as many tokens, or a few less."""
    side = 4 * math.isqrt(tokens)
    grid = PlaneGrid((side, side), spacing_m=(1.0, 1.0), periodic=(True, True))
    torch.manual_seed(0)
    on_device = StormNetwork(network, grid).to(device)
    return Trainer(on_device, Noise((side, side), device), settings)


def work_of(run: Trainer) -> float:
    """Return the operations of a step in matrix products [flop]."""
    eagerly = torch.compiler.set_stance("force_eager")
    with eagerly, profile(activities=[ProfilerActivity.CPU], with_flops=True) as record:
        run._advance()
    return float(sum(event.flops for event in record.key_averages() if "mm" in event.key))


def measured(run: Trainer, repeats: int) -> dict[str, object]:
    """Return what a run uses of its device, as the columns of a row."""
    device, side = run.device, SIZE[run.device.type]
    dtype = torch.bfloat16 if run.config.bfloat16 else torch.float32
    matrix: Tensor = torch.randn(side, side, generator=generator()).to(device, dtype)
    run._advance()
    work = work_of(run)
    alone, step = math.inf, math.inf
    for _ in range(repeats):
        alone = min(alone, seconds_of(lambda: matrix @ matrix, device))
        step = min(step, seconds_of(run._advance, device))
    rate, peak = work / step, 2 * side**3 / alone
    return {
        "parameters": parameter_count(run.network),
        "tokens": run.network.patching.tokens(),
        "dtype": str(dtype).removeprefix("torch."),
        "device": device_name(device),
        "compiled": run.config.compile,
        "cpu_seconds" if device.type == "cpu" else "seconds": step,
        "gigaflop": work / 1e9,
        "gigaflop_per_second": rate / 1e9,
        "product_gigaflop_per_second": peak / 1e9,
        "share": rate / peak,
    }


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--recipe", nargs="+", choices=RECIPES, default=["10M"])
    parser.add_argument("--mode", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--dtype", nargs="+", choices=DTYPES, default=["float32"])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--device", choices=SIZE, default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile the blocks")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    device, rows = device_of(arguments.device), []
    for recipe, dtype, mode in product(arguments.recipe, arguments.dtype, arguments.mode):
        settings = TrainingConfig(
            batch=1, steps=10_000, bfloat16=dtype == "bfloat16", compile=arguments.compile
        )
        torch.compiler.reset()  # variants of a block are few, and those of other networks count
        run = trainer(ladder(recipe, VARIABLES, mode=mode), arguments.tokens, settings, device)
        rows.append({"mode": mode, **measured(run, arguments.repeats)})
    show(table_name("utilisation", device), rows)


if __name__ == "__main__":
    main()
