"""How the prior of `lorenz96_prior.py` is trained, for each problem in some minutes of one core.

1. The model, on short steps of a nature run.
2. A library of pasts: the ensembles of an LETKF with the true model, and those of the one-stage
   filter itself while its prior is still the Gaussian one, beside the truth.
3. Encoder and denoiser, on the library. What is kept is the best on held-out truths of their own,
   or the Gaussian prior where nothing was better.

Seeds 1-49 train and 51-99 are held out; 100-199 tune and 200-299 score. The weights go to a file
and are read again.

    python bench/lorenz96_training.py --problem spantini2019 arctan
"""

from __future__ import annotations

import argparse
import copy
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import torch
from lorenz96_model import Model, fit, train_model
from lorenz96_prior import Past, Prior, one_stage
from safetensors.torch import load_file, save_file
from torch import Tensor
from twin96 import PROBLEMS, Problem, follow, letkf_update

from stormda.assimilation import FilterDiverged

WEIGHTS = Path(__file__).parent / "priors"

SPIN_UP = 10
"""Analyses of a run that are not in a library."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """How a prior is trained."""

    model_steps: int = 1000
    """Steps of training of the model."""

    runs: int = 2
    """Runs of each filter in the library; one more of each is held out."""

    cycles: int = 50
    """Analyses of a run."""

    steps: int = 500
    """Steps of training of the prior."""

    batch: int = 32
    """Samples of a step."""

    check_every: int = 50
    """Steps between looks at the held-out loss."""

    learning_rate: float = 2e-3
    """The largest."""

    seed: int = 1
    """Of the first run and of everything else that is random."""


@dataclass(frozen=True, eq=False)
class Library:
    """Truths, what a filter believed of them, and the truths an interval later."""

    truth: Tensor
    """`(samples, points)`."""

    past: Past
    later: Tensor
    """`(samples, points)`."""

    @classmethod
    def join(cls, runs: list[Library]) -> Library:
        """Return all samples of several."""
        return cls(
            torch.cat([run.truth for run in runs]),
            Past(
                torch.cat([run.past.mean for run in runs]),
                torch.cat([run.past.root for run in runs]),
            ),
            torch.cat([run.later for run in runs]),
        )

    def at(self, index: Tensor) -> Library:
        """Return some of the samples."""
        past = Past(self.past.mean[index], self.past.root[index])
        return Library(self.truth[index], past, self.later[index])


def believed(problem: Problem, cycles: int, seed: int, prior: Prior | None = None) -> Library:
    """Return what the one-stage filter with a prior believed, or the LETKF with the true model.

    A run ends early where its filter loses the truth.
    """
    twin = problem.twin(cycles, seed)
    if prior is None:
        update, members = letkf_update(problem, problem.letkf), int(problem.letkf["members"])
        analyses = follow(twin, update, problem.experiment.forecast, members)
    else:
        analyses = one_stage(problem, twin, prior, problem.one_stage)
    pasts = []
    try:
        for x in analyses:
            pasts.append(Past.of(x.float(), problem.one_stage["radius"]))
    except FilterDiverged:
        pasts = pasts[:-5]
    truths = [truth.float() for truth in twin.truths]
    rows = [
        (now, past.mean, past.root, later)
        for (now, later), past in zip(pairwise(truths), pasts, strict=False)
    ][SPIN_UP:]
    now, mean, root, later = (torch.stack(column) for column in zip(*rows, strict=True))
    return Library(now, Past(mean, root), later)


def collect(problem: Problem, prior: Prior, recipe: Recipe, first: int, runs: int) -> Library:
    """Return the pasts of some runs of both filters, each with a seed of its own."""
    return Library.join(
        [
            believed(problem, recipe.cycles, first + 2 * run + k, own)
            for run in range(runs)
            for k, own in enumerate((None, prior))
        ]
    )


def loss_of(prior: Prior, batch: Library, generator: torch.Generator) -> Tensor:
    """Return the likelihood of shift and scale, and the denoiser's weighted error."""
    shift, scale, features = prior.read(batch.past)
    units = batch.past.departure(batch.truth)
    likelihood = (scale.log() + ((units - shift) / scale).square() / 2).mean()
    departure = ((units - shift) / scale).detach()
    sigma = (1.2 * torch.randn(len(units), generator=generator) - 0.4).exp()
    noise = torch.randn(units.shape, generator=generator)
    error = prior.denoiser(departure + sigma[:, None] * noise, sigma, features) - departure
    weight = (1 + sigma[:, None] ** 2) / sigma[:, None] ** 2
    return likelihood + (weight * error.square()).mean()


def train(problem: Problem, recipe: Recipe) -> Prior:
    """Train model, encoder and denoiser."""
    prior = Prior(train_model(problem, recipe.model_steps, recipe.seed))
    library = collect(problem, prior, recipe, recipe.seed, recipe.runs)
    held_out = collect(problem, prior, recipe, recipe.seed + 50, 1)
    print(f"  library: {len(library.truth)} and {len(held_out.truth)} held out", flush=True)
    g = torch.Generator().manual_seed(recipe.seed)
    best, kept = float("inf"), prior.state_dict()

    def losses() -> Iterator[Tensor]:
        nonlocal best, kept
        for step in range(recipe.steps + 1):
            if step % recipe.check_every == 0:
                with torch.no_grad():
                    check = loss_of(prior, held_out, torch.Generator().manual_seed(0)).item()
                print(f"  step {step:5}  held-out loss {check:.4f}", flush=True)
                if check < best:
                    best, kept = check, copy.deepcopy(prior.state_dict())
            index = torch.randint(len(library.truth), (recipe.batch,), generator=g)
            yield loss_of(prior, library.at(index), g)

    fit(prior, losses(), recipe.steps + 1, recipe.learning_rate, decay=1e-2)
    prior.load_state_dict(kept)
    return prior.eval().requires_grad_(False)


def load(name: str, recipe: Recipe | None = None) -> Prior:
    """Return the prior of a problem: from its file, or trained now."""
    recipe, path = recipe or Recipe(), WEIGHTS / f"{name}.safetensors"
    problem = PROBLEMS[name]
    if path.exists():
        prior = Prior(Model(problem))
        prior.load_state_dict(load_file(path))
        return prior.eval().requires_grad_(False)
    began = time.perf_counter()
    prior = train(problem, recipe)
    print(f"{name}: trained in {time.perf_counter() - began:.0f} s", flush=True)
    WEIGHTS.mkdir(exist_ok=True)
    save_file({k: v.contiguous() for k, v in prior.state_dict().items()}, path)
    return prior


def main() -> None:
    """Train what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    for name in parser.parse_args().problem:
        load(name)


if __name__ == "__main__":
    main()
