"""What is known of the test systems: orders, conserved quantities, fixed points, climates."""

import math
import re
from itertools import islice

import pytest
import torch

from stormda.assimilation.systems import (
    KuramotoSivashinsky,
    LinearGaussian,
    Lorenz63,
    Lorenz96,
    advected_ring,
    nature_run,
    runge_kutta,
)

SYSTEMS = [Lorenz63(), Lorenz96(points=12), KuramotoSivashinsky(points=32), advected_ring(12)]


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=g)


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: type(s).__name__)
def test_a_batch_is_many_states(system) -> None:
    x = draw(2, 3, *system.shape)
    later = system.forecast(x, steps=3)
    torch.testing.assert_close(later[1, 2], system.forecast(x[1, 2], steps=3))
    run = nature_run(system, x, steps=3)
    torch.testing.assert_close(next(run), later)
    torch.testing.assert_close(next(run), system.forecast(x, steps=6))


@pytest.mark.parametrize("system", SYSTEMS, ids=lambda s: type(s).__name__)
def test_a_wrong_shape_is_refused(system) -> None:
    (n,) = system.shape
    message = f"x: expected (*batch, {n}), got (2, {n + 1})"
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        system.forecast(torch.zeros(2, n + 1), steps=1)


def test_runge_kutta_is_of_fourth_order() -> None:
    def error(steps: int) -> float:
        x = runge_kutta(lambda x: x.cos(), torch.zeros(1).double(), 2 / steps, steps)
        return abs(x.item() - 2 * math.atan(math.tanh(1.0)))  # the Gudermannian

    order = math.log2(error(10) / error(20))
    assert 3.8 < order < 4.3


def test_lorenz63_rests_at_its_fixed_points() -> None:
    root = math.sqrt(8 / 3 * 27)
    rest = torch.tensor([[root, root, 27.0], [-root, -root, 27.0], [0, 0, 0]]).double()
    torch.testing.assert_close(
        Lorenz63().tendency(rest), torch.zeros(3, 3).double(), rtol=0, atol=1e-5
    )


def test_lorenz63_contracts_volumes() -> None:
    jacobian = torch.func.jacrev(Lorenz63().tendency)(draw(3))
    assert jacobian.trace().item() == pytest.approx(-(10 + 1 + 8 / 3))


def test_lorenz63_has_its_climate() -> None:
    """<xx> = <xy> and <xy> = b <z>, whatever the run: the means of the equations."""
    model = Lorenz63()
    x = model.forecast(model.start() + draw(200, 3), steps=500)
    run = torch.stack(list(islice(nature_run(model, x, steps=5), 400))).flatten(0, 1)
    moment = (run[:, :, None] * run[:, None]).mean(0)
    # a finite mean misses the end points: |x(T) y(T)| / T of 200 runs of 20 units
    assert moment[0, 0].item() == pytest.approx(moment[0, 1].item(), rel=0.01)
    assert moment[0, 1].item() == pytest.approx(8 / 3 * run[:, 2].mean().item(), rel=0.01)
    assert 23.4 < run[:, 2].mean().item() < 23.7  # 23.55


def test_lorenz96_conserves_energy_by_itself() -> None:
    model, x = Lorenz96(points=9), draw(4, 9)
    power = (x * model.tendency(x)).sum(-1)
    torch.testing.assert_close(power, (8 * x - x.square()).sum(-1))


def test_lorenz96_equals_its_definition() -> None:
    model, x = Lorenz96(points=7, forcing=3.0), draw(7)
    slow = [(x[(i + 1) % 7] - x[i - 2]) * x[i - 1] - x[i] + 3.0 for i in range(7)]
    torch.testing.assert_close(model.tendency(x), torch.stack(slow))


def test_lorenz96_has_its_climate() -> None:
    """At F = 8 the mean is 2.34 and the standard deviation 3.64 (Lorenz and Emanuel 1998)."""
    model = Lorenz96()
    x = model.forecast(8 + 0.1 * draw(50, 40), steps=300)
    run = torch.stack(list(islice(nature_run(model, x, steps=5), 100)))
    assert run.mean().item() == pytest.approx(2.34, abs=0.03)
    assert run.std().item() == pytest.approx(3.64, abs=0.03)


