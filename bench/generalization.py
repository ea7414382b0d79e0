"""Does the shipped prior of turbulence know more than its own archive?

    python bench/generalization.py [--groups 2]

The same questions on samples of the archive that it was trained on, of which the first groups of
runs are simulated anew, and of as many runs of seed 211: the error [K] of forecasts of 12 hours
and of denoising at three levels of noise (in standard deviations of a change of 12 hours), over
what pasts are wrong by in training. Were there samples enough, both would have the same errors.

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
from stormda.storm.twin.archive import make_archive
from stormda.storm.twin.methods import load_equipment
from stormda.storm.twin.samples import ArchivedSamples
from stormda.storm.twin.training import PERSISTENCE_ERROR

PATH = Path(__file__).parent / "results" / "generalization.csv"
SEED = 211
BATCHES, SIZE = 24, 16


def errors(prior: Storm, recipe: SqgRecipe, *, seed: int, groups: int) -> list[float]:
    """Return the errors of forecasts and of denoising [K] on groups of runs of a seed."""
    config = replace(recipe.archive, seed=seed, runs=groups * recipe.archive.together)
    archive = make_archive(config, SQG(recipe.model))
    source = ArchivedSamples(
        archive, prior.normalization, recipe.errors, history=prior.config.history, seed=SEED
    )
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
        found = errors(prior, recipe, seed=seed, groups=arguments.groups)
        runs = arguments.groups * recipe.archive.together
        about: Row = {"samples": samples, "seed": seed, "trained_on": recipe.archive.runs}
        rows.append(about | {"runs": runs} | dict(zip(names, found, strict=True)))
        print(*(f"{v:.3f}" if isinstance(v, float) else v for v in rows[-1].values()), flush=True)
    write(PATH, [finished(row) for row in rows])


if __name__ == "__main__":
    main()
