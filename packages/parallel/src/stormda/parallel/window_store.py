"""Samples in MPI windows: a rank reads another's memory, and nobody has to answer.

Like `SampleStore`, but `fetch` is not collective: each rank asks whenever it wants, as data
loading threads and uneven numbers of batches do. Needs mpi4py (the extra `mpi`).

Source: DDStore, Choi et al. (2023), SC-W'23, https://doi.org/10.1145/3624062.3624171.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from stormda.parallel.sample_store import owner_of
from stormda.parallel.tensor_file import bytes_of


class WindowStore:
    """Samples of one shape and dtype, each in the memory of one rank, read one-sidedly.

    Args:
        own: What this rank brings, `(n, *sample)`. It is copied into the window.
        comm: An mpi4py communicator, such as `MPI.COMM_WORLD`, all of whose ranks make and close
            the store together.

    Raises:
        ImportError: If mpi4py or an MPI library is not installed.
        ValueError: On every rank, if samples differ in shape or dtype.
    """

    def __init__(self, own: Tensor, comm: Any) -> None:  # noqa: ANN401
        self._mpi = _mpi()
        self._shape, self._dtype = tuple(own.shape[1:]), own.dtype
        kinds = comm.allgather((self._shape, str(own.dtype)))
        if any(kind != kinds[0] for kind in kinds):
            raise ValueError(
                f"own: expected samples of one shape and dtype on all ranks, got {kinds}"
            )
        self.firsts = [0]
        for count in comm.allgather(len(own)):
            self.firsts.append(self.firsts[-1] + count)
        self._kept = own.detach().cpu().contiguous().clone()
        self._nbytes = own.itemsize * torch.Size(self._shape).numel()
        self._window = self._mpi.Win.Create(bytes_of(self._kept), 1, comm=comm)
        self._window.Lock_all()

    def __len__(self) -> int:
        """Return the number of samples of all ranks."""
        return self.firsts[-1]

    def fetch(self, indices: Sequence[int]) -> Tensor:
        """Return samples by number, `(len(indices), *sample)`; no other rank takes part.

        Raises:
            ValueError: If a sample does not exist.
        """
        owners = [owner_of(index, self.firsts) for index in indices]
        found = torch.empty(len(indices), *self._shape, dtype=self._dtype)
        for row, index, owner in zip(found, indices, owners, strict=True):
            target = (index - self.firsts[owner]) * self._nbytes, self._nbytes, self._mpi.BYTE
            self._window.Get((bytes_of(row), self._mpi.BYTE), owner, target)
        for owner in set(owners):
            self._window.Flush(owner)
        return found

    def close(self) -> None:
        """Give the window back; all ranks call this together."""
        self._window.Unlock_all()
        self._window.Free()


def _mpi() -> Any:  # noqa: ANN401
    try:
        from mpi4py import MPI
    except (ImportError, RuntimeError) as error:  # RuntimeError: no MPI library
        raise ImportError(
            "stormda.parallel.window_store needs mpi4py and MPI: "
            "pip install 'stormda-parallel[mpi]'"
        ) from error
    return MPI
