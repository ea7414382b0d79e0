"""How does a training step grow with the tokens of a frame, and with the frames of the history?

    python bench/scaling_tokens.py [--largest 65536] [--repeats 2]

To be run with MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_=68719476736 in the environment: else
glibc gives the memory of large tensors back after every use and clears it anew for the next, and
the step to 65,536 tokens shows the allocator.

A step of the whole network (tokenizer, encoder, trunk, loss, all gradients) of 128 features and
2 + 2 blocks, one sample, one thread: processor time, best of the repeats, and the peak of all
memory that PyTorch allocates, inputs and weights included. The exponents are the slopes of the
logarithm between a row and the row before: 1 is linear. Modes with softmax keep what they weigh,
and are measured up to 4,096 tokens; `full`, over all tokens, stands beside those of linear cost.

Writes bench/results/scaling_tokens.csv with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import replace
from typing import Any

import torch
from memory import peak, show
from torch.profiler import ProfilerActivity, profile

from stormda.attention import empty_cache
from stormda.grid import PlaneGrid
from stormda.storm import Normalization, StormConfig, StormNetwork
from stormda.storm.ladder import MODES
from stormda.storm.objective import Batch, denoising_loss

CONFIG = StormConfig(
    variables=("z",), patch=(2, 2), width=128, heads=2, encoder_depth=2, depth=2, history=2
)
SOFTMAX = 4_096
"""Tokens above which only the mode `linear` is run."""


def step(network: StormNetwork, frames: int) -> None:
    """Take the gradients of one sample."""
    shape = network.grid.shape
    g = torch.Generator().manual_seed(1)
    one = torch.ones(1, 1, 1)
    fields = torch.randn(1, frames + 1, 1, *shape, generator=g)
    batch = Batch(fields[:, :-1], fields[:, -1], torch.full((1, 1), 0.1))
    noise = torch.randn(1, 1, *shape, generator=g)
    network.zero_grad(set_to_none=True)
    loss = denoising_loss(network, Normalization(0 * one, one, one), batch, torch.ones(1), noise)
    loss.sum().backward()


def measured(mode: str, side: int, frames: int, repeats: int) -> dict[str, Any]:
    """Return a row: `side` x `side` tokens and so many frames of history."""
    torch.manual_seed(0)
    config = replace(CONFIG, history=frames, **MODES[mode])
    grid = PlaneGrid((2 * side, 2 * side), spacing_m=(1.0, 1.0), periodic=(True, True))
    network = StormNetwork(config, grid)
    step(network, frames)
    seconds = []
    for _ in range(repeats):
        start = time.process_time()
        step(network, frames)
        seconds.append(time.process_time() - start)
    empty_cache()  # what is kept for results would not be allocated again
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step(network, frames)
    tokens = side * side
    return {
        "mode": mode,
        "tokens": tokens,
        "history": frames,
        "cpu_seconds": min(seconds),
        "microseconds_per_token": 1e6 * min(seconds) / tokens,
        "peak_megabytes": peak(record) / 1e6,
    }


def with_exponents(rows: list[dict[str, Any]], along: str) -> list[dict[str, Any]]:
    """Add the slopes of time and memory from each row to the next."""
    found = []
    for row, before in zip(rows, [None, *rows], strict=False):
        slopes: dict[str, Any] = {"time_exponent": "", "memory_exponent": ""}
        if before is not None:
            run = math.log(row[along] / before[along])
            for name, key in (("time", "cpu_seconds"), ("memory", "peak_megabytes")):
                slopes[f"{name}_exponent"] = math.log(row[key] / before[key]) / run
        found.append({**row, **slopes})
    return found


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--largest", type=int, default=65_536, help="tokens of a frame")
    parser.add_argument("--repeats", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sides = [s for s in (32, 64, 128, 256, 512) if s * s <= arguments.largest]
    rows = []
    for mode in MODES:
        limit = arguments.largest if mode == "linear" else SOFTMAX
        own = [measured(mode, s, 2, arguments.repeats) for s in sides if s * s <= limit]
        rows += with_exponents(own, "tokens")
    history = [measured("linear", 64, k, arguments.repeats) for k in (2, 8, 32, 128)]
    rows += with_exponents(history, "history")
    show("scaling_tokens", rows)


if __name__ == "__main__":
    main()
