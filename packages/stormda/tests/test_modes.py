"""Laws of the modes: EOFs, what an analysis leaves of them, and the exact Gaussian denoiser."""

import pytest
import torch
from torch import Tensor

from stormda.grid import PlaneGrid
from stormda.storm.config import StormConfig
from stormda.storm.filtering import FilterSettings, expected_error
from stormda.storm.modes import ModeCovariance, Modes, fit_modes, resampled
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.prior import Storm

SHAPE = (2, 3, 4)


def orthonormal(count: int, shape: tuple[int, ...], seed: int = 0) -> Tensor:
    size = shape[0] * shape[1] * shape[2]
    generator = torch.Generator().manual_seed(seed)
    q, _ = torch.linalg.qr(torch.randn(size, count, generator=generator, dtype=torch.float64))
    return q.mT.reshape(count, *shape)


def some_modes(count: int = 5, shape: tuple[int, ...] = SHAPE) -> Modes:
    climate = torch.linspace(9, 1, count + 1, dtype=torch.float64)
    own = torch.linspace(3, 0.5, count + 1, dtype=torch.float64)
    scale = torch.tensor([0.5, 0.2], dtype=torch.float64)[: shape[0], None, None]
    return Modes(climate=climate, own=own, scale=scale, basis=orthonormal(count, shape))


def covariance(modes: Modes) -> ModeCovariance:
    made = ModeCovariance(len(modes.basis), tuple(modes.basis.shape[1:])).to(modes.basis.dtype)
    made.set(modes)
    return made


def dense(modes: Modes, variance: Tensor) -> Tensor:
    """Return the covariance with some variances along the modes, as a matrix."""
    u = modes.basis.flatten(1)
    beside = torch.eye(u.shape[1], dtype=u.dtype) - u.mT @ u
    return u.mT @ torch.diag(variance[:-1]) @ u + variance[-1] * beside


