"""Does STORM refine real fields four times better than interpolation and regression?

    STORMDA_DATA=... python bench/downscaling.py [--case era5 oisst echam5]

Block means of real fields are refined to the fields. Cases, with what is learned from and scored:

- era5: hourly 2 m temperature over the UK, 32 x 48; 1-12 March 2019 / 13 March 12 UTC to 16 March.
- oisst: sea surface temperature of one day in tiles of 32 x 32 cells of 0.25 degrees without land;
  tiles that begin west of 180 E / east of it (learned from / scored).
- echam5: 6-hourly surface temperature of the whole earth, 96 x 192; first 15 times / last 4.

Beside STORM's ensemble (mean, and one member for its spectrum) stand bilinear and bicubic
interpolation, bilinear interpolation of departures from the climate of each cell (no climate for
tiles), and ridge regression from the 3 x 3 blocks around to the cells of a block, a regression for
each block position in common, its penalty chosen on a tenth of the learned fields; and STORM's own
forecast (the regression of its network) with and without the total variation prior. Every method's
blocks are shifted to the given means, which makes interpolation better. R2 is 1 - error variance
over the variance of the truth about its mean over scored cells and times. The last columns are the
spectral power of the smaller half of the scales relative to the truth's, and the largest departure
of a block's mean from the given one, in standard deviations of what block means leave unknown.
Takes about half an hour of a core. Writes bench/results/downscaling.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from stormda.assimilation import crps_fair, spread_skill
from stormda.grid import LatLonGrid
from stormda.io import open_store, write_fields
from stormda.storm.downscaling import (
    Coarsening,
    DownscalingConfig,
    downscale_fields,
    fit_residuals,
    trimmed,
)
from stormda.storm.frames import Frames, clock_features, read_frames
from stormda.storm.prior import Storm
from stormda.storm.prior_training import train_on_files
from stormda.storm.provenance import commit, machine
from stormda.storm.real_recipes import FILE_RECIPES, FileRecipe

RESULTS = Path(__file__).parent / "results" / "downscaling.csv"
FACTOR, MEMBERS, SEED = 4, 16, 200
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0, 10.0)
COLUMNS = (
    "case",
    "method",
    "rmse",
    "r2",
    "crps",
    "spread_skill",
    "small_scales",
    "means",
    "seconds",
)


@dataclass(frozen=True, eq=False)
class Case:
    """Fields to learn from and fields to be refined, all blocks whole."""

    name: str
    learned: Frames
    scored: Frames
    modes: int
    steps: int

    @property
    def blocks(self) -> Coarsening:
        """Return the blocks of the grid."""
        return Coarsening(self.learned.grid, FACTOR)


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--case", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    print("  ".join(f"{c:>12}" for c in COLUMNS))
    for name in arguments.case:
        rows = []
        for row in compare(CASES[name]()):
            line = (f"{v:>12.4f}" if isinstance(v, float) else f"{v:>12}" for v in row)
            print("  ".join(line), flush=True)
            rows.append(row)
        save(name, rows)


def save(case: str, rows: list[tuple[str | float, ...]]) -> None:
    """Put the rows of a case in the place of its older ones."""
    header = [*COLUMNS, "machine", "torch", "commit"]
    kept: list[list[str]] = []
    if RESULTS.exists():
        with RESULTS.open(newline="") as file:
            kept = [row for row in csv.reader(file) if row[0] not in (case, header[0])]
    origin = (machine(), torch.__version__, commit())
    with RESULTS.open("w", newline="") as file:
        csv.writer(file).writerows(
            [header, *kept, *([*(cell(v) for v in row), *origin] for row in rows)]
        )


def cell(value: object) -> str:
    """Return a number to four digits."""
    return f"{value:.4f}" if isinstance(value, float) else str(value)


def era5() -> Case:
    """Return hourly 2 m temperature over the UK."""
    frames = read("grid/era5_t2m_uk_hourly_20190301-16.nc", "t2m")
    end = np.datetime64("2019-03-13T00", "s")
    early, late = frames.times < end, frames.times >= end + np.timedelta64(12, "h")
    return Case("era5", part(frames, early), part(frames, late), modes=200, steps=900)


def echam5() -> Case:
    """Return 6-hourly surface temperature of the whole earth."""
    frames = read("grid/echam5_tsurf_6h_T63_20010101-05.nc", "tC")
    order = np.arange(len(frames.times))
    return Case("echam5", part(frames, order < 15), part(frames, order >= 16), modes=0, steps=600)


def oisst() -> Case:
    """Return sea surface temperature in tiles without land, one after the other as if in time."""
    store = open_store(Path(os.environ["STORMDA_DATA"]) / "grid/oisst_v2_20040101.nc")
    values, valid = store.read("sst")
    size = 32
    rows, cols = (n - n % size for n in store.grid.shape)

    def tiles(x: Tensor) -> Tensor:
        whole = x.reshape(-1, *store.grid.shape)[:1, :rows, :cols]
        return rearrange(whole, "t (a y) (b x) -> a b t y x", y=size, x=size)

    fields, known = tiles(torch.from_numpy(values)), tiles(torch.from_numpy(valid))
    west = torch.arange(fields.shape[1]) < fields.shape[1] // 2
    whole = known.all(-1).all(-1)[..., 0]

    def chosen(side: Tensor) -> Frames:
        x = fields[whole & side][:, 0][:, None].float()
        return Frames(
            variables=("sst",),
            units=(store.variables["sst"].units,),
            grid=LatLonGrid(0.25 * np.arange(size), 0.25 * np.arange(size)),
            times=np.datetime64("2000-01-01", "s") + 3600 * np.arange(len(x)),
            values=x,
            valid=torch.ones_like(x, dtype=torch.bool),
        )

    return Case("oisst", chosen(west), chosen(~west), modes=100, steps=900)


CASES = {"era5": era5, "oisst": oisst, "echam5": echam5}


def read(path: str, variable: str) -> Frames:
    """Read frames, without the rows and columns that fill no block."""
    store = open_store(Path(os.environ["STORMDA_DATA"]) / path)
    return trimmed(read_frames(store, [variable]), FACTOR)


def part(frames: Frames, mask: np.ndarray) -> Frames:
    """Return the frames that a mask chooses."""
    return frames.select(np.flatnonzero(mask))


def compare(case: Case) -> Iterator[tuple[str | float, ...]]:
    """Yield a row for each method."""
    truth = case.scored.values
    coarse = case.blocks.means(truth)
    begun = time.time()
    yield score(case, "bilinear", case.blocks.spread(coarse)[None], begun)
    begun = time.time()
    yield score(case, "bicubic", bicubic(coarse, truth.shape[-2:])[None], begun)
    if case.name != "oisst":
        begun = time.time()
        climate = case.learned.values.mean(0)
        departures = case.blocks.spread(coarse - case.blocks.means(climate))
        yield score(case, "anomalies", (climate + departures)[None], begun)
    begun = time.time()
    yield score(case, "regression", ridge(case, coarse)[None], begun)
    prior = trained(case, variation=0.0)
    for name, members in (("forecast", 1), ("storm", MEMBERS)):
        begun = time.time()
        yield score(case, name, refined(prior, case, coarse, members), begun)
    begun = time.time()
    smooth = trained(case, variation=0.02)
    yield score(case, "forecast-tv", refined(smooth, case, coarse, 1), begun)


def bicubic(coarse: Tensor, shape: tuple[int, int]) -> Tensor:
    """Interpolate by cubic convolution between the middles of blocks."""
    return F.interpolate(coarse, size=shape, mode="bicubic", align_corners=False)


def ridge(case: Case, coarse: Tensor) -> Tensor:
    """Regress what bilinear interpolation leaves on the 3 x 3 blocks around."""
    blocks, fields = case.blocks, case.learned.values
    held = torch.arange(len(fields)) % 10 == 9
    x, y = predictors(blocks.means(fields)), targets(blocks, fields)
    shape = fields.shape[0], -1
    x_time, y_time = (v.reshape(*shape, v.shape[-1]) for v in (x, y))
    errors = [
        (solve(x_time[~held].flatten(0, 1), y_time[~held].flatten(0, 1), penalty), penalty)
        for penalty in PENALTIES
    ]
    best = min(errors, key=lambda e: float((x_time[held] @ e[0] - y_time[held]).square().mean()))[
        1
    ]
    weights = solve(x, y, best)
    rows, cols = coarse.shape[-2:]
    rest = rearrange(
        predictors(coarse) @ weights,
        "(t y x) (f g) -> t 1 (y f) (x g)",
        t=len(coarse), y=rows, x=cols, f=FACTOR,
    )  # fmt: skip
    return blocks.spread(coarse) + rest.float()


def predictors(coarse: Tensor) -> Tensor:
    """Return the 3 x 3 neighbours of every block less the block's own value, and 1."""
    padded = F.pad(coarse, (1, 1, 1, 1), mode="replicate")
    around = F.unfold(padded, 3).mT.flatten(0, 1).double()
    around = around - around[:, 4:5]
    around[:, 4] = 1.0
    return around


