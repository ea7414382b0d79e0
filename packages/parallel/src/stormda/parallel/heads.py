"""One trunk on all ranks, and one head for each source of data on some of them only.

    rank        0     1     2     3     4     5
    trunk       t     t     t     t     t     t      gradients summed over all ranks
    head        era5  era5  era5  era5  hrrr  hrrr   gradients summed over its holders

The ranks of an axis are shared out in proportion to the samples of the sources, so that all of
them finish an epoch at about the same time; memory and traffic of a head do not grow with the
number of sources. Fewer ranks than sources hold several heads each.

Source: multi-task parallelism of HydraGNN, Lupo Pasini et al. (2025),
https://arxiv.org/abs/2506.21788.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from torch import Tensor, nn

from stormda.parallel.communicator import Communicator, SelfComm
from stormda.parallel.launch import StartedMesh


@dataclass(frozen=True, kw_only=True)
class Holders:
    """The ranks that hold a head."""

    axis: str
    """The mesh axis along which they are some of the ranks."""

    comm: Communicator
    """These ranks, in the order of the axis."""


def share_ranks(samples: Mapping[str, int], ranks: int) -> dict[str, range]:
    """Return which ranks hold the head of each source.

    As many ranks go to a source as keeps the largest number of samples for one rank smallest.

    Args:
        samples: The number of samples of every source, positive.
        ranks: How many ranks there are.

    Raises:
        ValueError: If there is no source, or one without samples.

    Examples:
        >>> share_ranks({"era5": 900, "hrrr": 300}, 4)
        {'era5': range(0, 3), 'hrrr': range(3, 4)}
        >>> share_ranks({"era5": 900, "hrrr": 300, "buoys": 500}, 2)
        {'era5': range(0, 1), 'hrrr': range(1, 2), 'buoys': range(1, 2)}
    """
    if not samples or min(samples.values()) < 1:
        raise ValueError(f"samples: expected positive numbers, got {dict(samples)}")
    if ranks < 1:
        raise ValueError(f"ranks: expected at least 1, got {ranks}")
    if ranks < len(samples):
        return _share_sources(samples, ranks)
    counts = dict.fromkeys(samples, 1)
    for _ in range(ranks - len(samples)):
        busiest = max(samples, key=lambda source: samples[source] / counts[source])
        counts[busiest] += 1
    shared: dict[str, range] = {}
    first = 0
    for source, count in counts.items():
        shared[source] = range(first, first + count)
        first += count
    return shared


class SourceHeads(nn.Module):
    """The heads that this rank holds, on top of a trunk that all ranks share.

    Args:
        samples: The number of samples of every source.
        make: Makes the head of a source, from weights that depend on the source only.
        mesh: The ranks; all of them make the heads together.
        axis: The axis whose ranks are shared out among the sources.

    Attributes:
        sources: The sources whose heads are here, and whose samples this rank is to read.
        shared: Which coordinates of the axis hold each source.
        holders: The communicator of every head that is here.

    Examples:
        >>> import torch
        >>> from stormda.parallel import Mesh, launch
        >>> mesh = launch(Mesh({"replica": 1}), environment={})
        >>> heads = SourceHeads({"era5": 9, "hrrr": 3}, lambda source: nn.Linear(4, 2), mesh)
        >>> heads(torch.ones(1, 4), "hrrr").shape
        torch.Size([1, 2])
    """

    def __init__(
        self,
        samples: Mapping[str, int],
        make: Callable[[str], nn.Module],
        mesh: StartedMesh,
        axis: str = "replica",
    ) -> None:
        super().__init__()
        here = mesh.coordinate(axis)
        self.shared = share_ranks(samples, mesh.size(axis))
        self.sources = [source for source, ranks in self.shared.items() if here in ranks]
        self.heads = nn.ModuleDict({source: make(source) for source in self.sources})
        self.holders = {
            source: Holders(axis=axis, comm=_group(mesh.comm(axis), self.shared[source]))
            for source in self.sources
        }

    def forward(self, x: Tensor, source: str) -> Tensor:
        """Return what the head of a source makes of the trunk's output.

        Raises:
            ValueError: If this rank does not hold that head.
        """
        if source not in self.heads:
            raise ValueError(
                f"source: expected one whose head is on this rank, {', '.join(self.sources)}, "
                f"got {source!r}"
            )
        y: Tensor = self.heads[source](x)
        return y


def held_parameters(module: nn.Module) -> dict[str, Holders]:
    """Return who holds the parameters that not all ranks hold, by the parameters' full names.

    Examples:
        >>> held_parameters(nn.Linear(2, 2))
        {}
    """
    return {
        f"{prefix}.heads.{source}.{name}".lstrip("."): layer.holders[source]
        for prefix, layer in module.named_modules()
        if isinstance(layer, SourceHeads)
        for source, head in layer.heads.items()
        for name, _ in head.named_parameters()
    }


def _share_sources(samples: Mapping[str, int], ranks: int) -> dict[str, range]:
    """Give every source, the largest first, to the rank that has the fewest samples so far."""
    loads = [0] * ranks
    shared: dict[str, range] = {}
    for source in sorted(samples, key=lambda source: -samples[source]):
        rank = loads.index(min(loads))
        loads[rank] += samples[source]
        shared[source] = range(rank, rank + 1)
    return {source: shared[source] for source in samples}


def _group(comm: Communicator, ranks: range) -> Communicator:
    if len(ranks) == comm.size:
        return comm
    if len(ranks) == 1:
        return SelfComm(comm.device)
    return comm.subgroup(ranks)
