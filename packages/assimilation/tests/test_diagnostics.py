import re

import pytest
import torch

from stormda.assimilation import (
    bias,
    coverage,
    crps_fair,
    crps_gaussian,
    expected_coverage,
    rank_histogram,
    rank_test,
    rmse,
    spread,
    spread_skill,
    weighted_mean,
)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def honest(members: int, cases: int = 20000) -> tuple[torch.Tensor, torch.Tensor]:
    """Members and truth drawn alike, around a centre that differs from case to case."""
    centre = 3 * draw(cases, seed=1)
    return centre + draw(members, cases, seed=2), centre + draw(cases, seed=3)


def test_crps_fair_is_its_double_sum() -> None:
    x, y = draw(7, 4, 3), draw(4, 3, seed=1)
    error = (x - y).abs().mean(0)
    pairs = (x[:, None] - x).abs().sum((0, 1)) / (2 * 7 * 6)
    torch.testing.assert_close(crps_fair(x, y), error - pairs)


def test_crps_fair_does_not_depend_on_the_number_of_members() -> None:
    scores = [crps_fair(*honest(m)).mean() for m in (2, 8, 32)]
    exact = crps_gaussian(*(f(20000).double() for f in (torch.zeros, torch.ones)), draw(20000))
    for score in scores:
        # two standard errors of 20000 cases
        torch.testing.assert_close(score, exact.mean(), rtol=0, atol=0.01)


def test_scores_agree_with_scoringrules() -> None:
    scoringrules = pytest.importorskip("scoringrules")
    x, y = draw(9, 50), draw(50, seed=1)
    fair = scoringrules.crps_ensemble(y.numpy(), x.numpy(), m_axis=0, estimator="fair")
    torch.testing.assert_close(crps_fair(x, y), torch.as_tensor(fair))
    mean, std = x.mean(0), x.std(0)
    normal = scoringrules.crps_normal(y.numpy(), mean.numpy(), std.numpy())
    torch.testing.assert_close(crps_gaussian(mean, std, y), torch.as_tensor(normal))


def test_crps_gaussian_is_the_limit_of_members() -> None:
    x = torch.special.ndtri((torch.arange(4000).double() + 0.5) / 4000)[:, None]
    y = torch.tensor([0.7], dtype=torch.float64)
    exact = crps_gaussian(torch.tensor([1.0]).double(), torch.tensor([2.0]).double(), 1 + 2 * y)
    torch.testing.assert_close(crps_fair(1 + 2 * x, 1 + 2 * y), exact, rtol=2e-3, atol=0)  # 1 / m


def test_weights_count_points_more_than_once() -> None:
    x, y = draw(5, 3), draw(3, seed=1)
    weights, copies = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([0, 1, 1, 2, 2, 2])
    for score in (spread_skill, coverage):
        kwargs = {"weights": weights}
        torch.testing.assert_close(score(x, y, **kwargs), score(x[:, copies], y[copies]))
    torch.testing.assert_close(spread(x, weights), spread(x[:, copies]))
    for score in (rmse, bias):
        torch.testing.assert_close(score(x[0], y, weights), score(x[0, copies], y[copies]))
    torch.testing.assert_close(weighted_mean(y, weights), y[copies].mean())


def test_weights_broadcast_over_time() -> None:
    values, area = draw(4, 3), torch.tensor([1.0, 2.0, 3.0])
    torch.testing.assert_close(weighted_mean(values, area), weighted_mean(values.mean(0), area))


@pytest.mark.parametrize("members", [4, 16, 40])
def test_an_honest_ensemble_is_found_honest(members) -> None:
    x, y = honest(members)
    # a few standard errors of 20000 cases; between 4 members the interpolation adds 0.03
    assert spread_skill(x, y).item() == pytest.approx(1, abs=0.02)
    assert coverage(x, y).item() == pytest.approx(expected_coverage(members), abs=0.01)
    assert coverage(x, y, level=0.5).item() == pytest.approx(
        0.5, abs=0.035 if members == 4 else 0.015
    )
    assert rank_test(rank_histogram(x, y))[1] > 0.01


def test_a_narrow_ensemble_is_found_out() -> None:
    x, y = honest(16)
    narrow = x.mean(0) + 0.5 * (x - x.mean(0))
    assert spread_skill(narrow, y) < 0.6
    assert coverage(narrow, y) < 0.7
    counts = rank_histogram(narrow, y)
    assert counts[0] > 2 * counts[8]
    assert rank_test(counts)[1] < 1e-10


def test_ranks_are_counted() -> None:
    x, y = draw(5, 40), draw(40, seed=1)
    ranks = (x < y).sum(0)
    torch.testing.assert_close(rank_histogram(x, y), ranks.bincount(minlength=6).double())


def test_ties_are_shared() -> None:
    x = torch.tensor([[0.0], [0.0], [1.0]])
    counts = rank_histogram(x, torch.tensor([0.0]))
    torch.testing.assert_close(counts, torch.tensor([1.0, 1.0, 1.0, 0.0]).double() / 3)


def test_the_interval_ends_at_weibull_quantiles() -> None:
    x, y = draw(16, 500), draw(500, seed=1)
    ends = torch.tensor([0.25, 0.75]).double()
    # definition 6 of Hyndman and Fan, from NumPy
    numpy = pytest.importorskip("numpy")
    low, high = numpy.quantile(x.numpy(), ends.numpy(), axis=0, method="weibull")
    inside = (torch.as_tensor(low) <= y) & (y <= torch.as_tensor(high))
    torch.testing.assert_close(coverage(x, y, level=0.5), inside.double().mean())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: rmse(torch.ones(2), torch.ones(3)),
            "truth: expected the shape of estimate (2,), got (3,)",
        ),
        (
            lambda: crps_fair(torch.ones(2, 3), torch.ones(1, 3)),
            "truth: expected the shape of a member (3,), got (1, 3)",
        ),
        (
            lambda: spread(torch.ones(1, 3)),
            "ensemble: expected at least 2 members first, got shape (1, 3)",
        ),
        (
            lambda: coverage(torch.ones(2, 3), torch.ones(3), level=1.0),
            "level: expected a number in (0, 1), got 1.0",
        ),
        (
            lambda: crps_gaussian(torch.ones(1), torch.ones(1), torch.ones(2)),
            "truth: expected the shape of mean (1,), got (2,)",
        ),
    ],
)
def test_bad_arguments_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