def targets(blocks: Coarsening, fields: Tensor) -> Tensor:
    """Return what bilinear interpolation leaves in the cells of every block."""
    rest = fields - blocks.smooth(fields)
    return rearrange(rest, "t 1 (y f) (x g) -> (t y x) (f g)", f=FACTOR, g=FACTOR).double()


def solve(x: Tensor, y: Tensor, penalty: float) -> Tensor:
    """Return the weights of ridge regression, the penalty per sample."""
    ridge = penalty * len(x) * 1e-3 * torch.eye(x.shape[1], dtype=x.dtype)
    return torch.linalg.solve(x.mT @ x + ridge, x.mT @ y)


def trained(case: Case, *, variation: float) -> Storm:
    """Train the network of the recipe on the learned fields."""
    recipe = recipe_of(case, variation)
    with tempfile.TemporaryDirectory() as folder:
        fields = Path(folder) / "fields.nc"
        name = case.learned.variables[0]
        write_fields(
            fields,
            {name: case.learned.values[:, 0].numpy()},
            times=case.learned.times,
            grid=case.learned.grid,
            attributes={name: {"units": case.learned.units[0]}},
        )
        prior = train_on_files(
            recipe, open_store(fields), Path(folder) / "run", device=torch.device("cpu")
        )
    assert prior is not None
    return prior


