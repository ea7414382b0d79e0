"""How fast are tiles read and ensembles written, beside the usual ways?

    python bench/io.py

Windows of 8 frames of a tile are read in random order from the same field (192 x 240 x 480,
float32) stored in five ways, by `TileDataset`, plain h5py, xarray with dask, and xbatcher. All
find the file in the page cache, take turns, and read the same windows, other ones in each turn.
Each has a copy of the file: HDF5 shares its cache of chunks among all who open one, and whoever
comes second would find the chunks unpacked. "Again" is reading a window a second time, which plain
h5py finds in that cache. "h5py, masked" makes from the numbers what a sample holds besides, a mask
and zeros where they are missing. Samples are counted by the second of the processor, of the best
turn, since all of this is its work.

An ensemble of 88 MB is written again and again over its like, in turns of random order: the disk
is never waited for between them. Megabytes are counted by the second of the clock, of the median
turn. `xarray.to_netcdf` alone leaves its bytes in memory, where a loss of power loses them, and
the next turn throws them away unwritten. So a series of such ensembles is written too, each to a
file of its own, more than the system takes into memory before the disk must follow (9 GB, which
have to be free). It is counted until all of it is on the disk, and until the last call returns.
Prints a table and writes bench/results/io.csv, with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import csv
import os
import random
import resource
import shutil
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
import xbatcher
from numpy.typing import NDArray

from stormda.grid import LatLonGrid, TileLayout
from stormda.io import (
    Pieces,
    ReadAmplificationWarning,
    TileDataset,
    WindowConfig,
    atomic_path,
    open_store,
    rechunk,
    write_ensemble,
    write_fields,
)
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"
FRAMES, ROWS, COLS = 192, 240, 480
WINDOW = 8
TILE, WIDE = (60, 120), (120, 240)
SAMPLES = 24
TURNS = 24
WRITING_TURNS = 25
SERIES, SERIES_TURNS = 100, 3
SERIES_WRITERS = (
    "write_ensemble, with checksums, flushed to the disk",
    "xarray.to_netcdf",
    "xarray.to_netcdf by h5netcdf",
)
"""What writes many ensembles one after the other: xarray leaves it to the system when."""
GRID = LatLonGrid(np.linspace(-89.625, 89.625, ROWS), np.arange(COLS) * 0.75)
TIMES = np.arange("2000-01-01", "2000-01-09", dtype="M8[h]").astype("M8[s]")


@dataclass(frozen=True, kw_only=True)
class Row:
    """One measurement."""

    what: str
    value: float
    unit: str
    target: str = ""


def main() -> None:
    """Run, print and write."""
    argparse.ArgumentParser(description=__doc__.splitlines()[0]).parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for row in measurements(Path(folder)):
            print(f"{row.what:62} {row.value:10.4g} {row.unit:10} {row.target}", flush=True)
            rows.append(row)
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    versions += f" xarray {xr.__version__} h5py {h5py.__version__} xbatcher {xbatcher.__version__}"
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    with (RESULTS / "io.csv").open("w", newline="") as file:
        table = csv.DictWriter(file, [*asdict(rows[0]), *record], lineterminator="\n")
        table.writeheader()
        table.writerows({**asdict(row), "value": f"{row.value:.4g}"} | record for row in rows)


def measurements(folder: Path) -> Iterator[Row]:
    """Yield every row of the table."""
    x = np.random.default_rng(0).normal(280, 10, (FRAMES, ROWS, COLS)).astype(np.float32)
    for name, (path, tile) in stored(folder, x).items():
        yield from reading(name, path, tile)
    yield from memory(folder / "tiles.nc")
    yield from writing(folder, x)


def stored(folder: Path, x: NDArray[np.float32]) -> dict[str, tuple[Path, tuple[int, int]]]:
    """Store the field in each layout; return where, and the tile that is read."""
    frames, whole = folder / "frames.nc", folder / "contiguous.nc"
    write_fields(frames, {"t2m": x}, times=TIMES, grid=GRID, attributes={"t2m": {"units": "K"}},
                 compression=1)  # fmt: skip
    with xr.open_dataset(frames, engine="h5netcdf") as dataset:
        plain = dataset.load().drop_encoding()
        plain.to_netcdf(whole, engine="h5netcdf")
    store = open_store(frames)
    for name, tile in (("tiles.nc", TILE), ("wide.nc", WIDE), ("tiles.zarr", TILE)):
        rechunk(store, folder / name, Pieces(frames=WINDOW, tile=tile), compression=0)
    return {
        "contiguous": (whole, TILE),
        "frames, gzip 1": (frames, TILE),
        "tiles of 0.23 MB": (folder / "tiles.nc", TILE),
        "tiles of 0.92 MB": (folder / "wide.nc", WIDE),
        "tiles of 0.23 MB, Zarr": (folder / "tiles.zarr", TILE),
    }


def reading(name: str, path: Path, tile: tuple[int, int]) -> Iterator[Row]:
    """Compare the readers on one file."""
    layout = TileLayout((ROWS, COLS), (ROWS // tile[0], COLS // tile[1]))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ReadAmplificationWarning)
        data = TileDataset(
            store=open_store(path),
            variables=["t2m"],
            layout=layout,
            window=WindowConfig(history=WINDOW - 1, stride=WINDOW),
        )
    waste = data.store.cost("t2m", slice(0, WINDOW), layout.window(0).extended).amplification
    yield Row(what=f"{name}: read amplification", value=waste, unit="times")
    readers: dict[str, Reader] = {"TileDataset": lambda chosen: [data[i] for i in chosen]}
    with opened(path, layout) as others:
        rates = speeds(readers | others, data)
        if "plain h5py" in others:
            yield from again(name, readers | others, data)
    for other, value in rates.items():
        yield Row(what=f"{name}: {other}", value=value, unit="samples/s")
    for other in others:
        ratio = rates["TileDataset"] / rates[other]
        yield Row(what=f"{name}: TileDataset, of {other}", value=ratio, unit="times",
                  target=TARGETS.get(other, "") if "tiles" in name else "")  # fmt: skip


Reader = Callable[[list[int]], object]

TARGETS = {"plain h5py": "> 0.77", "xarray + dask": ">= 3"}
"""What is aimed at where a tile is stored together."""


@contextmanager
def opened(path: Path, layout: TileLayout) -> Iterator[dict[str, Reader]]:
    """Yield the other readers of a file; each reads samples by their numbers."""

    def window(sample: int) -> tuple[slice, ...]:
        frames, tile = divmod(sample, len(layout))
        core = (slice(*span) for span in layout.window(tile).core)
        return slice(frames * WINDOW, (frames + 1) * WINDOW), *core

    is_zarr = path.suffix == ".zarr"
    options = {"engine": "zarr", "consolidated": False} if is_zarr else {"engine": "h5netcdf"}
    with ExitStack() as stack:
        readers: dict[str, Reader] = {}

        def own() -> Path:
            """Return a copy of the file; Zarr keeps nothing between two readings."""
            return path if is_zarr else stack.enter_context(copied(path))

        def with_dask() -> xr.DataArray:
            x = stack.enter_context(xr.open_dataset(own(), chunks={}, **options))["t2m"]
            return x if x.chunks and len(x.chunks[0]) > 1 else x.chunk(time=WINDOW)

        if not is_zarr:
            plain, other = (stack.enter_context(h5py.File(own()))["t2m"] for _ in range(2))
            readers["plain h5py"] = lambda chosen: [plain[window(i)] for i in chosen]
            readers["h5py, masked"] = lambda chosen: [masked(other[window(i)]) for i in chosen]
        chunked = with_dask()
        readers["xarray + dask"] = lambda chosen: [
            chunked[window(i)].load(scheduler="synchronous") for i in chosen
        ]
        rows, cols = layout.window(0).core
        sizes = {"time": WINDOW, "lat": rows.stop, "lon": cols.stop}
        batches = xbatcher.BatchGenerator(with_dask(), input_dims=sizes)
        readers["xbatcher"] = lambda chosen: [batches[i].load() for i in chosen]
        yield readers


@contextmanager
def copied(path: Path) -> Iterator[Path]:
    """Yield a copy of a file for a while."""
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        yield Path(shutil.copy(path, folder))


def masked(x: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return values, 0 where they are missing, and where they are not."""
    mask = np.isfinite(x)
    return np.where(mask, x, np.float32(0)), mask


