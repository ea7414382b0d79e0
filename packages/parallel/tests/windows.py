"""Samples in MPI windows, uneven, read by one rank at a time: mpiexec -n 3 python windows.py."""

import pytest
import torch
from mpi4py import MPI

from stormda.parallel import WindowStore

comm = MPI.COMM_WORLD
counts = [3, 0, 4]
everything = torch.arange(7 * 6.0, dtype=torch.float64).reshape(7, 2, 3)
first = sum(counts[: comm.rank])
store = WindowStore(everything[first : first + counts[comm.rank]], comm)
assert len(store) == 7
for rank in range(comm.size):
    if comm.rank == rank:  # alone: the others are not in a fetch
        wanted = [6, 0, rank, 6]
        assert torch.equal(store.fetch(wanted), everything[wanted])
    comm.Barrier()
with pytest.raises(ValueError, match=r"^indices: expected 0 to 6, got 7$"):
    store.fetch([7])
store.close()
with pytest.raises(ValueError, match=r"^own: expected samples of one shape and dtype on all "):
    WindowStore(torch.ones(1, 2 + comm.rank), comm)
print("read")
