"""What do tokens cost? Cutting fields, planning 20 billion tokens, streaming a billion of them.

    python bench/tokens.py [--tokens 1000000000 | 0]

Prints a table and writes bench/results/tokens.csv: a row for each measurement, with its target
where there is one, machine, versions and commit. Times are of the process, single-threaded; ratios
are of the medians of several turns, taken side by side.

Fields are cut against a copy of the same bytes twice: with "new memory" the system gives both
sides theirs (`x.copy()`, `x.clone()`), with "memory at hand" both have it (`np.copyto`, `copy_`,
`out=`). "Copied in pieces" is the first of these copies made piece by piece, as fields are cut: a
large copy goes past the caches, pieces do not.
"""

from __future__ import annotations

import argparse
import csv
import resource
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import RegularGridInterpolator
from tqdm import tqdm

from stormda.grid import Partition, Patching, grid, interpolation, locate
from stormda.grid.arrays import Array
from stormda.grid.tokenizer import Tokenizer, TokenizerConfig
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"
TURNS = 9
POINTS = 1_000_000
STREAMED = 3
CASES = (
    ("0.25deg", (2, 2)),
    ("0.25deg", (4, 4)),
    ("0.25deg", (8, 8)),
    ("0.25deg-poles", (4, 4)),
    ("healpix256", (4, 4)),
    ("healpix256-ring", (4, 4)),
    ("o320", (4, 4)),
)


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement."""

    what: str
    value: float
    unit: str
    target: str = ""


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--tokens",
        type=int,
        default=1_000_000_000,
        help="how many to stream; 0 keeps the rows of the last run, with its commit",
    )
    tokens = parser.parse_args().tokens
    torch.set_num_threads(1)
    rows: list[Row] = []
    kept = [] if tokens else streamed(RESULTS / "tokens.csv")
    first = (streaming(tokens),) if tokens else ()
    for measure in (*first, importing(), planning(), finding(), cutting()):
        for row in measure:
            print(f"{row.what:<62}{row.value:12.4g} {row.unit:<16}{row.target}", flush=True)
            rows.append(row)
    write(RESULTS / "tokens.csv", rows, kept)


def streamed(path: Path) -> list[dict[str, str]]:
    """Return the rows of `streaming`, which come first, of an earlier run."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))[:STREAMED]


def cutting() -> Iterator[Row]:
    """Patchify and unpatchify against a copy of the same bytes."""
    yield pieces()
    for name, patch in CASES:
        patching = Patching(grid(name), patch)
        x = np.random.default_rng(0).normal(size=(4, 6, *patching.grid.shape)).astype(np.float32)
        for kind, field in (("numpy", x), ("torch", torch.from_numpy(x))):
            what = f"{name} {patch[0]}x{patch[1]} {kind}"
            yield from of_a_copy(f"{what}, new memory", patching, field, None)
            if len(patching.token_shape) == 2:
                yield from of_a_copy(f"{what}, memory at hand", patching, field, field + 0)


def of_a_copy(what: str, patching: Patching, x: Array, there: Array | None) -> Iterator[Row]:
    """Cut and join `x` (into new memory, unless `there` is some) against a copy."""
    tokens = patching.patchify(x)
    out = None if there is None else tokens + 0
    times = together(
        copying(x, there),
        partial(patching.patchify, x, out=out),
        partial(patching.unpatchify, tokens, out=there),
    )
    target = ">= 0.5" if len(patching.token_shape) == 2 else ""
    for step, seconds in zip(("patchify", "unpatchify"), times[1:], strict=True):
        yield Row(what=f"{step} {what}", value=times[0] / seconds, unit="of a copy", target=target)


def copying(x: Array, there: Array | None) -> Callable[[], object]:
    """Return the copy of `x` into new memory, or to where there is some."""
    if isinstance(x, np.ndarray):
        return x.copy if there is None else partial(np.copyto, there, x)
    return x.clone if there is None else partial(there.copy_, x)


def pieces() -> Row:
    """Copy a field of 0.25 degree in pieces of 16 rows, into new memory."""
    x = np.random.default_rng(0).normal(size=(24, 45, 16 * 1440)).astype(np.float32)

    def by_pieces() -> NDArray[np.float32]:
        out = np.empty_like(x)
        for i in np.ndindex(x.shape[:2]):
            out[i] = x[i]
        return out

    whole, parts = together(x.copy, by_pieces)
    return Row(what="0.25deg copied in pieces, new memory", value=whole / parts, unit="of a copy")


def importing() -> Iterator[Row]:
    """A Python that only imports the package: the processor's time, NumPy included."""
    best = np.inf
    for _ in range(TURNS):
        before = children()
        subprocess.run([sys.executable, "-c", "import stormda.grid"], check=True)
        best = min(best, children() - before)
    yield Row(what="python -c 'import stormda.grid'", value=best, unit="s", target="< 0.3")


