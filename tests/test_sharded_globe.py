"""Attention, grids and ranks, which know nothing of each other, put together on three ranks."""

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_ranks_that_share_a_globe_are_one_process() -> None:
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    program = Path(__file__).with_name("sharded_globe.py")
    done = subprocess.run(
        [*launcher, "--nproc-per-node=3", str(program)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
