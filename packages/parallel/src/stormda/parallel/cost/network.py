"""How long collectives take: latencies and bytes, in the node and between nodes.

For p ranks, k nodes of m ranks each (p = k m), n bytes of the gathered or summed whole, and a link
of latency a and bandwidth B:

    ring               (p - 1) a      + (p - 1)/p n/B
    doubling           log2(p) a      + (p - 1)/p n/B
    all_gather         the better of both between nodes, then a ring in the node
    reduce_scatter     the same backwards
    all_reduce         one after the other, or for short messages 2 log2(p) a + 2 log2(p) n/B

Source: Thakur et al. (2005), Optimization of collective communication operations in MPICH,
IJHPCA 19, sections 3-4, https://doi.org/10.1177/1094342005051521.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import ceil, log2

from stormda.parallel.cost.machine import Link, Machine


@dataclass(frozen=True, kw_only=True)
class Group:
    """Ranks that talk, and how they lie on the nodes."""

    ranks: int
    """How many."""

    per_node: int
    """How many of them share a node; all other devices of the node do the same elsewhere."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 1 <= self.per_node <= self.ranks:
            raise ValueError(
                f"per_node: expected 1 to the number of ranks, {self.ranks}, got {self.per_node}"
            )

    @classmethod
    def of(cls, machine: Machine, ranks: int, stride: int) -> Group:
        """Return the group of ranks that are a stride apart.

        Examples:
            >>> from stormda.parallel.cost import FRONTIER
            >>> Group.of(FRONTIER, 64, 2)
            Group(ranks=64, per_node=4)
        """
        return cls(ranks=ranks, per_node=min(ranks, max(1, machine.devices_per_node // stride)))

    @property
    def nodes(self) -> int:
        """Over how many nodes they are spread."""
        return ceil(self.ranks / self.per_node)


def all_gather_seconds(machine: Machine, group: Group, nbytes: float) -> float:
    """Return the time to gather a whole of `nbytes` on every rank [s].

    Examples:
        >>> from stormda.parallel.cost import FRONTIER
        >>> round(1e3 * all_gather_seconds(FRONTIER, Group(ranks=64, per_node=8), 64e6), 1)
        2.5
    """
    between = _joined(_share(machine, group), group.nodes, nbytes)
    return between + _joined(machine.node, group.per_node, nbytes)


def reduce_scatter_seconds(machine: Machine, group: Group, nbytes: float) -> float:
    """Return the time to sum a whole of `nbytes` and leave every rank its part [s].

    Examples:
        >>> from stormda.parallel.cost import FRONTIER
        >>> round(1e3 * reduce_scatter_seconds(FRONTIER, Group(ranks=64, per_node=8), 64e6), 1)
        2.5
    """
    return all_gather_seconds(machine, group, nbytes)


def all_reduce_seconds(machine: Machine, group: Group, nbytes: float) -> float:
    """Return the time to sum a whole of `nbytes` on every rank [s].

    Examples:
        >>> from stormda.parallel.cost import FRONTIER
        >>> round(1e3 * all_reduce_seconds(FRONTIER, Group(ranks=32768, per_node=8), 64e3), 2)
        0.41
    """
    long = 2 * all_gather_seconds(machine, group, nbytes)
    inside, between = machine.node, _share(machine, group)
    short = log2(group.per_node) * inside.seconds(nbytes) if group.per_node > 1 else 0.0
    short += log2(group.nodes) * between.seconds(nbytes) if group.nodes > 1 else 0.0
    return min(long, 2 * short)


def all_to_all_seconds(machine: Machine, group: Group, nbytes: float) -> float:
    """Return the time in which every rank sends `nbytes`, a share to each of the others [s].

    Examples:
        >>> from stormda.parallel.cost import FRONTIER
        >>> all_to_all_seconds(FRONTIER, Group(ranks=1, per_node=1), 1e6)
        0.0
    """
    p, m = group.ranks, group.per_node
    away = _share(machine, group)
    inside = (m - 1) * machine.node.latency + (m - 1) / p * nbytes / machine.node.bandwidth
    return inside + (p - m) * away.latency / m + (p - m) / p * nbytes * m / away.bandwidth


def _share(machine: Machine, group: Group) -> Link:
    """Return the way between nodes as one of the groups on a node has it."""
    groups = machine.devices_per_node / group.per_node
    return Link(
        latency=machine.network.latency, bandwidth=machine.network.bandwidth / max(1.0, groups)
    )


def _joined(link: Link, places: int, nbytes: float) -> float:
    """Return the time to gather over some places, by the better of a ring and doubling."""
    if places == 1:
        return 0.0
    messages = min(places - 1, ceil(log2(places)))
    return messages * link.latency + (places - 1) / places * nbytes / link.bandwidth
