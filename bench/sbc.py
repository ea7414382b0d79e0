"""Is a learned prior honest? Simulation-based calibration on truths that it has not seen.

    python bench/sbc.py [--problem spantini2019] [--cases 60]

A truth and what a filter believed of it are drawn as in `lorenz96_training.py`, from both of its
filters, but with seeds of their own; what is observed an interval later is drawn too; 19 members
are drawn with the prior, without and with the observation, and carried to the time of the latter
by the learned model. If prior, model and sampler are right, the rank of the truth among members is
uniform (Talts et al., 2018, arXiv:1804.06788). The error of the learned score is therefore in
the number, unlike in `calibration.py`. Cases lie three analyses apart, points ten, so that ranks
are nearly independent; the test is chi-square over the 20 ranks in 10 pairs. Beside the trained
prior stands the one before its training, a Gaussian with the members' own covariance.

Writes bench/results/sbc.csv: p-values, mean rank (9.5), the share in the outermost two of the 20
(0.1), and the counts.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from pathlib import Path

import torch
from lorenz96_prior import Past, Prior
from lorenz96_training import SPIN_UP, Library, believed, load
from torch import Tensor
from twin96 import PROBLEMS, Problem

from stormda.assimilation import Observation, assimilate, dpmpp_2m, mmps, rank_histogram, rank_test
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"
SEED = 200
MEMBERS = 19
APART = 3
"""Analyses between two cases."""

SAMPLER = dpmpp_2m(steps=16, sigma_min=0.02, sigma_max=20.0)


def cases(problem: Problem, prior: Prior, count: int) -> Library:
    """Return truths and pasts, half of each filter; the one-stage one's as in the training."""
    cycles = APART * count // 2 + SPIN_UP + 1
    own = Prior(prior.model)
    runs = [believed(problem, cycles, SEED + k, p) for k, p in enumerate((None, own))]
    return Library.join([run.at(torch.arange(0, len(run.truth), APART)) for run in runs])


def draws(problem: Problem, prior: Prior, drawn: Library) -> Iterator[tuple[str, Tensor]]:
    """Yield members `(19, count, points)` of the prior and of the posterior, all cases at once."""
    g = torch.Generator().manual_seed(SEED + 1)
    (seen,) = problem.experiment.observe([drawn.later[0].double()], g)
    y = seen.operator(drawn.later)
    y = (y + seen.error.sample(y, g)).repeat(MEMBERS, 1)
    past = Past(drawn.past.mean.repeat(MEMBERS, 1), drawn.past.root.repeat(MEMBERS, 1, 1))
    conditioned = prior.given(past)

    def innovation(x: Tensor) -> Tensor:
        # Each member has its own observation: what is seen to be zero is the difference from it.
        return seen.operator(prior.model.along(x)) - y

    departure = Observation(y.new_zeros(y.shape[1]), innovation, seen.error)
    for name, observation in (("prior", None), ("posterior", departure)):
        x = assimilate(
            conditioned,
            observation,
            members=len(y),
            generator=g,
            guidance=mmps(linearizations=int(problem.one_stage["linearizations"])),
            sampler=SAMPLER,
            transform=conditioned.to_state,
        )
        x = prior.forecast(conditioned.to_state(x))
        yield name, x.reshape(MEMBERS, len(drawn.truth), -1)


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
    parser.add_argument("--cases", type=int, default=60)
    arguments = parser.parse_args()
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    rows = []
    for name in arguments.problem:
        problem, trained = PROBLEMS[name], load(name)
        drawn = cases(problem, trained, arguments.cases)
        points = drawn.truth.shape[1]
        for training, prior in (("trained", trained), ("untrained", Prior(trained.model))):
            for what, x in draws(problem, prior, drawn):
                for offset in (0, 5):  # even points are observed in both problems, odd ones in one
                    found = row(x, drawn.later, torch.arange(offset, points, 10))
                    about = {"problem": name, "prior": training, "draws": what}
                    about["points"] = "odd" if offset else "even"
                    print(about | found, flush=True)
                    rows.append(about | found | record)
    with (RESULTS / "sbc.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