def children() -> float:
    """Return the time that finished child processes took."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def planning() -> Iterator[Row]:
    """All bounds and neighbours of 20 billion tokens on 74,400 ranks, owners of a million."""
    some = np.random.default_rng(200).integers(0, 20_000_000_000, POINTS)
    start = time.process_time()
    plan(some)
    seconds = time.process_time() - start
    tracemalloc.start()
    plan(some)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    yield Row(what="plan 20e9 tokens on 74,400 ranks", value=seconds, unit="s", target="< 1")
    yield Row(what="memory of that plan", value=peak / 1e6, unit="MB", target="< 100")


def plan(some: NDArray[np.int64]) -> None:
    """Plan, and check the plan."""
    partition = Partition(20_000_000_000, 74_400)
    starts, stops = partition.bounds(np.arange(74_400))
    partition.reach(np.arange(74_400), halo=10_000)
    owner = partition.owner(some)
    if not ((starts[owner] <= some) & (some < stops[owner])).all():
        raise RuntimeError("owner and bounds disagree")


def finding() -> Iterator[Row]:
    """Bilinear values at a million random points, against SciPy's interpolator."""
    g, rng = grid("1deg-poles"), np.random.default_rng(200)
    lat, lon = np.degrees(np.arcsin(rng.uniform(-1, 1, POINTS))), rng.uniform(0, 359, POINTS)
    x = rng.normal(size=g.shape)

    def scipys() -> NDArray[np.float64]:
        points = np.stack([lat, lon], 1)
        return RegularGridInterpolator((g.lat[::-1], g.lon), x[::-1])(points)

    find, whole, other = together(
        lambda: locate(g, lat, lon), lambda: interpolation(g, lat, lon)(x), scipys
    )
    yield Row(
        what="locate, of SciPy's speed, 1e6 points",
        value=other / find,
        unit="times",
        target=">= 1",
    )
    yield Row(
        what="locate and interpolate, of SciPy's", value=other / whole, unit="times", target=">= 1"
    )


class Waves:
    """A field of 1 / 120 degree that is computed where it is read."""

    def __init__(self, frames: int, rows: int, cols: int) -> None:
        self.shape = frames, 1, rows, cols
        self.north = np.sin(np.linspace(0, 20, rows, dtype=np.float32))
        self.east = np.cos(np.linspace(0, 30, cols, dtype=np.float32))

    def __getitem__(self, key: tuple[slice, ...]) -> NDArray[np.float32]:
        """Return frames of some rows."""
        frames = np.arange(self.shape[0], dtype=np.float32)[key[0]]
        return frames[:, None, None, None] + np.multiply.outer(self.north[key[2]], self.east)


def streaming(tokens: int) -> Iterator[Row]:
    """Read, cut and embed so many tokens of a field that is never there as a whole."""
    patching = Patching(grid("1/120deg"), patch=(2, 2))
    per_frame = patching.tokens()
    field = Waves(-(-tokens // per_frame), *patching.grid.shape)
    tokenizer = Tokenizer(TokenizerConfig(variables=("t",), patch=(2, 2), width=8, heads=1))
    band = 8 * patching.token_shape[1]
    start, done, total = time.process_time(), 0, torch.zeros(8, dtype=torch.float64)
    with torch.no_grad(), tqdm(total=tokens, unit="token", unit_scale=True, mininterval=10) as bar:
        while done < tokens:
            stop = min(done + band, tokens)
            patches = torch.from_numpy(patching.read(field, done, stop))
            total += tokenizer.embed(patches, ["t"]).sum(0, dtype=torch.float64)
            bar.update(stop - done)
            done = stop
    seconds = time.process_time() - start
    if not total.isfinite().all():
        raise RuntimeError("tokens are not finite")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    what = f"{tokens:.3g} tokens"
    yield Row(what=f"{what} of a field of {field.shape}", value=seconds, unit="s")
    yield Row(
        what="tokens read, cut and embedded in a second", value=tokens / seconds, unit="tokens/s"
    )
    yield Row(what="most memory of the process by then", value=peak / 1e9, unit="GB", target="< 1")


def together(*calls: Callable[[], object]) -> list[float]:
    """Return the median time of each call, taken in turns so that all see the same machine."""
    times = np.empty((TURNS, len(calls)))
    for turn, i in np.ndindex(times.shape):
        start = time.process_time()
        kept = calls[i]()
        times[turn, i] = time.process_time() - start
        del kept  # giving memory back is not timed
    return [float(median) for median in np.median(times, axis=0)]


def write(path: Path, rows: list[Row], kept: list[dict[str, str]]) -> None:
    """Write a row for each measurement, after those of an earlier run."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*asdict(rows[0]), *record])
        writer.writeheader()
        writer.writerows(kept)
        for row in rows:
            writer.writerow(asdict(row) | {"value": f"{row.value:.4g}"} | record)


if __name__ == "__main__":
    main()
