"""Is one-stage analysis right on the globe? Shallow water with poles, u, v and h together.

    python bench/sphere.py DIR --train            # archive and prior (seed 1), kept in DIR
    python bench/sphere.py DIR --tune             # settings, on seeds 100-103; prints trials
    python bench/sphere.py DIR                    # the table, on seeds 239-246

each also with --cells: on 3072 cells of HEALPix, to which nature is interpolated.

Nature is T21 turbulence on 32 x 64 Gaussian points; every 12 hours u, v and h are observed at 5 %
of the cells, others each time. STORM, with the prior of `stormda.storm.sphere`, stands beside
cycled optimal interpolation, the LETKF on STORM's own forecasts, and the LETKF with the true
model. Scores are weighted by area, after 6 of 20 cycles; `all` is the mean over variables in units
of their climatological standard deviations. `seam` is the error in the columns on either side of
the seam over that of the rest, `polar` that beyond 83 degrees, the rows at the poles, over that of
the rest, both of `all`. Interpolation and the LETKF with the true model work on the grid of the
model, also where the case is on cells (there the table has seeds 247-250). Writes
results/sphere.csv or sphere_healpix.csv, and results/sphere_low.csv: the deepest low of each
truth, followed in the analyses and in STORM's forecasts from the same start without observations.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from stormda.assimilation import GaussianAnalysis, grid_search
from stormda.assimilation.systems.spherical_harmonics import SphericalHarmonics
from stormda.grid import Grid
from stormda.storm.filtering import FilterSettings
from stormda.storm.prior import Storm
from stormda.storm.provenance import commit, machine, provenance
from stormda.storm.recipes import sphere, sphere_healpix
from stormda.storm.scores import Analyses, collect
from stormda.storm.sphere.case import SphereCase, SphereCaseConfig, make_sphere_case
from stormda.storm.sphere.cells import OnCells
from stormda.storm.sphere.covariance import persistence_covariance
from stormda.storm.sphere.flow import VARIABLES, GlobalFlow
from stormda.storm.sphere.methods import (
    cell_vectors,
    free_run,
    great_circle_km,
    interpolation,
    letkf_with_model,
    letkf_with_prior,
    one_stage,
)
from stormda.storm.sphere.training import (
    archive_of,
    fit_archive,
    interpolation_of,
    train_sphere,
)
from stormda.storm.twin.archive import Archive
from stormda.storm.twin.ensemble_filter import EnsembleSettings

RESULTS = Path(__file__).parent / "results"

Settings = Mapping[str, float]
Analysis = Tensor | GaussianAnalysis


@dataclass(frozen=True)
class Equipment:
    """What the methods have beside the case."""

    flow: GlobalFlow
    archive: Archive
    on: OnCells | None
    prior: Storm | None

    def case(self, config: SphereCaseConfig) -> SphereCase:
        """Return a case on the grid of the prior."""
        return make_sphere_case(config, self.flow, self.on)

    @property
    def storm(self) -> Storm:
        """Return the trained prior."""
        if self.prior is None:
            raise ValueError("DIR: expected a trained prior, got none (--train makes it)")
        return self.prior


def storm(case: SphereCase, has: Equipment, settings: Settings) -> Iterator[Tensor]:
    """Return one-stage analyses."""
    return one_stage(case, has.storm, replace(FilterSettings(), **settings))


def letkf(case: SphereCase, has: Equipment, settings: Settings) -> Iterator[Tensor]:
    """Return the LETKF with the true model."""
    hours, cells = case.config.hours, cell_vectors(has.flow.grid)
    return letkf_with_model(
        case,
        lambda x: has.flow.forecast(x, hours=hours),
        cells,
        replace(EnsembleSettings(), **settings),
    )


def letkf_storm(case: SphereCase, has: Equipment, settings: Settings) -> Iterator[Tensor]:
    """Return the LETKF on STORM's forecasts."""
    names = ("error_factor", "steps")
    own = replace(FilterSettings(), cohesion=0.0, **{k: settings[k] for k in names})
    tuned = {k: v for k, v in settings.items() if k not in names}
    return letkf_with_prior(case, has.storm, replace(EnsembleSettings(), **tuned), own)


def oi(case: SphereCase, has: Equipment, settings: Settings) -> Iterator[GaussianAnalysis]:
    """Return optimal interpolation with damped persistence."""
    climate = fit_archive(has.archive).mean
    covariance = persistence_covariance(has.archive.truth, climate, settings["damping"])
    return interpolation(case, climate, covariance.scaled(settings["scale"]), settings["damping"])