def again(name: str, readers: Mapping[str, Reader], data: TileDataset) -> Iterator[Row]:
    """Compare how fast a window is read that was read just before."""
    rates = {}
    for reader in ("TileDataset", "plain h5py"):
        seconds = []
        for _ in range(TURNS):
            taken = 0.0
            for sample in range(SAMPLES):
                readers[reader]([sample])
                start = time.process_time()
                readers[reader]([sample])
                taken += time.process_time() - start
            seconds.append(taken)
        rates[reader] = SAMPLES / min(seconds)
    ratio = rates["TileDataset"] / rates["plain h5py"]
    yield Row(what=f"{name}: TileDataset, of plain h5py, again", value=ratio, unit="times")


def speeds(readers: Mapping[str, Reader], data: TileDataset) -> dict[str, float]:
    """Return samples by the second of the processor, of the best turn of each reader."""
    seconds: dict[str, list[float]] = {name: [] for name in readers}
    for turn in range(TURNS):
        places = np.arange(turn * SAMPLES, (turn + 1) * SAMPLES) % len(data)
        chosen = [int(i) for i in data.order.sample(places, 0)]
        for name in [*readers][turn % len(readers) :] + [*readers][: turn % len(readers)]:
            start = time.process_time()
            readers[name](chosen)
            seconds[name].append(time.process_time() - start)
    return {name: SAMPLES / min(times) for name, times in seconds.items()}


