"""Does the interior of a field hide the journey of its halo? gloo, two processes.

    python bench/overlap.py [--rounds 30]

Each process has half of a globe of 240 x 480 cells, 16 channels of float32, and computes one
convolution of 5 x 5 with a halo of two cells: the halo first and then the convolution of the
window (`halo`), or the interior while the halo travels (`with_halo`). The exchange alone, the
convolution alone, and both ways are timed in turn; the best round counts, as a processor that is
shared only adds. As messages between processes of one machine take little time and the same
processors, they are also delayed: a thread holds every message back for as long as a convolution
takes, as a slow network would. Hidden is (in turn - overlapped) / exchange, the part of the
exchange that costs no time.

Writes bench/results/overlap.csv with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import csv
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from functools import partial
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor
from torch.nn.functional import conv2d

from stormda.parallel import Domain, TorchComm, halo, halo_plan, with_halo
from stormda.storm.provenance import commit, machine, provenance

SHAPE, CHANNELS, WIDTH = (240, 480), 16, (2, 2)


class Distant(TorchComm):
    """gloo between processes whose messages take longer on their way."""

    delay = 0.0

    def start_all_to_all(
        self, x: Tensor, *, sent: Sequence[int], received: Sequence[int]
    ) -> Callable[[], Tensor]:
        """Start the exchange; what arrives may be read after the delay at the earliest."""
        finish = super().start_all_to_all(x, sent=sent, received=received)
        arrived = threading.Timer(self.delay, lambda: None)
        arrived.start()

        def finish_later() -> Tensor:
            arrived.join()
            return finish()

        return finish_later


def best(works: Sequence[Callable[[], object]], comm: TorchComm, rounds: int) -> list[float]:
    """Return the least time of the slower process for every work [s], done in turn."""
    times = torch.full((rounds, len(works)), torch.inf, dtype=torch.float64)
    for turn in range(rounds):
        for i, work in enumerate(works):
            comm.barrier()
            start = time.perf_counter()
            work()
            own = torch.tensor([time.perf_counter() - start], dtype=torch.float64)
            times[turn, i] = comm.all_gather(own).max()
    least: list[float] = times.amin(0).tolist()
    return least


def measure(rank: int, rendezvous: str, rounds: int, out: str) -> None:
    """Run one process; rank 0 writes the rows."""
    torch.set_num_threads(1)
    dist.init_process_group(
        "gloo",
        init_method=f"file://{rendezvous}",
        rank=rank,
        world_size=2,
        timeout=timedelta(minutes=5),
    )
    comm = Distant()
    domain = Domain.globe(SHAPE, (1, 2))
    plan = halo_plan(domain, rank, WIDTH)
    g = torch.Generator().manual_seed(rank)
    x = torch.randn(CHANNELS, *plan.shape, generator=g)
    kernel = torch.randn(CHANNELS, CHANNELS, 5, 5, generator=g)
    stencil = partial(conv2d, weight=kernel)
    window = halo(x, plan, comm)
    rows = []
    with torch.no_grad():
        works = (
            lambda: stencil(window),
            lambda: halo(x, plan, comm),
            lambda: stencil(halo(x, plan, comm)),
            lambda: with_halo(stencil, x, plan, comm),
        )
        delay = best(works[:1], comm, rounds)[0]
        for network, comm.delay in (("one machine", 0.0), ("messages delayed", delay)):
            alone, exchange, in_turn, both = best(works, comm, rounds)
            rows.append(
                {
                    "network": network,
                    "convolution_seconds": alone,
                    "exchange_seconds": exchange,
                    "in_turn_seconds": in_turn,
                    "overlapped_seconds": both,
                    "overlapped_over_in_turn": both / in_turn,
                    "hidden": (in_turn - both) / exchange,
                }
            )
    if rank == 0:
        write(rows, Path(out))
    comm.barrier()
    dist.destroy_process_group()


def write(rows: list[dict[str, object]], path: Path) -> None:
    """Print the rows and write them with where they come from."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    for row in rows:
        print(*(f"{k} {v:.4g}" if isinstance(v, float) else v for k, v in row.items()), sep="; ")
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *record], lineterminator="\n")
        writer.writeheader()
        for row in rows:
            short = {k: f"{v:.9g}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(short | record)


def main() -> None:
    """Start two processes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=30, help="repetitions of everything")
    rounds = parser.parse_args().rounds
    out = Path(__file__).with_name("results") / "overlap.csv"
    with tempfile.TemporaryDirectory() as directory:
        mp.spawn(measure, args=(f"{directory}/meeting", rounds, str(out)), nprocs=2)


if __name__ == "__main__":
    main()
