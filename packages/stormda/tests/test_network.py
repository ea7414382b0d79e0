"""Laws of the network: shapes, symmetry, preconditioning, what it may and may not look at."""

import math

import pytest
import torch
from torch import Tensor

from stormda.grid import LatLonGrid, PlaneGrid
from stormda.storm.network import DEPARTURE, StormNetwork, parameter_count
from stormda.storm.recipes import sqg
from stormda.storm.twin.training import sqg_grid

from stormda.storm import StormConfig  # isort: skip

CONFIG = StormConfig(variables=("a", "b"), width=32, heads=2, encoder_depth=2, depth=2)
PLANE = PlaneGrid((16, 16), spacing_m=(1e5, 1e5))


def network(config: StormConfig = CONFIG, grid: object = PLANE, **kwargs: Tensor) -> StormNetwork:
    """Return a network whose zero-initialised layers have been filled: else it is the identity."""
    torch.manual_seed(0)
    made = StormNetwork(config, grid, **kwargs).double()
    with torch.no_grad():
        for parameter in made.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return made


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


def test_members_of_a_batch_do_not_see_each_other() -> None:
    net = network()
    history, level, d = random(3, 2, 2, 16, 16), random(3, 2).abs(), random(3, 2, 16, 16, seed=1)
    sigma = torch.tensor([0.1, 1.0, 3.0], dtype=torch.float64)
    together = net(d, sigma, net.encode(history, level))
    for m in range(3):
        one = slice(m, m + 1)
        alone = net(d[one], sigma[m], net.encode(history[one], level[one]))
        torch.testing.assert_close(together[one], alone)


def test_every_point_of_the_history_reaches_every_point_of_the_present() -> None:
    """Global reach in one pass: that is what linear attention is for."""
    net = network()
    history = random(1, 2, 2, 16, 16).requires_grad_()
    past = net.encode(history, random(1, 2).abs())
    out = net(random(1, 2, 16, 16), torch.tensor(1.0), past)
    (gradient,) = torch.autograd.grad(out[0, 0, 0, 0], history)
    assert (gradient != 0).all()


def test_at_little_noise_the_denoiser_is_the_identity_and_at_much_it_is_bounded() -> None:
    net = network()
    past = net.encode(random(1, 2, 2, 16, 16), random(1, 2).abs())
    d = random(1, 2, 16, 16)
    torch.testing.assert_close(
        net(d, torch.tensor(1e-6), past), d, atol=1e-4, rtol=0
    )  # |D - d| <= sigma |F|
    far = net(1e6 * d, torch.tensor(1e6), past)
    assert far.abs().max() < DEPARTURE * 100


def test_a_new_network_is_the_gaussian_denoiser() -> None:
    """Heads start at zero: D = s^2 / (s^2 + sigma^2) d, exact for a white departure."""
    torch.manual_seed(0)
    net = StormNetwork(CONFIG, PLANE)
    past = net.encode(torch.randn(2, 2, 2, 16, 16), torch.rand(2, 2))
    d, sigma = torch.randn(2, 2, 16, 16), 0.7
    expected = DEPARTURE**2 / (DEPARTURE**2 + sigma**2) * d
    torch.testing.assert_close(net(d, torch.tensor(sigma), past), expected)
    assert not past.forecast.any()


def test_a_field_that_does_not_exist_has_no_influence_and_is_zero() -> None:
    valid = torch.ones(2, 16, 16, dtype=torch.bool)
    valid[:, 3:9, 2:7] = False
    net = network(valid=valid)
    history, d = random(1, 2, 2, 16, 16), random(1, 2, 16, 16, seed=1)
    past = net.encode(history, random(1, 2).abs())
    out = net(d, torch.tensor(0.5), past)
    assert not out[:, ~valid].any()
    assert not past.forecast[:, ~valid].any()
    other = torch.where(valid, history, 1e6)
    again = net.encode(other, random(1, 2).abs())
    torch.testing.assert_close(net(torch.where(valid, d, -1e6), torch.tensor(0.5), again), out)


def test_sizes_that_are_not_whole_patches_are_padded() -> None:
    grid = LatLonGrid(torch.linspace(50, 58, 33).numpy(), torch.linspace(-10, 2, 49).numpy())
    net = network(StormConfig(variables=("t2m",), width=32, heads=2, depth=1), grid)
    past = net.encode(random(2, 2, 1, 33, 49), random(2, 1).abs())
    assert net(random(2, 1, 33, 49), torch.tensor(1.0), past).shape == (2, 1, 33, 49)


def test_the_error_of_the_past_is_an_input() -> None:
    net = network()
    history, d = random(1, 2, 2, 16, 16), random(1, 2, 16, 16)
    little, much = (
        net(d, torch.tensor(1.0), net.encode(history, torch.full((1, 2), level).double()))
        for level in (0.01, 1.0)
    )
    assert (little - much).abs().max() > 1e-3


def test_gradients_reach_every_parameter() -> None:
    net = network()
    past = net.encode(random(2, 2, 2, 16, 16), random(2, 2).abs())
    out = net(random(2, 2, 16, 16), torch.tensor(1.0), past)
    (out.square().mean() + past.forecast.square().mean()).backward()
    dead = [
        n for n, p in net.named_parameters() if p.grad is None or not math.isfinite(p.grad.sum())
    ]
    assert dead == []


def test_the_shipped_size() -> None:
    count = parameter_count(StormNetwork(sqg().network, sqg_grid(sqg())))
    assert 2e6 < count < 4e6  # at most 8 MB in half precision


def test_errors() -> None:
    net = network()
    message = r"^history: expected \(1, 2, 2, 16, 16\), got \(1, 3, 2, 16, 16\)$"
    with pytest.raises(ValueError, match=message):
        net.encode(random(1, 3, 2, 16, 16), random(1, 2).abs())
    clocked = network(StormConfig(variables=("a",), width=32, heads=2, depth=1, clock=True))
    with pytest.raises(ValueError, match=r"^clock: expected calendar features, got None$"):
        clocked.encode(random(1, 2, 1, 16, 16), random(1, 1).abs())
    message = r"^valid: expected bool of shape \(2, 16, 16\), got torch.bool of shape \(16, 16\)$"
    with pytest.raises(ValueError, match=message):
        network(valid=torch.ones(16, 16, dtype=torch.bool))
    with pytest.raises(ValueError, match=r"^heads: expected a divisor of width=32, got 5$"):
        StormConfig(variables=("a",), width=32, heads=5)
