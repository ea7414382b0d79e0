import pytest
import torch

from stormda.assimilation import DiagonalError, finite_size_inflation

ERROR = DiagonalError(0.5)


def predicted(m: int = 12, p: int = 4) -> torch.Tensor:
    g = torch.Generator().manual_seed(0)
    return torch.randn(m, p, dtype=torch.float64, generator=g)


def test_surprise_inflates() -> None:
    x = predicted()
    factors = [finite_size_inflation(x, x.mean(0) + far, ERROR) for far in (0.0, 1.0, 3.0, 10.0)]
    assert factors == sorted(factors)
    assert 0.9 < factors[0] < 1.1
    assert factors[-1] > 2


def test_certainty_holds_back() -> None:
    x = predicted()
    factors = [
        finite_size_inflation(x, x.mean(0) + 5, ERROR, certainty=c) for c in (0.5, 1.0, 2.0, 50.0)
    ]
    assert factors == sorted(factors, reverse=True)


def test_no_information_no_inflation() -> None:
    vague = DiagonalError(1e6)
    x = predicted()
    assert finite_size_inflation(x, x.mean(0) + 5, vague) == pytest.approx(1.0, abs=1e-3)


def test_a_certainty_is_positive() -> None:
    with pytest.raises(ValueError, match=r"^certainty: expected a positive number, got 0.0$"):
        finite_size_inflation(predicted(), torch.zeros(4), ERROR, certainty=0.0)
