"""How much memory does a layer take, and how many tokens can it do? Three tables.

    python bench/memory.py [--tokens 1e7] [--back 2e6] [--frames 177500] [--skip activations]

1. Peak memory of activations for each token, and processor time, of a network of four blocks,
   forward and backward: plain, with a checkpoint at every block, streamed, and tile by tile.
   Counted from every allocation that PyTorch makes; inputs, weights and their gradients are there
   in all of them.
2. A complete layer (norm, projections, global attention, convolution, gate, MLP; width 64) over
   `--tokens` tokens forward and `--back` tokens forward and backward, on one process. Tokens are
   made as they are read and only checksums of answers and gradients are kept, so nothing of the
   size of the sequence exists; a second run with other chunks has to give the same checksums.
3. Attention to `--frames` frames of history at each location, which are made as they are read.

Writes bench/results/memory*.csv (with `--once`, memory_longest.csv for the second
table) with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import csv
import math
import resource
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from einops import rearrange
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile
from torch.utils.checkpoint import checkpoint

from stormda.attention import (
    BlockConfig,
    SharedModulation,
    StormBlock,
    StreamedBlock,
    empty_cache,
    noise_embedding,
    temporal_attention,
    tilewise,
)
from stormda.grid import TileLayout
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"
DEPTH = 4


# ---- 1. Activations


class Network(nn.Module):
    """Four blocks of width 128 over fields of tokens `(b, width, rows, columns)`."""

    def __init__(self) -> None:
        super().__init__()
        config = BlockConfig(width=128, heads=2, temporal=False)
        self.blocks = nn.ModuleList(trained(StormBlock(config)) for _ in range(DEPTH))
        self.modulation = trained(SharedModulation(128))

    def forward(self, x: Tensor, how: Callable[..., Tensor] | None = None) -> Tensor:
        """Return the field after the blocks, each of them run by `how`."""
        shape = x.shape[-2], x.shape[-1]
        condition = noise_embedding(x.new_zeros(1), 128)
        modulation = self.modulation(condition)
        tokens = rearrange(x, "b d y x -> b (y x) d")
        for block in self.blocks:
            run = block if how is None else how(block)
            tokens = run(tokens, condition, modulation, shape=shape)
        return rearrange(tokens, "b (y x) d -> b d y x", y=shape[0])


def trained(module: nn.Module) -> nn.Module:
    """Return a module whose weights are all different from where they start."""
    generator = torch.Generator().manual_seed(1)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.05, generator=generator)
    return module


def by_checkpoint(block: StormBlock) -> Callable[..., Tensor]:
    """Return the block with a checkpoint around it."""
    return lambda *args, shape: checkpoint(block, *args, shape=shape, use_reentrant=False)


def activations(side: int = 128) -> list[dict[str, object]]:
    """Return the first table."""
    network = Network()
    layout = TileLayout((side, side), tiles=(4, 4), halo=(8, 8), periodic=True)
    ways: dict[str, Callable[[Tensor], Tensor]] = {
        "plain": network,
        "checkpoint": lambda x: network(x, by_checkpoint),
        "streamed": lambda x: network(x, lambda block: StreamedBlock(block, rows=8)),
        "tilewise": tilewise(network, layout),
    }
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(1, 128, side, side, generator=generator).requires_grad_()
    ybar = torch.randn(x.shape, generator=generator)
    rows: list[dict[str, object]] = []
    for name, run in ways.items():
        step(run, x, ybar, network)
        start = time.process_time()
        step(run, x, ybar, network)
        seconds = time.process_time() - start
        empty_cache()  # what is kept for results would not be allocated again
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
            step(run, x, ybar, network)
        rows.append(
            {
                "way": name,
                "tokens": side**2,
                "bytes_per_token": peak(record) / side**2,
                "times_width": peak(record) / side**2 / 4 / 128,
                "cpu_seconds": seconds,
            }
        )
    return rows


def step(run: Callable[[Tensor], Tensor], x: Tensor, ybar: Tensor, network: nn.Module) -> None:
    """Run forward and backward."""
    torch.autograd.grad(run(x), (x, *network.parameters()), ybar)


def peak(record: profile) -> int:
    """Return the largest sum of what was allocated and not yet freed [B]."""
    events = record.profiler.kineto_results.events()
    sizes = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    live = most = 0
    for _, size in sizes:
        live += size
        most = max(most, live)
    return most


# ---- 2. One layer over very many tokens


class Made:
    """Tokens `(1, n, width)` of unit variance that are a function of their place."""

    def __init__(self, n: int, width: int, seed: int) -> None:
        self.shape = (1, n, width)
        generator = torch.Generator().manual_seed(seed)
        self.factor, self.shift = torch.randint(
            -(2**31), 2**31, (2, width), dtype=torch.int32, generator=generator
        )

    def __getitem__(self, index: tuple[Any, ...]) -> Tensor:
        part = index[-2]
        place = torch.arange(part.start, part.stop, dtype=torch.int64).to(torch.int32)
        mixed = place[:, None] * (self.factor | 1) + self.shift  # wraps: a linear congruence
        mixed = mixed ^ (mixed >> 15)
        return (mixed * 0x2C1B3C6D).float().mul_(math.sqrt(3) / 2**31)[None]


class Checksum:
    """What is written, weighted by its place and added up; nothing is kept of it."""

    def __init__(self, n: int, width: int) -> None:
        self.shape = (1, n, width)
        self.weights = Made(n, 1, seed=3)
        self.sum, self.square = 0.0, 0.0

    def __getitem__(self, index: tuple[Any, ...]) -> Tensor:
        return torch.zeros(())  # parts of a gradient add up: so do their checksums

    def __setitem__(self, index: tuple[Any, ...], value: Tensor) -> None:
        part = value.detach().sum(-1, dtype=torch.float64) * self.weights[index].squeeze(-1)
        self.sum += part.sum().item()
        self.square += part.square().sum().item()


def long(tokens: int, rows: int, *, back: bool) -> dict[str, object]:
    """Return a row: one layer over `tokens` tokens in bands of `rows` rows."""
    columns = 512
    n = max(tokens // columns, 1) * columns
    config = BlockConfig(width=64, heads=1, temporal=False)
    layer = trained(StormBlock(config))
    condition = noise_embedding(torch.zeros(1), 64)
    shared = condition, trained(SharedModulation(64))(condition).detach()
    run = StreamedBlock(layer, rows=rows).layer((n // columns, columns))
    x, y = Made(n, 64, seed=1), Checksum(n, 64)
    start = time.process_time()
    total = run.sum(x, shared=shared)
    run.answer(x, out=y, total=total, shared=shared)
    found: dict[str, object] = {
        "tokens": n,
        "chunk": rows * columns,
        "back": back,
        "checksum": y.sum,
        "scale": math.sqrt(y.square),
    }
    if back:
        xbar = Checksum(n, 64)
        bars = run.gradients(x, ybar=Made(n, 64, seed=2), total=total, out=(xbar,), shared=shared)
        found |= {
            "checksum_of_inputs": xbar.sum,
            "checksum_of_weights": sum(b.double().sum().item() for b in bars if b is not None),
            "norm_of_weights": math.sqrt(
                sum(b.double().square().sum().item() for b in bars if b is not None)
            ),
        }
    seconds = time.process_time() - start
    return found | {
        "cpu_seconds": seconds,
        "microseconds_per_token": 1e6 * seconds / n,
        "peak_gigabytes": gigabytes(),
    }


def gigabytes() -> float:
    """Return the most memory this process has held so far [GB]."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9


