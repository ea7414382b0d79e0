"""From a mesh on paper to processes that talk: start, and an end in which nobody waits for ever.

    with launch(Mesh({"replica": -1})) as mesh:
        sum_gradients(parameters, mesh.comm("replica"))

The same lines run under plain python, torchrun, srun and mpirun. A rank that fails takes the job
with it: its traceback is printed and the process ends at once, whereupon the others' collectives
fail or their launcher stops them (MPI is told to abort); a rank that hangs is noticed after
`timeout`.

    backend   messages by                    what it can do
    torch     gloo (processors), NCCL, RCCL  everything
    mpi       MPI, by mpi4py                 all but what stormda.parallel takes from torch: FSDP
    auto      torch, or nothing at all for a single process
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping
from datetime import timedelta
from types import TracebackType
from typing import Any, NoReturn, Protocol

import torch
import torch.distributed as dist

from stormda.parallel.communicator import Communicator, SelfComm
from stormda.parallel.mesh import Mesh
from stormda.parallel.mpi_comm import MpiComm
from stormda.parallel.mpi_start import abort_mpi, meet_by_mpi, mpi_placement
from stormda.parallel.placement import Placement, read_placement
from stormda.parallel.torch_comm import TorchComm

_BACKENDS = {"cpu": "gloo", "cuda": "nccl"}

_CHOICES = ("auto", "torch", "mpi")

ExceptHook = Callable[[type[BaseException], BaseException, TracebackType | None], Any]


class Session(Protocol):
    """Processes that were started together and end together."""

    def close(self) -> None:
        """End the connection, after all ranks have come to its end."""
        ...

    def abort(self, status: int) -> NoReturn:
        """End this process at once, and the job with it."""
        ...


class StartedMesh:
    """A mesh whose processes run and can talk; made by `launch`, closed by the end of `with`.

    Args:
        mesh: The plan, filled.
        placement: The place of this process.
        device: Where this process computes.
        comms: A communicator for every one of `mesh.subsets()`.
        session: What closing the mesh ends; None where that is the caller's.
    """

    def __init__(
        self,
        mesh: Mesh,
        placement: Placement,
        device: torch.device,
        comms: Mapping[tuple[str, ...], Communicator],
        *,
        session: Session | None,
    ) -> None:
        self.mesh, self.placement, self.device = mesh, placement, device
        self._comms, self._alone = dict(comms), SelfComm(device)
        self._session = session
        self._excepthook = sys.excepthook
        if session is not None:
            sys.excepthook = _ending_job(sys.excepthook, session)

    @classmethod
    def alone(cls, device: torch.device | None = None, *, axis: str = "replica") -> StartedMesh:
        """Return the mesh of one process, inside or outside a job of many.

        Args:
            device: Where it computes; the CPU by default.
            axis: The name of its one axis.

        Examples:
            >>> mesh = StartedMesh.alone()
            >>> mesh.rank, mesh.world.size
            (0, 1)
        """
        device = torch.device("cpu") if device is None else device
        return cls(Mesh({axis: 1}), Placement(launcher="python"), device, {}, session=None)

    @property
    def rank(self) -> int:
        """The number of this process in the job, from 0."""
        return self.placement.rank

    @property
    def world(self) -> Communicator:
        """The communicator over all processes."""
        return self.comm(*self.mesh.names)

    def size(self, axis: str) -> int:
        """Return the size of an axis."""
        return self.mesh.size(axis)

    def coordinate(self, axis: str) -> int:
        """Return where this process is along an axis."""
        return self.mesh.coordinate(self.rank, axis)

    def comm(self, *axes: str) -> Communicator:
        """Return the ranks that differ from this one along these axes at most.

        Ranks are numbered in the order of the mesh, whatever the order of the arguments; axes of
        size 1 add nothing, and where nothing is left the communicator is a `SelfComm`.

        Raises:
            ValueError: If there is no such axis.
        """
        chosen = self.mesh.canonical(axes)
        return self._comms[chosen] if chosen else self._alone

    def describe(self) -> str:
        """Return the axes and the place of this process in them, for a log."""
        place = " ".join(f"{name}={self.coordinate(name)}" for name in self.mesh.names)
        return (
            f"{self.mesh.describe()}\n"
            f"rank {self.rank} of {self.mesh.processes} on {self.device}, "
            f"started by {self.placement.launcher}: {place}"
        )

    def close(self) -> None:
        """Wait for all ranks and end their connection, if this mesh started it."""
        if self._session is None:
            return
        session, self._session = self._session, None
        sys.excepthook = self._excepthook
        self.world.barrier()
        for comm in self._comms.values():
            comm.close()
        session.close()

    def __enter__(self) -> StartedMesh:
        """Return the mesh."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, *_: object
    ) -> None:
        """Close the mesh; after an exception, without waiting for ranks that may not come.

        `sys.exit` passes by the hook that reports exceptions, so that it ends the job here.
        """
        if isinstance(error, SystemExit) and error.code not in (None, 0):
            if self._session is not None:
                self._session.abort(_status(error.code))
        elif kind is None or isinstance(error, SystemExit):
            self.close()


