"""Damage field files at random and see that they are refused or read right.

    python tools/fuzz_fields.py --cases 10000

Files of NetCDF-3 and NetCDF-4, made here and (where STORMDA_DATA is set) real, get bytes flipped
or are cut, one written over the other. Opening and reading them must raise one of our errors,
which names the file, or return values of the shape it said; what is left of a file that was cut
must hold the right values. The cases run in processes of their own, so that a crash or a hang of a
library would be seen.
"""

from __future__ import annotations

import argparse
import collections
import multiprocessing
import os
import random
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.io import netcdf_file

from stormda.grid import LatLonGrid
from stormda.io import open_store, write_fields

REAL = (
    "grid/era5_waves_dutch_20171027-28.nc",
    "grid/cmems_waves_dutch_20171028.nc",
    "ens/mogreps_uk_t15m_12mem_20181101.nc",
    "grid/nmc_storm_P_19960105-12.cdf",
)
LONGEST = 60.0
"""Seconds after which a batch of cases counts as hung, for each hundred cases."""


@dataclass(frozen=True)
class Original:
    """A whole file and what it holds."""

    content: bytes
    name: str
    variable: str
    values: NDArray[np.float32] | None


@dataclass(frozen=True)
class Damage:
    """What is done to a file."""

    cut: bool
    """Whether it is cut at the first place, or bytes are changed at all of them."""

    places: tuple[float, ...]
    """Where, as shares of its length."""

    bits: int
    """Which bits of a byte change."""

    def of(self, content: bytes) -> bytes:
        """Return the damaged bytes."""
        places = [min(int(p * len(content)), len(content) - 1) for p in self.places]
        if self.cut:
            return content[: places[0]]
        changed = bytearray(content)
        for place in places:
            changed[place] ^= self.bits
        return bytes(changed)


def originals(folder: Path) -> list[Original]:
    """Return the files that are damaged."""
    x = np.random.default_rng(0).normal(280, 5, (3, 4, 6)).astype(np.float32)
    grid = LatLonGrid(np.arange(4.0), np.arange(6.0))
    times = np.array(["2000-01-01", "2000-01-02", "2000-01-03"], "M8[s]")
    write_fields(folder / "four.nc", {"x": x}, times=times, grid=grid,
                 attributes={"x": {"units": "K"}}, compression=1)  # fmt: skip
    _netcdf3(folder / "three.nc", x)
    found = [_original(folder / name, "x") for name in ("four.nc", "three.nc")]
    real = os.environ.get("STORMDA_DATA")
    for name in REAL if real else ():
        found.append(_original(Path(str(real), name), None))
    return found


def check(original: Original, damage: Damage, path: Path) -> str:
    """Damage a file and read it; return what happened.

    Raises:
        AssertionError: If values are wrong, or an error is not one of ours.
    """
    path.write_bytes(damage.of(original.content))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            store = open_store(path)
            name = original.variable if original.variable in store.variables else None
            name = name or next(iter(store.variables))
            if np.prod([float(n) for n in store.shape(name)]) > 1e8:
                return "too large to read"
            values, mask = store.read(name)
        except (ValueError, FileNotFoundError) as error:
            if type(error) not in (ValueError, FileNotFoundError) or not _ours(error, path):
                raise AssertionError(f"{original.name}, {damage}: {error!r}") from error
            return "refused"
    if values.shape != store.shape(name) or mask.shape != values.shape:
        raise AssertionError(f"{original.name}, {damage}: shape {values.shape}")
    if not np.isfinite(values).all():
        raise AssertionError(f"{original.name}, {damage}: values that are not finite")
    if damage.cut and original.values is not None and name == original.variable:
        np.testing.assert_array_equal(values, original.values)
    return "read"


def _ours(error: Exception, path: Path) -> bool:
    """Tell whether an error says which file, or which argument, and what was expected."""
    return "expected" in str(error) or str(path) in str(error)


def _original(path: Path, variable: str | None) -> Original:
    content = path.read_bytes()
    if variable is None:
        try:
            store = open_store(path)
        except ValueError:
            return Original(content, path.name, "", None)
        variable = next(iter(store.variables))
    return Original(content, path.name, variable, open_store(path).read(variable)[0])


def _netcdf3(path: Path, x: NDArray[np.float32]) -> None:
    with netcdf_file(path, "w") as file:
        for name, values, units in (
            ("time", np.arange(3.0), "days since 2000-01-01"),
            ("lat", np.arange(4.0), "degrees_north"),
            ("lon", np.arange(6.0), "degrees_east"),
        ):
            file.createDimension(name, len(values))
            created = file.createVariable(name, "d", (name,))
            created[:], created.units = values, units
        created = file.createVariable("x", "f", ("time", "lat", "lon"))
        created[:], created.units = x, "K"


def batch(seed: int, cases: int, results: multiprocessing.SimpleQueue[object]) -> None:
    """Run cases in this process and hand back a count of what happened."""
    dice = random.Random(seed)
    with tempfile.TemporaryDirectory() as folder:
        whole = originals(Path(folder))
        counts: collections.Counter[str] = collections.Counter()
        for _ in range(cases):
            damage = Damage(
                cut=dice.random() < 0.3,
                places=tuple(dice.random() ** 2 for _ in range(dice.randint(1, 4))),
                bits=dice.randint(1, 255),
            )
            counts[check(dice.choice(whole), damage, Path(folder, "damaged.nc"))] += 1
    results.put(counts)


def main() -> None:
    """Print what happened to all cases."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cases", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    fork, size = multiprocessing.get_context("fork"), 500
    total: collections.Counter[str] = collections.Counter()
    for start in range(0, arguments.cases, size):
        cases = min(size, arguments.cases - start)
        results = fork.SimpleQueue()
        process = fork.Process(target=batch, args=(arguments.seed + start, cases, results))
        process.start()
        process.join(LONGEST * max(1.0, cases / 100))
        if process.is_alive():
            process.kill()
            raise SystemExit(f"a case hung in the batch of seed {arguments.seed + start}")
        if process.exitcode:
            raise SystemExit(
                f"the batch of seed {arguments.seed + start} ended with {process.exitcode}"
            )
        total += results.get()  # type: ignore[arg-type]
        print(f"{start + cases} cases: {dict(total)}", flush=True)


if __name__ == "__main__":
    main()
