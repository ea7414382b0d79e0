"""What the published tables have in common: a truth, observations of it, and methods that follow.

Every other file here is named for a paper. It holds the settings of the paper's table and, beside
each method, the score that is published (or that DAPPER, Raanes et al. 2024, gives for it in the
file of the same name). Its command

    python bench/published/sakov2008.py [--seed 200 201] [--cycles 1000] [--method ETKF]

runs our methods on it and writes bench/results/published_PAPER.csv. Scores are the mean over time
of the root mean square error of the analysis, after a spin-up.
"""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from statistics import mean

import torch
from torch import Tensor

from stormda.assimilation import (
    DiagonalError,
    Observation,
    Spread,
    compose,
    enkf,
    etkf,
    finite_size_inflation,
    ienkf,
    inflate,
    letkf,
    periodic_distance,
    run_filter,
    select,
    variational,
)
from stormda.assimilation.systems import System, nature_run
from stormda.storm.provenance import commit, machine, provenance

RESULTS = Path(__file__).parents[1] / "results"

HALF_WIDTH = 1.82
"""A radius in DAPPER's tables times this is the half-width of Gaspari and Cohn's function."""


@dataclass(frozen=True, kw_only=True)
class Experiment:
    """A twin experiment."""

    system: System
    """The model, which is perfect."""

    steps: int
    """Time steps between observations."""

    observed: Tensor
    """Which numbers of the state are observed."""

    std: float
    """The standard deviation of the errors of observation."""

    start: Tensor
    """The mean of the distribution that truth and members start from."""

    start_std: float
    """Its standard deviation."""

    cycles: int
    """How many observations."""

    spin_up: int
    """How many of them are not scored."""

    sensor: Callable[[Tensor], Tensor] | None = None
    """What is seen of each observed number, where not the number itself."""

    members_start: tuple[float, float] | None = None
    """Mean and standard deviation that members start from, where others than the truth's."""

    warm_up: int = 0
    """Time steps that the truth runs before its start."""

    def forecast(self, x: Tensor) -> Tensor:
        """Return states at the next observation."""
        return self.system.forecast(x, steps=self.steps)

    def draw(self, members: int, generator: torch.Generator) -> Tensor:
        """Draw states of the start."""
        noise = torch.randn(members, len(self.start), dtype=torch.float64, generator=generator)
        if self.members_start is not None:
            return self.members_start[0] + self.members_start[1] * noise
        return self.start + self.start_std * noise

    def truth(self, generator: torch.Generator) -> Tensor:
        """Draw the truth's start."""
        noise = torch.randn(len(self.start), dtype=torch.float64, generator=generator)
        return self.system.forecast(self.start + self.start_std * noise, steps=self.warm_up)

    def climate(self) -> tuple[Tensor, Tensor]:
        """Return mean and covariance of a long run of its own, with a seed for training."""
        x = self.draw(50, torch.Generator().manual_seed(1))
        x = self.system.forecast(x, steps=100 * self.steps)
        run = nature_run(self.system, x, steps=max(self.steps, 5))
        states = torch.cat(list(islice(run, 200)))
        return states.mean(0), states.mT.cov()

    def observe(
        self, truths: Iterable[Tensor], generator: torch.Generator
    ) -> Iterator[Observation]:
        """Yield an observation of each truth."""
        pick, error = select(self.observed), DiagonalError(self.std)
        operator = pick if self.sensor is None else compose(pick, self.sensor)
        for truth in truths:
            seen = operator(truth[None])[0]
            yield Observation(seen + error.sample(seen, generator), operator, error)


Run = Callable[[Experiment, Iterator[Observation], torch.Generator], Iterator[Tensor]]
"""Follows observations, and yields the mean of each analysis."""


@dataclass(frozen=True)
class Method:
    """A method and its published score."""

    name: str
    """As in the publication."""

    published: float
    """The published error; NaN where none is."""

    run: Run
    """The method, with the published settings."""

    changes: Mapping[str, object] = field(default_factory=dict)
    """What its experiment changes."""


