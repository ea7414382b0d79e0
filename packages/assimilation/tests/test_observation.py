import math
import re

import pytest
import torch

from stormda.assimilation import DiagonalError, Observation


def identity(x):
    return x.flatten(1)


@pytest.mark.parametrize("std", [0.3, torch.tensor([0.3, 2.0, 0.7], dtype=torch.float64)])
def test_the_error_is_the_gaussian_of_its_covariance(std) -> None:
    g = torch.Generator().manual_seed(0)
    residual = torch.randn(4, 3, dtype=torch.float64, generator=g)
    error = DiagonalError(std)
    covariance = (torch.as_tensor(std, dtype=torch.float64) ** 2).expand(3).diag()
    law = torch.distributions.MultivariateNormal(torch.zeros(3).double(), covariance)
    torch.testing.assert_close(error.log_prob(residual), law.log_prob(residual))
    torch.testing.assert_close(error.solve(residual), residual @ covariance.inverse())
    torch.testing.assert_close(error.whiten(residual) ** 2, residual * error.solve(residual))
    torch.testing.assert_close(error.variance.expand(3), covariance.diagonal())


def test_results_take_the_data_type_of_the_residual() -> None:
    error = DiagonalError(0.1)
    assert error.solve(torch.ones(1, 2)).dtype is torch.float32
    seen = Observation(torch.ones(2, dtype=torch.float64), identity, error)
    assert seen.innovation(torch.zeros(3, 2)).dtype is torch.float32


@pytest.mark.parametrize(
    ("std", "got"),
    [(-1.0, "-1"), (0.0, "0"), (math.nan, "nan"), (torch.tensor([1.0, -2.0]), "-2")],
)
def test_an_error_must_be_positive(std, got) -> None:
    with pytest.raises(ValueError, match=f"^std: expected positive finite numbers, got {got}$"):
        DiagonalError(std)


def test_an_error_is_a_number_or_a_vector() -> None:
    message = r"^std: expected a number or shape \(p,\), got \(1, 2\)$"
    with pytest.raises(ValueError, match=message):
        DiagonalError(torch.ones(1, 2))


@pytest.mark.parametrize(
    ("y", "std", "message"),
    [
        (torch.zeros(1, 2), 1.0, "y: expected shape (p,), got (1, 2)"),
        (
            torch.tensor([0.0, math.nan, math.inf]),
            1.0,
            "y: expected finite values, got 2 of 3 that are not",
        ),
        (torch.zeros(3), torch.ones(2), "error: expected one standard deviation or 3, got 2"),
    ],
)
def test_bad_observations_are_refused(y, std, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        Observation(y, identity, DiagonalError(std))