def unobserved(case: SphereCase, has: Equipment, settings: Settings) -> Iterator[Tensor]:
    """Return STORM's forecasts from the first ensemble."""
    return free_run(case, has.storm, replace(FilterSettings(), **settings))


METHODS: dict[str, Callable[[SphereCase, Equipment, Settings], Iterator[Analysis]]] = {
    "storm": storm,
    "oi": oi,
    "letkf-storm": letkf_storm,
    "letkf": letkf,
    "storm, nothing observed": unobserved,
}

GRIDS: dict[str, dict[str, list[float]]] = {
    "storm": {
        "error_factor": [0.6, 0.8, 1.0, 1.3],
        "cohesion": [0.1, 0.2, 0.3],
        "steps": [4, 5, 7, 9],
    },
    "oi": {"damping": [0.0, 0.3, 0.5, 0.7], "scale": [0.7, 1.0, 1.4]},
    "letkf-storm": {
        "error_factor": [0.35, 0.5, 0.75, 1.0],
        "steps": [5, 9],
        "radius_km": [4000],
        "rtps": [0.0, 0.15, 0.3, 0.6],
    },
    "letkf": {"radius_km": [4000, 6000], "rtps": [0.3, 0.6]},
}
"""What the tuner tries."""

TUNED: dict[str, Settings] = {
    "storm": {"error_factor": 1.0, "cohesion": 0.2, "steps": 5},
    "oi": {"damping": 0.5, "scale": 1.0},
    "letkf-storm": {"error_factor": 0.5, "steps": 9, "radius_km": 4000, "rtps": 0.15},
    "letkf": {"radius_km": 6000, "rtps": 0.3},
    "storm, nothing observed": {"error_factor": 0.75, "cohesion": 0.0},
}
"""What it found."""

TUNED_ON_CELLS: dict[str, Settings] = TUNED | {
    "storm": {"error_factor": 0.8, "cohesion": 0.3, "steps": 5},
    "oi": {"damping": 0.3, "scale": 1.0},
    "letkf-storm": {"error_factor": 0.5, "steps": 5, "radius_km": 4000, "rtps": 0.15},
}
"""What it found on HEALPix, on seeds 100 and 101."""


@dataclass(frozen=True)
class Scale:
    """What weighs cells and variables. A list of cells of one size is one row."""

    grid: Grid
    std: Tensor
    """Climatological standard deviation of each variable, (3,)."""

    @property
    def area(self) -> Tensor:
        """Return the share of each row of cells, (rows,)."""
        area = torch.tensor(self.grid.area)
        return area.sum(1) if area.ndim == 2 else torch.ones(1, dtype=torch.float64)

    def in_rows(self, run: Analyses) -> Analyses:
        """Return a run whose fields have rows and columns."""
        if len(self.grid.shape) == 2:
            return run
        return type(run)(**{name: field.unsqueeze(-2) for name, field in vars(run).items()})

    def mean(self, x: Tensor) -> Tensor:
        """Return the means over the sphere and the cycles of x (cycles, 3, rows, cols), (3,)."""
        return x.mean(dim=(0, 3)).double() @ self.area


def scores(run: Analyses, truth: Tensor, scale: Scale) -> dict[str, dict[str, float]]:
    """Return the scores of each variable and of all; fields are (cycles, 3, *grid)."""
    run, n = scale.in_rows(run), run.members
    truth = truth if truth.ndim == 4 else truth[:, :, None]
    error = scale.mean((run.mean - truth).square())
    spread = scale.mean(run.variance) * ((n + 1) / n if n else 1)
    crps = scale.mean(run.crps(truth))
    covered = torch.stack([row_coverage(run, truth, v) @ scale.area for v in range(len(error))])
    found = {
        name: row(error[v].sqrt(), crps[v], (spread[v] / error[v]).sqrt(), covered[v])
        for v, name in enumerate(VARIABLES)
    }
    squared = scale.std.double().square()
    total = (error / squared).mean()
    ratio = ((spread / squared).mean() / total).sqrt()
    found["all"] = row(total.sqrt(), (crps / scale.std).mean(), ratio, covered.mean())
    return found


def row(error: Tensor, crps: Tensor, ratio: Tensor, covered: Tensor) -> dict[str, float]:
    """Name the scores."""
    return {
        "rmse": error.item(),
        "crps": crps.item(),
        "spread_skill": ratio.item(),
        "coverage90": covered.item(),
    }


