"""What a set of ranks can do together, whichever library carries the messages.

The plain collectives are out of place, keep dtype and device, and refuse tensors that require
grad: whether the gradient of a sum over ranks is to be summed again depends on what follows, and
only the caller knows (see `stormda.parallel.collectives`, whose functions are methods here too).
Every rank calls the same collectives in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor

from stormda.parallel import collectives
from stormda.parallel.sizes import (
    check_root,
    check_subgroup,
    exchanged_sizes,
    gathered_sizes,
    split_sizes,
)


class Communicator(Protocol):
    """Ranks that exchange tensors. A new backend derives from this and adds the plain half."""

    rank: int
    """The number of this process among the ranks, from 0."""

    size: int
    """How many ranks there are."""

    device: torch.device
    """Where the tensors are that are exchanged."""

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return the sum of every rank's `x`, of one shape; 16-bit floats are summed in 32."""
        ...

    def all_gather(self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None) -> Tensor:
        """Return every rank's `x` joined along `dim`; `sizes` are its lengths if they differ."""
        ...

    def reduce_scatter(
        self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None
    ) -> Tensor:
        """Return this rank's part along `dim` of the sum of every rank's `x`, of one shape."""
        ...

    def start_all_to_all(
        self, x: Tensor, *, sent: Sequence[int], received: Sequence[int]
    ) -> Callable[[], Tensor]:
        """Start `all_to_all` along dim 0; calling the result waits for it and returns it."""
        ...

    def all_to_all(
        self, x: Tensor, *, sent: Sequence[int], received: Sequence[int], dim: int = 0
    ) -> Tensor:
        """Send the r-th of the `sent` parts of `x` to rank r; join what arrives in rank order."""
        exchanged_sizes(x, self, dim, sent, received)
        finish = self.start_all_to_all(x.movedim(dim, 0), sent=sent, received=received)
        return finish().movedim(0, dim).contiguous()

    def broadcast(self, x: Tensor, *, root: int = 0) -> Tensor:
        """Return the `x` of rank `root`; the others pass a tensor of its shape and dtype."""
        ...

    def barrier(self) -> None:
        """Wait until every rank is here."""
        ...

    def subgroup(self, ranks: Sequence[int]) -> Communicator:
        """Return the communicator of some of the ranks, made by these alone; this is one."""
        ...

    def close(self) -> None:
        """Let go of what connects the ranks; nothing can be sent afterwards."""
        return

    def psum(self, x: Tensor) -> Tensor:
        """See `stormda.parallel.psum`."""
        return collectives.psum(x, self)

    def copy_in(self, x: Tensor) -> Tensor:
        """See `stormda.parallel.copy_in`."""
        return collectives.copy_in(x, self)

    def reduce_out(self, x: Tensor) -> Tensor:
        """See `stormda.parallel.reduce_out`."""
        return collectives.reduce_out(x, self)

    def gather(self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None) -> Tensor:
        """See `stormda.parallel.gather`."""
        return collectives.gather(x, self, dim=dim, sizes=sizes)

    def gather_invariant(
        self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None
    ) -> Tensor:
        """See `stormda.parallel.gather_invariant`."""
        return collectives.gather_invariant(x, self, dim=dim, sizes=sizes)

    def scatter_sum(
        self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None
    ) -> Tensor:
        """See `stormda.parallel.scatter_sum`."""
        return collectives.scatter_sum(x, self, dim=dim, sizes=sizes)

    def split(self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None) -> Tensor:
        """See `stormda.parallel.split`."""
        return collectives.split(x, self, dim=dim, sizes=sizes)


class SelfComm(Communicator):
    """The one rank of a serial run: every collective returns a copy of its input.

    Args:
        device: Where the tensors are.

    Examples:
        >>> comm = SelfComm()
        >>> comm.rank, comm.size, comm.all_reduce(torch.ones(2))
        (0, 1, tensor([1., 1.]))
    """

    def __init__(self, device: torch.device | None = None) -> None:
        self.rank, self.size = 0, 1
        self.device = device or torch.device("cpu")

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return a copy of `x`."""
        return refuse_grad(x).clone()

    def all_gather(self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None) -> Tensor:
        """Return a copy of `x`."""
        gathered_sizes(x, self, dim, sizes)
        return refuse_grad(x).clone()

    def reduce_scatter(
        self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None
    ) -> Tensor:
        """Return a copy of `x`."""
        split_sizes(x, self, dim, sizes)
        return refuse_grad(x).clone()

    def start_all_to_all(
        self, x: Tensor, *, sent: Sequence[int], received: Sequence[int]
    ) -> Callable[[], Tensor]:
        """Return a function that returns a copy of `x`."""
        exchanged_sizes(x, self, 0, sent, received)
        return refuse_grad(x).clone

    def broadcast(self, x: Tensor, *, root: int = 0) -> Tensor:
        """Return a copy of `x`."""
        check_root(root, self)
        return refuse_grad(x).clone()

    def barrier(self) -> None:
        """Return at once."""

    def subgroup(self, ranks: Sequence[int]) -> SelfComm:
        """Return a communicator of this rank."""
        check_subgroup(ranks, self)
        return SelfComm(self.device)


def refuse_grad(x: Tensor) -> Tensor:
    """Return `x` if a plain collective may take it.

    Raises:
        ValueError: If it requires grad.

    Examples:
        >>> refuse_grad(torch.ones(1))
        tensor([1.])
    """
    if x.requires_grad:
        raise ValueError(
            "x: expected a tensor that does not require grad, got one that does; use psum, "
            "gather, exchange or another function of stormda.parallel, or detach it"
        )
    return x
