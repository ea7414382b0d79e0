"""Does STORM bring wave heights closer to a satellite that it has not seen?

    STORMDA_DATA=... python bench/waves.py --out DIR

Two days of hourly ERA5 significant wave height in the southern North Sea (27-28 October 2017,
land masked), and eight passes of satellite altimeters over it. One pass is withheld at a time, and
every method is read at the withheld pass:

    model      the ERA5 field itself, interpolated in space and time
    oi         the field + increments by optimal interpolation of the altimeters' departures from
               it, with the covariance exp(-distance / L) exp(-lag / T)
    storm      the field + the increment of an ensemble that is cycled every hour on its own
               analyses; the observations of an hour are the altimeters' and, as further ones with
               an error of their own, the model's values at all cells of the sea
    storm-     the same, with the same settings, without any altimeter: what cycling alone does to
               the model's field

What is seen. No method sees the withheld pass. Both see the model's fields up to the hour of the
pass, and the other passes up to half an hour after it; STORM's history begins with the first two
fields and an error on them. ERA5 is a reanalysis and has seen altimeters of its own. STORM has
priors besides, one for each twelve hours of the record, trained on the fields, earlier and later,
that are at least three hours away from these twelve: the prior that is cycled through an hour has
not learned that hour, but it has learned later ones, of which OI has no use. Trained on thirty
hours as they are, priors forecast worse than persistence; they are trained on random sums of two
departures from the mean.

STORM and OI are tuned alike: a pass is read with the settings, out of a grid for each method, that
have the least error at the other withheld passes.

Eight passes on two days are few, and two of them follow nearly one track: the intervals are the
central 95 % of a bootstrap over passes, and no more than that. Writes bench/results/waves.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path

import numpy as np
from tqdm import tqdm
from waves_methods import (
    BLOCK,
    SEED,
    Numbers,
    Record,
    Settings,
    forecast_skill,
    oi,
    read_record,
    root_mean_square,
    storm,
    trained,
)

from stormda.storm.prior import Storm
from stormda.storm.provenance import commit, machine, provenance

OI_GRID = {
    "length_km": (25.0, 50.0, 100.0, 200.0, 400.0, 800.0),
    "hours": (0.5, 1.0, 3.0, 6.0, 12.0, 24.0),
    "error_ratio": (0.03, 0.1, 0.3, 1.0, 3.0, 10.0),
}
"""Length and time scale of the covariance, and error over background variance."""

STORM_GRID = {
    "model_error": (0.2, 0.4, 0.8),
    "altimeter_error": (0.15, 0.3),
    "inflation": (1.0, 2.5),
}
"""Errors of the model's values and of the altimeters [m], and inflation of the prior."""

WIDTHS = {
    "withheld": 19,
    "minus_model": 11,
    "minus_model_95": 16,
    "minus_oi": 8,
    "minus_oi_95": 16,
}