def row_coverage(run: Analyses, truth: Tensor, v: int) -> Tensor:
    """Return the coverage of a variable in each row, (rows,)."""
    rows = range(truth.shape[2])
    return torch.stack([at_row(run, y, v).coverage(truth[:, v, y]).double() for y in rows])


def at_row(run: Analyses, y: int, v: int) -> Analyses:
    """Return a run of one variable and row."""
    fields = {name: field[..., v, y, :] for name, field in vars(run).items()}
    return type(run)(**fields)


TUNING = range(100, 104)
"""Seeds of the truths that settings are found on."""

EVALUATION = range(239, 247)
"""Seeds of the truths of the table. Truths 200-238 were looked at before, with other priors."""

EVALUATION_ON_CELLS = range(247, 251)
"""Those on HEALPix."""

SEAM = 4.0
"""Longitudes nearer to the seam than this are at it [degrees]."""

POLAR = 83.0
"""Latitudes beyond this are polar: the outermost rows [degrees]."""


def places(run: Analyses, truth: Tensor, scale: Scale) -> dict[str, float]:
    """Return the error at the seam and in the polar rows, over that of the rest."""
    squared = (run.mean - truth).square().double().flatten(2).mean(0)
    squared = (squared / scale.std[:, None].square()).mean(0)
    weight = torch.tensor(scale.grid.area).flatten()
    lat, lon = (torch.tensor(c).flatten() for c in scale.grid.points)
    first = 2.8125 if len(scale.grid.shape) == 2 else 0.0  # half a column: the seam is west of 0
    seam = ((lon + first + 180).remainder(360) - 180).abs() < SEAM
    polar = lat.abs() > POLAR

    def error(where: Tensor) -> float:
        return math.sqrt((squared * weight)[where].sum() / weight[where].sum())

    return {
        "seam": error(seam) / error(~seam),
        "polar": error(polar) / error(~polar),
    }


class Lows:
    """Minima of the depth on a grid three times as fine, by spherical harmonics."""

    REACH_KM = 1500.0
    """How far a low may move from one analysis to the next [km]."""

    def __init__(self, flow: GlobalFlow) -> None:
        self.coarse = flow.model.sphere
        self.fine = SphericalHarmonics(3 * flow.config.model.truncation)
        rows, cols = self.fine.shape
        turn = torch.arange(cols, dtype=torch.float64) * (2 * math.pi / cols)
        across, up = self.fine.lat_rad.cos()[:, None], self.fine.lat_rad.sin()[:, None]
        xyz = torch.stack([across * turn.cos(), across * turn.sin(), up.expand(rows, cols)], -1)
        self.cells = xyz.reshape(-1, 3)

    def refined(self, h: Tensor) -> Tensor:
        """Return a depth (rows, cols) on the fine grid."""
        spectrum = self.coarse.analyse(h.double())
        n = self.fine.degree_squared.shape[-1] - spectrum.shape[-1]
        return self.fine.synthesise(torch.nn.functional.pad(spectrum, (0, n, 0, n)))

    def follow(
        self, depths: Sequence[Tensor], start: int | None = None
    ) -> list[tuple[int, float]]:
        """Return the cell and depth [m] of a low in successive fields (rows, cols).

        Args:
            depths: The fields, the first one at the start.
            start: The cell where the low is looked for first; None for the deepest of all.
        """
        track: list[tuple[int, float]] = []
        for h in depths:
            field = self.refined(h).flatten()
            if start is not None:
                near = great_circle_km(self.cells[start][None], self.cells)[0] < self.REACH_KM
                field = torch.where(near, field, torch.inf)
            start = int(field.argmin())
            track.append((start, field[start].item()))
        return track

    def apart(self, a: int, b: int) -> float:
        """Return the distance of two cells [km]."""
        return great_circle_km(self.cells[a][None], self.cells[b][None]).item()


def low(case: SphereCase, runs: Mapping[str, Analyses], lows: Lows) -> list[dict[str, object]]:
    """Return the errors of the deepest low of a truth, by lead and method."""
    true = lows.follow(list(case.truth[:, 2]))
    rows = []
    for name, run in runs.items():
        found = lows.follow(list(run.mean[:, 2]), start=true[0][0])
        for k, ((place, depth), (cell, h)) in enumerate(zip(true[1:], found, strict=True), 1):
            rows.append(
                {
                    "seed": case.config.seed,
                    "method": name,
                    "lead_hours": int(k * case.config.hours),
                    "position_error_km": lows.apart(place, cell),
                    "depth_error_m": h - depth,
                    "depth_m": depth,
                }
            )
    return rows


