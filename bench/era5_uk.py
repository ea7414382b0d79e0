"""Does STORM beat tuned classical analyses of ERA5 2 m temperature, with 12 days to learn from?

    STORMDA_DATA=... python bench/era5_uk.py --out DIR [--set cycling.inflation=1.5]

Learns from 1-12 March 2019 over the UK, leaves out 12 hours, then assimilates every hour of 13
March 12 UTC to 16 March 23 UTC: 5 % of the cells, drawn anew each hour, with errors of 0.5 K.
STORM cycles on its own analyses; every method has the same observations and the same last field
before the period. The classical methods are tuned within the 12 days by a grid search. STORM has
the defaults of recipe and filter, which were set by hand on the trial (`--days 9`: learn from 9
days, assimilate the rest). Observations are not screened.
What is in DIR already is scored, not made again (the seconds are then of reading). Scores are
over the whole period, all cells alike. Writes bench/results/era5_uk.csv.
"""

from __future__ import annotations

import argparse
import csv
import os
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from stormda.assimilation import DiagonalError, GaussianAnalysis, Observation, select
from stormda.io import ObservationTable, observation_table, open_store, read_ensemble
from stormda.parallel import Interruption
from stormda.storm.assimilation_run import (
    AssimilationConfig,
    Cycler,
    assimilate_files,
    initial_past,
)
from stormda.storm.baselines import METHODS, Task, tune
from stormda.storm.config import override, to_dict
from stormda.storm.frames import Frames, read_frames
from stormda.storm.prior import Storm
from stormda.storm.prior_training import PRIOR, train_on_files
from stormda.storm.provenance import commit, machine
from stormda.storm.real_observations import as_observation
from stormda.storm.real_recipes import FILE_RECIPES
from stormda.storm.scores import (
    COLUMNS,
    EnsembleRun,
    GaussianRun,
    Row,
    cells,
    format_table,
    score,
)
from stormda.storm.settings import plain

FILE = "grid/era5_t2m_uk_hourly_20190301-16.nc"
FIRST = np.datetime64("2019-03-01T00", "s")
DAY, HOUR = np.timedelta64(86400, "s"), np.timedelta64(3600, "s")
SHARE, ERROR = 0.05, 0.5
TUNING_SEED, EVALUATION_SEED = 100, 200
NETWORK = "5 % of cells, 0.5 K"


def main() -> None:
    """Train, assimilate, compare."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="Folder of prior and analyses.")
    parser.add_argument(
        "--days", type=int, default=12, choices=(9, 12), help="Days to learn from."
    )
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE")
    parser.add_argument("--members", type=int, default=64)
    parser.add_argument("--skip-classical", action="store_true")
    arguments = parser.parse_args()
    settings = dict(item.split("=", 1) for item in arguments.set)
    cycling = {k.removeprefix("cycling."): v for k, v in settings.items() if k[:8] == "cycling."}
    training = {k: v for k, v in settings.items() if k[:8] != "cycling."}

    path = Path(os.environ["STORMDA_DATA"]) / FILE
    store = open_store(path)
    everything = read_frames(store, ["t2m"])
    end = FIRST + arguments.days * DAY
    start = end + (12 * HOUR if arguments.days == 12 else 6 * HOUR)
    stop = everything.times[-1] if arguments.days == 12 else FIRST + 12 * DAY - HOUR
    period = (everything.times >= start) & (everything.times <= stop)
    truth = everything.select(np.flatnonzero(period))
    table = observe_all(truth, EVALUATION_SEED if arguments.days == 12 else TUNING_SEED)

    recipe = override(FILE_RECIPES["era5-uk"](("t2m",)), training)
    recipe = replace(recipe, split=replace(recipe.split, train_end=str(end)))
    # No method screens the observations, which are as good as they claim to be.
    config = AssimilationConfig(
        members=arguments.members, start=str(start), end=str(stop), gross=1000.0
    )
    config = override(config, cycling)
    prior, seconds = trained(recipe, store, arguments.out)
    print(f"trained in {seconds:.0f} s", flush=True)

    rows = [storm(prior, store, table, truth, config, arguments.out)]
    print(format_table(rows), flush=True)
    rows.append(free_forecast(prior, store, truth, config))
    if not arguments.skip_classical:
        learned = everything.select(np.flatnonzero(everything.times < end))
        last = everything.values[int(np.flatnonzero(period)[0]) - 1]
        rows += classical(learned, last, truth, table)
    print(format_table(rows))
    print(f"{machine()}; commit {commit()}; torch {torch.__version__}")
    if arguments.days == 12 and not arguments.skip_classical:
        save(rows)


def save(rows: list[Row]) -> None:
    """Write the table, with machine, versions and commit in every line."""
    path = Path(__file__).parent / "results" / "era5_uk.csv"
    path.parent.mkdir(exist_ok=True)
    origin = (machine(), torch.__version__, commit())
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow([*COLUMNS, "machine", "torch", "commit"])
        writer.writerows([*cells(one), *origin] for one in rows)


def observe_all(truth: Frames, seed: int) -> ObservationTable:
    """Observe random cells of every frame."""
    times, places, values = [], [], []
    for cycle, field in enumerate(truth.values):
        index, y = observe(field, seed, cycle)
        times.append(np.full(len(index), truth.times[cycle]))
        places.append(index.numpy())
        values.append(y.numpy())
    rows, cols = np.divmod(np.concatenate(places), truth.grid.shape[1])
    return observation_table(
        time=np.concatenate(times),
        lat=truth.grid.coordinates["lat"].values[rows],
        lon=truth.grid.coordinates["lon"].values[cols],
        value=np.concatenate(values),
        error=ERROR,
        variable="t2m",
        units={"t2m": "K"},
    )


def observe(field: torch.Tensor, seed: int, cycle: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return indices and values of the observed cells of a field (variables, rows, cols)."""
    generator = torch.Generator().manual_seed(100_000 * seed + cycle)
    count = round(SHARE * field.numel())
    index = torch.randperm(field.numel(), generator=generator)[:count].sort().values
    noise = torch.randn(count, generator=generator)
    return index, field.flatten()[index] + ERROR * noise


