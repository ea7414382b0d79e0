"""Which guidance follows sparse observations of turbulence, with one and the same prior?

    python bench/guidances.py [--guidance mmps jfps sda pigdm tmpd dps ensf enff] [--seed 200]

The demonstration's case, an arctan of 0, 10 or 20 % of the points, cycled with the shipped prior
and every guidance of `stormda.assimilation`. Each is tuned for each density by as many trials,
four, on seed 100 (2 scored cycles), by its own parameter or, where it has none, by those of the
cycling. Evaluation: 6 scored cycles of each seed, 8 members. Few, and the same for all:
differences of less than a tenth say nothing. With nothing observed all guidances are one.

All follow the demonstration's sampler with its 6 steps, but `ensf` and `enff`, which take no
derivative of the denoiser, have 18; `ensf` starts and ends where its own diffusion does. The
climate of `jfps` is that of what the forecasts of the default leave open, on seed 101. A run
that broke down has no scores (nan). Lines are written to bench/results/guidances.csv as they come,
and replace those of the same case; with machine, versions and commit.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from ablations import Row, analyse, finished, make, observed, read, write

from stormda.assimilation import (
    Guidance,
    Spectral,
    dps,
    enff,
    ensf,
    fit_spectral,
    grid_search,
    jfps,
    pigdm,
    sda,
    tmpd,
)
from stormda.assimilation.systems import SQGConfig
from stormda.storm import Storm
from stormda.storm.filtering import FilterSettings, OneStageFilter, given_pasts
from stormda.storm.twin.case import Case
from stormda.storm.twin.methods import load_equipment, load_tuned

PATH = Path(__file__).parent / "results" / "guidances.csv"
DENSITIES = (0.1, 0.2)
CYCLES = 8
MEMBERS = 8
CYCLING = {"error_factor": [0.6, 0.7], "cohesion": [0.1, 0.2]}
GRIDS: dict[str, dict[str, list[float]]] = {
    "mmps": CYCLING,
    "jfps": {"scale": [1.0, 3.0, 10.0, 30.0]},
    "sda": {"gamma": [0.001, 0.003, 0.01, 0.03]},
    "pigdm": {"prior_variance": [0.03, 0.1, 0.3, 1.0]},
    "tmpd": CYCLING,
    "dps": {"zeta": [10.0, 30.0, 100.0, 300.0]},
    "ensf": {"least_noise": [0.01, 0.03, 0.1, 0.3]},
    "enff": {"strength": [0.03, 0.1, 0.3, 1.0]},
}
"""What is tried on seed 100."""


def few(seed: int, cycles: int) -> Case:
    """Return a case of the demonstration's with few members."""
    case = make(seed, cycles)
    return replace(case, initial=case.initial[:MEMBERS])


def departures(prior: Storm, case: Case) -> Spectral:
    """Return the spectrum of what the prior's forecasts leave open, cycled on a case."""
    settings, left = load_tuned()[case.config.network].storm, []
    state = OneStageFilter(prior, case.initial, settings, torch.Generator().manual_seed(1))
    for cycle in range(case.config.cycles):
        now = given_pasts(prior, state.past, settings)
        forecast = now.to_physical(torch.zeros(MEMBERS, *now.shape))
        left.append(case.truth[cycle + 1] - forecast)
        state.step(case.observation(cycle))
    unit = prior.normalization.std * prior.normalization.increment
    return fit_spectral(torch.cat(left[case.config.discarded :]) / unit, dims=2)


def equip(
    name: str, settings: Mapping[str, float], spectrum: Spectral
) -> tuple[FilterSettings, Guidance | None]:
    """Return how a guidance is cycled, and the guidance; None for the default, `mmps`."""
    cycled = load_tuned()["arctan-sparse"].storm
    many = 3 * cycled.steps
    if name in ("mmps", "tmpd"):
        return replace(cycled, **settings), tmpd() if name == "tmpd" else None
    if name == "jfps":
        return cycled, jfps(climate=Spectral(settings["scale"] * spectrum.power, dims=2))
    if name == "ensf":
        guidance = ensf(**settings)
        first, last = 1 / guidance.least_signal, math.sqrt(guidance.least_noise)
        return replace(cycled, steps=many, sigma_max=first, sigma_min=last), guidance
    if name == "enff":
        return replace(cycled, steps=many), enff(**settings)
    simple = {"sda": sda, "pigdm": pigdm, "dps": dps}
    return cycled, simple[name](**settings)


def scores(
    prior: Storm, case: Case, density: float, method: tuple[FilterSettings, Guidance | None]
) -> Row:
    """Return the scores of a cycled guidance; nan where it broke down."""
    try:
        return analyse(prior, case, observed(case, density), *method)[1]
    except (ValueError, FloatingPointError, torch.linalg.LinAlgError) as error:
        print(f"  broke down: {error}", flush=True)
        names = ("rmse", "crps", "spread_skill", "coverage90", "seconds_per_analysis")
        return dict.fromkeys(names, math.nan)


def tuned(
    prior: Storm, case: Case, density: float, name: str, spectrum: Spectral
) -> Mapping[str, float]:
    """Return the settings of a guidance with the least CRPS, and print the trials."""

    def loss(settings: Mapping[str, float]) -> float:
        crps = float(str(scores(prior, case, density, equip(name, settings, spectrum))["crps"]))
        return math.inf if math.isnan(crps) else crps

    trials = grid_search(loss, GRIDS[name])
    for trial in trials:
        print(f"  {density:.0%} {name}: {trial}", flush=True)
    return trials[0].settings


def keep(about: Row, found: Row) -> None:
    """Write a line to the file, in place of the one of its case."""
    new, key = finished(about | found), ("observed", "guidance", "seed")
    others = [row for row in read(PATH) if any(row[k] != new[k] for k in key)]
    order = ["none", *GRIDS]
    rows = [*others, new]
    rows.sort(key=lambda row: (row["observed"], order.index(row["guidance"]), row["seed"]))
    write(PATH, rows)
    print(*list(new.values())[:9], flush=True)


def main() -> None:
    """Tune, run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--guidance", nargs="+", choices=GRIDS, default=list(GRIDS))
    parser.add_argument("--seed", nargs="+", type=int, choices=range(200, 300), default=[200])
    arguments = parser.parse_args()
    prior = load_equipment(SQGConfig()).prior
    rehearsal, cases = few(100, 3), {seed: few(seed, CYCLES) for seed in arguments.seed}
    spectrum = departures(prior, few(101, 12))
    alone, _ = equip("mmps", {}, spectrum)
    for seed, case in cases.items():
        found = analyse(prior, case, [None] * CYCLES, alone)[1]
        keep({"observed": 0.0, "guidance": "none", "settings": "", "seed": seed}, found)
    for density in DENSITIES:
        for name in arguments.guidance:
            settings = tuned(prior, rehearsal, density, name, spectrum)
            method = equip(name, settings, spectrum)
            words = " ".join(f"{key}={value:g}" for key, value in settings.items())
            for seed, case in cases.items():
                about: Row = {"observed": density, "guidance": name, "settings": words}
                keep(about | {"seed": seed}, scores(prior, case, density, method))


if __name__ == "__main__":
    main()
