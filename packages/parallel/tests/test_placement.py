"""Each launcher's variables give the place of the process, or say what is missing."""

import re

import pytest

from stormda.parallel import Placement, read_placement

TORCHRUN = {
    "RANK": "3",
    "WORLD_SIZE": "4",
    "LOCAL_RANK": "1",
    "MASTER_ADDR": "n1",
    "MASTER_PORT": "1234",
}
SRUN = {
    "SLURM_STEP_NUM_TASKS": "8",
    "SLURM_PROCID": "5",
    "SLURM_LOCALID": "1",
    "SLURM_JOB_ID": "123456",
    "SLURM_STEP_ID": "2",
    "SLURM_STEP_NODELIST": "rack[2-3]n[010-019,021],gpu7",
}
OPEN_MPI = {
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "2",
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
}
MPICH = {"PMI_RANK": "1", "PMI_SIZE": "2", "MPI_LOCALRANKID": "0"}
MASTER = {"MASTER_ADDR": "n1", "MASTER_PORT": "1234"}


def place(launcher: str, rank: int, size: int, local_rank: int, meeting: str) -> Placement:
    return Placement(
        launcher=launcher, rank=rank, size=size, local_rank=local_rank, meeting=meeting
    )


@pytest.mark.parametrize(
    ("environment", "placement"),
    [
        ({}, place("python", 0, 1, 0, "")),
        (TORCHRUN, place("torchrun", 3, 4, 1, "tcp://n1:1234")),
        ({"RANK": "0", "WORLD_SIZE": "1"}, place("torchrun", 0, 1, 0, "")),
        (SRUN, place("Slurm", 5, 8, 1, "tcp://rack2n010:18458")),
        ({**SRUN, **MASTER}, place("Slurm", 5, 8, 1, "tcp://n1:1234")),
        (
            {**SRUN, "PMI_RANK": "5", "PMI_SIZE": "8"},
            place("Slurm", 5, 8, 1, "tcp://rack2n010:18458"),
        ),
        ({"SLURM_NTASKS": "8", "SLURM_PROCID": "0"}, place("python", 0, 1, 0, "")),
        ({**OPEN_MPI, **MASTER}, place("Open MPI", 1, 2, 1, "tcp://n1:1234")),
        ({**SRUN, **OPEN_MPI, **MASTER}, place("Open MPI", 1, 2, 1, "tcp://n1:1234")),
        ({**MPICH, **MASTER}, place("MPICH", 1, 2, 0, "tcp://n1:1234")),
        ({**MPICH, "MASTER_ADDR": "n1"}, place("MPICH", 1, 2, 0, "tcp://n1:29500")),
        (OPEN_MPI, place("Open MPI", 1, 2, 1, "")),
        (MPICH, place("MPICH", 1, 2, 0, "")),
        (
            {"OMPI_COMM_WORLD_RANK": "0", "OMPI_COMM_WORLD_SIZE": "1"},
            place("Open MPI", 0, 1, 0, ""),
        ),
    ],
    ids=[
        "python",
        "torchrun",
        "torchrun of one process",
        "srun",
        "srun and a chosen node",
        "srun with PMI",
        "sbatch without srun",
        "Open MPI",
        "Open MPI inside a Slurm step",
        "MPICH",
        "MPICH with the usual port",
        "Open MPI that meets by MPI",
        "MPICH that meets by MPI",
        "Open MPI of one process",
    ],
)
def test_the_launcher_is_recognised(environment: dict[str, str], placement: Placement) -> None:
    assert read_placement(environment) == placement


@pytest.mark.parametrize(
    ("environment", "message"),
    [
        ({"RANK": "0"}, "WORLD_SIZE: expected an integer, got None"),
        ({**TORCHRUN, "RANK": "x"}, "RANK: expected an integer, got 'x'"),
        ({**TORCHRUN, "MASTER_PORT": ""}, "MASTER_PORT: expected an integer, got ''"),
        (
            {**TORCHRUN, "RANK": "4"},
            "environment: expected ranks from 0 to below the number of processes, got rank 4 of "
            "4, on its node 1 (torchrun)",
        ),
        (
            {name: value for name, value in TORCHRUN.items() if name != "MASTER_ADDR"},
            "MASTER_ADDR: expected the name of the node of rank 0, as 4 processes were started "
            "by torchrun, got none",
        ),
        ({"PMI_RANK": "0"}, "PMI_SIZE: expected an integer, got None"),
    ],
)
def test_what_is_missing_is_named(environment: dict[str, str], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        read_placement(environment)
