"""Is a posterior right where the exact one is known? Every guidance, two problems.

    python bench/calibration.py [--problem trajectory mixture] [--seed 200 201] [--method mmps dps]

The prior is wrapped: a sampler sees a denoiser and its vector-Jacobian product, nothing else (but
for `jfps`, which is given the climate's covariance).

- *trajectory*: eight states of a linear model, 128 numbers, a quarter of them observed with an
  error of 0.1 or 0.5; bias and spread in posterior standard deviations, coverage of 90 % intervals
  of 256 members.
- *mixture*: 25 modes in d = 8, 80, 800 dimensions, 1, 2 or 4 observations with an error of 0.1;
  sliced Wasserstein distance and error of the weights of the modes, of 500 members in 100 steps.

Writes bench/results/calibration_PROBLEM.csv, with machine, versions and commit. "exact" are draws
of the exact posterior, as many as the samples: what chance alone leaves. From all lines of the
mixture follows bench/results/calibration_modes.csv: the errors of the weights of the modes by the
default and by SMC, means over the seeds that both have, and their ratio.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import mean

import torch
from exact import Mixture, Opaque, Trajectory
from torch import Tensor

from stormda.assimilation import (
    Guidance,
    LowRank,
    Sampler,
    ancestral,
    assimilate,
    dpmpp_2m,
    dps,
    enff,
    ensf,
    euler,
    gmres,
    heun,
    jfps,
    langevin,
    mmps,
    pigdm,
    resample,
    sda,
    source_mala,
    tmpd,
    twisted_smc,
)
from stormda.assimilation.samplers import Schedule
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parent / "results"

Problem = Trajectory | Mixture
Draw = Callable[[Opaque, Problem, int, torch.Generator], Tensor]
"""Samples `(members, n)` of a problem's posterior."""


def guided(guidance: Guidance, sampler: Sampler) -> Draw:
    """Return the method that samples with a guidance."""

    def draw(prior: Opaque, problem: Problem, members: int, generator: torch.Generator) -> Tensor:
        return assimilate(
            prior,
            problem.seen,
            members=members,
            generator=generator,
            guidance=guidance,
            sampler=sampler,
        )

    return draw


def with_climate(sampler: Sampler) -> Draw:
    """Return JFPS, given the exact covariance of the prior as its climate."""

    def draw(prior: Opaque, problem: Problem, members: int, generator: torch.Generator) -> Tensor:
        covariance = problem.prior.covariance
        values, vectors = torch.linalg.eigh(covariance)
        climate = LowRank(vectors * values.clamp(min=0).sqrt(), torch.full_like(values, 1e-12))
        method = guided(jfps(climate=climate), sampler)
        return method(prior, problem, members, generator)

    return draw


def oracle(iterations: int) -> Draw:
    """Return Langevin chains in the space of the noise."""

    def draw(prior: Opaque, problem: Problem, members: int, generator: torch.Generator) -> Tensor:
        return source_mala(
            prior,
            problem.seen,
            members=members,
            generator=generator,
            iterations=iterations,
            sampler=heun(steps=16),
        ).states

    return draw


def twisted(schedule: Schedule) -> Draw:
    """Return the twisted SMC sampler, resampled to equal weights."""

    def draw(prior: Opaque, problem: Problem, members: int, generator: torch.Generator) -> Tensor:
        cloud = twisted_smc(
            prior, problem.seen, particles=members, generator=generator, schedule=schedule
        )
        return resample(cloud, generator, share=1.0).states

    return draw


def exact(prior: Opaque, problem: Problem, members: int, generator: torch.Generator) -> Tensor:
    """Draw from the exact posterior."""
    return problem.draw(members, generator)


TRAJECTORY: dict[str, Draw] = {
    "exact": exact,
    "mmps heun 128": guided(mmps(), heun(steps=128)),
    "mmps ddim 256": guided(mmps(), euler(steps=256)),
    "mmps heun 64 (default)": guided(mmps(), heun(steps=64)),
    "mmps dpmpp_2m 32": guided(mmps(), dpmpp_2m(steps=32)),
    "mmps gmres": guided(mmps(solve=gmres), heun(steps=64)),
    "mmps 1 iteration": guided(mmps(max_iterations=1), euler(steps=256)),
    "mmps 3 iterations": guided(mmps(max_iterations=3), euler(steps=256)),
    "mmps ancestral 256": guided(mmps(), ancestral(steps=256)),
    "jfps, exact climate": with_climate(euler(steps=256)),
    "sda 0.01": guided(sda(gamma=0.01), euler(steps=256)),
    "sda 0.1": guided(sda(gamma=0.1), euler(steps=256)),
    "sda 0.01, langevin": guided(sda(gamma=0.01), langevin(steps=256)),
    "pigdm": guided(pigdm(), euler(steps=256)),
    "tmpd": guided(tmpd(), euler(steps=256)),
    "dps 3": guided(dps(), euler(steps=256)),
    "dps 24": guided(dps(zeta=24.0), euler(steps=256)),
    "ensf": guided(ensf(), ancestral(steps=256, sigma_max=2.0, sigma_min=0.16)),
    "enff 0.1": guided(enff(), euler(steps=50)),
    "source mala 200": oracle(200),
    "source mala 1500": oracle(1500),
}

FAR = euler(steps=100, sigma_max=2000.0)
"""The modes lie up to 900 apart: the noise that a sampler starts from has to drown that."""

