"""Is the prior of Lorenz-96 honest? Simulation-based calibration on truths of their own seeds.

    python bench/sbc.py [--problem spantini2019 arctan] [--cases 80]

A truth and what a filter believed of it (half of the cases an LETKF with the true model, half the
one-stage filter itself, as tuned, but drawing the state one interval before) are drawn; what is
observed an interval later is drawn too; 19 members are drawn with the prior, without and with the
observation, and carried to the time of the latter by the learned model. If prior, model and
sampler are right, the rank of the truth among the members is uniform (Talts et al., 2018,
arXiv:1804.06788): what is wrong with a prior that was fitted to few members is in the number,
unlike in `calibration.py`. Cases lie three analyses apart, points ten, so that ranks are nearly
independent; the test is chi-square over the 20 ranks in 10 pairs.

Writes bench/results/sbc.csv: p-values, mean rank (9.5), the share in the outermost two of the 20
(0.1), and the counts.
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from lorenz96_model import load
from lorenz96_prior import Prior
from one_stage import METHODS, Run, Settings, tuned
from torch import Tensor
from twin96 import PROBLEMS, Problem

from stormda.assimilation import Observation, assimilate, dpmpp_2m, mmps, rank_histogram, rank_test
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"
SEED = 210
SPIN_UP = 20
MEMBERS = 19
APART = 3
"""Analyses between two cases."""

SAMPLER = dpmpp_2m(steps=12, sigma_min=0.02, sigma_max=10.0)


@dataclass(frozen=True, eq=False)
class Cases:
    """Truths an interval after an analysis `(cases, points)`, and what that analysis says."""

    later: Tensor
    prior: Prior

    @classmethod
    def draw(cls, problem: Problem, run: Run, settings: Settings, count: int, seed: int) -> Cases:
        """Follow a truth, and take every third analysis."""
        model, twin = load(problem.name), problem.twin(SPIN_UP + APART * count + 1, seed)
        analyses = list(run(problem, twin, model, settings))
        times = range(SPIN_UP, SPIN_UP + APART * count, APART)
        radius = tuned(problem.name, "one-stage")["radius"]
        priors = [Prior.of(analyses[k].float(), radius) for k in times]
        return cls(
            torch.stack([twin.truths[k + 1].float() for k in times]),
            Prior(torch.stack([p.mean for p in priors]), torch.stack([p.root for p in priors])),
        )


def draws(problem: Problem, cases: Cases) -> Iterator[tuple[str, Tensor]]:
    """Yield members `(19, cases, points)` of the prior and of the posterior, all cases at once."""
    g, model = torch.Generator().manual_seed(SEED + 1), load(problem.name)
    settings = tuned(problem.name, "one-stage")
    (seen,) = problem.experiment.observe([cases.later[0].double()], g)
    y = seen.operator(cases.later)
    y = (y + seen.error.sample(y, g)).repeat(MEMBERS, 1)
    root = settings["inflation"] * cases.prior.root
    prior = Prior(cases.prior.mean.repeat(MEMBERS, 1), root.repeat(MEMBERS, 1, 1))

    def innovation(x: Tensor) -> Tensor:
        # Each member has its own observation: what is seen to be zero is the difference from it.
        return seen.operator(model.along(x)) - y

    departure = Observation(y.new_zeros(y.shape[1]), innovation, seen.error)
    for name, observation in (("prior", None), ("posterior", departure)):
        x = assimilate(
            prior,
            observation,
            members=len(y),
            generator=g,
            guidance=mmps(linearizations=int(settings["linearizations"])),
            sampler=SAMPLER,
            transform=prior.to_state,
        )
        yield name, model(prior.to_state(x)).reshape(MEMBERS, len(cases.later), -1)


def row(x: Tensor, truth: Tensor, points: Tensor) -> dict[str, object]:
    """Return the statistics of the ranks at some points."""
    return statistics_of(rank_histogram(x[..., points], truth[..., points]))


def statistics_of(counts: Tensor) -> dict[str, object]:
    """Return the statistics of ranks that were counted, tested in pairs."""
    shares = counts / counts.sum()
    statistic, p_value = rank_test(counts.reshape(-1, 2).sum(-1))
    return {
        "ranks": int(counts.sum()),
        "chi_square": f"{statistic:.2f}",
        "p_value": f"{p_value:.4f}",
        "mean_rank": f"{(shares * torch.arange(len(counts))).sum().item():.2f}",
        "outermost": f"{(shares[0] + shares[-1]).item():.3f}",
        "counts": " ".join(f"{c:g}" for c in counts.tolist()),
    }


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--cases", type=int, default=80)
    arguments = parser.parse_args()
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    rows = []
    for name in arguments.problem:
        problem = PROBLEMS[name]
        for k, method in enumerate(("letkf", "one-stage")):
            settings = {**tuned(name, method), "window": 1}
            half = Cases.draw(problem, METHODS[method], settings, arguments.cases // 2, SEED + k)
            for what, x in draws(problem, half):
                for offset in (0, 5):  # even points are observed in both problems, odd ones in one
                    found = row(x, half.later, torch.arange(offset, x.shape[-1], 10))
                    about = {"problem": name, "past": method, "draws": what}
                    about["points"] = "odd" if offset else "even"
                    print(about | found, flush=True)
                    rows.append(about | found | record)
    with (RESULTS / "sbc.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
