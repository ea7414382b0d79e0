"""MPI of a single process, and what is said where it is missing or connects others than told."""

import re
import subprocess
import sys

import pytest
import torch

from stormda.parallel import Mesh, MpiComm, launch
from stormda.parallel.mpi_comm import load_mpi


def test_one_process_needs_no_mpirun() -> None:
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'stormda-parallel[mpi]'")
    code = (
        "import torch; from stormda.parallel import *\n"
        "c = MpiComm(); x = torch.arange(3).bfloat16()\n"
        "print(c.all_reduce(x).tolist(), c.all_gather(x[:0]).tolist(), c.rank, c.size)\n"
        "print(launch(Mesh({'lon': -1}), backend='mpi').placement.size)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == "[0.0, 1.0, 2.0] [] 0 1\n1\n"


def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mpi4py", None)
    message = (
        "stormda.parallel over MPI needs mpi4py and an MPI library: "
        "pip install 'stormda-parallel[mpi]'"
    )
    for call in (load_mpi, MpiComm, lambda: launch(Mesh({"lon": -1}), backend="mpi")):
        with pytest.raises(ImportError, match=f"^{re.escape(message)}"):
            call()
    environment = {"PMI_RANK": "0", "PMI_SIZE": "2"}
    with pytest.raises(ImportError, match=f"^{re.escape(message)}"):
        launch(Mesh({"lon": 2}), device=torch.device("cpu"), environment=environment)


def test_mpi_has_to_connect_the_processes_that_were_started() -> None:
    pytest.importorskip("mpi4py", reason="needs mpi4py: pip install 'stormda-parallel[mpi]'")
    code = (
        "from stormda.parallel import *\n"
        "try: launch(Mesh({'lon': 2}), backend='mpi', environment="
        "{'RANK': '0', 'WORLD_SIZE': '2', 'MASTER_ADDR': 'nowhere'})\n"
        "except ValueError as error: print(error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300
    )
    assert done.stdout == (
        "backend: expected MPI to connect the 2 processes that torchrun started, got 1; start "
        "them with the mpirun of the MPI that mpi4py uses, or with srun --mpi=pmi2\n"
    )
