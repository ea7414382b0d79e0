"""Scores of ensembles and Gaussians, and the table as text and file."""

from dataclasses import replace
from math import erf, exp, pi, sqrt
from pathlib import Path

import pytest
import torch

from stormda.assimilation import GaussianAnalysis
from stormda.storm.scores import (
    COLUMNS,
    EnsembleRun,
    GaussianRun,
    Row,
    cells,
    collect,
    format_table,
    read_scores,
    score,
    write_scores,
)

ROW = Row(
    network="n",
    method="m",
    members=3,
    rmse=1.25,
    crps=0.5,
    spread_skill=0.75,
    coverage90=0.875,
    seconds=2.5,
)


def normal(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_the_columns_are_those_that_other_programs_rely_on() -> None:
    text = "network, method, members, rmse, crps, spread_skill, coverage90, seconds"
    assert ", ".join(COLUMNS) == text


def test_an_ensemble_is_scored_as_one_sample_of_all_cycles_and_points() -> None:
    ensemble, truth = normal(5, 3, 2, 4, 4), normal(3, 2, 4, 4)
    row = score(EnsembleRun(ensemble), truth, network="n", method="m", seconds=1.0)
    squares = [(ensemble[:, k].mean(0) - truth[k]).square().mean() for k in range(3)]
    error = sqrt(sum(squares) / 3)
    spread = ensemble.var(0).mean().sqrt().item()
    pairs = (ensemble[:, None] - ensemble).abs().sum((0, 1)) / (2 * 5 * 4)
    crps = ((ensemble - truth).abs().mean(0) - pairs).mean().item()
    assert row.members == 5
    assert row.rmse == pytest.approx(error, rel=1e-12)
    assert row.crps == pytest.approx(crps, rel=1e-12)
    assert row.spread_skill == pytest.approx(sqrt(6 / 5) * spread / error, rel=1e-12)


def test_a_gaussian_is_scored_in_closed_form() -> None:
    mean, truth = torch.zeros(1, 1, 1, 2), torch.tensor([[[[0.5, -3.0]]]])
    row = score(GaussianRun(mean, mean + 4.0), truth, network="n", method="m", seconds=1.0)
    crps = [
        2 * (z * erf(z / sqrt(2)) + 2 * exp(-z * z / 2) / sqrt(2 * pi) - 1 / sqrt(pi))
        for z in (0.25, 1.5)
    ]
    assert row.members == 0
    assert row.rmse == pytest.approx(sqrt((0.25 + 9) / 2))
    assert row.crps == pytest.approx(sum(crps) / 2, rel=1e-6)
    assert row.spread_skill == pytest.approx(2 / sqrt((0.25 + 9) / 2))
    assert row.coverage90 == 1.0


def test_a_gaussian_and_a_large_sample_of_it_agree() -> None:
    std = 0.5 + normal(1, 1, 4, 4).square()
    mean, truth = normal(1, 1, 4, 4) + 1, normal(1, 1, 4, 4)
    gaussian = score(GaussianRun(mean, std**2), truth, network="n", method="m", seconds=0.0)
    sample = EnsembleRun(mean + std * normal(4000, 1, 1, 4, 4))
    drawn = score(sample, truth, network="n", method="m", seconds=0.0)
    for name in ("rmse", "crps", "spread_skill"):
        # 4000 members leave a sampling error of about 1 / sqrt(4000)
        assert getattr(drawn, name) == pytest.approx(getattr(gaussian, name), rel=0.03)
    assert drawn.coverage90 == gaussian.coverage90


def test_an_honest_gaussian_covers_nine_in_ten() -> None:
    zero = torch.zeros(1, 1, 100, 100, dtype=torch.float64)
    covered = GaussianRun(zero, zero + 1).coverage(normal(1, 1, 100, 100))
    assert covered.item() == pytest.approx(0.9, abs=0.01)  # 3 standard errors of 10,000 points


@pytest.mark.parametrize(
    "run",
    [EnsembleRun(normal(4, 5, 1, 2, 2)), GaussianRun(normal(5, 1, 2, 2), normal(5, 1, 2, 2) ** 2)],
)
def test_the_first_cycles_can_be_left_out(run: EnsembleRun | GaussianRun) -> None:
    later = run.after(2)
    torch.testing.assert_close(later.mean, run.mean[2:])
    torch.testing.assert_close(later.variance, run.variance[2:])
    assert later.members == run.members


def test_cycles_are_put_together_in_order() -> None:
    ensembles = [normal(4, 1, 2, 2) + k for k in range(3)]
    run = collect(ensembles)
    for k in range(3):
        torch.testing.assert_close(run.mean[k], ensembles[k].mean(0))
    gaussians = [GaussianAnalysis(normal(1, 2, 2) + k, normal(1, 2, 2) ** 2) for k in range(3)]
    run = collect(gaussians)
    assert run.members == 0
    torch.testing.assert_close(run.mean[2], gaussians[2].mean)


def test_the_file_holds_what_the_table_shows(tmp_path: Path) -> None:
    rows = [ROW, replace(ROW, method="other", members=0, rmse=float("nan"))]
    write_scores(tmp_path / "scores.csv", rows)
    lines = (tmp_path / "scores.csv").read_text().splitlines()
    assert lines == [",".join(COLUMNS), *(",".join(cells(row)) for row in rows)]
    first, second = read_scores(tmp_path / "scores.csv")
    assert first == ROW
    assert second.rmse != second.rmse  # a method that broke down stays visible as nan


def test_a_file_of_other_columns_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(ValueError, match=r"other\.csv: expected columns \[.*\], got \['a', 'b'\]"):
        read_scores(path)


def test_the_table_is_aligned() -> None:
    lines = format_table([ROW, replace(ROW, method="longer", seconds=100.0)]).splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == list(COLUMNS)