MIXTURE: dict[str, Draw] = {
    "exact": exact,
    "mmps": guided(mmps(), FAR),
    "smc": twisted(Schedule(steps=100, sigma_max=2000.0)),
    "pigdm": guided(pigdm(prior_variance=128.0), FAR),
    "tmpd": guided(tmpd(), FAR),
    "sda 0.01": guided(sda(gamma=0.01), FAR),
    "dps 3": guided(dps(), FAR),
}


def trajectories(
    methods: list[str], seeds: list[int], sizes: list[int]
) -> Iterator[dict[str, object]]:
    """Yield a row for each method, error of observation and seed."""
    for std in (0.1, 0.5):
        for name in methods:
            for seed in seeds:
                problem, g = Trajectory.make(std, seed), torch.Generator().manual_seed(1000 + seed)
                prior, began = Opaque(problem.prior), time.perf_counter()
                x = TRAJECTORY[name](prior, problem, 256, g)
                seconds = time.perf_counter() - began
                cost = {"calls": prior.calls, "products": prior.products, "seconds": seconds}
                settings = {"method": name, "std": std, "seed": seed}
                yield settings | problem.audit(x) | cost


def mixtures(
    methods: list[str], seeds: list[int], sizes: list[int]
) -> Iterator[dict[str, object]]:
    """Yield a row for each method, size, number of observations and seed."""
    for d in sizes:
        for p in (1, 2, 4):
            for name in methods:
                for seed in seeds:
                    problem, g = Mixture.make(d, p, 0.1, seed), torch.Generator()
                    g.manual_seed(1000 + seed)
                    prior, began = Opaque(problem.prior), time.perf_counter()
                    x = MIXTURE[name](prior, problem, 500, g)
                    seconds = time.perf_counter() - began
                    cost = {"calls": prior.calls, "products": prior.products, "seconds": seconds}
                    settings = {"method": name, "d": d, "observations": p, "seed": seed}
                    yield settings | problem.audit(x, g) | cost


PROBLEMS = {
    "trajectory": (trajectories, TRAJECTORY, ("std",)),
    "mixture": (mixtures, MIXTURE, ("d", "observations")),
}


def main() -> None:
    """Run, print and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    every = list(dict.fromkeys([*TRAJECTORY, *MIXTURE]))
    parser.add_argument("--problem", nargs="+", choices=PROBLEMS, default=list(PROBLEMS))
    parser.add_argument("--seed", nargs="+", type=int, choices=range(200, 300), default=[200, 201])
    parser.add_argument("--method", nargs="+", choices=every, default=every)
    sizes = (8, 80, 800)
    parser.add_argument("--size", nargs="+", type=int, choices=sizes, default=sizes)
    parser.add_argument("--name", default="calibration")
    parser.add_argument("--append", action="store_true", help="keep what the file holds")
    arguments = parser.parse_args()
    for problem in arguments.problem:
        run, methods, cases = PROBLEMS[problem]
        rows = list(
            run(
                [name for name in arguments.method if name in methods],
                arguments.seed,
                arguments.size,
            )
        )
        print(table(rows, cases))
        path = RESULTS / f"{arguments.name}_{problem}.csv"
        write(path, rows, append=arguments.append)
        if problem == "mixture":
            compared = modes(path)
            print(table(compared, cases))
            write(RESULTS / f"{arguments.name}_modes.csv", compared)


def modes(path: Path) -> list[dict[str, object]]:
    """Return the errors of the weights of the modes, by the default and by SMC, of every case."""
    with path.open(newline="") as file:
        found = {
            (int(row["d"]), int(row["observations"]), row["method"], row["seed"]): row[
                "mode_error"
            ]
            for row in csv.DictReader(file)
        }
    rows: list[dict[str, object]] = []
    for d, p in sorted({key[:2] for key in found}):
        seeds = [s for (*case, m, s) in found if case == [d, p] and m == "smc"]
        seeds = [s for s in seeds if (d, p, "mmps", s) in found]
        if not seeds:
            continue
        default, smc = (
            mean(float(found[d, p, method, s]) for s in seeds) for method in ("mmps", "smc")
        )
        errors = {"default": default, "smc": smc, "ratio": smc / default}
        rows.append({"d": d, "observations": p, "method": "smc", "seeds": len(seeds)} | errors)
    return rows


def table(rows: list[dict[str, object]], cases: tuple[str, ...]) -> str:
    """Return means over the seeds, one line for each case and method."""
    scores = [key for key in rows[0] if key not in {"method", "seed", *cases}]
    lines = [f"{'case':<12}{'method':<26}" + "".join(f"{score[:12]:>13}" for score in scores)]
    groups: dict[tuple[object, ...], list[dict[str, object]]] = {}
    for row in rows:
        groups.setdefault((*(row[case] for case in cases), row["method"]), []).append(row)
    for (*case, method), members in groups.items():
        means = [mean(float(row[score]) for row in members) for score in scores]
        where = " ".join(str(c) for c in case)
        lines.append(f"{where:<12}{method:<26}" + "".join(f"{value:13.3f}" for value in means))
    return "\n".join(lines)


def write(path: Path, rows: list[dict[str, object]], *, append: bool = False) -> None:
    """Write the rows with machine, versions and commit."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    path.parent.mkdir(parents=True, exist_ok=True)
    append = append and path.exists()
    with path.open("a" if append else "w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *record])
        if not append:
            writer.writeheader()
        for row in rows:
            numbers = {k: f"{v:.4f}" if isinstance(v, float) else v for k, v in row.items()}
            writer.writerow(numbers | record)


if __name__ == "__main__":
    main()
