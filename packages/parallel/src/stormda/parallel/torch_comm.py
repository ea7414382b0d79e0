"""The communicator over torch.distributed: gloo on processors, NCCL or RCCL on accelerators.

Parts of different lengths are padded to the longest, which every backend can exchange. Floats of
16 bits are summed in 32, so that a sum over many ranks keeps its digits; float64 stays float64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from stormda.parallel.collectives import widened
from stormda.parallel.communicator import Communicator, refuse_grad
from stormda.parallel.sizes import (
    check_root,
    check_subgroup,
    exchanged_sizes,
    gathered_sizes,
    split_sizes,
)


class TorchComm(Communicator):
    """A process group of torch.distributed.

    Args:
        group: The group; None for all processes. This process must belong to it.
        device: Where the tensors are.
        timeout: How long a collective of a subgroup waits for the other ranks; the group has
            its own.

    Raises:
        ValueError: If this process does not belong to the group.

    Examples:
        >>> import tempfile
        >>> with tempfile.NamedTemporaryFile() as file:
        ...     dist.init_process_group(
        ...         "gloo", init_method=f"file://{file.name}", rank=0, world_size=1
        ...     )
        ...     comm = TorchComm()
        ...     print(comm.all_reduce(torch.ones(2)))
        ...     dist.destroy_process_group()
        tensor([1., 1.])
    """

    def __init__(
        self,
        group: dist.ProcessGroup | None = None,
        device: torch.device | None = None,
        timeout: timedelta = timedelta(minutes=10),
    ) -> None:
        group = dist.group.WORLD if group is None else group
        if group is None or dist.get_rank(group) < 0:
            raise ValueError(
                "group: expected a process group that this process belongs to, got "
                f"{'none, and torch.distributed is not started' if group is None else group}"
            )
        self._group, self._timeout = group, timeout
        self.rank, self.size = dist.get_rank(group), dist.get_world_size(group)
        self.device = device or torch.device("cpu")

    @property
    def group(self) -> dist.ProcessGroup:
        """The process group, for libraries that take one."""
        return self._group

    def close(self) -> None:
        """Let go of the group, which ends with its last holder."""
        if hasattr(self, "_group"):
            del self._group

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return the sum of every rank's `x`."""
        total = widened(refuse_grad(x)).clone(memory_format=torch.contiguous_format)
        dist.all_reduce(total, group=self._group)
        return total.to(x.dtype)

    def all_gather(self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None) -> Tensor:
        """Return every rank's `x` joined along `dim`."""
        known = gathered_sizes(refuse_grad(x), self, dim, sizes)
        part = _padded(x.movedim(dim, 0), max(known))
        parts = part.new_empty(self.size * len(part), *part.shape[1:])
        _either("all_gather_single", "all_gather_into_tensor")(parts, part, group=self._group)
        kept = [p[:n] for p, n in zip(parts.chunk(self.size), known, strict=True)]
        return torch.cat(kept).movedim(0, dim).contiguous()

    def reduce_scatter(
        self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None
    ) -> Tensor:
        """Return this rank's part along `dim` of the sum of every rank's `x`."""
        known = split_sizes(refuse_grad(x), self, dim, sizes)
        parts = widened(x).movedim(dim, 0).split_with_sizes(known)
        addend = torch.cat([_padded(part, max(known)) for part in parts])
        total = addend.new_empty(max(known), *addend.shape[1:])
        _either("reduce_scatter_single", "reduce_scatter_tensor")(total, addend, group=self._group)
        return total[: known[self.rank]].to(x.dtype).movedim(0, dim).contiguous()

    def start_all_to_all(
        self, x: Tensor, *, sent: Sequence[int], received: Sequence[int]
    ) -> Callable[[], Tensor]:
        """Start the exchange along dim 0, which goes on in gloo's threads or on NCCL's stream."""
        leaving, arriving = exchanged_sizes(refuse_grad(x), self, 0, sent, received)
        parts = x.contiguous()
        arrived = parts.new_empty(sum(arriving), *parts.shape[1:])
        work = dist.all_to_all_single(
            arrived, parts, arriving, leaving, group=self._group, async_op=True
        )

        def finish() -> Tensor:
            work.wait()
            return arrived

        return finish

    def broadcast(self, x: Tensor, *, root: int = 0) -> Tensor:
        """Return the `x` of rank `root`."""
        check_root(root, self)
        copy = refuse_grad(x).clone(memory_format=torch.contiguous_format)
        dist.broadcast(copy, dist.get_global_rank(self._group, root), group=self._group)
        return copy

    def barrier(self) -> None:
        """Wait until every rank is here, this process's queued device work included."""
        float(self.all_reduce(torch.zeros((), device=self.device)))

    def subgroup(self, ranks: Sequence[int]) -> TorchComm:
        """Return the communicator of some of the ranks."""
        check_subgroup(ranks, self)
        chosen = [dist.get_global_rank(self._group, rank) for rank in ranks]
        group = dist.new_group(chosen, timeout=self._timeout, use_local_synchronization=True)
        return TorchComm(group, self.device, self._timeout)


def _padded(x: Tensor, length: int) -> Tensor:
    """Return `x` with zeros after it up to a length, contiguous."""
    return (
        x.contiguous()
        if len(x) == length
        else torch.cat([x, x.new_zeros(length - len(x), *x.shape[1:])])
    )


def _either(name: str, older: str) -> Callable[..., Any]:
    """Return a function of torch.distributed that was renamed (torch 2.13)."""
    function: Callable[..., Any] = getattr(dist, name, None) or getattr(dist, older)
    return function
