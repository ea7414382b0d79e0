"""What does a machine of any size send? Meshes, halo plans and bytes per step, from one process.

    python bench/mesh.py [--list FILE]

1. Meshes of 32,768 and of 74,400 ranks: seconds to lay out every rank (coordinates, neighbours in
   the halo exchange, bytes that it sends in one), and the spread over ranks. Many replicas of a
   field of 721 x 1440 cells, or one field of 8640 x 17280 in which every rank has its own place;
   64 channels of float32, a halo of two cells. `--list` writes one line for each rank.
2. Planning the halo of 721 x 1440 cells on 64 ranks: one rank's whole plan, the slowest of 64.
3. What a rank of 32 along the sequence sends in a step, forward and backward, of an attention
   layer of 8 heads of 32 features, as the tokens grow: linear attention, which sums a state, and
   softmax attention by heads. Counted while the layer runs as one rank of a planned mesh of
   74,400, whose other ranks do not exist (the softmax itself is left out: it sends nothing).

Writes bench/results/mesh.csv with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import csv
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from stormda.attention import linear_attention
from stormda.parallel import Domain, Mesh, PlannedComm, by_heads, halo_messages, halo_plan, planned
from stormda.storm.provenance import commit, machine, provenance

HALO = (2, 2)
CHANNELS, BYTES = 64, 4
MACHINES = (
    (Mesh({"replica": 64, "shard": 8, "lat": 8, "lon": 8, "tensor": 1}), (721, 1440)),
    (Mesh({"replica": 93, "shard": 25, "lat": 4, "lon": 8, "tensor": 1}), (721, 1440)),
    (Mesh({"lat": 128, "lon": 256}), (8640, 17280)),
    (Mesh({"lat": 240, "lon": 310}), (8640, 17280)),
)
HEADS, FEATURES = 8, 32
TOKENS = (512, 2048, 8192, 32_768)


@dataclass(frozen=True)
class Laid:
    """Every rank of a mesh."""

    coordinates: Tensor
    """Where every rank is along every axis (ranks, axes)."""

    neighbours: list[list[int]]
    """The ranks that every rank exchanges ghosts with."""

    bytes: Tensor
    """What every rank sends in one exchange (ranks,)."""


def lay_out(mesh: Mesh, shape: tuple[int, int]) -> Laid:
    """Return every rank's place, neighbours and bytes of one halo exchange."""
    domain = Domain.globe(shape, (mesh.size("lat"), mesh.size("lon")))
    ranks = torch.arange(mesh.processes)
    places = torch.stack(torch.unravel_index(ranks, mesh.sizes), 1)
    sender, receiver, cells = halo_messages(domain, HALO)
    field = mesh.size("lat") * mesh.size("lon")
    sent = torch.zeros(field, dtype=torch.int64).index_add(0, sender, cells)
    order = torch.argsort(sender, stable=True)
    heard = receiver[order].split(torch.bincount(sender, minlength=field).tolist())
    by_name = dict(zip(mesh.names, places.unbind(1), strict=True))
    within = by_name["lat"] * mesh.size("lon") + by_name["lon"]
    assert mesh.group(0, "lat", "lon") == list(range(field)), "lat and lon vary fastest here"
    first = (ranks - within).tolist()
    neighbours = [
        (heard[w] + start).tolist() for w, start in zip(within.tolist(), first, strict=True)
    ]
    return Laid(places, neighbours, sent[within] * CHANNELS * BYTES)


def machines(listing: Path | None) -> list[dict[str, object]]:
    """Return the rows of the first table."""
    rows: list[dict[str, object]] = []
    for mesh, shape in MACHINES:
        start = time.perf_counter()
        laid = lay_out(mesh, shape)
        seconds = time.perf_counter() - start
        counts = torch.tensor([len(n) for n in laid.neighbours])
        axes = " x ".join(f"{name}={size}" for name, size in mesh.axes)
        case = f"{mesh.processes} ranks; {axes}; field {shape[0]} x {shape[1]}"
        sent = laid.bytes.double()
        for measure, value in (
            ("seconds to lay out all ranks", seconds),
            ("neighbours, fewest", counts.min().item()),
            ("neighbours, most", counts.max().item()),
            ("bytes sent in a halo exchange, fewest", sent.min().item()),
            ("bytes sent in a halo exchange, mean", sent.mean().item()),
            ("bytes sent in a halo exchange, most", sent.max().item()),
        ):
            rows.append({"table": "machine", "case": case, "measure": measure, "value": value})
        if listing is not None:
            write_ranks(listing, mesh, laid)
    return rows


def write_ranks(listing: Path, mesh: Mesh, laid: Laid) -> None:
    """Append a line for each rank: mesh, rank, place, neighbours, bytes."""
    with listing.open("a", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        axes = "x".join(f"{name}{size}" for name, size in mesh.axes)
        for rank, place in enumerate(laid.coordinates.tolist()):
            heard = " ".join(map(str, laid.neighbours[rank]))
            where = " ".join(map(str, place))
            writer.writerow([axes, rank, where, heard, laid.bytes[rank].item()])


def plans() -> list[dict[str, object]]:
    """Return the rows of the second table."""
    domain = Domain.globe((721, 1440), (8, 8))
    times = []
    for rank in range(64):
        start = time.perf_counter()
        halo_plan(domain, rank, HALO)
        times.append(time.perf_counter() - start)
    case = "721 x 1440 on 64 ranks"
    return [
        {"table": "plan", "case": case, "measure": "seconds, slowest rank", "value": max(times)},
        {"table": "plan", "case": case, "measure": "seconds, all 64 in turn", "value": sum(times)},
    ]


def fake_softmax(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Stand in for softmax attention: of its shape, and with a gradient to all three."""
    return v + 0 * (q + k)


def sequence() -> list[dict[str, object]]:
    """Return the rows of the third table."""
    mesh = Mesh({"replica": 2325, "lat": 4, "lon": 8})
    rows: list[dict[str, object]] = []
    for tokens in TOKENS:
        for name in ("linear attention", "softmax attention by heads"):
            comm = planned(mesh, 70_000).comm("lat", "lon")
            assert isinstance(comm, PlannedComm)
            q, k, v = (torch.rand(1, HEADS, tokens, FEATURES, requires_grad=True) for _ in "qkv")
            if name == "linear attention":
                y = linear_attention(q, k, v, reduce=comm.psum)
            else:
                y = by_heads(fake_softmax, q, k, v, comm)
            y.sum().backward()
            for measure, counts in (("bytes sent", comm.sent), ("messages", comm.calls)):
                case = f"{tokens} tokens a rank, {32 * tokens} in all; {name}"
                total = sum(counts.values())
                rows.append(
                    {"table": "sequence", "case": case, "measure": measure, "value": total}
                )
    return rows


def main() -> None:
    """Print the tables and write them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--list", type=Path, help="write a line for each rank here")
    listing = parser.parse_args().list
    torch.set_num_threads(1)
    rows = machines(listing) + plans() + sequence()
    for row in rows:
        print(f"{row['case']:75} {row['measure']:40} {row['value']:14.6g}")
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    path = Path(__file__).with_name("results") / "mesh.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *record], lineterminator="\n")
        writer.writeheader()
        writer.writerows(row | record for row in rows)


if __name__ == "__main__":
    main()
