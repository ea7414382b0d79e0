"""How long do imports take, beyond those of torch and of the libraries that they are for?

    python bench/imports.py            prints a table and writes bench/results/imports.csv

Every import runs in a process of its own, several times in turn with the others. What counts is
the time of the processor, the least of them: waiting for others is not the import's. `beyond` is
the time above that of the libraries in the third column, of which no package can be without; it
is known to about a tenth of a second.
"""

import csv
import resource
import subprocess
import sys
from pathlib import Path

from stormda.storm.provenance import commit, machine

ROUNDS = 5
LIMIT = 0.5
"""Seconds beyond the libraries that are thought to be few enough."""

IMPORTS = {
    "stormda --help": (
        "from stormda.cli import main; main(['--help'], standalone_mode=False)",
        "",
    ),
    "stormda.cli": ("import stormda.cli", ""),
    "stormda.grid": ("import stormda.grid", ""),
    "stormda.attention": ("import stormda.attention", "torch"),
    "stormda.parallel": ("import stormda.parallel", "torch"),
    "stormda.assimilation": ("import stormda.assimilation", "torch"),
    "stormda.io": ("import stormda.io", ""),
    "stormda.storm": ("import stormda.storm", "torch"),
}
OUT = Path(__file__).parent / "results" / "imports.csv"


def seconds(code: str) -> float:
    """Return the time of the processor that a new Python takes for some code [s]."""
    begun = used()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return used() - begun


def used() -> float:
    """Return the time of the processor that all ended children took [s]."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return children.ru_utime + children.ru_stime


def main() -> None:
    """Measure, print, write."""
    codes = {code for code, _ in IMPORTS.values()}
    codes |= {f"import {libraries}" if libraries else "pass" for _, libraries in IMPORTS.values()}
    least = dict.fromkeys(codes, float("inf"))
    for _ in range(ROUNDS):
        for code in codes:
            least[code] = min(least[code], seconds(code))
    rows = []
    for name, (code, libraries) in IMPORTS.items():
        base = least[f"import {libraries}" if libraries else "pass"]
        beyond = least[code] - base
        rows.append([name, f"{least[code]:.2f}", libraries or "none", f"{beyond:.2f}",
                     "yes" if beyond < LIMIT else "no", machine(), commit()])  # fmt: skip
    header = ["what", "cpu_seconds", "libraries", "beyond", f"below {LIMIT}", "machine", "commit"]
    for line in [header, *rows]:
        print("  ".join(f"{cell:28}" for cell in line[:5]))
    with OUT.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
