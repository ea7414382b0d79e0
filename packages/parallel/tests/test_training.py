"""Training on many ranks is training on one, on any mesh, through kills and hangs."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from stormda.parallel import open_parts

HERE = Path(__file__).parent
WARNINGS = "error,ignore:Failed to initialize NumPy:UserWarning"


def run(program: str, *arguments: object) -> str:
    done = subprocess.run(
        [sys.executable, str(HERE / program), *map(str, arguments)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": WARNINGS},
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.parametrize("size", [6, 8])
def test_any_mesh_trains_and_saves_as_one_rank_does(size: int, tmp_path: Path) -> None:
    run("many_meshes.py", size, tmp_path)


@pytest.mark.slow
def test_five_axes_of_two_lay_out_every_parameter() -> None:
    run("whole_machine.py")


@pytest.mark.slow
def test_a_run_that_is_killed_hangs_and_is_stopped_ends_as_one_that_never_was(
    tmp_path: Path,
) -> None:
    def train(folder: str, failure: str, step: int, *axes: str) -> tuple[list[int], list[int]]:
        codes = run("interrupted_training.py", tmp_path / folder, failure, step, *axes)
        steps = sorted(int(p.name[5:]) for p in (tmp_path / folder).glob("step-????????"))
        return [int(code) for code in codes.split()], steps

    assert train("whole", "none", 0, "replica=1") == ([0], [4, 6, 8])
    assert train("run", "kill", 5, "shard=2", "tensor=2") == ([1, 1, 1, -9], [2, 4])
    assert train("run", "hang", 7, "replica=3") == ([1, 1, -9], [2, 4, 6])
    assert train("run", "stop", 7, "lat=2") == ([0, 0], [4, 6, 7])
    assert train("run", "none", 0, "lon=2", "shard=2") == ([0] * 4, [6, 7, 8])
    expected, found = open_parts(tmp_path / "whole"), open_parts(tmp_path / "run")
    assert found.step == expected.step == 8
    assert found.state == expected.state
    assert found.index.keys() == expected.index.keys()
    for name in expected.index:
        assert_close(found.tensor(name), expected.tensor(name), rtol=1e-12, atol=1e-12)
    assert expected.tensor("net/position").dtype == torch.float64