def memory(path: Path) -> Iterator[Row]:
    """Measure what a second and third epoch add to the memory of the process."""
    data = TileDataset(
        store=open_store(path),
        variables=["t2m"],
        layout=TileLayout((ROWS, COLS), (ROWS // TILE[0], COLS // TILE[1])),
        window=WindowConfig(history=WINDOW - 1),
        max_bytes=2**24,
    )
    most = []
    for _ in range(3):
        for _ in data:
            pass
        most.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    growth = most[-1] - most[0]
    yield Row(what="memory that epochs 2 and 3 add to epoch 1", value=growth, unit="MB",
              target="< 16")  # fmt: skip


def writing(folder: Path, x: NDArray[np.float32]) -> Iterator[Row]:
    """Compare the writing of an ensemble of 8 members: of one, and of one after the other."""
    members = x.reshape(8, FRAMES // 8, ROWS, COLS)
    writers = ensemble_writers(members)
    yield from again_and_again(folder, writers, members.nbytes)
    unflushed = {name: write for name, write in writers.items() if name in SERIES_WRITERS}
    yield from one_after_the_other(folder, unflushed, members.nbytes)


def again_and_again(
    folder: Path, writers: Mapping[str, Callable[[Path], None]], size: int
) -> Iterator[Row]:
    """Compare the writing of an ensemble over its like."""
    clock: dict[str, list[float]] = {name: [] for name in writers}
    processor: dict[str, list[float]] = {name: [] for name in writers}
    dice = random.Random(0)
    for _ in range(WRITING_TURNS):
        for name in dice.sample([*writers], len(writers)):
            start, own = time.perf_counter(), time.process_time()
            writers[name](folder / f"{[*writers].index(name)}.nc")
            clock[name].append(time.perf_counter() - start)
            processor[name].append(time.process_time() - own)
    seconds = {name: statistics.median(times) for name, times in clock.items()}
    busy = {name: statistics.median(times) for name, times in processor.items()}
    for name in writers:
        yield Row(what=name, value=size / 1e6 / seconds[name], unit="MB/s")
    yield from ratios("", seconds, target=">= 1")
    yield from ratios(", by processor time", busy)


def one_after_the_other(
    folder: Path, writers: Mapping[str, Callable[[Path], None]], size: int
) -> Iterator[Row]:
    """Compare the writing of many ensembles, as cycles do, each to a file of its own."""
    returned: dict[str, list[float]] = {name: [] for name in writers}
    stored: dict[str, list[float]] = {name: [] for name in writers}
    dice = random.Random(0)
    for _ in range(SERIES_TURNS):
        for name in dice.sample([*writers], len(writers)):
            with tempfile.TemporaryDirectory(dir=folder) as own:
                os.sync()
                start = time.perf_counter()
                for i in range(SERIES):
                    writers[name](Path(own, f"{i}.nc"))
                returned[name].append(time.perf_counter() - start)
                os.sync()
                stored[name].append(time.perf_counter() - start)
    of_series = f", {SERIES * size / 1e9:.0f} GB"
    seconds = {name: statistics.median(times) for name, times in stored.items()}
    for name in writers:
        yield Row(what=name + of_series, value=SERIES * size / 1e6 / seconds[name], unit="MB/s")
    yield from ratios(f"{of_series}, until it is on the disk", seconds, target=">= 1")
    calls = {name: statistics.median(times) for name, times in returned.items()}
    yield from ratios(f"{of_series}, until the last call returns", calls)


def ratios(what: str, seconds: Mapping[str, float], target: str = "") -> Iterator[Row]:
    """Yield how fast the first writer is beside the others; the target is for those of xarray."""
    mine, *others = seconds
    for name in others:
        yield Row(what=f"write_ensemble, of {name}{what}", value=seconds[name] / seconds[mine],
                  unit="times", target=target if name.startswith("xarray") else "")  # fmt: skip


def ensemble_writers(members: NDArray[np.float32]) -> dict[str, Callable[[Path], None]]:
    """Return what writes the ensemble to a file, which it replaces, by name."""
    times = TIMES[: members.shape[1]]
    dataset = xr.Dataset(
        {"t2m": (("realization", "time", "lat", "lon"), members, {"units": "K"})},
        {"time": times.astype("M8[ns]"), "lat": GRID.lat, "lon": GRID.lon},
    )
    chunks = {"t2m": {"chunksizes": (1, 1, ROWS, COLS)}}
    checked = {"t2m": {**chunks["t2m"], "fletcher32": True}}

    def ours(path: Path) -> None:
        write_ensemble(path, {"t2m": members}, times=times, grid=GRID,
                       attributes={"t2m": {"units": "K"}}, overwrite=True)  # fmt: skip

    def theirs(*, flushed: bool = False, **options: Any) -> Callable[[Path], None]:  # noqa: ANN401
        def write(path: Path) -> None:
            dataset.to_netcdf(path, **options)
            if flushed:
                flush(path)

        return write

    def bytes_alone(path: Path) -> None:
        with atomic_path(path, overwrite=True) as temporary:
            temporary.write_bytes(members)

    h5 = {"engine": "h5netcdf"}
    return {
        "write_ensemble, with checksums, flushed to the disk": ours,
        "xarray.to_netcdf": theirs(),
        "xarray.to_netcdf by h5netcdf": theirs(**h5),
        "xarray.to_netcdf by h5netcdf, same chunks": theirs(encoding=chunks, **h5),
        "xarray.to_netcdf, flushed": theirs(flushed=True),
        "xarray.to_netcdf by h5netcdf, same chunks, checksums, flushed":
            theirs(flushed=True, encoding=checked, **h5),
        "the same bytes and nothing else, flushed and renamed": bytes_alone,
    }  # fmt: skip


def flush(path: Path) -> None:
    """Wait until a file is on the disk."""
    with path.open("rb") as file:
        os.fsync(file.fileno())


if __name__ == "__main__":
    main()
