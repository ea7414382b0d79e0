"""Laws of the surface quasi-geostrophic model: inversion, symmetries, invariants, convergence."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stormda.assimilation.systems import SQG, SQGConfig

SMALL = SQGConfig(points=16)
FREE = replace(SMALL, relaxation_time=math.inf, diffusion_time=math.inf)


def eddies(model: SQG, members: int = 1) -> Tensor:
    """Return smooth turbulence-like states without a long spin-up."""
    return model.spin_up(members, days=2, generator=torch.Generator().manual_seed(0))


def reflect(theta: Tensor, dim: int) -> Tensor:
    return theta.flip(dim).roll(1, dim)


def test_the_wind_is_the_curl_of_the_inverted_boundary_temperatures() -> None:
    """One wave at the lower boundary: psi = -b H / (mu tanh mu), and sinh at the other."""
    config = SQGConfig(points=32)
    model = SQG(config, dtype=torch.float64)
    k = 3 * 2 * math.pi / config.length
    mu = k * math.sqrt(config.stratification) * config.depth / config.coriolis
    x = torch.arange(32, dtype=torch.float64) * config.spacing
    theta = torch.zeros(2, 32, 32, dtype=torch.float64)
    theta[0] = torch.sin(k * x)
    u, v = model.wind(theta)
    amplitude = config.buoyancy_per_kelvin * config.depth / mu * k
    torch.testing.assert_close(u, torch.zeros_like(u), atol=1e-12, rtol=0)
    lower = -amplitude / math.tanh(mu) * torch.cos(k * x).expand(32, -1)
    upper = -amplitude / math.sinh(mu) * torch.cos(k * x).expand(32, -1)
    torch.testing.assert_close(v, torch.stack([lower, upper]))


def test_the_equilibrium_jet_has_the_stated_shear_and_stays() -> None:
    model = SQG(SQGConfig(points=32), dtype=torch.float64)
    u, _ = model.wind(model.equilibrium)
    shear = (u[1] - u[0]).abs().max().item()
    assert shear == pytest.approx(model.config.jet, rel=1e-6)
    later = model.forecast(model.equilibrium, hours=12)
    # Hyperdiffusion takes (1 / 16)^8 / 2 of the gravest wave in half a day: 3e-9 K.
    torch.testing.assert_close(later, model.equilibrium, atol=1e-8, rtol=0)


def test_without_forcing_mean_and_variance_of_each_boundary_are_conserved() -> None:
    model = SQG(FREE, dtype=torch.float64)
    theta = eddies(SQG(SMALL, dtype=torch.float64))
    later = model.forecast(theta, hours=6)
    torch.testing.assert_close(later.mean((-2, -1)), theta.mean((-2, -1)), atol=1e-10, rtol=0)
    before, after = (x.square().mean((-2, -1)) for x in (theta, later))
    # Dealiased advection conserves variance exactly in continuous time, Runge-Kutta to its order.
    torch.testing.assert_close(after, before, rtol=1e-6, atol=0)
    assert (later - theta).abs().max() > 0.1


def test_fourth_order_in_the_time_step() -> None:
    theta = eddies(SQG(SMALL, dtype=torch.float64))
    steps = (3600.0, 1800.0, 450.0)
    coarse, fine, truth = (
        SQG(replace(FREE, time_step=dt), dtype=torch.float64).forecast(theta, hours=12)
        for dt in steps
    )
    ratio = (coarse - truth).norm() / (fine - truth).norm()
    assert 12 < ratio < 20


@pytest.mark.parametrize(
    "symmetry",
    [
        lambda x: x.roll(5, -1),
        lambda x: reflect(reflect(x, -1), -2),
        lambda x: reflect(x.flip(-3), -2),
    ],
    ids=["shift along x", "half a turn", "boundaries exchanged and y reflected"],
)
def test_symmetries(symmetry) -> None:
    model = SQG(SMALL, dtype=torch.float64)
    theta = eddies(model)
    torch.testing.assert_close(
        model.forecast(symmetry(theta), hours=6), symmetry(model.forecast(theta, hours=6))
    )


def test_states_of_a_batch_do_not_mix() -> None:
    model = SQG(SMALL, dtype=torch.float64)
    theta = eddies(model, members=3)
    together = model.forecast(theta, hours=3)
    alone = torch.stack([model.forecast(x, hours=3) for x in theta])
    torch.testing.assert_close(together, alone)


@pytest.mark.slow
def test_turbulence_reaches_the_published_amplitude() -> None:
    """64 points: standard deviation 12.25 K in a published-size run (here one state, 60 days)."""
    model = SQG()
    theta = model.spin_up(1, days=60, generator=torch.Generator().manual_seed(3))
    assert 9.5 < theta.std() < 15
    assert theta.isfinite().all()


def test_errors() -> None:
    model = SQG(SMALL)
    message = r"^theta: expected \(\*batch, 2, 16, 16\), got \(2, 8, 8\)$"
    with pytest.raises(ValueError, match=message):
        model.forecast(torch.zeros(2, 8, 8), hours=1)
    with pytest.raises(ValueError, match=r"^hours: expected whole steps of 1800.0 s, got 0.3$"):
        model.forecast(model.equilibrium, hours=0.3)
    with pytest.raises(ValueError, match=r"^points: expected an even number .* 8, got 7$"):
        SQGConfig(points=7)
    with pytest.raises(ValueError, match=r"^depth: expected a positive number, got -1$"):
        SQGConfig(depth=-1)
