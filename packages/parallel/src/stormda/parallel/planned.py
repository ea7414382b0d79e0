"""A mesh of any number of ranks in one process: who sits where, and how many bytes each sends.

    mesh = planned(Mesh({"replica": 2325, "lat": 4, "lon": 8}), rank=70_000)

gives the mesh that rank 70,000 of 74,400 would have. Its communicators send nothing: what other
ranks would send is zeros of the right shape. They count instead what this rank would send, so that
a step of the real program, run once, tells its communication. Bytes are those of the algorithms
that move least, which libraries come near for large messages:

    all_reduce 2 n (p - 1) / p    reduce_scatter n (p - 1) / p    all_gather n (p - 1), n a part
    all_to_all what leaves for other ranks                        broadcast n

Source: Chan et al. (2007), Collective communication: theory, practice, and experience,
Concurrency Computat.: Pract. Exper. 19(13), table I, https://doi.org/10.1002/cpe.1206.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from stormda.parallel.collectives import widened
from stormda.parallel.communicator import Communicator, refuse_grad
from stormda.parallel.launch import StartedMesh
from stormda.parallel.mesh import Mesh
from stormda.parallel.placement import Placement
from stormda.parallel.sizes import (
    check_root,
    check_subgroup,
    exchanged_sizes,
    gathered_sizes,
    split_sizes,
)


class PlannedComm(Communicator):
    """One of many ranks of which the others do not exist: it counts and sends nothing.

    Args:
        rank: The number of this rank.
        size: How many ranks there would be.
        device: Where the tensors are.

    Raises:
        ValueError: If there is no such rank.

    Examples:
        >>> comm = PlannedComm(5, 1000)
        >>> total = comm.all_reduce(torch.ones(250))
        >>> comm.calls["all_reduce"], round(comm.sent["all_reduce"])
        (1, 1998)
    """

    def __init__(self, rank: int, size: int, device: torch.device | None = None) -> None:
        if not 0 <= rank < size:
            raise ValueError(f"rank: expected 0 to {size - 1}, got {rank}")
        self.rank, self.size = rank, size
        self.device = device or torch.device("cpu")
        self.calls: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return a copy of `x`, as if the others had zeros."""
        self._count("all_reduce", 2 * widened(x).nbytes * (self.size - 1) // self.size)
        return refuse_grad(x).clone()

    def all_gather(self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None) -> Tensor:
        """Return `x` among zeros."""
        known = gathered_sizes(refuse_grad(x), self, dim, sizes)
        self._count("all_gather", x.nbytes * (self.size - 1))
        parts = x.movedim(dim, 0)
        whole = parts.new_zeros(sum(known), *parts.shape[1:])
        start = sum(known[: self.rank])
        whole[start : start + len(parts)] = parts
        return whole.movedim(0, dim).contiguous()

    def reduce_scatter(
        self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None
    ) -> Tensor:
        """Return this rank's part of `x`."""
        known = split_sizes(refuse_grad(x), self, dim, sizes)
        own = x.split_with_sizes(known, dim)[self.rank].clone()
        self._count("reduce_scatter", widened(x).nbytes - widened(own).nbytes)
        return own

    def start_all_to_all(
        self, x: Tensor, *, sent: Sequence[int], received: Sequence[int]
    ) -> Callable[[], Tensor]:
        """Return a function that returns this rank's part to itself among zeros."""
        leaving, arriving = exchanged_sizes(refuse_grad(x), self, 0, sent, received)
        own = x.split_with_sizes(leaving)[self.rank].clone()
        self._count("all_to_all", x.nbytes - own.nbytes)

        def finish() -> Tensor:
            before = sum(arriving[: self.rank])
            after = sum(arriving) - before - len(own)
            around = (own.new_zeros(n, *own.shape[1:]) for n in (before, after))
            first, last = around
            return torch.cat([first, own, last])

        return finish

    def broadcast(self, x: Tensor, *, root: int = 0) -> Tensor:
        """Return a copy of `x`."""
        check_root(root, self)
        self._count("broadcast", x.nbytes)
        return refuse_grad(x).clone()

    def barrier(self) -> None:
        """Return at once."""

    def subgroup(self, ranks: Sequence[int]) -> PlannedComm:
        """Return one of the communicators of these ranks."""
        check_subgroup(ranks, self)
        return PlannedComm(list(ranks).index(self.rank), len(ranks), self.device)

    def _count(self, name: str, sent: int) -> None:
        self.calls[name] += 1
        self.sent[name] += sent


def planned(mesh: Mesh, rank: int, *, device: torch.device | None = None) -> StartedMesh:
    """Return the mesh that one of many ranks would have, in this process alone.

    Args:
        mesh: The axes, none of them -1.
        rank: The rank.
        device: Where the tensors are; the meta device holds no numbers.

    Raises:
        ValueError: If there is no such rank.

    Examples:
        >>> mesh = planned(Mesh({"replica": 2325, "lat": 4, "lon": 8}), rank=70_000)
        >>> mesh.coordinate("replica"), mesh.comm("lat", "lon").rank, mesh.world.size
        (2187, 16, 74400)
    """
    device = device or torch.device("cpu")
    place = mesh.coordinates(rank)
    comms = {}
    for axes in mesh.subsets():
        within = 0
        for axis in axes:
            within = within * mesh.size(axis) + place[axis]
        size = Mesh({axis: mesh.size(axis) for axis in axes}).processes
        comms[axes] = PlannedComm(within, size, device)
    placement = Placement(launcher="a plan", rank=rank, size=mesh.processes)
    return StartedMesh(mesh, placement, device, comms, session=None)
