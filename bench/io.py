"""How fast are tiles read and ensembles written, beside the usual ways?

    python bench/io.py

Windows of 8 frames of a 60 x 120 tile are read in random order from the same field (192 x 240 x
480, float32) stored in four ways, by `TileDataset`, plain h5py, xarray with dask, and xbatcher.
All find the file in the page cache and read the same windows. Prints a table and writes
bench/results/io.csv, with machine, versions and commit; ratios are of the best of three turns.
"""

from __future__ import annotations

import argparse
import csv
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

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
    open_store,
    rechunk,
    write_ensemble,
    write_fields,
)
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"
FRAMES, ROWS, COLS = 192, 240, 480
WINDOW, TILE = 8, (60, 120)
SAMPLES = 48
TURNS = 3
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
    for name, path in stored(folder, x).items():
        yield from reading(name, path)
    yield from memory(folder / "tiles.nc")
    yield from writing(folder, x)


def stored(folder: Path, x: NDArray[np.float32]) -> dict[str, Path]:
    """Store the field in each layout."""
    frames, whole = folder / "frames.nc", folder / "contiguous.nc"
    write_fields(frames, {"t2m": x}, times=TIMES, grid=GRID, attributes={"t2m": {"units": "K"}},
                 compression=1)  # fmt: skip
    with xr.open_dataset(frames, engine="h5netcdf") as dataset:
        plain = dataset.load().drop_encoding()
        plain.to_netcdf(whole, engine="h5netcdf")
    store, pieces = open_store(frames), Pieces(frames=WINDOW, tile=TILE)
    rechunk(store, folder / "tiles.nc", pieces, compression=0)
    rechunk(store, folder / "tiles.zarr", pieces, compression=0)
    return {
        "contiguous": whole,
        "frames, gzip 1": frames,
        "tiles": folder / "tiles.nc",
        "tiles, Zarr": folder / "tiles.zarr",
    }


def reading(name: str, path: Path) -> Iterator[Row]:
    """Compare the readers on one file."""
    layout = TileLayout((ROWS, COLS), (ROWS // TILE[0], COLS // TILE[1]))
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
    chosen = data.order.sample(np.arange(SAMPLES), 0)
    ours = rate(lambda: [data[int(i)] for i in chosen])
    yield Row(what=f"{name}: TileDataset", value=ours, unit="samples/s")
    for other, run, target in others(path, layout, chosen):
        value = rate(run)
        yield Row(what=f"{name}: {other}", value=value, unit="samples/s")
        yield Row(what=f"{name}: TileDataset, of {other}", value=ours / value, unit="times",
                  target=target)  # fmt: skip


def others(
    path: Path, layout: TileLayout, chosen: NDArray[np.int64]
) -> Iterator[tuple[str, Callable[[], object], str]]:
    """Yield the other readers; each reads the same windows."""
    places = [divmod(int(i), len(layout)) for i in chosen]
    windows = [
        (slice(w * WINDOW, (w + 1) * WINDOW), *(slice(*s) for s in layout.window(t).core))
        for w, t in places
    ]
    fits = path.stem == "tiles"
    if path.suffix != ".zarr":
        with h5py.File(path) as file:
            array = file["t2m"]
            yield "plain h5py", lambda: [array[window] for window in windows], "> 0.77"
    engine = "zarr" if path.suffix == ".zarr" else "h5netcdf"
    options = {"consolidated": False} if engine == "zarr" else {}
    with xr.open_dataset(path, engine=engine, chunks={}, **options) as dataset:
        x = dataset["t2m"]
        chunked = x if x.chunks and len(x.chunks[0]) > 1 else x.chunk(time=WINDOW)
        yield (
            "xarray + dask",
            lambda: [chunked[window].load(scheduler="synchronous") for window in windows],
            ">= 3" if fits else "",
        )
        sizes = {"time": WINDOW, "lat": TILE[0], "lon": TILE[1]}
        batches = xbatcher.BatchGenerator(chunked, input_dims=sizes)
        yield "xbatcher", lambda: [batches[int(i)].load() for i in chosen], ""


def rate(run: Callable[[], object]) -> float:
    """Return samples a second, the best of some turns."""
    seconds = []
    for _ in range(TURNS):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return SAMPLES / min(seconds)


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
    """Compare the writing of an ensemble of 8 members."""
    members = x.reshape(8, FRAMES // 8, ROWS, COLS)
    times = TIMES[: FRAMES // 8]
    dataset = xr.Dataset(
        {"t2m": (("realization", "time", "lat", "lon"), members, {"units": "K"})},
        {"time": times.astype("M8[ns]"), "lat": GRID.lat, "lon": GRID.lon},
    )
    chunks = {"t2m": {"chunksizes": (1, 1, ROWS, COLS)}}

    def ours() -> None:
        write_ensemble(folder / "a.nc", {"t2m": members}, times=times, grid=GRID,
                       attributes={"t2m": {"units": "K"}}, overwrite=True)  # fmt: skip

    def theirs(**encoding: object) -> None:
        dataset.to_netcdf(folder / "b.nc", engine="h5netcdf", **encoding)  # type: ignore[call-overload]

    def speed(run: Callable[[], None]) -> float:
        return rate(run) / SAMPLES * members.nbytes / 1e6

    mine = speed(ours)
    yield Row(what="write_ensemble, flushed to the disk, with checksums", value=mine, unit="MB/s")
    for what, encoding in (("contiguous", {}), ("the same chunks", {"encoding": chunks})):
        value = speed(lambda e=encoding: theirs(**e))  # type: ignore[misc]
        yield Row(what=f"xarray.to_netcdf, {what}", value=value, unit="MB/s")
        yield Row(what=f"write_ensemble, of that, {what}", value=mine / value, unit="times",
                  target=">= 1")  # fmt: skip


if __name__ == "__main__":
    main()
