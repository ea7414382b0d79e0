"""How does a training step grow with the tokens of a frame, and with the frames of the history?

    python bench/scaling_tokens.py                                      # tokens and history
    python bench/scaling_tokens.py --part published --frames 96         # 512 x 1024 points
    python bench/scaling_tokens.py --part published joint --device cuda

To be run with MALLOC_MMAP_MAX_=0 and MALLOC_TRIM_THRESHOLD_=68719476736 in the environment: else
glibc gives the memory of large tensors back after every use and clears it anew for the next, and
the step to 65,536 tokens shows the allocator.

A step of the whole network (tokenizer, encoder, trunk, loss, all gradients) of 128 features and
2 + 2 blocks, one sample, one thread: processor time, best of the repeats, and the peak of all
memory that PyTorch allocates, inputs and weights included; on a GPU time by the clock. The
exponents are the slopes of the logarithm between a row and the row before: 1 is linear.

- `tokens`, in every mode. Modes with softmax keep what they weigh, and are measured up to 4,096
  tokens; `full`, over all tokens, stands beside those of linear cost.
- `history`, 1,024 tokens a frame: its keys and values held, or made of `chunk` frames at a time
  (`history_chunk`); one step in a process of its own, whose peak it is, PyTorch included.
- `published`: the step of the STORM paper's Table II, one sample of up to 6,000 frames of history
  on 512 x 1024 points in patches of 4 x 4, 196.6 million tokens; the paper has 46 GB and 1.54 s
  with its own network on one GCD of an MI250X. Every length has a process of its own, whose
  peak it is on processors.
- `joint`: ever more tokens in a trunk of 24 blocks of 1024 features, every block recomputed, in
  bfloat16, until the memory of a GPU does not suffice.

Writes bench/results/scaling_tokens.csv, scaling_history.csv, scaling_published.csv and
scaling_joint.csv, on a GPU those of the same names and `_cuda`, with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from multiprocessing import get_context
from typing import Any

import torch
from measuring import device_of, peak_of, process_peak, seconds_of, table_name
from memory import show

from stormda.grid import PlaneGrid
from stormda.parallel import recompute
from stormda.storm import Normalization, StormConfig, StormNetwork
from stormda.storm.ladder import MODES
from stormda.storm.objective import Batch, denoising_loss

CONFIG = StormConfig(
    variables=("z",), patch=(2, 2), width=128, heads=2, encoder_depth=2, depth=2, history=2
)
SOFTMAX = 4_096
"""Tokens above which only the mode `linear` is run."""

CHUNK = 64
"""Frames of history whose keys are made at a time."""

CHUNK_OF_PUBLISHED = 8
"""The same where a frame has 32 times the tokens."""

HELD = (2, 8, 32, 128, 512)
STREAMED = (96, 384, 1536, 6000)
"""Frames of history."""

PUBLISHED = {"history": 6000, "seconds": 1.54, "gigabytes": 46.0}
"""The paper's Table II."""

JOINT = replace(
    CONFIG, patch=(4, 4), width=1024, heads=16, encoder_depth=4, depth=20, history_chunk=1
)


@dataclass(frozen=True)
class Step:
    """The gradients of one sample, to be taken again and again."""

    network: StormNetwork
    batch: Batch
    noise: torch.Tensor
    half: bool

    @classmethod
    def of(cls, config: StormConfig, shape: tuple[int, int], device: torch.device) -> Step:
        """Return a step on fields of noise; float32 on a processor, bfloat16 on a GPU."""
        torch.manual_seed(0)
        plane = PlaneGrid(shape, spacing_m=(1.0, 1.0), periodic=(True, True))
        network = StormNetwork(config, plane).to(device)
        g = torch.Generator(device).manual_seed(1)
        normal = partial(torch.randn, generator=g, device=device)
        history, target = normal(1, config.history, 1, *shape), normal(1, 1, *shape)
        level = torch.full((1, 1), 0.1, device=device)
        batch = Batch(history, target, level)
        return cls(network, batch, normal(1, 1, *shape), device.type != "cpu")

    def __call__(self) -> None:
        """Take them."""
        device = self.noise.device
        one = torch.ones(1, 1, 1, device=device)
        known = Normalization(0 * one, one, one)
        self.network.zero_grad(set_to_none=True)
        with torch.autocast(device.type, torch.bfloat16, enabled=self.half):
            sigma = torch.ones(1, device=device)
            loss = denoising_loss(self.network, known, self.batch, sigma, self.noise)
        loss.sum().backward()


def measured(
    config: StormConfig, shape: tuple[int, int], repeats: int, device: torch.device
) -> dict[str, Any]:
    """Return what a step on fields of a shape takes: the best of the repeats after a first one."""
    step = Step.of(config, shape, device)
    seconds = [seconds_of(step, device) for _ in range(1 + repeats)][-repeats:]
    tokens = math.prod(shape) // math.prod(config.patch)

    def whole() -> None:
        Step.of(config, shape, device)()

    del step
    return {
        "tokens": tokens,
        "cpu_seconds" if device.type == "cpu" else "seconds": min(seconds),
        "microseconds_per_token": 1e6 * min(seconds) / tokens,
        "peak_megabytes": peak_of(whole, device) / 1e6,
    }


