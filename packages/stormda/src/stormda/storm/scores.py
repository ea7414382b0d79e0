"""Scores of a run of analyses, and the table that they make.

A run is an ensemble or a Gaussian at every cycle. Both are asked for the same numbers, so that an
ensemble filter and optimal interpolation stand in one table:

    RMSE = sqrt <(mean - truth)^2>,      spread / skill = sqrt <variance> / RMSE,

where <> is the mean over cycles, variables and points: the root is taken last, so that a cycle
that went wrong counts. An ensemble of M has its variance multiplied by (M + 1) / M, and the CRPS
that is fair to its size; a Gaussian has both in closed form.
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor

from stormda.assimilation import (
    GaussianAnalysis,
    coverage,
    crps_fair,
    crps_gaussian,
    rmse,
    spread_skill,
)

LEVEL = 0.9
"""Probability of the interval whose coverage is scored."""


class Analyses(Protocol):
    """What the scores ask of a run, whose fields are (cycles, variables, rows, cols)."""

    @property
    def members(self) -> int:
        """Return the size of the ensemble, 0 for a Gaussian."""
        ...

    @property
    def mean(self) -> Tensor:
        """Return the best estimate at every cycle."""
        ...

    @property
    def variance(self) -> Tensor:
        """Return the error variance that the method claims."""
        ...

    def crps(self, truth: Tensor) -> Tensor:
        """Return the continuous ranked probability score at every point."""
        ...

    def coverage(self, truth: Tensor) -> Tensor:
        """Return how often the truth is inside the central interval of probability `LEVEL`."""
        ...

    def spread_skill(self, truth: Tensor) -> Tensor:
        """Return the spread over the error of the mean, 1 for an honest method."""
        ...

    def after(self, cycles: int) -> Analyses:
        """Return the run without its first `cycles`."""
        ...


@dataclass(frozen=True, eq=False)
class EnsembleRun:
    """An ensemble at every cycle.

    Args:
        ensemble: (members, cycles, variables, rows, cols).

    Examples:
        >>> run = EnsembleRun(torch.randn(16, 3, 2, 4, 4))
        >>> run.members, run.mean.shape, run.after(2).mean.shape
        (16, torch.Size([3, 2, 4, 4]), torch.Size([1, 2, 4, 4]))
    """

    ensemble: Tensor

    @property
    def members(self) -> int:
        """Return the size of the ensemble."""
        return len(self.ensemble)

    @property
    def mean(self) -> Tensor:
        """Return the ensemble mean."""
        return self.ensemble.mean(0)

    @property
    def variance(self) -> Tensor:
        """Return the unbiased variance."""
        return self.ensemble.var(0)

    def crps(self, truth: Tensor) -> Tensor:
        """Return the fair score at every point."""
        return crps_fair(self.ensemble, truth)

    def coverage(self, truth: Tensor) -> Tensor:
        """Return how often the truth is between the quantiles of the members."""
        return coverage(self.ensemble, truth, level=LEVEL)

    def spread_skill(self, truth: Tensor) -> Tensor:
        """Return the ratio, with the factor sqrt((M + 1) / M)."""
        return spread_skill(self.ensemble, truth)

    def after(self, cycles: int) -> EnsembleRun:
        """Return the run without its first `cycles`."""
        return EnsembleRun(self.ensemble[:, cycles:])


@dataclass(frozen=True, eq=False)
class GaussianRun:
    """A Gaussian at every point and cycle.

    Args:
        mean: (cycles, variables, rows, cols).
        variance: Like `mean`.

    Examples:
        >>> run = GaussianRun(torch.zeros(3, 2, 4, 4), torch.ones(3, 2, 4, 4))
        >>> round(run.coverage(1.64 * torch.ones(3, 2, 4, 4)).item(), 2)
        1.0
    """

    mean: Tensor
    variance: Tensor

    @property
    def members(self) -> int:
        """Return 0: a Gaussian has no members."""
        return 0

    def crps(self, truth: Tensor) -> Tensor:
        """Return the score of the normal distribution at every point."""
        return crps_gaussian(self.mean, self.variance.sqrt(), truth)

    def coverage(self, truth: Tensor) -> Tensor:
        """Return how often the truth is between the quantiles of the normal distribution."""
        bound = torch.special.ndtri(torch.tensor((1 + LEVEL) / 2, dtype=torch.float64))
        inside = torch.lt((truth - self.mean).abs(), bound * self.variance.sqrt())
        return inside.to(truth).mean()

    def spread_skill(self, truth: Tensor) -> Tensor:
        """Return the ratio: the root of the mean variance over the error of the mean."""
        ratio: Tensor = self.variance.mean().sqrt() / rmse(self.mean, truth)
        return ratio

    def after(self, cycles: int) -> GaussianRun:
        """Return the run without its first `cycles`."""
        return GaussianRun(self.mean[cycles:], self.variance[cycles:])


def collect(analyses: Sequence[Tensor | GaussianAnalysis]) -> Analyses:
    """Put the analyses of successive cycles together.

    Args:
        analyses: One a cycle: ensembles (members, variables, rows, cols), or Gaussians whose
            mean and variance are (variables, rows, cols).

    Examples:
        >>> collect([torch.zeros(5, 2, 4, 4), torch.ones(5, 2, 4, 4)]).mean.shape
        torch.Size([2, 2, 4, 4])
    """
    gaussians = [a for a in analyses if isinstance(a, GaussianAnalysis)]
    if not gaussians:
        return EnsembleRun(torch.stack([a for a in analyses if isinstance(a, Tensor)], 1))
    return GaussianRun(
        torch.stack([a.mean for a in gaussians]), torch.stack([a.variance for a in gaussians])
    )


@dataclass(frozen=True, kw_only=True)
class Row:
    """The scores of one method on one network: a line of the table."""

    network: str
    """What was observed."""

    method: str
    """What made the analyses."""

    members: int
    """Size of the ensemble, 0 for a Gaussian."""

    rmse: float
    """Root mean square error of the mean [units of the field]."""

    crps: float
    """Continuous ranked probability score [units of the field]."""

    spread_skill: float
    """Spread over error: below 1 the method is too sure of itself."""

    coverage90: float
    """Share of the truth inside the central interval of probability 0.9."""

    seconds: float
    """Time that all cycles took, forecasts included [s]."""


def score(analyses: Analyses, truth: Tensor, *, network: str, method: str, seconds: float) -> Row:
    """Score a run.

    Args:
        analyses: The cycles that count.
        truth: At the same cycles, (cycles, variables, rows, cols).
        network: Name for the table.
        method: Name for the table.
        seconds: Time for the table [s].

    Examples:
        >>> run = GaussianRun(torch.zeros(1, 1, 1, 2), torch.ones(1, 1, 1, 2))
        >>> truth = torch.tensor([[[[1.0, -1.0]]]])
        >>> row = score(run, truth, network="n", method="m", seconds=0.0)
        >>> row.rmse, row.spread_skill, row.coverage90
        (1.0, 1.0, 1.0)
    """
    return Row(
        network=network,
        method=method,
        members=analyses.members,
        rmse=rmse(analyses.mean, truth).item(),
        crps=analyses.crps(truth).mean().item(),
        spread_skill=analyses.spread_skill(truth).item(),
        coverage90=analyses.coverage(truth).item(),
        seconds=seconds,
    )


COLUMNS = tuple(field.name for field in fields(Row))
"""The columns of the table."""


def cells(row: Row) -> tuple[str, ...]:
    """Return the numbers of a row as text: what the table shows and the file holds.

    Examples:
        >>> cells(Row(network="n", method="m", members=0, rmse=1.23456, crps=0.5,
        ...           spread_skill=1.0, coverage90=0.9, seconds=3.21))
        ('n', 'm', '0', '1.2346', '0.5000', '1.0000', '0.9000', '3.2')
    """
    values = asdict(row).items()
    places = {"seconds": 1}
    return tuple(
        f"{value:.{places.get(name, 4)}f}" if isinstance(value, float) else str(value)
        for name, value in values
    )


def format_table(rows: Iterable[Row]) -> str:
    """Return the table as lines of text, names to the left and numbers to the right.

    Examples:
        >>> print(format_table([Row(network="dense", method="oi", members=0, rmse=1.0, crps=0.5,
        ...                         spread_skill=1.0, coverage90=0.9, seconds=3.0)]))
        network  method  members    rmse    crps  spread_skill  coverage90  seconds
        dense    oi            0  1.0000  0.5000        1.0000      0.9000      3.0
    """
    lines = [COLUMNS, *map(cells, rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "\n".join("  ".join(_aligned(line, widths)).rstrip() for line in lines)


def write_scores(path: Path, rows: Iterable[Row]) -> None:
    """Write the table as comma-separated values."""
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([COLUMNS, *map(cells, rows)])


def read_scores(path: Path) -> list[Row]:
    """Read what `write_scores` wrote.

    Raises:
        ValueError: Where the columns are others.
    """
    with path.open(newline="") as file:
        header, *lines = csv.reader(file)
    if tuple(header) != COLUMNS:
        raise ValueError(f"{path}: expected columns {list(COLUMNS)}, got {header}")
    return [_parse(line) for line in lines]


def _parse(line: Sequence[str]) -> Row:
    network, method, members, *numbers = line
    measured = dict(zip(COLUMNS[3:], map(float, numbers), strict=True))
    return Row(network=network, method=method, members=int(members), **measured)


def _aligned(line: Sequence[str], widths: Sequence[int]) -> list[str]:
    names = [text.ljust(width) for text, width in zip(line[:2], widths[:2], strict=True)]
    return names + [text.rjust(width) for text, width in zip(line[2:], widths[2:], strict=True)]
