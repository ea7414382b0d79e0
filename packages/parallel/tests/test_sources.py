"""Heads of sources and stores of samples: who holds what; many ranks are in many_meshes.py."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from stormda.parallel import Mesh, SampleStore, SelfComm, SourceHeads, launch, share_ranks


def test_ranks_are_shared_by_samples() -> None:
    assert share_ranks({"a": 600, "b": 200, "c": 1}, 8) == {
        "a": range(5),
        "b": range(5, 7),
        "c": range(7, 8),
    }
    assert share_ranks({"a": 1, "b": 2}, 1) == {"a": range(1), "b": range(1)}


@pytest.mark.parametrize(("samples", "ranks"), [({"a": 0}, 1), ({}, 1)])
def test_sources_without_samples(samples: dict[str, int], ranks: int) -> None:
    with pytest.raises(ValueError, match=r"^samples: expected positive numbers, got \{"):
        share_ranks(samples, ranks)
    with pytest.raises(ValueError, match=r"^ranks: expected at least 1, got 0$"):
        share_ranks({"a": 1}, 0)


def test_a_head_that_is_elsewhere() -> None:
    mesh = launch(Mesh({"replica": 1}), environment={})
    heads = SourceHeads({"era5": 1}, lambda _: nn.Linear(2, 1), mesh)
    message = r"^source: expected one whose head is on this rank, era5, got 'hrrr'$"
    with pytest.raises(ValueError, match=message):
        heads(torch.ones(2), "hrrr")


def test_samples_that_do_not_exist() -> None:
    store = SampleStore(torch.ones(3, 2), SelfComm())
    with pytest.raises(ValueError, match=r"^indices: expected 0 to 2, got 3$"):
        store.fetch([0, 3])
    assert store.fetch([]).shape == (0, 2)


@pytest.mark.slow
def test_windows_are_read_without_asking() -> None:
    pytest.importorskip("mpi4py", reason="needs the extra mpi")
    program = str(Path(__file__).with_name("windows.py"))
    launcher = Path(sys.executable).with_name("mpiexec")
    if not launcher.is_file():
        pytest.skip("needs the mpiexec of a pip-installed MPI")
    done = subprocess.run(
        [str(launcher), "-n", "3", sys.executable, "-m", "mpi4py", program],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("read") == 3
