"""Laws of plane waves: a covariance that is a convolution, its fit, and the network upon it."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stormda.grid import PlaneGrid
from stormda.grid import grid as named
from stormda.storm.config import StormConfig
from stormda.storm.network import StormNetwork
from stormda.storm.plane_waves import (
    PlaneWaves,
    WaveCovariance,
    fit_plane_waves,
    shell_sizes,
    shells,
)

PLANE = PlaneGrid((8, 12), spacing_m=(1e5, 1e5), periodic=(True, True))
CONFIG = StormConfig(
    variables=("lower", "upper"), width=16, heads=2, encoder_depth=1, depth=1, waves=True
)


def some_waves(rows: int = 8, cols: int = 12) -> PlaneWaves:
    """Return waves of two variables whose eigenvectors turn from shell to shell."""
    number = len(shell_sizes(rows, cols))
    angle = torch.linspace(0, 1.2, number, dtype=torch.float64)
    rotation = torch.stack([angle.cos(), -angle.sin(), angle.sin(), angle.cos()], 1)
    climate = torch.linspace(9, 0.5, 2 * number, dtype=torch.float64)
    return PlaneWaves(
        climate=climate,
        own=0.3 * climate.flip(0),
        scale=torch.tensor([0.5, 0.2], dtype=torch.float64)[:, None, None],
        rotation=rotation.reshape(number, 2, 2),
        rows=rows,
        cols=cols,
    )


def matrix(waves: PlaneWaves, weights: Tensor) -> Tensor:
    """Return what weighing does, as a matrix, from sums over all waves one by one."""
    rows, cols, variables = waves.rows, waves.cols, len(waves.scale)
    y = torch.arange(rows, dtype=torch.float64)[:, None].expand(rows, cols).flatten()
    x = torch.arange(cols, dtype=torch.float64).expand(rows, cols).flatten()
    total = torch.zeros(variables, rows * cols, variables, rows * cols, dtype=torch.complex128)
    each = weights.reshape(-1, variables)
    most = max(rows, cols)
    for m in range(rows):
        for n in range(cols):
            p, q = m - rows * (m > rows // 2), n - cols * (n > cols // 2)
            k = round(math.hypot(most * p / rows, most * q / cols))
            phase = 2 * math.pi * (p * y / rows + q * x / cols)
            wave = torch.polar(torch.ones_like(phase), phase) / math.sqrt(rows * cols)
            inner = waves.rotation[k] @ torch.diag(each[k]) @ waves.rotation[k].mT
            total += torch.einsum("vw,i,j->viwj", inner + 0j, wave, wave.conj())
    return total.real.reshape(variables * rows * cols, -1)


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_weighing_is_a_sum_over_waves() -> None:
    waves = some_waves()
    weights = normal(3, len(waves.climate))
    x = normal(3, 2, 8, 12, seed=2)
    weighed = waves.weigh(x, weights)
    for b in range(3):
        expected = matrix(waves, weights[b]) @ x[b].flatten()
        torch.testing.assert_close(weighed[b].flatten(), expected, rtol=0, atol=1e-12)


def test_variances_at_a_point_are_the_diagonal() -> None:
    waves = some_waves()
    diagonal = torch.diagonal(matrix(waves, waves.climate)).reshape(1, 2, 8, 12)
    found = waves.pointwise(waves.climate[None, None])
    torch.testing.assert_close(found, diagonal)
    torch.testing.assert_close(waves.climate @ waves.share, diagonal[0, :, 0, 0])


def test_every_wave_is_in_one_shell() -> None:
    for rows, cols in ((8, 12), (12, 8), (7, 9), (64, 64)):
        assert int(shell_sizes(rows, cols).sum()) == rows * cols
        assert shells(rows, cols).shape == (rows, cols // 2 + 1)


def test_the_fit_finds_the_spectra_of_samples() -> None:
    """Fields made with a covariance have it again, wave by wave, and their increments theirs."""
    waves = some_waves(16, 16)
    n = 4000
    white = normal(2 * n, 2, 16, 16).chunk(2)
    z = waves.scale * waves.weigh(white[0], waves.climate.sqrt().expand(n, -1))
    increments = waves.weigh(white[1], waves.own.sqrt().expand(n, -1))
    found = fit_plane_waves(z, increments, waves.scale)
    probe = waves.weigh(normal(2, 2, 16, 16, seed=5), torch.ones(2, len(waves.climate)).double())
    for name in ("climate", "own"):
        expected = waves.weigh(probe, getattr(waves, name).expand(2, -1))
        double = replace(found, rotation=found.rotation.double())
        got = double.weigh(probe, getattr(found, name).double().expand(2, -1))
        assert (got - expected).square().mean() < 2e-3 * expected.square().mean(), name


def test_denoising_is_the_wiener_filter_of_the_dense_covariance() -> None:
    waves = some_waves()
    made = WaveCovariance((2, 8, 12)).double()
    made.set(waves)
    sigma = torch.tensor([0.4, 2.0], dtype=torch.float64)
    d = normal(2, 2, 8, 12)
    rho = made.known(torch.tensor([[0.0, 0.0], [0.3, 0.1]]).double())
    variance = made.variance(made.unknown(rho))
    estimate = made.denoise(d, sigma, variance)
    for b in range(2):
        c = matrix(waves, variance[b, 0].detach())
        exact = c @ torch.linalg.solve(c + sigma[b] ** 2 * torch.eye(192).double(), d[b].flatten())
        torch.testing.assert_close(estimate[b].flatten(), exact)


def test_a_new_network_with_waves_is_the_best_gaussian_forecast_and_denoiser() -> None:
    torch.manual_seed(0)
    network = StormNetwork(CONFIG, PLANE).double()
    assert network.modes is not None
    network.modes.set(some_waves())
    for head in (network.forecast, network.fields):
        torch.nn.init.zeros_(head.weight)
        torch.nn.init.zeros_(head.bias)
    history, level = normal(2, 2, 2, 8, 12), torch.full((2, 2), 0.2, dtype=torch.float64)
    past = network.encode(history, level)
    rho = network.modes.known(level)
    torch.testing.assert_close(past.forecast, network.modes.reversion(history[:, -1], rho))
    d, sigma = normal(2, 2, 8, 12, seed=3), torch.tensor([0.1, 3.0], dtype=torch.float64)
    assert past.variance is not None
    expected = network.modes.denoise(d, sigma, past.variance)
    torch.testing.assert_close(network(d, sigma, past), expected)


def test_the_trunk_sees_and_makes_fields_of_unit_size_in_every_wave() -> None:
    """White noise of a departure's own spectrum enters white, and what leaves has it again."""
    network = StormNetwork(CONFIG, PLANE).double()
    assert network.modes is not None
    network.modes.set(some_waves())
    past = network.encode(normal(400, 2, 2, 8, 12), torch.full((400, 2), 0.2).double())
    assert past.variance is not None
    own, sigma = past.variance.detach(), torch.full((400,), 0.7, dtype=torch.float64)
    d = network.modes.weigh(normal(400, 2, 8, 12, seed=7), (own + 0.49).sqrt())
    seen: list[Tensor] = []

    def trunk(x: Tensor, log_sigma: Tensor, encoded: object) -> Tensor:
        seen.append(x)
        return x

    network.residual = trunk  # type: ignore[method-assign, assignment]
    made = network(d, sigma, past) - network.modes.denoise(d, sigma, past.variance)
    torch.testing.assert_close(seen[0], normal(400, 2, 8, 12, seed=7))
    gain = (own * 0.49 / (own + 0.49)).sqrt()
    torch.testing.assert_close(made, network.modes.weigh(seen[0], gain))