def recipe_of(case: Case, variation: float) -> FileRecipe:
    """Return the recipe for a case."""
    recipe = FILE_RECIPES["downscaling"](case.learned.variables)
    network = replace(recipe.network, modes=case.modes, clock=case.name != "oisst")
    training = replace(recipe.training, steps=case.steps, variation=variation)
    tiles = case.name == "oisst"  # some quiet, some with fronts, and many
    superposition = replace(recipe.superposition, wander=0.0) if tiles else recipe.superposition
    return replace(
        recipe,
        network=network,
        training=training,
        relative=tiles,
        superposition=superposition,
    )


def refined(prior: Storm, case: Case, coarse: Tensor, members: int) -> Tensor:
    """Return samples of every scored field, (members, time, 1, rows, cols)."""
    config = DownscalingConfig(members=members, seed=SEED)
    clock = clock_features(case.scored.times, case.scored.grid, season=False)
    fields = [
        downscale_fields(
            prior,
            one,
            clock=clock[i] if prior.config.clock else None,
            config=config,
            generator=torch.Generator().manual_seed(1000 * SEED + i),
        )
        for i, one in enumerate(coarse)
    ]
    return torch.stack(fields, 1)


def score(case: Case, method: str, fields: Tensor, begun: float) -> tuple[str | float, ...]:
    """Return a row for fields (members, time, 1, rows, cols)."""
    truth = case.scored.values
    fields = case.blocks.conserving(fields, case.blocks.means(truth))
    mean, seconds = fields.mean(0), time.time() - begun
    error = (mean - truth).square().mean()
    several = len(fields) > 1
    crps = crps_fair(fields, truth).mean() if several else (mean - truth).abs().mean()
    rest = fit_residuals(case.learned, case.blocks)
    unknown = (rest.std * rest.increment).squeeze()
    off = (case.blocks.means(fields) - case.blocks.means(truth)).abs().max() / unknown
    return (
        case.name,
        method,
        float(error.sqrt()),
        float(1 - error / (truth - truth.mean()).square().mean()),
        float(crps),
        float(spread_skill(fields, truth)) if several else float("nan"),
        float(small_power(fields[0]) / small_power(truth)),
        float(off),
        seconds,
    )


def small_power(x: Tensor) -> Tensor:
    """Return the mean power of waves shorter than eight cells."""
    x = x - x.mean(dim=(-2, -1), keepdim=True)
    window = torch.outer(*(torch.hann_window(n + 2)[1:-1] for n in x.shape[-2:]))
    power = torch.fft.rfft2(x * window).abs().square()
    ky = torch.fft.fftfreq(x.shape[-2])[:, None]
    kx = torch.fft.rfftfreq(x.shape[-1])
    return power[..., torch.sqrt(ky**2 + kx**2) > 1 / 8].mean()


if __name__ == "__main__":
    main()
