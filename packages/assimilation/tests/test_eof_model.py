from itertools import pairwise

import pytest
import torch

from stormda.assimilation import (
    DiagonalError,
    Gaussian,
    Observation,
    compose,
    fit_eof_model,
    kalman_update,
    optimal_interpolation,
    select,
)


def samples(frames: int = 400) -> torch.Tensor:
    """Two travelling waves and noise on a ring of 3 x 4 points, off zero."""
    g = torch.Generator().manual_seed(0)
    t = torch.arange(frames, dtype=torch.float64)[:, None]
    i = torch.arange(12, dtype=torch.float64)
    waves = (0.3 * t - torch.pi * i / 6).sin() + 0.5 * (0.1 * t + torch.pi * i / 3).cos()
    noise = 0.1 * torch.randn(frames, 12, dtype=torch.float64, generator=g)
    return (5 + waves + noise).reshape(frames, 3, 4)


def test_the_climate_is_that_of_the_samples() -> None:
    fields = samples()
    model = fit_eof_model(fields, rank=4)
    flat = fields.flatten(1)
    climate = model.eofs @ model.climate.covariance @ model.eofs.mT
    torch.testing.assert_close(climate, flat.mT.cov(correction=0))
    torch.testing.assert_close(model.field(model.climate).mean, fields.mean(0))
    torch.testing.assert_close(model.field(model.climate).variance, fields.var(0, correction=0))


@pytest.mark.parametrize("rank", [0, 1, 4, 12])
def test_the_model_is_stable_and_keeps_its_climate(rank) -> None:
    model = fit_eof_model(samples(), rank)
    assert torch.linalg.eigvals(model.transition).abs().max() < 1
    assert torch.linalg.eigvalsh(model.noise).min() > -1e-12
    later = model.forecast(model.climate)
    torch.testing.assert_close(later.covariance, model.climate.covariance)


def test_it_predicts_the_waves() -> None:
    fields = samples()
    model = fit_eof_model(fields[:300], rank=4)
    exactly = torch.zeros_like(model.climate.covariance)
    errors = []
    for now, then in pairwise(fields[300:]):
        known = Gaussian(model.project(now), exactly)
        errors.append(model.field(model.forecast(known)).mean - then)
    error = torch.stack(errors).square().mean().sqrt()
    # the noise of two frames is 0.14; persistence errs by 0.23, climate by 0.8
    assert error < 0.15


def test_without_prediction_it_is_optimal_interpolation() -> None:
    fields = samples()
    model = fit_eof_model(fields, rank=0)
    cells = torch.tensor([0, 5, 7])
    seen = Observation(fields[9].flatten()[cells], select(cells), DiagonalError(0.2))
    filtered = model.field(model.update(model.forecast(model.climate), seen))
    covariance = fields.flatten(1).mT.cov(correction=0)
    exact = optimal_interpolation(fields.mean(0), covariance, seen)
    torch.testing.assert_close(filtered.mean, exact.mean)
    torch.testing.assert_close(filtered.variance, exact.variance)


def test_an_update_linearises_the_operator_at_the_mean() -> None:
    fields = samples()
    model = fit_eof_model(fields, rank=4)
    operator = compose(select(torch.tensor([2, 6])), torch.atan)
    seen = Observation(torch.tensor([1.0, 1.4]).double(), operator, DiagonalError(0.1))
    start = Gaussian(model.project(fields[3]), model.climate.covariance)

    def predict(a):
        return operator((model.mean + (model.eofs @ a).reshape(3, 4))[None])[0]

    jacobian = torch.func.jacrev(predict)(start.mean)
    expected = kalman_update(start, seen.y - predict(start.mean), jacobian, seen.error.variance)
    after = model.update(start, seen)
    torch.testing.assert_close(after.mean, expected.mean)
    torch.testing.assert_close(after.covariance, expected.covariance)


def test_fewer_frames_than_points() -> None:
    model = fit_eof_model(samples(6), rank=3)
    assert model.eofs.shape == (12, 5)


def test_the_rank_is_bounded() -> None:
    message = r"^rank: expected 0 <= rank <= 5, the EOFs of 6 fields of 12 points, got 6$"
    with pytest.raises(ValueError, match=message):
        fit_eof_model(samples(6), rank=6)
