"""How long do imports take, beyond those of torch and of the libraries that they are for?

    python bench/imports.py            prints a table and writes bench/results/imports.csv

Every import runs in a process of its own, several times in turn with the others; the least counts,
since a machine that does something else only ever adds. `beyond` is the time above that of the
libraries in the third column, of which no package can be without.
"""

import csv
import subprocess
import sys
import time
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
    "stormda.io, xarray apart": ("import stormda.io", "xarray"),
    "stormda.storm": ("import stormda.storm", "torch"),
    "stormda.storm, xarray apart": ("import stormda.storm", "torch, xarray"),
}
OUT = Path(__file__).parent / "results" / "imports.csv"


def seconds(code: str) -> float:
    """Return how long a new Python takes for some code [s]."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


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
    header = ["what", "seconds", "libraries", "beyond", f"below {LIMIT}", "machine", "commit"]
    for line in [header, *rows]:
        print("  ".join(f"{cell:28}" for cell in line[:5]))
    with OUT.open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


if __name__ == "__main__":
    main()
