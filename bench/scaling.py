"""How well is the cost model, and what does it say about the whole machine?

    python bench/scaling.py

1. Measures collectives over gloo and training steps of one rank, fits the model to some sizes and
   holds its prediction of others against their measurement; then a data-parallel step of two
   ranks, predicted from the fits of one rank's step and of the sum of gradients alone. Rows with
   more ranks than cores are shown, not judged. Steps of several ranks are judged twice: by the
   clock, which waits for whatever else wants the cores, and by the time that the slowest rank's
   process had a core.
2. Prints the model's strong scaling of the 10M/200M/10B ladder on Frontier beside what is
   published. These rows are model output: their assumptions stand in them.

Writes bench/results/scaling.csv and bench/results/scaling_strong.csv. Times are the least of many
turns; the machine should otherwise be idle.
"""

from __future__ import annotations

import csv
import os
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn

from stormda.parallel import Communicator, SelfComm, TorchComm, sum_gradients
from stormda.parallel.cost import (
    FRONTIER,
    LADDER,
    Curve,
    Run,
    StepCost,
    Timing,
    Transformer,
    fit_rates,
    step_cost,
)
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"
TURNS = {2**14: 400, 2**18: 200, 2**22: 60}  # of messages up to so many bytes
STEP_TURNS = 150
FITTED = (2**14, 2**18, 2**20, 2**22)
UNSEEN = (2**16, 2**19, 2**21)
WIDTH, HEADS = 128, 4
STEPS_FITTED = ((1, 32), (1, 256), (4, 32), (4, 128))
STEPS_UNSEEN = ((2, 64), (3, 128))
JUDGED = 0.25
COLLECTIVES = ("all_reduce", "all_gather", "sum_gradients")
CLOCKS = {"clock": time.perf_counter, "processor": time.process_time}
PUBLISHED = {
    ("10M", 32_768): "0.61-0.64 (STORM v1)",
    ("200M", 32_768): "0.61-0.64 (STORM v1)",
    ("10B", 32_768): "0.61-0.64 (STORM v1)",
    ("10M", 65_536): "0.74-0.98 (ORBIT-2)",
    ("10B", 65_536): "0.74-0.98 (ORBIT-2)",
    ("10M", 74_400): "0.96-0.99 (STORM v2)",
    ("200M", 74_400): "0.96-0.99 (STORM v2)",
    ("10B", 74_400): "0.96-0.99 (STORM v2)",
}


@dataclass(frozen=True, kw_only=True)
class Row:
    """A prediction and its measurement."""

    what: str
    size: str
    ranks: int
    used: str
    measured_ms: float
    predicted_ms: float
    error: float
    judged: str


@dataclass(frozen=True, kw_only=True)
class Scaling:
    """A row of the strong-scaling table: the model's output and its assumptions."""

    model: str
    devices: int
    samples_per_device_at_74400: int
    shard: int
    overlap: float
    passes: int
    memory_gb: float
    step_s: float
    communication_share: float
    efficiency: float
    efficiency_with_stragglers: float
    straggler_spread: float
    published: str
    assumptions: str = (
        "32,768 tokens a sample; work divides evenly; no input, no congestion; Frontier constants "
        "of stormda.parallel.cost, latencies assumed; relative to 512 devices"
    )


