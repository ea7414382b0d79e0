"""How much of what a processor can multiply does a training step of the 10M network use?

    python bench/utilisation.py [--tokens 4096] [--repeats 5]

Both in float32 on one thread, in processor time, in turns, the best of the repeats: the product of
two square matrices, and a whole step (tokenizer, encoder, trunk, loss, gradients, AdamW and the
moving average) of the network `ladder("10M")` in each mode, one sample. The work of a step is that
of its matrix products as PyTorch's profiler counts them, forward and backward, what is computed
twice included, what is done element by element not; `share` is its rate over that of the product.

Writes bench/results/utilisation.csv with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import math
import time
from typing import Any

import torch
from memory import show
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from stormda.grid import PlaneGrid
from stormda.storm import Normalization, StormNetwork, Trainer, TrainingConfig, ladder
from stormda.storm.ladder import MODES
from stormda.storm.network import parameter_count
from stormda.storm.objective import Batch

VARIABLES = ("t2m", "u10", "v10")
SIZE = 2048
"""Rows of the matrices whose product is the measure."""


class Noise:
    """Samples of nothing but noise, all alike."""

    def __init__(self, shape: tuple[int, int]) -> None:
        one = torch.ones(len(VARIABLES), 1, 1)
        self.normalization = Normalization(0 * one, one, one)
        fields = torch.randn(1, 3, len(VARIABLES), *shape, generator=generator())
        level, clock = torch.full((1, len(VARIABLES)), 0.1), torch.zeros(1, 6)
        self.sample = Batch(fields[:, :-1], fields[:, -1], level, clock)

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


def trainer(mode: str, tokens: int) -> Trainer:
    """Return a run of the 10M network on a field of so many tokens."""
    side = 4 * math.isqrt(tokens)
    grid = PlaneGrid((side, side), spacing_m=(1.0, 1.0), periodic=(True, True))
    torch.manual_seed(0)
    network = StormNetwork(ladder("10M", VARIABLES, mode=mode), grid)
    return Trainer(network, Noise((side, side)), TrainingConfig(batch=1, steps=10_000))


def seconds_of(work: Any) -> float:  # noqa: ANN401
    """Return the processor time of one call."""
    start = time.process_time()
    work()
    return time.process_time() - start


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    matrix: Tensor = torch.randn(SIZE, SIZE, generator=generator())
    rows: list[dict[str, object]] = []
    for mode in MODES:
        run = trainer(mode, arguments.tokens)
        run._advance()
        with profile(activities=[ProfilerActivity.CPU], with_flops=True) as record:
            run._advance()
        work = sum(event.flops for event in record.key_averages() if "mm" in event.key)
        product, step = math.inf, math.inf
        for _ in range(arguments.repeats):
            product = min(product, seconds_of(lambda: matrix @ matrix))
            step = min(step, seconds_of(run._advance))
        rate, peak = work / step, 2 * SIZE**3 / product
        rows.append(
            {
                "mode": mode,
                "parameters": parameter_count(run.network),
                "tokens": arguments.tokens,
                "cpu_seconds": step,
                "gigaflop": work / 1e9,
                "gigaflop_per_second": rate / 1e9,
                "product_gigaflop_per_second": peak / 1e9,
                "share": rate / peak,
            }
        )
    show("utilisation", rows)


if __name__ == "__main__":
    main()