def test_a_mean_that_the_flow_keeps_is_kept() -> None:
    """Where increments have no mean, neither forecasts nor departures have, whatever is learnt."""
    torch.manual_seed(0)
    network = StormNetwork(CONFIG, PLANE).double()
    waves = some_waves()
    own = waves.own.clone()
    own[:2] = 1e-12
    assert network.modes is not None
    network.modes.set(replace(waves, own=own))
    for head in (network.forecast, network.fields):
        torch.nn.init.normal_(head.weight)
    past = network.encode(normal(3, 2, 2, 8, 12), torch.zeros(3, 2).double())
    assert past.forecast.std() > 0.1
    assert past.forecast.mean((-2, -1)).abs().max() < 1e-5
    made = network(normal(3, 2, 8, 12), torch.ones(3).double(), past)
    assert made.mean((-2, -1)).abs().max() < 1e-5


@pytest.mark.parametrize(
    "grid",
    [PlaneGrid((8, 8), spacing_m=(1e5, 1e5), periodic=(True, False)), named("30deg")],
    ids=["open", "globe"],
)
def test_waves_need_a_doubly_periodic_plane(grid: PlaneGrid) -> None:
    config = replace(CONFIG, patch=(2, 2))
    with pytest.raises(ValueError, match=r"^waves: expected a doubly periodic plane, got "):
        StormNetwork(config, grid)


def test_waves_need_fields_everywhere() -> None:
    valid = torch.ones(2, 8, 12, dtype=torch.bool)
    valid[0, 0, 0] = False
    with pytest.raises(ValueError, match=r"^waves: expected fields in every cell, got cells with"):
        StormNetwork(CONFIG, PLANE, valid=valid)


def test_modes_and_waves_exclude_each_other() -> None:
    with pytest.raises(ValueError, match=r"^modes: expected 0 with waves=True, got 5$"):
        replace(CONFIG, modes=5)