class Layer(nn.Module):
    """Linear attention and an MLP: 12 w^2 parameters, all of which act on every token."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.qkv, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)
        self.up, self.down = nn.Linear(WIDTH, 4 * WIDTH), nn.Linear(4 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """Mix the tokens: `(tokens, width)` to the same."""
        q, k, v = self.qkv(self.norm(x)).unflatten(-1, (3, HEADS, -1)).permute(1, 2, 0, 3)
        q, k = q.relu() + 1, k.relu() + 1
        y = (q @ (k.mT @ v)) / (q @ k.sum(-2)[..., None])
        x = x + self.out(y.transpose(0, 1).flatten(1))
        return x + self.down(nn.functional.gelu(self.up(x)))


def main() -> None:
    """Measure, predict, print and write."""
    torch.set_num_threads(1)
    rows = list(measured_rows())
    write(RESULTS / "scaling.csv", rows)
    print(f"{'what':24} {'size':>22} ranks  used    measured  predicted  error")
    for row in rows:
        print(
            f"{row.what:24} {row.size:>22} {row.ranks:5}  {row.used:6} {row.measured_ms:8.2f} ms "
            f"{row.predicted_ms:7.2f} ms {row.error:+6.0%}  {row.judged}"
        )
    table = list(strong_scaling())
    write(RESULTS / "scaling_strong.csv", table)
    for line in table:
        print(
            f"{line.model:>4} on {line.devices:6}: {line.samples_per_device_at_74400} samples, "
            f"shard {line.shard}, overlap {line.overlap}: step {line.step_s:8.3f} s, efficiency "
            f"{line.efficiency:.2f}, with stragglers {line.efficiency_with_stragglers:.2f}; "
            f"published {line.published or '-'}"
        )


def measured_rows() -> Iterable[Row]:
    """Yield the measurements and what the model, fitted to some of them, says of each."""
    cores = len(os.sched_getaffinity(0))
    by_ranks = {ranks: on_ranks(ranks) for ranks in (2, 4)}
    fits = {}
    for what in COLLECTIVES:
        for kind, times in by_ranks[2][what].items():
            fits[what, kind] = Curve([timing(what, 2, n, times[n]) for n in FITTED])
        for ranks, measured in by_ranks.items():
            for n, seconds in measured[what]["clock"].items():
                used = "fit" if ranks == 2 and n in FITTED else "unseen"
                expected = along(fits[what, "clock"], timing(what, ranks, n, seconds))
                yield row(what, f"{n} bytes", ranks, used, seconds, expected, ranks <= cores)
    alone = steps(SelfComm(), (*STEPS_FITTED, *STEPS_UNSEEN))["processor"]
    layer = fit_rates([work(case, alone[case]) for case in STEPS_FITTED])
    for case, seconds in alone.items():
        used = "fit" if case in STEPS_FITTED else "unseen"
        expected = predicted(layer, work(case, seconds))
        yield row("training step", label(case), 1, used, seconds, expected, judged=True)
    for ranks, measured in by_ranks.items():
        for kind, times in measured["step"].items():
            for case, seconds in times.items():
                nbytes = 4 * case[0] * sum(p.numel() for p in Layer().parameters())
                gradients = timing("sum_gradients", ranks, nbytes, seconds)
                expected = predicted(layer, work(case, seconds))
                expected += along(fits["sum_gradients", kind], gradients)
                what, size = f"parallel step, {kind}", f"{label(case)} each"
                yield row(what, size, ranks, "unseen", seconds, expected, ranks <= cores)


def on_ranks(ranks: int) -> dict[str, dict]:
    """Return the timings of collectives and steps on several ranks."""
    with tempfile.TemporaryDirectory() as directory:
        mp.start_processes(_rank, (ranks, directory), nprocs=ranks, start_method="fork")
        return torch.load(Path(directory) / "times", weights_only=True)


def _rank(rank: int, ranks: int, directory: str) -> None:
    dist.init_process_group(
        "gloo", init_method=f"file://{directory}/meet", rank=rank, world_size=ranks
    )
    comm = TorchComm()
    times: dict[str, dict] = {what: {kind: {} for kind in CLOCKS} for what in COLLECTIVES}
    for n in sorted((*FITTED, *UNSEEN)):
        whole, part = torch.ones(n // 4), torch.ones(n // 4 // ranks)
        turns = next(count for most, count in TURNS.items() if n <= most)
        weight = nn.Parameter(whole.clone())
        weight.grad = whole.clone()
        calls = (
            lambda x=whole: comm.all_reduce(x),
            lambda x=part: comm.all_gather(x),
            lambda p=weight: sum_gradients([p], comm),
        )
        for what, call in zip(COLLECTIVES, calls, strict=True):
            for kind, seconds in best(call, comm, turns).items():
                times[what][kind][n] = seconds
    times["step"] = steps(comm, STEPS_UNSEEN)
    if rank == 0:
        torch.save(times, Path(directory) / "times")
    comm.barrier()
    dist.destroy_process_group()


def steps(comm: Communicator, cases: Iterable[tuple[int, int]]) -> dict[str, dict]:
    """Return the times of a training step for each depth and number of tokens of a rank."""
    found: dict[str, dict] = {kind: {} for kind in CLOCKS}
    for depth, tokens in cases:
        net = nn.Sequential(*(Layer() for _ in range(depth)))
        optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
        x = torch.randn(tokens, WIDTH, generator=torch.Generator().manual_seed(1))

        def step(net: nn.Module = net, x: Tensor = x, sgd: torch.optim.SGD = optimizer) -> None:
            sgd.zero_grad()
            (net(x).square().sum() / x.numel()).backward()
            sum_gradients(net.parameters(), comm)
            sgd.step()

        for kind, seconds in best(step, comm, STEP_TURNS).items():
            found[kind][depth, tokens] = seconds
    return found


def best(call: Callable[[], object], comm: Communicator, turns: int) -> dict[str, float]:
    """Return the least times of a call that all ranks begin together, the slowest rank's."""
    call()
    times = torch.empty(turns, len(CLOCKS), dtype=torch.float64)
    for turn in range(turns):
        comm.barrier()
        starts = [clock() for clock in CLOCKS.values()]
        call()
        ends = [clock() for clock in CLOCKS.values()]
        times[turn] = torch.tensor(ends, dtype=torch.float64) - torch.tensor(
            starts, dtype=torch.float64
        )
    slowest = comm.all_gather(times[None]).amax(0)
    return dict(zip(CLOCKS, slowest.amin(0).tolist(), strict=True))