def test_lorenz96_runs_in_a_million_dimensions() -> None:
    model = Lorenz96(points=1_000_000)
    x = 8 + torch.randn(1_000_000, generator=torch.Generator().manual_seed(0))
    assert model.forecast(x, steps=1).isfinite().all()


def test_the_front_keeps_its_mean() -> None:
    model = KuramotoSivashinsky(points=64)
    x = model.start() + 0.3
    later = model.forecast(x, steps=100)
    assert later.mean().item() == pytest.approx(x.mean().item(), abs=1e-12)
    assert (later - x).abs().max() > 0.5


def test_the_front_is_integrated_to_fourth_order() -> None:
    def run(dt: float) -> torch.Tensor:
        model = KuramotoSivashinsky(points=64, dt=dt)
        return model.forecast(model.start(), steps=round(8 / dt))

    exact = run(1 / 64)
    coarse, fine = ((run(dt) - exact).norm() for dt in (1 / 2, 1 / 4))
    assert 3.5 < math.log2(coarse / fine) < 4.6


def test_small_waves_on_the_front_grow_as_they_should() -> None:
    model = KuramotoSivashinsky(points=64, dt=0.1)
    k = 2 * math.pi * 5 / model.length
    x = 1e-8 * torch.cos(2 * math.pi * 5 * torch.arange(64).double() / 64)
    later = model.forecast(x, steps=50)
    torch.testing.assert_close(later, x * math.exp((k**2 - k**4) * 5), rtol=1e-6, atol=1e-14)


def test_the_front_has_its_energy() -> None:
    """Its standard deviation is about 1.3, carried by the waves that grow the fastest."""
    model = KuramotoSivashinsky()
    x = model.forecast(model.start() + 0.1 * draw(20, 128), steps=400)
    run = torch.stack(list(islice(nature_run(model, x, steps=20), 50)))
    assert run.square().mean().sqrt().item() == pytest.approx(1.3, abs=0.1)
    spectrum = torch.fft.rfft(run).abs().square().mean((0, 1))
    wave = 2 * math.pi / model.length * spectrum.argmax()
    assert 0.5 < wave < 0.9  # the most unstable wave is 1 / sqrt(2)


def test_trajectories_have_their_covariance() -> None:
    model = advected_ring(12)
    x = model.trajectories(40_000, 3, torch.Generator().manual_seed(0)).flatten(1)
    # 40,000 draws: the error of a covariance of about 1 is 1 / sqrt(20,000)
    torch.testing.assert_close(x.mT.cov(), model.trajectory_covariance(3), rtol=0, atol=0.035)


def test_trajectories_are_stationary() -> None:
    model = advected_ring()
    assert torch.linalg.eigvalsh(model.noise).min() > 0
    block = model.trajectory_covariance(3)[-16:, -16:]
    torch.testing.assert_close(block, model.covariance)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Lorenz63(dt=0.0), "dt: expected a positive number, got 0.0"),
        (lambda: Lorenz96(points=3), "points: expected at least 4, got 3"),
        (lambda: Lorenz96(dt=-1.0), "dt: expected a positive number, got -1.0"),
        (
            lambda: KuramotoSivashinsky(points=9),
            "points: expected an even number of at least 8, got 9",
        ),
        (
            lambda: KuramotoSivashinsky(length=0.0),
            "length: expected a positive number, got 0.0",
        ),
        (
            lambda: LinearGaussian(torch.eye(2), torch.eye(3)),
            "transition: expected the square shape of covariance, got (2, 2) and (3, 3)",
        ),
        (
            lambda: LinearGaussian(2 * torch.eye(1), torch.eye(1)),
            "covariance: expected C - M C M^T >= 0, got an eigenvalue of -3",
        ),
        (lambda: advected_ring(damping=1.0), "damping: expected a number in (0, 1), got 1.0"),
    ],
)
def test_bad_settings_are_refused(make, message) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