def optimal_interpolation() -> Run:
    """Return the method that starts from climate in every cycle."""

    def run(
        experiment: Experiment, stream: Iterator[Observation], generator: torch.Generator
    ) -> Iterator[Tensor]:
        centre, covariance = experiment.climate()
        for seen in stream:
            yield variational(centre, covariance, seen, iterations=1, tolerance=1e-8)

    return run


def var3d(scale: float, *, identity: bool = False) -> Run:
    """Return 3D-Var with a scaled climatological covariance, or a scaled identity."""

    def run(
        experiment: Experiment, stream: Iterator[Observation], generator: torch.Generator
    ) -> Iterator[Tensor]:
        covariance = torch.eye(len(experiment.start)).double()
        if not identity:
            _, covariance = experiment.climate()
        x = experiment.start
        for seen in stream:
            x = experiment.forecast(x)
            x = variational(x, scale * covariance, seen, iterations=1, tolerance=1e-8)
            yield x

    return run


def ensemble(members: int, analyse: Callable, spread: Spread) -> Run:
    """Return an ensemble filter: `analyse(x, predicted, observation, generator)` and a spread."""

    def run(
        experiment: Experiment, stream: Iterator[Observation], generator: torch.Generator
    ) -> Iterator[Tensor]:
        def update(x: Tensor, predicted: Tensor, seen: Observation) -> Tensor:
            return spread(analyse(x, predicted, seen, generator), x, generator)

        x = experiment.draw(members, generator)
        for cycle in run_filter(x, stream, forecast=experiment.forecast, update=update):
            yield cycle.analysis.mean(0)

    return run


def stochastic(members: int, inflation: float) -> Run:
    """Return the EnKF with perturbed observations."""

    def analyse(
        x: Tensor, predicted: Tensor, seen: Observation, generator: torch.Generator
    ) -> Tensor:
        return enkf(x, predicted, seen.y, seen.error, generator=generator)

    return ensemble(members, analyse, Spread(inflation=inflation))


def transform(members: int, inflation: float, *, rotate: bool = True) -> Run:
    """Return the ETKF (EnKF with a square root)."""

    def analyse(
        x: Tensor, predicted: Tensor, seen: Observation, generator: torch.Generator
    ) -> Tensor:
        return etkf(x, predicted, seen.y, seen.error)

    return ensemble(members, analyse, Spread(inflation=inflation, rotate=rotate))


def finite_size(members: int, *, certainty: float = 1.0, rotate: bool = True) -> Run:
    """Return the ETKF that finds its inflation (EnKF-N)."""

    def analyse(
        x: Tensor, predicted: Tensor, seen: Observation, generator: torch.Generator
    ) -> Tensor:
        factor = finite_size_inflation(predicted, seen.y, seen.error, certainty=certainty)
        return etkf(inflate(x, factor), inflate(predicted, factor), seen.y, seen.error)

    return ensemble(members, analyse, Spread(rotate=rotate))


def local(
    members: int, inflation: float, radius: float, *, rotate: bool = False, rtps: float = 0.0
) -> Run:
    """Return the LETKF on a ring, with a radius as in DAPPER."""

    def run(
        experiment: Experiment, stream: Iterator[Observation], generator: torch.Generator
    ) -> Iterator[Tensor]:
        n = len(experiment.start)
        place = torch.arange(n, dtype=torch.float64)[:, None]
        distance = periodic_distance(place, place[experiment.observed], torch.tensor([float(n)]))
        reach = {"distance": distance, "radius": 2 * HALF_WIDTH * radius}

        def analyse(
            x: Tensor, predicted: Tensor, seen: Observation, generator: torch.Generator
        ) -> Tensor:
            return letkf(x[..., None], predicted, seen.y, seen.error.variance, **reach)[..., 0]

        spread = Spread(inflation=inflation, rotate=rotate, rtps=rtps)
        yield from ensemble(members, analyse, spread)(experiment, stream, generator)

    return run


