"""Read thousands of random and damaged observation files: `python tools/fuzz_observations.py`.

Runs `packages/io/tests/test_observation_fuzz.py` in pieces with other cases than those of every
day, each in a process of its own, so that a crash or a hang of a library ends a piece and shows.
Damaged copies of real files are among them where `STORMDA_DATA` is set.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
from pathlib import Path

TESTS = Path(__file__).parents[1] / "packages/io/tests/test_observation_fuzz.py"
PIECE = 999
"""Cases of one process; a number other than that of the tests makes them random."""

LIMIT = 3600
"""The longest that a process may take [s]."""


def main() -> int:
    """Run the pieces, and return how many failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cases", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    failed = 0
    for piece, done in enumerate(range(0, arguments.cases, PIECE)):
        count = min(PIECE, arguments.cases - done)
        environment = {**os.environ, "STORMDA_FUZZ_CASES": str(count)}
        seed = f"--hypothesis-seed={arguments.seed + piece}"
        command = [sys.executable, "-m", "pytest", "-q", "-x", seed, str(TESTS)]
        code = subprocess.run(command, env=environment, timeout=LIMIT, check=False).returncode
        print(f"cases {done} to {done + count}: {'passed' if code == 0 else f'failed ({code})'}")
        failed += code != 0
    return failed


if __name__ == "__main__":
    sys.exit(main())
