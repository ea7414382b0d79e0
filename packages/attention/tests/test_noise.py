import math

import pytest
import torch

from stormda.attention import NoiseGate, SharedModulation, noise_embedding


def test_features_are_circles_of_the_stated_periods():
    log_sigma = torch.tensor([0.0, 0.5, -1.3], dtype=torch.float64)
    features = noise_embedding(log_sigma, 14)
    cosine, sine = features.chunk(2, -1)
    torch.testing.assert_close(cosine.square() + sine.square(), torch.ones_like(sine))
    for i, period in enumerate([32, 16, 8, 4, 2, 1, 0.5]):
        expected = torch.sin(2 * math.pi * log_sigma / period)
        torch.testing.assert_close(sine[:, i], expected, rtol=1e-12, atol=1e-12)


def test_levels_of_noise_are_told_apart():
    features = noise_embedding(torch.linspace(math.log(0.002), math.log(80), 100), 32)
    distance = torch.cdist(features, features) + 10 * torch.eye(100)
    assert distance.min() > 0.5


def test_embedding_keeps_the_dtype():
    assert noise_embedding(torch.zeros(2, 3, dtype=torch.float64), 8).dtype == torch.float64


@pytest.mark.parametrize("width", [0, 3])
def test_embedding_errors(width):
    with pytest.raises(
        ValueError, match=rf"^width: expected a positive even number, got {width}$"
    ):
        noise_embedding(torch.zeros(1), width)


def test_modulation_starts_at_zero_for_any_noise():
    assert SharedModulation(8)(noise_embedding(torch.linspace(-6, 4, 5), 8)).abs().max() == 0


def test_gates_start_where_told_and_stay_between_zero_and_one():
    condition = noise_embedding(torch.linspace(-6, 4, 5), 8)
    gate = NoiseGate(8, start=0.9)
    torch.testing.assert_close(gate(condition), torch.full((5, 8), 0.9))
    torch.nn.init.normal_(gate.linear.weight, std=1, generator=torch.Generator().manual_seed(0))
    assert 0 < gate(condition).min() < 0.5 < gate(condition).max() < 1


@pytest.mark.parametrize("start", [0, 1])
def test_gate_errors(start):
    with pytest.raises(
        ValueError, match=rf"^start: expected a number between 0 and 1, got {start}$"
    ):
        NoiseGate(8, start=start)
