"""Processes started by mpirun or srun: who they are, where they meet, how they end together."""

from __future__ import annotations

import socket
import sys
import time
from datetime import timedelta
from typing import Any, NoReturn

import torch.distributed as dist

from stormda.parallel.mpi_comm import load_mpi
from stormda.parallel.placement import Placement


def mpi_placement(told: Placement) -> Placement:
    """Return the place of this process in MPI.

    Args:
        told: What the environment says.

    Raises:
        ImportError: If mpi4py is missing, or finds no MPI library.
        ValueError: If MPI knows of another number of processes than the environment.
    """
    world = load_mpi().COMM_WORLD
    rank, size = world.Get_rank(), world.Get_size()
    if size != told.size:
        raise ValueError(
            f"backend: expected MPI to connect the {told.size} processes that {told.launcher} "
            f"started, got {size}; start them with the mpirun of the MPI that mpi4py uses, or "
            "with srun --mpi=pmi2"
        )
    node = world.Split_type(load_mpi().COMM_TYPE_SHARED, rank)
    local_rank = node.Get_rank()
    node.Free()
    return Placement(
        launcher=f"{told.launcher} over MPI", rank=rank, size=size, local_rank=local_rank
    )


def meet_by_mpi(placement: Placement, timeout: timedelta) -> Any:  # noqa: ANN401
    """Return the store at which the processes of torch.distributed find each other.

    Rank 0 takes a free port and MPI tells the others.

    Raises:
        ImportError: If mpi4py is missing, or finds no MPI library.
        ValueError: If MPI knows of another number of processes than the environment.
    """
    mpi_placement(placement)
    mpi: Any = load_mpi()
    node = mpi.COMM_WORLD.Split_type(mpi.COMM_TYPE_SHARED)
    host = "127.0.0.1" if node.Get_size() == placement.size else socket.getfqdn()
    node.Free()
    if placement.rank:
        host, port = mpi.COMM_WORLD.bcast(None)
        return dist.TCPStore(host, port, placement.size, False, timeout)  # type: ignore[attr-defined]
    listening = socket.socket()
    listening.bind(("", 0))
    listening.listen()
    port = listening.getsockname()[1]
    store = dist.TCPStore(  # type: ignore[attr-defined]
        host,
        port,
        placement.size,
        True,
        timeout,
        wait_for_workers=False,
        master_listen_fd=listening.detach(),
    )
    mpi.COMM_WORLD.bcast((host, port))
    return store


LAST_WORDS = 1.0
"""Seconds left to the launcher to pass on what was printed: it drops the rest at an abort."""


def abort_mpi(status: int) -> NoReturn:
    """End all processes of MPI, whatever they wait for, once the last lines can be read."""
    sys.stdout.flush()
    sys.stderr.flush()
    time.sleep(LAST_WORDS)
    load_mpi().COMM_WORLD.Abort(status)
    raise SystemExit(status)