def trained(recipe: object, store: object, out: Path) -> tuple[Storm, float]:
    """Return the prior of a folder, training it (or the rest of it) if need be."""
    if (out / PRIOR).exists():
        return Storm.load(out / PRIOR), 0.0
    begun, recent = time.time(), []

    def report(step: int, loss: float) -> None:
        recent.append(loss)
        if step % 250 == 0:
            mean = sum(recent[-250:]) / len(recent[-250:])
            print(f"step {step}  loss {mean:.4f}  {time.time() - begun:.0f} s", flush=True)

    with Interruption() as interrupted:
        prior = train_on_files(
            recipe,
            store,
            out,
            device=torch.device("cpu"),
            progress=report,
            interrupted=interrupted,
        )
    if prior is None:
        raise SystemExit("interrupted; the same command goes on from here")
    return prior, time.time() - begun


def storm(
    prior: Storm,
    store: object,
    table: ObservationTable,
    truth: Frames,
    config: AssimilationConfig,
    out: Path,
) -> Row:
    """Assimilate with STORM, if that is not done yet, and score it."""
    begun, path = time.time(), out / "analysis.nc"
    if not path.exists():
        outcome = assimilate_files(
            prior, store, table, path, config,
            observed={"t2m": "t2m"}, inputs=store.sha256(),
        )  # fmt: skip
        assert outcome is not None
        print(outcome.summary, flush=True)
    analyses = read_ensemble(path)
    done = analyses.provenance["run"]
    if done != plain({"settings": to_dict(config), "inputs": store.sha256()}):
        raise SystemExit(f"{path}: expected analyses with these settings, got others")
    ensemble = torch.from_numpy(analyses.fields["t2m"])[:, :, None]
    return row("storm", EnsembleRun(ensemble), truth, begun)


def free_forecast(prior: Storm, store: object, truth: Frames, config: AssimilationConfig) -> Row:
    """Let STORM run without observations and score it."""
    begun = time.time()
    cycler = Cycler(prior, nothing(), truth.times, config)
    cycler.past = initial_past(prior, store, truth.times[0], config)
    frames = [cycler.step(cycle)[0] for cycle in range(len(truth.times))]
    return row("forecast", EnsembleRun(torch.stack(frames, 1)), truth, begun)


def nothing() -> ObservationTable:
    """Return a table without rows."""
    one = observation_table(time="2019-03-01", lat=[52.0], lon=[0.0], value=[280.0], error=1.0)
    return one.where(np.array([False]), "withheld")


def classical(
    learned: Frames, last: torch.Tensor, truth: Frames, table: ObservationTable
) -> list[Row]:
    """Tune the classical methods on what was learned from, run and score them."""

    def observe_trial(field: torch.Tensor, cycle: int) -> Observation:
        index, y = observe(field, TUNING_SEED, cycle)
        return Observation(y, select(index), DiagonalError(ERROR))

    observations = [
        as_observation(table.where(table.time == t, "later"), truth.grid, ["t2m"])
        for t in truth.times
    ]
    task = Task(train=learned, times=truth.times, last=last, observations=observations)
    rows = []
    for name, method in METHODS.items():
        settings = tune(method, learned, observe_trial)
        begun = time.time()
        analyses: list[GaussianAnalysis] = list(method.run(task, settings))
        run = GaussianRun(
            torch.stack([a.mean for a in analyses]).float(),
            torch.stack([a.variance for a in analyses]).float(),
        )
        rows.append(row(name, run, truth, begun))
        print(f"{name}: {settings}\n{format_table(rows[-1:])}", flush=True)
    return rows


def row(method: str, run: EnsembleRun | GaussianRun, truth: Frames, begun: float) -> Row:
    """Score one method."""
    seconds = time.time() - begun
    return score(run, truth.values, network=NETWORK, method=method, seconds=seconds)


if __name__ == "__main__":
    main()