def tune(
    has: Equipment, methods: Sequence[str], seeds: Sequence[int], cycles: int, scale: Scale
) -> None:
    """Print the trials of each method, from the least CRPS of `all` to the most."""
    first = cycles // 3
    cases = [
        has.case(SphereCaseConfig(cycles=cycles, discarded=first, seed=seed)) for seed in seeds
    ]
    for name in methods:

        def loss(settings: Settings, name: str = name) -> float:
            total = []
            for case in cases:
                run = collect(list(METHODS[name](case, has, settings))).after(first)
                total.append(scores(run, case.truth[1 + first :], scale)["all"]["crps"])
            print(f"  {name} {dict(settings)}: {mean(total):.4f}", flush=True)
            return mean(total)

        print(f"{name}: {grid_search(loss, GRIDS[name])[0]}", flush=True)


def evaluate(
    has: Equipment, methods: Sequence[str], seeds: Sequence[int], cycles: int, scale: Scale
) -> tuple[list[dict[str, object]], list[dict[str, object]]]:
    """Return the rows of both tables, and print the first."""
    rows, tracks, lows = [], [], Lows(has.flow)
    tuned = TUNED if has.on is None else TUNED_ON_CELLS
    for seed in seeds:
        config = SphereCaseConfig(cycles=cycles, discarded=cycles // 3, seed=seed)
        case, runs = has.case(config), {}
        for name in methods:
            began = time.perf_counter()
            runs[name] = collect(list(METHODS[name](case, has, tuned[name])))
            seconds = (time.perf_counter() - began) / cycles
            run, truth = runs[name].after(config.discarded), case.truth[1 + config.discarded :]
            about = {"seed": seed, "cycles": cycles, "method": name, "members": run.members}
            where = places(run, truth, scale)
            for variable, found in scores(run, truth, scale).items():
                extra = where if variable == "all" else dict.fromkeys(where, "")
                rows.append(about | {"variable": variable} | found | extra | {"seconds": seconds})
                numbers = "".join(f"{v:9.3f}" for v in found.values())
                print(f"{seed:4} {name:<24}{variable:>4}{numbers}", flush=True)
            print(f"     seam {where['seam']:.3f}  polar {where['polar']:.3f}", flush=True)
        if has.on is None:
            tracks += low(case, runs, lows)
    return rows, tracks


def write(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    """Write the rows with machine, versions and commit."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *record])
        writer.writeheader()
        for line in rows:
            numbers = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in line.items()}
            writer.writerow(numbers | record)


def main() -> None:
    """Train, tune, or run and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, metavar="DIR")
    parser.add_argument("--train", action="store_true", help="make archive and prior")
    parser.add_argument("--tune", action="store_true", help="find settings, and score nothing")
    parser.add_argument("--method", nargs="+", choices=METHODS, default=list(METHODS))
    parser.add_argument("--seed", nargs="+", type=int, choices=range(100, 300))
    parser.add_argument("--cycles", type=int, default=20)
    parser.add_argument("--results", type=Path, default=RESULTS, metavar="DIR")
    parser.add_argument("--cells", action="store_true", help="on HEALPix")
    arguments = parser.parse_args()
    recipe = sphere_healpix() if arguments.cells else sphere()
    if arguments.train:
        train_sphere(recipe, arguments.folder, progress=report)
        return
    stored = arguments.folder / "prior.safetensors"
    archive = archive_of(recipe, arguments.folder)
    prior = Storm.load(stored) if stored.is_file() else None
    flow, on = GlobalFlow(recipe.flow), interpolation_of(recipe)
    has = Equipment(flow, archive, on, prior)
    scale = Scale(flow.grid if on is None else on.target, fit_archive(archive).std.flatten())
    if arguments.tune:
        methods = [name for name in arguments.method if name in GRIDS]
        tune(has, methods, arguments.seed or list(TUNING), arguments.cycles, scale)
        return
    seeds = arguments.seed or list(EVALUATION_ON_CELLS if arguments.cells else EVALUATION)
    rows, tracks = evaluate(has, arguments.method, seeds, arguments.cycles, scale)
    name = "sphere_healpix.csv" if arguments.cells else "sphere.csv"
    write(arguments.results / name, rows)
    if tracks:
        write(arguments.results / "sphere_low.csv", tracks)


def report(step: int, loss: float) -> None:
    """Print the loss now and then."""
    if step % 100 == 0:
        print(f"step {step}  loss {loss:.4f}", flush=True)


if __name__ == "__main__":
    main()