def launch(
    mesh: Mesh,
    *,
    backend: str = "auto",
    device: torch.device | None = None,
    timeout: timedelta = timedelta(minutes=10),
    environment: Mapping[str, str] | None = None,
) -> StartedMesh:
    """Start a mesh in whichever way this process was started.

    Under plain python, or any launcher of one process, torch.distributed is not touched. Where
    the caller has initialised torch.distributed already, its processes are taken and closing the
    mesh leaves them running.

    Args:
        mesh: The axes; their product is the number of processes.
        backend: What carries the messages: "auto", "torch" or "mpi".
        device: Where this process computes: by default the accelerator of its number on the
            node, or the CPU where there is none.
        timeout: How long a collective waits for the other ranks before it fails.
        environment: The variables that say how the process was started, by default `os.environ`.

    Returns:
        The started mesh, a context manager.

    Raises:
        ValueError: If the mesh does not fit the number of processes (the message lists what
            does), the environment does not say where they meet, or nothing can carry messages
            between devices of this kind.
        ImportError: If MPI is needed and missing: by the backend, or by an mpirun that does not
            say where the processes meet.

    Examples:
        >>> with launch(Mesh({"replica": -1, "lon": 1}), environment={}) as started:
        ...     started.size("replica"), started.comm("replica").all_reduce(torch.ones(1))
        (1, tensor([1.]))
    """
    if backend not in _CHOICES:
        raise ValueError(f"backend: expected one of {', '.join(_CHOICES)}, got {backend!r}")
    if backend == "mpi":
        return _by_mpi(mesh, device, timeout, environment)
    running = dist.is_available() and dist.is_initialized()
    placement = _running_placement() if running else _told_placement(environment)
    plan = mesh.filled(placement.size)
    device = _device(placement) if device is None else device
    starts = placement.size > 1 and not running
    if starts:
        _start(placement, device, timeout)
    return StartedMesh(
        plan,
        placement,
        device,
        _comms(plan, placement.rank, device, timeout),
        session=_TorchSession(by_mpi=not placement.meeting) if starts else None,
    )


class _TorchSession:
    """The process group of torch.distributed."""

    def __init__(self, *, by_mpi: bool) -> None:
        self._by_mpi = by_mpi

    def close(self) -> None:
        """End the groups now.

        Their threads let go of tensors, for which they need the interpreter; a group that lives on
        until that ends makes the process abort now and then, after all its work.
        """
        dist.destroy_process_group()
        gc.collect()

    def abort(self, status: int) -> NoReturn:
        if self._by_mpi:
            abort_mpi(status)
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


class _MpiSession:
    """The communicators of MPI; MPI itself ends with the process."""

    def __init__(self, comms: Mapping[tuple[str, ...], MpiComm]) -> None:
        self._comms = comms

    def close(self) -> None:
        for comm in self._comms.values():
            comm.free()

    def abort(self, status: int) -> NoReturn:
        abort_mpi(status)


def _by_mpi(
    mesh: Mesh,
    device: torch.device | None,
    timeout: timedelta,
    environment: Mapping[str, str] | None,
) -> StartedMesh:
    placement = mpi_placement(_told_placement(environment))
    plan = mesh.filled(placement.size)
    device = _device(placement) if device is None else device
    world = MpiComm(None, device, timeout)
    comms = {axes: world.subgroup(plan.group(placement.rank, *axes)) for axes in plan.subsets()}
    session = _MpiSession(comms) if comms else None
    return StartedMesh(plan, placement, device, comms, session=session)


def _told_placement(environment: Mapping[str, str] | None) -> Placement:
    return read_placement(os.environ if environment is None else environment)


def _running_placement() -> Placement:
    local_rank = int(os.environ.get("LOCAL_RANK", "0"))
    return Placement(
        launcher="the caller",
        rank=dist.get_rank(),
        size=dist.get_world_size(),
        local_rank=local_rank,
    )


def _device(placement: Placement) -> torch.device:
    if not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", placement.local_rank % torch.cuda.device_count())


def _start(placement: Placement, device: torch.device, timeout: timedelta) -> None:
    if device.type not in _BACKENDS:
        raise ValueError(
            f"device: expected {' or '.join(_BACKENDS)} for {placement.size} processes, "
            f"got {device}"
        )
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group(
        _BACKENDS[device.type],
        init_method=placement.meeting or None,
        store=None if placement.meeting else meet_by_mpi(placement, timeout),
        rank=placement.rank,
        world_size=placement.size,
        timeout=timeout,
    )


def _comms(
    mesh: Mesh, rank: int, device: torch.device, timeout: timedelta
) -> dict[tuple[str, ...], Communicator]:
    """Make this rank's group of every subset of axes, on all ranks in the same order.

    Only a group's own ranks take part in making it, so that the cost does not grow with the
    number of groups; as every rank goes through the subsets in one order, none waits in a circle.
    """
    large = mesh.canonical(mesh.names)
    if not large:
        return {}
    world = TorchComm(None, device, timeout)
    return {
        axes: world if len(axes) == len(large) else world.subgroup(mesh.group(rank, *axes))
        for axes in mesh.subsets()
    }


def _ending_job(report: ExceptHook, session: Session) -> ExceptHook:
    """Return an excepthook that reports as before and then ends the job at once.

    An ordinary end would wait for threads and communicators that wait for the other ranks.
    """

    def end(
        kind: type[BaseException], error: BaseException, trace: TracebackType | None
    ) -> NoReturn:
        report(kind, error, trace)
        session.abort(1)

    return end


def _status(code: object) -> int:
    """Return the exit status of what was given to `sys.exit`, after printing it if it is text."""
    if isinstance(code, int):
        return code
    print(code, file=sys.stderr)
    return 1
