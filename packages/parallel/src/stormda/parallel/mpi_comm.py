"""The communicator over MPI, by mpi4py: `pip install 'stormda-parallel[mpi]'`.

Tensors are handed to MPI where they lie in memory; those on an accelerator travel by way of the
host. Floats of 16 bits, which MPI does not know, are moved as bytes and summed in 32 bits. Every
collective is a non-blocking one that is polled, as MPI itself would wait for ever: a rank that
does not come is noticed after the timeout. MPI moves messages while it is polled, so that an
exchange that was started goes on during computation only as far as the network, or a progress
thread of the library (`MPICH_ASYNC_PROGRESS=1`), carries it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import accumulate
from typing import TYPE_CHECKING, Any

import torch
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

if TYPE_CHECKING:
    from mpi4py import MPI

_SUMMED = {
    torch.float32: "FLOAT",
    torch.float64: "DOUBLE",
    torch.complex64: "C_FLOAT_COMPLEX",
    torch.complex128: "C_DOUBLE_COMPLEX",
    torch.uint8: "UINT8_T",
    torch.int8: "INT8_T",
    torch.int16: "INT16_T",
    torch.int32: "INT32_T",
    torch.int64: "INT64_T",
}


class MpiComm(Communicator):
    """Ranks of MPI.

    Args:
        comm: The communicator; None for all processes.
        device: Where the tensors are.
        timeout: How long a collective waits for the other ranks.

    Raises:
        ImportError: If mpi4py is missing, or finds no MPI library.
    """

    def __init__(
        self,
        comm: MPI.Intracomm | None = None,
        device: torch.device | None = None,
        timeout: timedelta = timedelta(minutes=10),
    ) -> None:
        self._mpi = load_mpi()
        self._comm = self._mpi.COMM_WORLD if comm is None else comm
        self.rank, self.size = self._comm.Get_rank(), self._comm.Get_size()
        self.device = device or torch.device("cpu")
        self._timeout = timeout

    def all_reduce(self, x: Tensor) -> Tensor:
        """Return the sum of every rank's `x`."""
        addend = _summable(refuse_grad(x))
        total = torch.empty_like(addend)
        self._wait(self._comm.Iallreduce(self._numbers(addend), self._numbers(total)))
        return total.to(x.device, x.dtype)

    def all_gather(self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None) -> Tensor:
        """Return every rank's `x` joined along `dim`."""
        known = gathered_sizes(refuse_grad(x), self, dim, sizes)
        part = _on_host(x.movedim(dim, 0))
        whole = part.new_empty(sum(known), *part.shape[1:])
        arriving = self._bytes(whole, known)
        self._wait(self._comm.Iallgatherv(self._bytes(part), arriving))
        return whole.to(x.device).movedim(0, dim).contiguous()

    def reduce_scatter(
        self, x: Tensor, *, dim: int = 0, sizes: Sequence[int] | None = None
    ) -> Tensor:
        """Return this rank's part along `dim` of the sum of every rank's `x`."""
        known = split_sizes(refuse_grad(x), self, dim, sizes)
        addend = _summable(x.movedim(dim, 0))
        row = addend[:1].numel()
        total = addend.new_empty(known[self.rank], *addend.shape[1:])
        self._wait(
            self._comm.Ireduce_scatter(
                self._numbers(addend), self._numbers(total), [row * n for n in known]
            )
        )
        return total.to(x.device, x.dtype).movedim(0, dim).contiguous()

    def start_all_to_all(
        self, x: Tensor, *, sent: Sequence[int], received: Sequence[int]
    ) -> Callable[[], Tensor]:
        """Start the exchange along dim 0."""
        leaving, arriving = exchanged_sizes(refuse_grad(x), self, 0, sent, received)
        parts = _on_host(x)
        arrived = parts.new_empty(sum(arriving), *parts.shape[1:])
        request = self._comm.Ialltoallv(
            self._bytes(parts, leaving), self._bytes(arrived, arriving)
        )

        def finish() -> Tensor:
            self._wait(request)
            return arrived.to(x.device)

        return finish

    def broadcast(self, x: Tensor, *, root: int = 0) -> Tensor:
        """Return the `x` of rank `root`."""
        check_root(root, self)
        copy = _on_host(refuse_grad(x)).clone()
        self._wait(self._comm.Ibcast(self._bytes(copy), root))
        return copy.to(x.device)

    def barrier(self) -> None:
        """Wait until every rank is here, this process's queued device work included."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        self._wait(self._comm.Ibarrier())

    def subgroup(self, ranks: Sequence[int]) -> MpiComm:
        """Return the communicator of some of the ranks."""
        check_subgroup(ranks, self)
        chosen = self._comm.Create_group(self._comm.group.Incl(list(ranks)))
        return MpiComm(chosen, self.device, self._timeout)

    def free(self) -> None:
        """Give the communicator back to MPI, all ranks together."""
        if self._comm != self._mpi.COMM_WORLD:
            self._comm.Free()

    def _numbers(self, x: Tensor) -> list[Any]:
        """Return what MPI needs to sum a tensor."""
        return [self._memory(x), x.numel(), getattr(self._mpi, _SUMMED[x.dtype])]

    def _bytes(self, x: Tensor, sizes: Sequence[int] | None = None) -> list[Any]:
        """Return what MPI needs to move a tensor, or the parts of it of `sizes` rows each."""
        if sizes is None:
            return [self._memory(x), x.nbytes, self._mpi.BYTE]
        row = x[:1].nbytes if len(x) else 0
        counts = [row * n for n in sizes]
        return [
            self._memory(x),
            (counts, list(accumulate(counts, initial=0))[:-1]),
            self._mpi.BYTE,
        ]

    def _memory(self, x: Tensor) -> Any:  # noqa: ANN401
        return self._mpi.buffer.fromaddress(x.data_ptr(), x.nbytes)

    def _wait(self, request: MPI.Request) -> None:
        """Poll until all ranks have come.

        Raises:
            TimeoutError: If they do not in time.
        """
        deadline = time.monotonic() + self._timeout.total_seconds()
        while not request.Test():
            if time.monotonic() > deadline:
                raise TimeoutError(
                    f"rank {self.rank} of {self.size}: expected the other ranks within "
                    f"{self._timeout.total_seconds():g} s, got no sign of them"
                )
            time.sleep(0)  # lets ranks that share a core go on


def load_mpi() -> Any:  # noqa: ANN401
    """Return the MPI module of mpi4py; the first import starts MPI.

    Raises:
        ImportError: If mpi4py is missing, or finds no MPI library.
    """
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # mpi4py without a library: RuntimeError
        raise ImportError(
            f"stormda.parallel over MPI needs mpi4py and an MPI library: "
            f"pip install 'stormda-parallel[mpi]' ({error})"
        ) from error
    return MPI


def _on_host(x: Tensor) -> Tensor:
    return x.detach().to("cpu").contiguous()


def _summable(x: Tensor) -> Tensor:
    """Return a tensor of a dtype that MPI can sum."""
    return _on_host(x.int() if x.dtype == torch.bool else widened(x))
