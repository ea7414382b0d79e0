"""Many ranks equal one: values and gradients, on two ranks and, unevenly, on three."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

PROGRAM = str(Path(__file__).with_name("many_ranks.py"))
WARNINGS = "error,ignore:Failed to initialize NumPy:UserWarning"  # torch works without it


@pytest.mark.slow
@pytest.mark.parametrize("size", [2, 3])
def test_the_laws_of_several_ranks_hold(size: int, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, PROGRAM, str(size), str(tmp_path)],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": WARNINGS},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