def timing(what: str, ranks: int, nbytes: int, seconds: float) -> Timing:
    """Return a measurement of a ring in the terms of the model: messages, and bytes of each."""
    rounds = 1 if what == "all_gather" else 2
    return Timing(size=nbytes / ranks, messages=rounds * (ranks - 1), seconds=seconds)


def along(curve: Curve, timing: Timing) -> float:
    """Return what a curve says of a measurement."""
    return timing.messages * curve.seconds(timing.size)


def work(case: tuple[int, int], seconds: float) -> Timing:
    """Return a measurement of a step in the terms of the model: layers and operations."""
    depth, tokens = case
    per_token = 2 * 12 * WIDTH**2 + 4 * WIDTH**2 / HEADS
    return Timing(size=3 * depth * tokens * per_token, messages=depth, seconds=seconds)


def predicted(fit: tuple[float, float], timing: Timing) -> float:
    """Return what a fit says of a measurement."""
    return fit[0] * timing.messages + fit[1] * timing.size


def label(case: tuple[int, int]) -> str:
    """Return a case in words."""
    return f"{case[0]} layers, {case[1]} tokens"


def row(
    what: str, size: str, ranks: int, used: str, seconds: float, expected: float, judged: bool
) -> Row:
    """Return a row, judged only where ranks have a core each and the size was not fitted."""
    error = expected / seconds - 1
    verdict = "" if used == "fit" else "not judged"
    if judged and used != "fit":
        verdict = "within 25 %" if abs(error) <= JUDGED else "MISSED"
    return Row(
        what=what,
        size=size,
        ranks=ranks,
        used=used,
        measured_ms=1e3 * seconds,
        predicted_ms=1e3 * expected,
        error=error,
        judged=verdict,
    )


def strong_scaling() -> Iterable[Scaling]:
    """Yield the model's table: a fixed batch on more and more devices."""
    for name, model in LADDER.items():
        shard = 8 if name != "10B" else 64
        for samples in (1, 4):
            for overlap in (0.8, 0.0):
                yield from _strong(name, model, samples, shard, overlap)


def _strong(
    name: str, model: Transformer, samples: int, shard: int, overlap: float, spread: float = 0.1
) -> Iterable[Scaling]:
    def cost(devices: int, spread: float) -> StepCost:
        run = Run(
            model=model,
            batch=samples * 74_400,
            replica=devices // shard,
            shard=shard,
            overlap=overlap,
            spread=spread,
        )
        return step_cost(FRONTIER, run)

    base, slow_base = cost(512, 0.0).seconds, cost(512, spread).seconds
    for devices in (512, 4096, 32_768, 65_536, 74_400 // shard * shard):
        steady, slow = cost(devices, 0.0), cost(devices, spread)
        yield Scaling(
            model=name,
            devices=devices,
            samples_per_device_at_74400=samples,
            shard=shard,
            overlap=overlap,
            passes=steady.passes,
            memory_gb=steady.memory / 1e9,
            step_s=steady.seconds,
            communication_share=steady.communication / steady.seconds,
            efficiency=base * 512 / (steady.seconds * devices),
            efficiency_with_stragglers=slow_base * 512 / (slow.seconds * devices),
            straggler_spread=spread,
            published=PUBLISHED.get((name, 74_400 if devices > 70_000 else devices), ""),
        )


def write(path: Path, rows: list[Row] | list[Scaling]) -> None:
    """Write a row for each measurement, or each line of the table."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*asdict(rows[0]), *record])
        writer.writeheader()
        for row in rows:
            values = {
                key: f"{value:.4g}" if isinstance(value, float) else value
                for key, value in asdict(row).items()
            }
            writer.writerow(values | record)


if __name__ == "__main__":
    main()