def with_exponents(rows: list[dict[str, Any]], along: str) -> list[dict[str, Any]]:
    """Add the slopes of time and memory from each row to the next."""
    found = []
    for row, before in zip(rows, [None, *rows], strict=False):
        slopes: dict[str, Any] = {"time_exponent": "", "memory_exponent": ""}
        if before is not None:
            run = math.log(row[along] / before[along])
            time_name = "cpu_seconds" if "cpu_seconds" in row else "seconds"
            for name, key in (("time", time_name), ("memory", "peak_megabytes")):
                slopes[f"{name}_exponent"] = math.log(row[key] / before[key]) / run
        found.append({**row, **slopes})
    return found


def along_tokens(largest: int, repeats: int, device: torch.device) -> list[dict[str, Any]]:
    """Return the rows of every mode, from few tokens to many."""
    sides = [s for s in (32, 64, 128, 256, 512, 1024) if s * s <= largest]
    rows = []
    for mode in MODES:
        limit = largest if mode == "linear" else SOFTMAX
        config = replace(CONFIG, **MODES[mode])
        own = [
            {"mode": mode, **measured(config, (2 * s, 2 * s), repeats, device)}
            for s in sides
            if s * s <= limit
        ]
        rows += with_exponents(own, "tokens")
    return rows


def along_history(device: torch.device) -> list[dict[str, Any]]:
    """Return the rows of short histories that are held, and of long ones that are not."""
    rows = []
    for lengths, chunk in ((HELD, 0), (STREAMED, CHUNK)):
        own = [in_own_process(one_step, frames, chunk, device) for frames in lengths]
        rows += with_exponents(own, "history")
    return rows


def one_step(frames: int, chunk: int, device: torch.device) -> dict[str, Any]:
    """Return what a step with so many frames takes, in a process that takes no other."""
    torch.set_num_threads(1)
    step = Step.of(replace(CONFIG, history=frames, history_chunk=chunk), (64, 64), device)
    seconds = seconds_of(step, device)
    return {
        "history": frames,
        "chunk": chunk or "",
        "cpu_seconds" if device.type == "cpu" else "seconds": seconds,
        "peak_megabytes": process_peak(device) / 1e6,
    }


def published(frames: int, device: torch.device) -> dict[str, object]:
    """Return what the step of the paper takes with so many frames, in a process of its own."""
    torch.set_num_threads(1)
    config = replace(CONFIG, patch=(4, 4), history=frames, history_chunk=CHUNK_OF_PUBLISHED)
    step = Step.of(config, (512, 1024), device)
    if device.type != "cpu":
        step()  # the first one loads kernels
    seconds = seconds_of(step, device)
    paper = PUBLISHED if frames == PUBLISHED["history"] else {}
    return {
        "history": frames,
        "history_tokens": frames * 128 * 256,
        "chunk": CHUNK_OF_PUBLISHED,
        "cpu_seconds" if device.type == "cpu" else "seconds": seconds,
        "gigabytes": process_peak(device) / 1e9,
        "published_seconds": paper.get("seconds", ""),
        "published_gigabytes": paper.get("gigabytes", ""),
    }


def joint(frames: int, device: torch.device) -> list[dict[str, object]]:
    """Return a row for each doubling of the trunk's tokens that the memory of a GPU has held."""
    if device.type == "cpu":
        raise ValueError("part: expected a GPU for joint, got cpu")
    rows: list[dict[str, object]] = []
    for doublings in range(16):
        shape = (512 << (doublings + 1) // 2, 512 << doublings // 2)
        try:
            rows.append(one_joint(frames, shape, device))
        except torch.cuda.OutOfMemoryError:
            return rows
        print(rows[-1], flush=True)
    return rows


def one_joint(frames: int, shape: tuple[int, int], device: torch.device) -> dict[str, object]:
    """Return what a step of the large trunk takes on fields of a shape, and leave nothing."""
    step = Step.of(replace(JOINT, history=frames), shape, device)
    recompute(step.network.blocks)
    torch.cuda.reset_peak_memory_stats(device)
    step()
    tokens = math.prod(shape) // math.prod(JOINT.patch)
    return {
        "trunk_tokens": tokens,
        "history_tokens": frames * tokens,
        "seconds": seconds_of(step, device),
        "gigabytes": torch.cuda.max_memory_allocated(device) / 1e9,
    }


def in_own_process(measure: Callable[..., dict[str, Any]], *arguments: object) -> dict[str, Any]:
    """Return a row that is measured in a process which does nothing else, and print it."""
    with get_context("spawn").Pool(1) as alone:
        row = alone.apply(measure, arguments)
    print(row, flush=True)
    return row


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = ("tokens", "history", "published", "joint")
    parser.add_argument("--part", nargs="+", choices=parts, default=["tokens", "history"])
    parser.add_argument("--largest", type=int, default=65_536, help="tokens of a frame")
    parser.add_argument("--frames", nargs="+", type=int, default=list(STREAMED))
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    given = parser.parse_args(arguments)
    device = device_of(given.device)
    torch.set_num_threads(1)
    if "published" in given.part:
        rows = [in_own_process(published, frames, device) for frames in given.frames]
        show(table_name("scaling_published", device), rows)
    if "joint" in given.part:
        show(table_name("scaling_joint", device), joint(100, device))
    if "tokens" in given.part:
        show(
            table_name("scaling_tokens", device),
            along_tokens(given.largest, given.repeats, device),
        )
    if "history" in given.part:
        show(table_name("scaling_history", device), along_history(device))


if __name__ == "__main__":
    main()
