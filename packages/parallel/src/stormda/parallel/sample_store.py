"""Samples kept in the memory of all ranks together, and fetched by number.

Every rank brings a run of consecutive samples; any rank gets any sample from whoever has it,
without touching the disk again. Over a sub-communicator (`mesh.comm("shard")`) every group of
ranks keeps a copy of its own, and nothing travels between groups.

Source: DDStore, Choi et al. (2023), SC-W'23, https://doi.org/10.1145/3624062.3624171.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

import torch
from torch import Tensor

from stormda.parallel.communicator import Communicator


class SampleStore:
    """Samples of one shape and dtype, each in the memory of one rank.

    Args:
        own: What this rank brings, `(n, *sample)`, n different on every rank if need be. It is
            kept, not copied.
        comm: The ranks, all of which make the store together.

    Raises:
        ValueError: On every rank, if samples differ in shape or dtype.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> store = SampleStore(torch.arange(6.0).reshape(3, 2), SelfComm())
        >>> len(store), store.fetch([2, 0]).tolist()
        (3, [[4.0, 5.0], [0.0, 1.0]])
    """

    def __init__(self, own: Tensor, comm: Communicator) -> None:
        self._own, self._comm = own.detach(), comm
        self.firsts = first_samples(self._own, comm)

    def __len__(self) -> int:
        """Return the number of samples of all ranks."""
        return self.firsts[-1]

    def fetch(self, indices: Sequence[int]) -> Tensor:
        """Return samples by number; all ranks call this together, each for its own samples.

        Two all-to-alls: the numbers go to those who have them, the samples come back.

        Args:
            indices: Which ones, in any order and number, repeated if need be.

        Returns:
            `(len(indices), *sample)`, in the order of the indices.

        Raises:
            ValueError: If a sample does not exist. Other ranks then wait for this one in vain.
        """
        owners = [owner_of(index, self.firsts) for index in indices]
        order = sorted(range(len(indices)), key=lambda i: owners[i])  # stable
        size, device = self._comm.size, self._comm.device
        asked = torch.tensor([owners.count(rank) for rank in range(size)], device=device)
        ones = [1] * size
        wanted = self._comm.all_to_all(asked, sent=ones, received=ones).tolist()
        local = [indices[i] - self.firsts[owners[i]] for i in order]
        numbers = torch.tensor(local, dtype=torch.int64, device=device)
        counts = asked.tolist()
        numbers = self._comm.all_to_all(numbers, sent=counts, received=wanted)
        sent = self._own.index_select(0, numbers.to(self._own.device)).to(device)
        arrived = self._comm.all_to_all(sent, sent=wanted, received=counts)
        back = torch.empty(len(order), dtype=torch.int64, device=device)
        back[torch.tensor(order, dtype=torch.int64, device=device)] = torch.arange(
            len(order), device=device
        )
        return arrived.index_select(0, back)


def first_samples(own: Tensor, comm: Communicator) -> list[int]:
    """Return the number of the first sample of every rank, and the number of samples.

    Raises:
        ValueError: On every rank, if samples differ in shape or dtype.

    Examples:
        >>> from stormda.parallel import SelfComm
        >>> first_samples(torch.ones(3, 2), SelfComm())
        [0, 3]
    """
    kind = [own.dim(), own.itemsize, int(own.is_floating_point()), *own.shape[1:]]
    described = torch.tensor([[*kind, *[0] * 12][:12]], dtype=torch.int64, device=comm.device)
    kinds = comm.all_gather(described).tolist()
    if any(other != kinds[0] for other in kinds):
        raise ValueError(
            f"own: expected samples of one shape and dtype on all ranks, got shape "
            f"{tuple(own.shape[1:])} and {own.dtype} on rank {comm.rank}"
        )
    counts = comm.all_gather(torch.tensor([len(own)], device=comm.device)).tolist()
    return [0, *accumulate(counts)]


def owner_of(index: int, firsts: Sequence[int]) -> int:
    """Return the rank that has a sample.

    Raises:
        ValueError: If the sample does not exist.

    Examples:
        >>> owner_of(3, [0, 3, 3, 5])
        2
    """
    if not 0 <= index < firsts[-1]:
        raise ValueError(f"indices: expected 0 to {firsts[-1] - 1}, got {index}")
    return bisect_right(firsts, index) - 1
