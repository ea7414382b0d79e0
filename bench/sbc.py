"""Is a learned prior honest? Simulation-based calibration on truths that it has not seen.

    python bench/sbc.py [--problem spantini2019] [--cases 100]

A truth and what a filter believed a moment before are drawn as in `lorenz96_prior.py`, but with
seeds of their own; the truth is observed; 19 members are drawn with the prior, without and with
the observation. If the prior is right and the sampler too, the rank of the truth among the members
is uniform (Talts et al., 2018, arXiv:1804.06788). The error of the learned score is therefore in
the number, unlike in `calibration.py`. Cases lie five analyses apart, points ten, so that ranks
are nearly independent; the test is chi-square over the 20 ranks in 10 pairs.

Writes bench/results/sbc.csv: p-values, mean rank (9.5), the share in the outermost two of the 20
(0.1), and the counts. A minute on one core.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import torch
from lorenz96_prior import HISTORY, Library, Prior, Recipe, load
from torch import Tensor
from twin96 import PROBLEMS, Problem

from stormda.assimilation import Observation, assimilate, dpmpp_2m, mmps, rank_histogram, rank_test
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"
SEED = 200
MEMBERS = 19
APART = 5
"""Analyses between two cases."""

SAMPLER = dpmpp_2m(steps=24, sigma_min=0.01, sigma_max=20.0)


def cases(problem: Problem, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return truths `(count, points)` and their pasts `(count, history, points)`."""
    library = Library.make(problem, APART * count + HISTORY, SEED)
    g = torch.Generator().manual_seed(SEED)
    last = torch.arange(HISTORY, HISTORY + APART * count, APART)
    return library.at(last, Recipe().widest, g)


def draws(
    problem: Problem, prior: Prior, truth: Tensor, means: Tensor, spreads: Tensor
) -> Iterator[tuple[str, Tensor]]:
    """Yield members `(19, count, points)` of the prior and of the posterior, all cases at once."""
    g = torch.Generator().manual_seed(SEED + 1)
    e, count = problem.experiment, len(truth)
    (seen,) = e.observe([truth[0].double()], g)
    y = seen.operator(truth)
    y = (y + seen.error.sample(y, g)).repeat(MEMBERS, 1)
    conditioned = prior.given(means.repeat(MEMBERS, 1, 1), spreads.repeat(MEMBERS, 1, 1))
    # Each member has its own observation: what is observed to be zero is the difference from it.
    departure = Observation(y.new_zeros(y.shape[1]), lambda x: seen.operator(x) - y, seen.error)
    for name, observation in (("prior", None), ("posterior", departure)):
        x = assimilate(
            conditioned,
            observation,
            members=MEMBERS * count,
            generator=g,
            guidance=mmps(),
            sampler=SAMPLER,
            transform=conditioned.to_state,
        )
        yield name, conditioned.to_state(x).reshape(MEMBERS, count, -1)


def row(x: Tensor, truth: Tensor, points: Tensor) -> dict[str, object]:
    """Return the statistics of the ranks at some points."""
    counts = rank_histogram(x[..., points], truth[..., points])
    shares = counts / counts.sum()
    pairs = counts.reshape(-1, 2).sum(-1)
    statistic, p_value = rank_test(pairs)
    return {
        "ranks": int(counts.sum()),
        "chi_square": f"{statistic:.2f}",
        "p_value": f"{p_value:.4f}",
        "mean_rank": f"{(shares * torch.arange(MEMBERS + 1)).sum().item():.2f}",
        "outermost": f"{(shares[0] + shares[-1]).item():.3f}",
        "counts": " ".join(f"{c:g}" for c in counts.tolist()),
    }


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--cases", type=int, default=100)
    arguments = parser.parse_args()
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    rows = []
    for name in arguments.problem:
        problem, prior = PROBLEMS[name], load(name)
        truth, means, spreads = cases(problem, arguments.cases)
        points = truth.shape[1]
        for what, x in draws(problem, prior, truth, means, spreads):
            for offset in (0, 5):  # even points are observed in both problems, odd ones in one
                found = row(x, truth, torch.arange(offset, points, 10))
                about = {"problem": name, "draws": what, "points": "odd" if offset else "even"}
                print(about | found, flush=True)
                rows.append(about | found | record)
    with (RESULTS / "sbc.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
