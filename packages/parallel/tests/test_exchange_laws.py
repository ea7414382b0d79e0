"""The laws hold over MPI too, a failure ends its job, and a program runs under any launcher."""

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
EXPECTED = "349838"
QUIET = "error,ignore:Failed to initialize NumPy:UserWarning"  # torch works without it
PLAIN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("SLURM_", "OMPI_", "PMI_"))
} | {"OMP_NUM_THREADS": "1"}
MPIEXEC = shutil.which("mpiexec", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
needs_mpi = pytest.mark.skipif(
    MPIEXEC is None or importlib.util.find_spec("mpi4py") is None,
    reason="needs mpiexec and mpi4py: pip install 'stormda-parallel[mpi]'",
)


def started(command: list[str], **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        env=PLAIN | variables,
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )


def by_mpi(processes: int, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [str(MPIEXEC), "-n", str(processes), sys.executable, str(HERE / program), *arguments]
    return started(command, PYTHONWARNINGS=QUIET)


@pytest.mark.slow
@needs_mpi
def test_laws_hold_and_any_mesh_trains_as_one_rank_does_over_mpi(tmp_path: Path) -> None:
    done = by_mpi(4, "laws_of_exchange.py", str(tmp_path))
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@needs_mpi
@pytest.mark.parametrize("backend", ["mpi", "torch"])
def test_a_rank_that_fails_ends_a_job_of_mpi(backend: str) -> None:
    """The other ranks would wait for 1000 s, this test waits for 300 s."""
    done = by_mpi(2, "launched.py", "fail", backend)
    assert done.returncode != 0
    assert "RuntimeError: the last rank fails" in done.stderr


@pytest.mark.slow
@needs_mpi
def test_a_rank_that_hangs_is_noticed() -> None:
    done = by_mpi(2, "launched.py", "hang", "mpi")
    assert done.returncode != 0
    message = "TimeoutError: rank 0 of 2: expected the other ranks within 2 s, got no sign of them"
    assert message in done.stderr


@pytest.mark.slow
@needs_mpi
def test_mpirun_gives_torch_a_meeting_and_every_rank_its_groups() -> None:
    done = by_mpi(4, "launched.py")
    assert done.returncode == 0, done.stderr
    assert "rank 3 of 4 on cpu, started by MPICH: replica=1 lat=0 lon=1\n" in done.stdout


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        (),
        ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node=3"),
        pytest.param((str(MPIEXEC), "-n", "2"), marks=needs_mpi),
    ],
    ids=["python", "torchrun", "mpiexec"],
)
def test_the_first_example_prints_one_number_however_it_is_started(
    launcher: tuple[str, ...],
) -> None:
    program = str(HERE / "readme_program.py")
    by_python = not launcher or launcher[0] == "-m"
    command = [sys.executable, *launcher] if by_python else [*launcher, sys.executable]
    done = started([*command, program])
    assert done.returncode == 0, done.stderr
    # the lines of several processes may run into one another
    assert EXPECTED in done.stdout
    assert not done.stdout.replace(EXPECTED, "").strip()
