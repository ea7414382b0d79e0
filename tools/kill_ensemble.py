"""Kill a parallel ensemble write at random moments, and look at what readers see.

    python tools/kill_ensemble.py --kills 200

Each trial replaces a finished ensemble by another one: two processes write its regions, the first
to find all of them there finishes the file, and all are killed (SIGKILL) at a random moment. After
each kill a reader must see the old ensemble or the new one, whole; then the job is started again
and must finish with the bytes of a run that was never killed.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import signal
import tempfile
import time
from multiprocessing.synchronize import Barrier
from pathlib import Path

import numpy as np

from stormda.grid import LatLonGrid
from stormda.io import EnsembleParts, EnsembleZarr, FieldAxes, Region, read_ensemble, sha256

MEMBERS, TIMES, ROWS, COLS = 4, 2, 256, 512
GRID = LatLonGrid(np.linspace(-88, 88, ROWS), np.arange(COLS) * (360 / COLS))
AXES = FieldAxes(
    times=np.array(["2000-01-01", "2000-01-02"], "M8[s]"), grid=GRID, members=np.arange(MEMBERS)
)
REGIONS = [Region((m, m + 1), (t, t + 1), (0, ROWS), (0, COLS)) for m in range(MEMBERS)
           for t in range(TIMES)]  # fmt: skip
WRITERS = 2


def numbers(seed: int) -> np.ndarray:
    """Return the ensemble of a seed: never 0, and never that of another seed."""
    draw = np.random.default_rng(seed).normal(280, 5, (MEMBERS, TIMES, ROWS, COLS))
    return draw.astype(np.float32)


def writer(path: Path, seed: int, kind: str) -> EnsembleParts | EnsembleZarr:
    """Return what writes the ensemble of a seed."""
    common = {
        "path": path,
        "axes": AXES,
        "variables": ["t2m"],
        "attributes": {"t2m": {"units": "K"}},
        "run": {"seed": seed},
        "overwrite": True,
    }
    if kind == "zarr":
        return EnsembleZarr(**common, shard=(1, 1, ROWS, COLS))
    return EnsembleParts(**common)


def work(path: Path, seed: int, kind: str, rank: int, ready: Barrier) -> None:
    """Write every region that is missing and this rank's; the first rank finishes."""
    x, out = numbers(seed), writer(path, seed, kind)
    mine = out.missing(REGIONS[rank::WRITERS])
    ready.wait()
    for region in mine:
        out.write({"t2m": x[region.slices]}, region)
    if rank:
        return
    while out.missing(REGIONS):
        time.sleep(0.002)
    out.finish(virtual=kind == "virtual") if kind != "zarr" else out.finish()


def attempt(path: Path, seed: int, kind: str, delay: float | None) -> bool:
    """Run all writers; kill them after `delay` seconds, if they are not done."""
    fork = multiprocessing.get_context("fork")
    ready = fork.Barrier(WRITERS)
    jobs = [fork.Process(target=work, args=(path, seed, kind, r, ready)) for r in range(WRITERS)]
    for job in jobs:
        job.start()
    stop = None if delay is None else time.monotonic() + delay
    for job in jobs:
        job.join(None if stop is None else max(0.0, stop - time.monotonic()))
    killed = any(job.is_alive() for job in jobs)
    for job in jobs:
        if job.is_alive():
            os.kill(job.pid, signal.SIGKILL)
        job.join()
    return not killed


def seen(path: Path, old: int, new: int) -> str:
    """Say whose numbers a reader finds: `old`, `new`, `absent`; anything else is an error."""
    try:
        found = read_ensemble(path).fields["t2m"]
    except FileNotFoundError:
        return "absent"
    for name, seed in (("old", old), ("new", new)):
        if np.array_equal(found, numbers(seed)):
            return name
    raise AssertionError(
        f"{path}: a reader found {np.isnan(found).sum()} missing numbers and "
        f"{(found == 0).sum()} zeros"
    )


def trials(folder: Path, kills: int, kind: str, seed: int) -> dict[str, int]:
    """Return how often a reader saw what, over so many kills."""
    dice = random.Random(seed)
    path = folder / ("a.zarr" if kind == "zarr" else "a.nc")
    attempt(path, 0, kind, None)
    start = time.monotonic()
    attempt(path, 1, kind, None)
    usual = time.monotonic() - start
    counts = {"old": 0, "new": 0, "absent": 0, "killed": 0}
    for trial in range(1, kills + 1):
        done = attempt(path, trial + 1, kind, dice.uniform(0, 1.2) * usual)
        counts["killed"] += not done
        counts[seen(path, trial, trial + 1)] += 1
        if not done:
            attempt(path, trial + 1, kind, None)
        if seen(path, trial, trial + 1) != "new":
            raise AssertionError(f"{path}: the job that was started again did not finish")
    compare(folder, path, kills + 1, kind)
    return counts


def compare(folder: Path, path: Path, seed: int, kind: str) -> None:
    """Raise unless the bytes are those of a run that was never killed."""
    clean = folder / "clean" / path.name
    clean.parent.mkdir()
    attempt(clean, seed, kind, None)
    if sha256(clean) != sha256(path):
        raise AssertionError(f"{path}: other bytes than those of a run that was never killed")


def main() -> None:
    """Print a line for each kind of output."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    for kind in ("virtual", "real", "zarr"):
        with tempfile.TemporaryDirectory() as folder:
            counts = trials(Path(folder), arguments.kills, kind, arguments.seed)
        print(f"{kind:8} {arguments.kills} trials: {counts}", flush=True)


if __name__ == "__main__":
    main()
