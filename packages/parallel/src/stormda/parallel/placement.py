"""Which process of how many this is, told from the variables that launchers set.

Each launcher is one function from the environment to a `Placement`, or None where it has left no
trace: torchrun; Slurm's srun; Open MPI's and MPICH's mpirun; and plain python. Nothing is read at
import, and nothing is guessed: a job of several processes whose meeting point is not known is an
error, not a localhost. Under mpirun MPI itself tells them, if nothing else does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

Environment = Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Placement:
    """The place of this process in its job."""

    launcher: str
    """What started the job."""

    rank: int = 0
    """The number of this process, from 0."""

    size: int = 1
    """The number of processes."""

    local_rank: int = 0
    """The number of this process on its node, from 0."""

    meeting: str = ""
    """Where the processes meet, in the form that `init_process_group` takes; empty for one, and
    for those that meet by MPI."""

    def __post_init__(self) -> None:
        """Check the numbers."""
        if not 0 <= self.rank < self.size or self.local_rank < 0:
            raise ValueError(
                f"environment: expected ranks from 0 to below the number of processes, got rank "
                f"{self.rank} of {self.size}, on its node {self.local_rank} ({self.launcher})"
            )


def read_placement(environment: Environment) -> Placement:
    """Return the place of this process in its job.

    Args:
        environment: The variables, such as `os.environ`.

    Raises:
        ValueError: If a variable is missing or malformed.

    Examples:
        >>> read_placement({}).size
        1
        >>> read_placement({"SLURM_STEP_ID": "0", "SLURM_STEP_NUM_TASKS": "8", "SLURM_PROCID": "5",
        ...     "SLURM_LOCALID": "1", "SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "gpu[03-04]"})
        Placement(launcher='Slurm', rank=5, size=8, local_rank=1, meeting='tcp://gpu03:15007')
    """
    for read in (_torchrun, _slurm, _open_mpi, _mpich):
        placement = read(environment)
        if placement is not None:
            return placement
    return Placement(launcher="python")


def _torchrun(environment: Environment) -> Placement | None:
    if "RANK" not in environment and "WORLD_SIZE" not in environment:
        return None
    return _placement(
        environment,
        "torchrun",
        rank=_integer(environment, "RANK"),
        size=_integer(environment, "WORLD_SIZE"),
        local_rank=_integer(environment, "LOCAL_RANK", 0),
    )


def _slurm(environment: Environment) -> Placement | None:
    """Read what srun sets for a step; sbatch alone sets no step, and mpirun is read elsewhere."""
    if "SLURM_STEP_NUM_TASKS" not in environment or "SLURM_PROCID" not in environment:
        return None
    rank = _integer(environment, "SLURM_PROCID")
    size = _integer(environment, "SLURM_STEP_NUM_TASKS")
    mpi = _open_mpi_rank(environment) or _mpich_rank(environment)
    if mpi not in (None, (rank, size)):
        return None
    local_rank = _integer(environment, "SLURM_LOCALID", 0)
    return _placement(
        {**_slurm_meeting(environment), **environment},
        "Slurm",
        rank=rank,
        size=size,
        local_rank=local_rank,
    )


def _open_mpi(environment: Environment) -> Placement | None:
    place = _open_mpi_rank(environment)
    local_rank = _integer(environment, "OMPI_COMM_WORLD_LOCAL_RANK", 0)
    return place and _placement(
        environment, "Open MPI", rank=place[0], size=place[1], local_rank=local_rank, by_mpi=True
    )


def _mpich(environment: Environment) -> Placement | None:
    place = _mpich_rank(environment)
    local_rank = _integer(environment, "MPI_LOCALRANKID", 0)
    return place and _placement(
        environment, "MPICH", rank=place[0], size=place[1], local_rank=local_rank, by_mpi=True
    )


def _open_mpi_rank(environment: Environment) -> tuple[int, int] | None:
    if "OMPI_COMM_WORLD_RANK" not in environment:
        return None
    return (
        _integer(environment, "OMPI_COMM_WORLD_RANK"),
        _integer(environment, "OMPI_COMM_WORLD_SIZE"),
    )


def _mpich_rank(environment: Environment) -> tuple[int, int] | None:
    if "PMI_RANK" not in environment:
        return None
    return _integer(environment, "PMI_RANK"), _integer(environment, "PMI_SIZE")


def _slurm_meeting(environment: Environment) -> dict[str, str]:
    """Return the first node of the step, and a port that other steps do not use."""
    nodes = environment.get("SLURM_STEP_NODELIST", "")
    step = _integer(environment, "SLURM_JOB_ID", 0) + _integer(environment, "SLURM_STEP_ID", 0)
    found = {"MASTER_PORT": str(15_000 + step % 15_000)}
    if nodes:
        found["MASTER_ADDR"] = re.sub(r"\[([^],-]+)[^]]*\]", r"\1", nodes).split(",")[0]
    return found


def _placement(
    environment: Environment,
    launcher: str,
    *,
    rank: int,
    size: int,
    local_rank: int,
    by_mpi: bool = False,
) -> Placement:
    silent = size == 1 or (by_mpi and "MASTER_ADDR" not in environment)
    meeting = "" if silent else _meeting(environment, launcher, size)
    return Placement(
        launcher=launcher, rank=rank, size=size, local_rank=local_rank, meeting=meeting
    )


def _meeting(environment: Environment, launcher: str, size: int) -> str:
    if "MASTER_ADDR" not in environment:
        raise ValueError(
            f"MASTER_ADDR: expected the name of the node of rank 0, as {size} processes were "
            f"started by {launcher}, got none"
        )
    port = _integer(environment, "MASTER_PORT", 29_500)
    return f"tcp://{environment['MASTER_ADDR']}:{port}"


def _integer(environment: Environment, name: str, default: int | None = None) -> int:
    text = environment.get(name)
    if text is None and default is not None:
        return default
    try:
        return int(text or "")
    except ValueError:
        raise ValueError(f"{name}: expected an integer, got {text!r}") from None
