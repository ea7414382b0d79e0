"""Laws of the error of observation: densities, products, slopes, draws."""

import math
import re

import pytest
import torch

from stormda.assimilation import (
    CorrelatedError,
    DiagonalError,
    HuberError,
    JoinedError,
    StudentError,
    VariableError,
)

STD = torch.tensor([0.3, 2.0, 0.7, 1.0, 1.0, 0.5], dtype=torch.float64)


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def covariance(n: int, seed: int) -> torch.Tensor:
    root = draw(n, n, seed=seed)
    return root @ root.mT + torch.eye(n)


LAWS = [
    DiagonalError(STD),
    CorrelatedError([covariance(6, 1)]),
    CorrelatedError([covariance(2, 1), covariance(3, 2)]),
    CorrelatedError([covariance(3, 1), torch.eye(1).double(), covariance(2, 2)]),
    StudentError(STD, 5.0),
    HuberError(STD, 1.2),
    VariableError(STD.square().expand(4, 6)),
    JoinedError(
        [DiagonalError(0.7), CorrelatedError([covariance(2, 3)]), StudentError(0.4, 5.0)],
        [3, 2, 1],
    ),
]
NAMES = [
    "diagonal",
    "dense",
    "two factors",
    "three factors",
    "student",
    "huber",
    "variable",
    "joined",
]
laws = pytest.mark.parametrize("law", LAWS, ids=NAMES)


@laws
def test_products_belong_to_one_matrix(law) -> None:
    v = draw(4, 6, seed=3)
    matrix = law.apply(torch.eye(6).double()[:, None].expand(6, 4, 6))[:, 0]
    torch.testing.assert_close(law.apply(v), v @ matrix)
    torch.testing.assert_close(law.solve(v), torch.linalg.solve(matrix, v.mT).mT)
    squares = (v * law.solve(v)).sum(-1)
    torch.testing.assert_close(law.whiten(v).square().sum(-1), squares)
    torch.testing.assert_close(law.variance.expand(4, 6)[0], matrix.diagonal())


@laws
def test_the_slope_is_that_of_the_gaussian_near_it(law) -> None:
    residual = (3 * draw(4, 6, seed=4)).requires_grad_()
    slope = torch.autograd.grad(law.log_prob(residual).sum(), residual)[0]
    residual = residual.detach()
    torch.testing.assert_close(slope, -law.near(residual).solve(residual))


@laws
def test_draws_have_the_variance(law) -> None:
    like = torch.zeros(50_000, 4, 6, dtype=torch.float64)
    x = law.sample(like, torch.Generator().manual_seed(0))
    sample = x[:, 0].mT.cov().diagonal() if x.ndim == 3 else x.mT.cov().diagonal()
    # Student's fourth moment is 9 times the squared variance at 5 degrees of freedom
    torch.testing.assert_close(sample, law.variance.expand(4, 6)[0], rtol=0.06, atol=0)


@pytest.mark.parametrize("law", LAWS[1:4], ids=NAMES[1:4])
def test_correlated_draws_have_the_covariance(law) -> None:
    x = law.sample(torch.zeros(100_000, 6).double(), torch.Generator().manual_seed(0))
    matrix = law.apply(torch.eye(6).double())
    scale = matrix.diagonal().sqrt()
    torch.testing.assert_close(
        x.mT.cov() / scale / scale[:, None], matrix / scale / scale[:, None], rtol=0, atol=0.015
    )
    exact = torch.distributions.MultivariateNormal(torch.zeros(6).double(), matrix)
    torch.testing.assert_close(law.log_prob(x[:5]), exact.log_prob(x[:5]))


def test_student_is_students() -> None:
    exact = torch.distributions.StudentT(5.0, torch.zeros(6).double(), STD)
    x = draw(4, 6)
    torch.testing.assert_close(LAWS[4].log_prob(x), exact.log_prob(x).sum(-1))


def test_huber_integrates_to_one() -> None:
    x = torch.linspace(-40, 40, 400_001, dtype=torch.float64)[:, None]
    law = HuberError(0.8, 1.2)
    density = law.log_prob(x).exp()
    assert torch.trapezoid(density, x[:, 0]).item() == pytest.approx(1, abs=1e-6)
    second = torch.trapezoid(density * x[:, 0] ** 2, x[:, 0]).item()
    assert second == pytest.approx(law.variance.item(), rel=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (
            lambda: StudentError(-1.0),
            "scale: expected positive finite numbers, got -1",
        ),
        (lambda: StudentError(1.0, 2.0), "freedom: expected more than 2, got 2.0"),
        (lambda: HuberError(1.0, 0.0), "threshold: expected a positive number, got 0.0"),
        (lambda: HuberError(math.nan), "std: expected positive finite numbers, got nan"),
        (
            lambda: JoinedError([DiagonalError(1.0)], [1, 2]),
            "parts, sizes: expected one or more laws and as many sizes, got 1 and 2",
        ),
        (lambda: CorrelatedError([]), "factors: expected at least one covariance, got none"),
        (
            lambda: CorrelatedError([torch.ones(2, 3)]),
            "factors: expected square matrices, got shape (2, 3)",
        ),
        (
            lambda: CorrelatedError([torch.eye(2), -torch.eye(3)]),
            "factors: expected positive definite ones, got others at [1]",
        ),
    ],
)
def test_bad_laws_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