# ---- 3. A long history


class Frames:
    """Keys or values `(1, h, K, n, d)` that are a function of their place."""

    def __init__(
        self, frames: int, seed: int, *, heads: int = 2, n: int = 64, d: int = 32
    ) -> None:
        self.shape = (1, heads, frames, n, d)
        self.made = Made(frames, heads * n * d, seed)

    def __getitem__(self, index: tuple[Any, ...]) -> Tensor:
        part = self.made[..., index[-3], :]
        h, n, d = self.shape[1], *self.shape[-2:]
        return rearrange(part, "b t (h n d) -> b h t n d", h=h, n=n, d=d)


def history(frames: int, chunk: int) -> dict[str, object]:
    """Return a row: attention to `frames` frames, `chunk` at a time."""
    k, v = Frames(frames, 1), Frames(frames, 2)
    q = torch.randn(1, 2, 64, 32, generator=torch.Generator().manual_seed(1))
    start = time.process_time()
    with torch.no_grad():
        y = temporal_attention(q, k, v, chunk=chunk)
    return {
        "frames": frames,
        "chunk": chunk,
        "checksum": y.double().sum().item(),
        "scale": y.double().norm().item(),
        "cpu_seconds": time.process_time() - start,
        "held_would_be_gigabytes": 2 * 4 * math.prod(k.shape) / 1e9,
        "peak_gigabytes": gigabytes(),
    }


# ---- Tables


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tokens", type=float, default=1e7)
    parser.add_argument("--back", type=float, default=2e6)
    parser.add_argument("--frames", type=int, default=177_500)
    parser.add_argument(
        "--skip", nargs="*", choices=("activations", "long", "history"), default=[]
    )
    parser.add_argument("--once", action="store_true", help="no second run with other chunks")
    arguments = parser.parse_args()
    chunks = (10,) if arguments.once else (16, 10)  # rows of 512 tokens
    if "long" not in arguments.skip:  # first: the peak is that of the process
        rows = [long(int(arguments.tokens), r, back=False) for r in chunks]
        rows += [long(int(arguments.back), r, back=True) for r in chunks]
        show("memory_longest" if arguments.once else "memory_long", rows)
    if "history" not in arguments.skip:
        show("memory_history", [history(arguments.frames, chunk) for chunk in (256, 100)])
    if "activations" not in arguments.skip:
        show("memory", activations())


def show(name: str, rows: list[dict[str, object]]) -> None:
    """Print the rows and write them with where they come from."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    names = list(dict.fromkeys(name for row in rows for name in row))
    RESULTS.mkdir(parents=True, exist_ok=True)
    with (RESULTS / f"{name}.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*names, *record], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            short = {k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(short | record)
            print(
                "  ".join(
                    f"{k} {v:.6g}" if isinstance(v, float) else f"{k} {v}" for k, v in row.items()
                )
            )


if __name__ == "__main__":
    main()