def iterative(members: int, inflation: float, lag: int = 1, *, rotate: bool = True) -> Run:
    """Return the IEnKS with a window of `lag` observations, of which the last is new."""

    def run(
        experiment: Experiment, stream: Iterator[Observation], generator: torch.Generator
    ) -> Iterator[Tensor]:
        x, spread = experiment.draw(members, generator), Spread(inflation=inflation, rotate=rotate)
        for number, seen in enumerate(stream, start=1):
            window = min(number, lag)

            def ahead(x: Tensor, window: int = window) -> Tensor:
                for _ in range(window):
                    x = experiment.forecast(x)
                return x

            def predict(x: Tensor, seen: Observation = seen, ahead: Callable = ahead) -> Tensor:
                return seen.operator(ahead(x))

            before, x = x, ienkf(x, predict, seen.y, seen.error)
            yield ahead(x).mean(0)
            x = spread(x, before, generator)
            if number >= lag:
                x = experiment.forecast(x)

    return run


def errors(method: Method, experiment: Experiment, seed: int) -> Tensor:
    """Return the root mean square errors of a method's analyses, of all cycles."""
    truth_noise, own = (torch.Generator().manual_seed(1000 * seed + k) for k in (0, 1))
    truth = experiment.truth(truth_noise)
    truths = list(
        islice(nature_run(experiment.system, truth, steps=experiment.steps), experiment.cycles)
    )
    stream = experiment.observe(truths, truth_noise)
    return torch.stack(
        [
            (analysis - truth).square().mean().sqrt()
            for analysis, truth in zip(method.run(experiment, stream, own), truths, strict=True)
        ]
    )


def score(method: Method, experiment: Experiment, seed: int) -> float:
    """Return the mean error of a method's analyses."""
    return errors(method, experiment, seed)[experiment.spin_up :].mean().item()


def main(paper: str, experiment: Experiment, methods: Iterable[Method]) -> None:
    """Run the methods for some seeds, print the table and write it."""
    parser = argparse.ArgumentParser(description=f"The table of {paper}.")
    names = [method.name for method in methods]
    parser.add_argument(
        "--seed", nargs="+", type=int, default=[200, 201, 202], choices=range(200, 300)
    )
    parser.add_argument("--cycles", type=int, default=experiment.cycles)
    parser.add_argument("--method", nargs="+", choices=names, default=names)
    parser.add_argument("--append", action="store_true", help="keep what the file holds")
    arguments = parser.parse_args()
    print(f"{'method':<28}{'published':>10}{'ours':>8}{'least':>8}{'most':>8}{'ratio':>7}{'s':>7}")
    chosen = [method for method in methods if method.name in arguments.method]
    for method in chosen:
        settings = vars(experiment) | {"cycles": arguments.cycles} | dict(method.changes)
        began = time.perf_counter()
        scores = [score(method, Experiment(**settings), seed) for seed in arguments.seed]
        seconds = (time.perf_counter() - began) / len(scores)
        ratio = mean(scores) / method.published
        print(
            f"{method.name:<28}{method.published:10.3f}{mean(scores):8.3f}{min(scores):8.3f}"
            f"{max(scores):8.3f}{ratio:7.2f}{seconds:7.1f}",
            flush=True,
        )
        rows = [
            {
                "paper": paper,
                "method": method.name,
                "published": method.published,
                "seed": seed,
                "cycles": settings["cycles"],
                "rmse": f"{value:.4f}",
                "seconds": f"{seconds:.1f}",
            }
            for seed, value in zip(arguments.seed, scores, strict=True)
        ]
        path = RESULTS / f"published_{paper}.csv"
        write(path, rows, append=arguments.append or method is not chosen[0])


def write(path: Path, rows: list[dict[str, object]], *, append: bool = False) -> None:
    """Write a table with machine, versions and commit."""
    versions = " ".join(f"{k} {v}" for k, v in provenance()["versions"].items())
    record = {"machine": machine(), "versions": versions, "commit": commit()}
    path.parent.mkdir(parents=True, exist_ok=True)
    append = append and path.exists()
    with path.open("a" if append else "w", newline="") as file:
        writer = csv.DictWriter(file, [*rows[0], *record])
        if not append:
            writer.writeheader()
        writer.writerows(row | record for row in rows)