def main() -> None:
    """Train, assimilate, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder for the priors.")
    parser.add_argument("--steps", type=int, default=600, help="Training steps of a prior.")
    arguments = parser.parse_args()
    record = read_record(Path(os.environ["STORMDA_DATA"]))
    off = record.error(record.model)
    print(f"model: n = {len(off)}, bias {off.mean():.3f} m, rmse {root_mean_square(off):.3f} m")
    begun = time.perf_counter()
    priors = [
        trained(record, block, arguments.out / f"block-{block}", arguments.steps)
        for block in range(-(-len(record.frames.times) // BLOCK))
    ]
    print(f"{len(priors)} priors: {time.perf_counter() - begun:.0f} s", flush=True)
    print(forecast_skill(record, priors), flush=True)

    estimates: dict[str, Numbers] = {"model": record.model}
    chosen: dict[str, list[Settings]] = {"model": [{} for _ in record.passes]}
    for name, estimate, grid in (
        ("oi", lambda s: oi(record, s), OI_GRID),
        ("storm", lambda s: storm(record, priors, s), STORM_GRID),
    ):
        begun = time.perf_counter()
        estimates[name], chosen[name] = tuned(record, estimate, grid)
        print(f"{name}: {time.perf_counter() - begun:.0f} s", flush=True)
    chosen["storm-"] = chosen["storm"]
    estimates["storm-"] = blind(record, priors, chosen["storm"])
    rows = table_of(record, estimates, chosen)
    for row in [dict(zip(rows[0], rows[0], strict=True)), *rows]:
        print("  ".join(row[name].ljust(WIDTHS.get(name, 6)) for name in row).rstrip())
    print(f"{machine()}; commit {commit()}")
    save(rows)


def tuned(
    record: Record, estimate: Callable[[Settings], Numbers], grid: Mapping[str, Sequence[float]]
) -> tuple[Numbers, list[Settings]]:
    """Read each pass with the settings of least error at the other withheld passes.

    Args:
        record: The observations.
        estimate: Returns the estimate at each observation, made without its pass.
        grid: What to try.
    """
    trials = [dict(zip(grid, values, strict=True)) for values in product(*grid.values())]
    estimates = [estimate(settings) for settings in tqdm(trials, leave=False)]
    squares = np.square([record.error(e) for e in estimates])
    best, chosen = np.empty(len(record.table)), []
    for mine in record.passes:
        k = int(squares[:, ~mine].mean(1).argmin())
        best[mine] = estimates[k][mine]
        chosen.append(trials[k])
    return best, chosen


def blind(record: Record, priors: Sequence[Storm], chosen: Sequence[Settings]) -> Numbers:
    """Read each pass with given settings, in cycles without any altimeter."""
    estimate = np.empty(len(record.table))
    for settings in {tuple(s.items()): s for s in chosen}.values():
        run = storm(record, priors, settings, altimeters=False)
        for mine, its in zip(record.passes, chosen, strict=True):
            if its == settings:
                estimate[mine] = run[mine]
    return estimate


def bootstrap(record: Record, one: Numbers, other: Numbers) -> str:
    """Return the 95 % interval of the difference of two RMSEs over draws of passes [m]."""
    pairs, count = np.bincount(record.number), len(record.passes)
    drawn = np.random.default_rng(SEED).integers(count, size=(10_000, count))
    squares = [np.bincount(record.number, np.square(record.error(e))) for e in (one, other)]
    first, second = (np.sqrt(s[drawn].sum(1) / pairs[drawn].sum(1)) for s in squares)
    low, high = np.quantile(first - second, [0.025, 0.975])
    return f"{low:+.3f} to {high:+.3f}"


def table_of(
    record: Record, estimates: Mapping[str, Numbers], chosen: Mapping[str, Sequence[Settings]]
) -> list[dict[str, str]]:
    """Return a row for each pass and method, and one for all passes and each method."""
    rows = []
    for i, mine in enumerate(record.passes):
        for name, estimate in estimates.items():
            when = str(record.table.time[mine][0])
            settings = " ".join(f"{k}={v:g}" for k, v in chosen[name][i].items())
            rows.append(row_of(when, name, record.error(estimate)[mine]) | {"settings": settings})
    for name, estimate in estimates.items():
        row = row_of("all", name, record.error(estimate))
        for against in {"model", "oi"} - {name}:
            other = root_mean_square(record.error(estimates[against]))
            row[f"minus_{against}"] = f"{root_mean_square(record.error(estimate)) - other:+.3f}"
            row[f"minus_{against}_95"] = bootstrap(record, estimate, estimates[against])
        rows.append(row)
    return rows


def row_of(when: str, method: str, error: Numbers) -> dict[str, str]:
    """Return a line of the table; what is compared with others is still blank."""
    return {
        "withheld": when,
        "pairs": str(len(error)),
        "method": method,
        "bias": f"{error.mean():.3f}",
        "rmse": f"{root_mean_square(error):.3f}",
        "minus_model": "",
        "minus_model_95": "",
        "minus_oi": "",
        "minus_oi_95": "",
        "settings": "",
    }


def save(rows: Sequence[Mapping[str, str]]) -> None:
    """Write the table, with machine, versions and commit in every line."""
    path = Path(__file__).parent / "results" / "waves.csv"
    path.parent.mkdir(exist_ok=True)
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    origin = {"machine": machine(), "versions": versions, "commit": commit()}
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *origin])
        writer.writeheader()
        writer.writerows({**row, **origin} for row in rows)


if __name__ == "__main__":
    main()
