"""Inflation widens the prior about its forecast, and moves nothing else."""

import pytest
import torch

from stormda.storm.present import Present
from stormda.storm.prior import Storm


def conditioned(prior: Storm):
    past = 280 + torch.randn(2, 2, 1, 7, 9, generator=torch.Generator().manual_seed(0))
    return prior.given(past, error=torch.tensor([0.1]), clock=torch.zeros(6))


def test_inflation_scales_departures_from_the_forecast(prior: Storm) -> None:
    given = conditioned(prior)
    d = torch.randn(2, 1, 7, 9, generator=torch.Generator().manual_seed(1))
    plain, wide = Present(given), Present(given, 2.0)
    torch.testing.assert_close(plain.to_physical(d), given.to_physical(d))
    torch.testing.assert_close(wide.forecast(), plain.forecast())
    departure = plain.to_physical(d) - plain.forecast()
    # differences of numbers near 280 in float32
    torch.testing.assert_close(
        wide.to_physical(d) - wide.forecast(), 2 * departure, rtol=0, atol=2e-4
    )


def test_inflation_must_be_positive(prior: Storm) -> None:
    with pytest.raises(ValueError, match=r"^inflation: expected a positive number, got 0.0$"):
        Present(conditioned(prior), 0.0)
