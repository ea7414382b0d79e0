"""How much memory does `stormda demo` need?

    python bench/demo_memory.py [--cycles 30] [--full]

Runs the command in a process of its own and asks the system for the largest memory that it held at
once (resident, shared libraries included). Writes bench/results/demo_memory.csv: a row for each
kind of demonstration, with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results" / "demo_memory.csv"
COMMAND = [sys.executable, "-c", "from stormda.cli import main; main()", "demo"]


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cycles", type=int, help="Number of analyses, if not the usual one.")
    parser.add_argument("--full", action="store_true", help="The demonstration of `--full`.")
    arguments = parser.parse_args()
    options = ["--full"] if arguments.full else []
    if arguments.cycles is not None:
        options += ["--cycles", str(arguments.cycles)]
    begun = time.perf_counter()
    with TemporaryDirectory() as folder:
        subprocess.run([*COMMAND, "--out", f"{folder}/demo", *options], check=True)
    seconds = time.perf_counter() - begun
    row = {
        "command": " ".join(["stormda demo", *options]),
        "peak_gib": f"{peak_bytes() / 2**30:.2f}",
        "seconds": f"{seconds:.0f}",
        "machine": machine(),
        "versions": " ".join(f"{k} {v}" for k, v in provenance()["versions"].items()),
        "commit": commit(),
    }
    print("\n".join(f"{name}: {value}" for name, value in row.items()))
    save(row)


def peak_bytes() -> int:
    """Return the largest resident memory of a process that has ended [bytes]."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def save(row: dict[str, str]) -> None:
    """Put a row in the place of an older one of the same command."""
    rows = []
    if RESULTS.exists():
        with RESULTS.open(newline="") as file:
            rows = [old for old in csv.DictReader(file) if old["command"] != row["command"]]
    RESULTS.parent.mkdir(exist_ok=True)
    with RESULTS.open("w", newline="") as file:
        writer = csv.DictWriter(file, list(row))
        writer.writeheader()
        writer.writerows([*rows, row])


if __name__ == "__main__":
    main()
