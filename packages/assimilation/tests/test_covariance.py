"""Structured covariances against their dense twins."""

import pytest
import torch

from stormda.assimilation import LowRank, Spectral, fit_spectral


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


def dense_shrink(c: torch.Tensor, sigma: float, x: torch.Tensor) -> torch.Tensor:
    total = c + sigma**2 * torch.eye(len(c))
    return (sigma**2 * c @ torch.linalg.solve(total, x.flatten(1).mT)).mT.reshape(x.shape)


@pytest.mark.parametrize("sigma", [0.01, 1.0, 80.0])
def test_low_rank_is_shrunk_as_its_matrix_is(sigma) -> None:
    c, x = LowRank(draw(6, 2), draw(6, seed=1).square()), draw(3, 2, 3, seed=2)
    dense = c @ torch.eye(6).double()
    torch.testing.assert_close(c.shrink(x, torch.tensor(sigma)), dense_shrink(dense, sigma, x))


@pytest.mark.parametrize("sigma", [0.01, 1.0, 80.0])
@pytest.mark.parametrize("shape", [(8,), (7,), (2, 6), (4, 5)])
def test_spectral_is_shrunk_as_its_matrix_is(sigma, shape) -> None:
    dims = len(shape)
    waves = torch.fft.rfftn(torch.zeros(shape)).shape
    climate = Spectral(draw(*waves, seed=3).square(), dims)
    x, n = draw(3, *shape), int(torch.tensor(shape).prod())
    eye = torch.eye(n).double().reshape(n, *shape)
    spectrum = climate.power * torch.fft.rfftn(eye, dim=tuple(range(-dims, 0)))
    dense = torch.fft.irfftn(spectrum, s=shape, dim=tuple(range(-dims, 0))).reshape(n, n)
    if dims == 2:  # rfftn keeps half of the plane: a power that is not even in it is no covariance
        climate = Spectral(even(climate.power), 2)
        spectrum = climate.power * torch.fft.rfftn(eye, dim=(-2, -1))
        dense = torch.fft.irfftn(spectrum, s=shape, dim=(-2, -1)).reshape(n, n)
    torch.testing.assert_close(dense, dense.mT)
    torch.testing.assert_close(
        climate.shrink(x, torch.tensor(sigma)), dense_shrink(dense, sigma, x)
    )


def even(power: torch.Tensor) -> torch.Tensor:
    flipped = torch.cat([power[:1], power[1:].flip(0)])
    return (power + flipped) / 2


def test_each_variable_has_a_power_of_its_own() -> None:
    samples = torch.tensor([[1.0], [5.0]]).double() * draw(4000, 2, 16)
    climate = fit_spectral(samples)
    torch.testing.assert_close(
        climate.power.mean(-1), torch.tensor([1.0, 25.0]).double(), rtol=0.05, atol=0
    )
    x = climate.shrink(draw(3, 2, 16), torch.tensor(1.0))
    assert x.shape == (3, 2, 16)
