"""Does the shipped prior of turbulence know more than its own archive?

    python bench/generalization.py [--groups 2]

The same questions on samples of the archive that it was trained on, of which the first groups of
runs are simulated anew, and of as many runs of seed 211: the error [K] of forecasts of 12 hours
and of denoising at three levels of noise (in standard deviations of a change of 12 hours), from
pasts that are exact, or wrong by white noise of 1 K. Were there samples enough, it would have the
same errors on both.

Writes bench/results/generalization.csv with machine, versions and commit.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import torch
from ablations import Row, finished, write
from ablations_networks import LEVELS, denoised

from stormda.assimilation.systems import SQG, SQGConfig
from stormda.storm import Storm
from stormda.storm.config import from_dict
from stormda.storm.recipes import SqgRecipe
from stormda.storm.streams import stream
from stormda.storm.twin.archive import Archive, make_archive
from stormda.storm.twin.methods import load_equipment
from stormda.storm.twin.samples import ArchivedSamples, PastErrors
from stormda.storm.twin.training import PERSISTENCE_ERROR

PATH = Path(__file__).parent / "results" / "generalization.csv"
SEED = 211
BATCHES, SIZE = 24, 16


PASTS = {
    0.0: PastErrors(exact=1.0, single=0.0),
    1.0: PastErrors(factor=(0.0, 0.0), amplitude=(1.0, 1.0), exact=0.0, single=0.0),
}
"""Distributions of errors of the past by their size [K]."""


def errors(prior: Storm, archive: Archive, past: PastErrors) -> list[float]:
    """Return the errors of forecasts and of denoising [K] on samples of an archive."""
    history = prior.config.history
    source = ArchivedSamples(archive, prior.normalization, past, history=history, seed=SEED)
    squared = []
    for k in range(BATCHES):
        batch = source.batch(k, SIZE)
        noise = torch.randn(batch.target.shape, generator=stream(SEED, 9, k))
        with torch.no_grad():
            squared.append(denoised(prior, batch, noise)[2])
    found: list[float] = (PERSISTENCE_ERROR * torch.stack(squared).mean(0).sqrt()).tolist()
    return found


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--groups", type=int, default=2, help="of runs of each archive")
    arguments = parser.parse_args()
    prior = load_equipment(SQGConfig()).prior
    recipe = from_dict(SqgRecipe, prior.provenance["settings"])
    names = ("forecast", *(f"denoised_{level}" for level in LEVELS))
    rows: list[Row] = []
    for samples, seed in (("its own", recipe.archive.seed), ("others", SEED)):
        runs = arguments.groups * recipe.archive.together
        config = replace(recipe.archive, seed=seed, runs=runs)
        archive = make_archive(config, SQG(recipe.model))
        for size, past in PASTS.items():
            about: Row = {"samples": samples, "seed": seed, "runs": runs, "past_error": size}
            rows.append(about | dict(zip(names, errors(prior, archive, past), strict=True)))
            numbers = (f"{v:.3f}" if isinstance(v, float) else v for v in rows[-1].values())
            print(*numbers, flush=True)
    write(PATH, [finished(row) for row in rows])


if __name__ == "__main__":
    main()