def test_denoising_is_the_wiener_filter_of_the_dense_covariance() -> None:
    modes = some_modes()
    made = covariance(modes)
    sigma = torch.tensor([0.4, 2.0], dtype=torch.float64)
    d = torch.randn(2, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    rho = made.known(torch.tensor([[0.0, 0.0], [0.3, 0.1]], dtype=torch.float64))
    variance = made.variance(made.unknown(rho))
    estimate = made.denoise(d, sigma, variance)
    for b in range(2):
        c = dense(modes, variance[b, 0])
        total = c + sigma[b] ** 2 * torch.eye(24, dtype=torch.float64)
        exact = c @ torch.linalg.solve(total, d[b].flatten())
        torch.testing.assert_close(estimate[b].flatten(), exact)
        mean_square = made.size(variance)[b] ** 2
        torch.testing.assert_close(mean_square, torch.diagonal(c).mean())
        local = made.pointwise(variance)[b]
        torch.testing.assert_close(local.flatten(), torch.diagonal(c))


def test_a_window_is_denoised_frame_by_frame() -> None:
    """The first increment has to mend the past, those that follow are as uncertain as they are."""
    made = covariance(some_modes())
    sigma = torch.tensor([0.4, 2.0], dtype=torch.float64)
    rho = made.known(torch.tensor([[0.3, 0.2], [0.3, 0.1]], dtype=torch.float64))
    several = made.variance(made.unknown(rho), frames=3)
    exact, own = made.variance(made.unknown(rho)), made.variance(torch.zeros_like(rho))
    torch.testing.assert_close(several, torch.cat([exact, own, own], 1))
    d = torch.randn(2, 3, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    estimate = made.denoise(d.flatten(1, 2), sigma, several)
    for i, variance in enumerate((exact, own, own)):
        one = estimate.unflatten(1, (3, -1))[:, i]
        torch.testing.assert_close(one, made.denoise(d[:, i], sigma, variance))
    mean = torch.stack([made.size(v) ** 2 for v in (exact, own, own)]).mean(0)
    torch.testing.assert_close(made.size(several) ** 2, mean)


def test_the_level_of_an_analysis_is_the_error_of_the_kalman_update() -> None:
    """Observe every direction with error variance r: what is left is C - C (C + r)^-1 C."""
    modes = some_modes()
    r = torch.tensor([0.7], dtype=torch.float64)
    c = dense(modes, modes.climate)
    left = c - c @ torch.linalg.solve(c + r * torch.eye(24, dtype=torch.float64), c)
    by_variable = torch.diagonal(left).reshape(2, 12).mean(1).sqrt() * modes.scale[:, 0, 0]
    torch.testing.assert_close(modes.level(r)[0], by_variable)


def test_the_noise_of_a_level_is_the_inverse() -> None:
    modes = some_modes()
    r = torch.tensor([0.0, 1e-3, 0.5, 20.0], dtype=torch.float64)
    torch.testing.assert_close(modes.noise(modes.level(r)), r)


def test_resampled_frames_look_like_weather_and_are_as_wrong_as_told() -> None:
    """Variance c in every mode; error against the truth 2 P = 2 c r / (c + r)."""
    modes = some_modes()
    generator = torch.Generator().manual_seed(3)

    def normal(*size: int) -> Tensor:
        return torch.randn(*size, generator=generator, dtype=torch.float64)

    amplitude = modes.climate.sqrt().expand(20_000, -1)
    truth = modes.scale * modes.weigh(normal(20_000, *SHAPE), amplitude)
    r = torch.full((20_000,), 2.0, dtype=torch.float64)
    analysis = resampled(truth[:, None], modes, r, normal(20_000, 1, *SHAPE))[:, 0]
    along = (analysis / modes.scale).flatten(1) @ modes.basis.flatten(1).mT
    torch.testing.assert_close(along.square().mean(0), modes.climate[:-1], rtol=0.05, atol=0)
    error = ((analysis - truth) / modes.scale).flatten(1) @ modes.basis.flatten(1).mT
    left = 2 * 2.0 * modes.climate / (modes.climate + 2.0)
    torch.testing.assert_close(error.square().mean(0), left[:-1], rtol=0.05, atol=0)
    total = (analysis - truth).square().mean(dim=(0, 2, 3))
    torch.testing.assert_close(total, 2 * modes.level(r)[0].square(), rtol=0.05, atol=0)


def test_without_noise_a_history_stays_as_it_is() -> None:
    modes = some_modes()
    truth = torch.randn(3, 2, *SHAPE, dtype=torch.float64)
    same = resampled(truth, modes, torch.zeros(3, dtype=torch.float64), torch.randn_like(truth))
    torch.testing.assert_close(same, truth)


def test_modes_are_eofs_and_account_for_the_variance() -> None:
    generator = torch.Generator().manual_seed(2)
    truth = orthonormal(3, (1, 4, 5), seed=3)
    size = torch.tensor([5.0, 3.0, 2.0], dtype=torch.float64)
    amplitudes = size * torch.randn(400, 3, generator=generator, dtype=torch.float64)
    z = torch.einsum("sm,mvyx->svyx", amplitudes, truth)
    modes = fit_modes(z, 0.5 * z, torch.full((1, 1, 1), 0.5), count=3)
    overlap = (modes.basis.flatten(1).double() @ truth.flatten(1).mT).abs()
    torch.testing.assert_close(overlap.max(1).values, torch.ones(3).double(), atol=0.05, rtol=0)
    gram = modes.basis.flatten(1) @ modes.basis.flatten(1).mT
    torch.testing.assert_close(gram, torch.eye(3), atol=1e-5, rtol=0)
    total = (z / 0.5).square().sum((1, 2, 3)).mean()
    torch.testing.assert_close(modes.climate[:3].sum().double(), total, rtol=1e-4, atol=0)
    torch.testing.assert_close(modes.own, modes.climate / 16, rtol=1e-3, atol=1e-6)


def test_a_place_without_fields_is_in_no_mode_and_counts_for_nothing() -> None:
    z = torch.randn(40, 1, 4, 4, generator=torch.Generator().manual_seed(0))
    z[..., 1, 2] = 0.0
    modes = fit_modes(z, z, torch.ones(1, 1, 1), count=4)
    assert not modes.basis[..., 1, 2].any()
    assert not modes.exists[..., 1, 2].any()
    total = modes.climate[:4].sum() + (15 - 4) * modes.climate[4]
    torch.testing.assert_close(total, z.square().sum((1, 2, 3)).mean())
    torch.testing.assert_close(modes.share.sum(0) * 15, torch.tensor([15.0]))


@pytest.mark.parametrize("samples", [4, 40])
def test_as_many_modes_as_samples_or_cells_are_refused(samples: int) -> None:
    z = torch.randn(samples, 1, 2, 2)
    message = f"modes: expected fewer than the {samples} samples and the 4 cells, got 4"
    with pytest.raises(ValueError, match=f"^{message}$"):
        fit_modes(z, z, torch.ones(1, 1, 1), count=4)


def test_a_new_network_with_modes_is_the_best_gaussian_forecast_and_denoiser() -> None:
    config = StormConfig(variables=("a",), width=16, heads=2, encoder_depth=1, depth=1, modes=3)
    network = StormNetwork(config, PlaneGrid((8, 8), spacing_m=(1e5, 1e5))).double()
    assert network.modes is not None
    modes = some_modes(3, (1, 8, 8))
    network.modes.set(modes)
    generator = torch.Generator().manual_seed(4)
    history = torch.randn(2, 2, 1, 8, 8, generator=generator, dtype=torch.float64)
    level = torch.tensor([[0.0], [0.5]], dtype=torch.float64)
    past = network.encode(history, level)
    rho = modes.correlation(modes.noise(level))
    present = history[:, -1] + modes.scale * past.forecast
    torch.testing.assert_close(present, modes.weigh(history[:, -1], rho))
    torch.testing.assert_close(past.forecast[0], torch.zeros(1, 8, 8).double())
    variance = modes.own + modes.climate * (1 - rho.square())
    d = torch.randn(2, 1, 8, 8, generator=generator, dtype=torch.float64)
    sigma = torch.tensor([0.5, 1.5], dtype=torch.float64)
    exact = modes.weigh(d, variance / (variance + sigma[:, None].square()))
    torch.testing.assert_close(network(d, sigma, past), exact)


def test_the_uncertainty_of_a_prior_is_the_spread_of_its_departures_in_physical_units() -> None:
    config = StormConfig(variables=("a",), width=16, heads=2, encoder_depth=1, depth=1, modes=3)
    network = StormNetwork(config, PlaneGrid((8, 8), spacing_m=(1e5, 1e5)))
    assert network.modes is not None
    modes = some_modes(3, (1, 8, 8))
    network.modes.set(modes)
    one = torch.ones(1, 1, 1)
    prior = Storm(network.eval(), Normalization(0 * one, 3 * one, 0.5 * one), step_hours=1.0)
    now = prior.given(torch.zeros(2, 2, 1, 8, 8), error=torch.zeros(1))
    covariance_of_departures = dense(modes, modes.own)  # an exact history: only their own variance
    expected = 3 * 0.5 * torch.diagonal(covariance_of_departures).sqrt().reshape(1, 8, 8)
    torch.testing.assert_close(now.uncertainty().double(), expected, rtol=1e-4, atol=1e-4)
    # float32 network


def test_land_does_not_dilute_the_expected_error() -> None:
    """Members agree on land, where there is nothing: the spread is that over the sea."""
    valid = torch.zeros(1, 4, 4, dtype=torch.bool)
    valid[:, :, :1] = True  # a quarter
    past = torch.zeros(6, 2, 1, 4, 4)
    past += torch.randn(6, 1, 1, 4, 4, generator=torch.Generator().manual_seed(0)) * valid
    one = torch.ones(1, 1, 1)
    statistics = Normalization(0 * one, one, one)
    settings = FilterSettings(error_factor=1.0)
    spread = past[:, -1, :, :, 0].var(0).mean().sqrt()
    seen = expected_error(past, statistics, settings, valid)
    torch.testing.assert_close(seen[0], spread)
    everywhere = expected_error(past, statistics, settings)
    torch.testing.assert_close(everywhere[0], spread / 2)
