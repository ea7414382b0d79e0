"""Laws of the spherical shallow water model: exact flows, waves, invariants, published tests."""

import math
import re
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stormda.assimilation.systems import (
    ShallowWater,
    ShallowWaterConfig,
    SphericalHarmonics,
    nature_run,
)

DAY = 86400.0
SMALL = ShallowWaterConfig(truncation=21, time_step=1200.0)
FREE = replace(SMALL, diffusion_time=math.inf)


def coefficients(truncation: int, seed: int = 0) -> Tensor:
    """Return random coefficients of a real field without a mean."""
    g = torch.Generator().manual_seed(seed)
    white = torch.randn(truncation + 1, truncation + 1, 2, generator=g, dtype=torch.float64)
    degree = torch.arange(truncation + 1)
    c = torch.view_as_complex(white) * (degree >= degree[:, None])
    c[0] = c[0].real + 0j
    c[0, 0] = 0
    return c


def turbulence(model: ShallowWater, members: int = 1) -> Tensor:
    g = torch.Generator().manual_seed(0)
    return model.balanced(members, speed=30.0, generator=g)


def steady(model: ShallowWater) -> Tensor:
    """Return case 2 of Williamson et al. (1992): a zonal flow about the axis of rotation."""
    c = model.config
    speed, geopotential = 2 * math.pi * c.radius / (12 * DAY), 2.94e4
    lat, lon = model.lat_rad[:, None], model.lon_rad
    u = speed * (lat.cos() * math.cos(c.tilt) + lon.cos() * lat.sin() * math.sin(c.tilt))
    v = (-speed * lon.sin() * math.sin(c.tilt)).expand_as(u)
    sine = model.coriolis / (2 * c.rotation)
    h = geopotential - (c.radius * c.rotation * speed + speed**2 / 2) * sine**2
    return torch.stack([u, v, h / c.gravity])


def rossby_haurwitz(model: ShallowWater) -> Tensor:
    """Return the wind of case 6 of Williamson et al. (1992), of wavenumber 4, and its depth."""
    rate, r, a = 7.848e-6, 4, model.config.radius
    lat, lon = model.lat_rad[:, None], model.lon_rad
    cos, sin = lat.cos(), lat.sin()
    u = cos + cos ** (r - 1) * (r * sin**2 - cos**2) * (r * lon).cos()
    v = -r * cos ** (r - 1) * sin * (r * lon).sin()
    wind = a * rate * torch.stack([u, v])
    first = rate / 2 * (2 * model.config.rotation + rate) * cos**2
    first = first + rate**2 / 4 * cos ** (2 * r) * (
        (r + 1) * cos**2 + (2 * r**2 - r - 2) - 2 * r**2 / cos**2
    )
    second = (
        2 * (model.config.rotation + rate) * rate / ((r + 1) * (r + 2)) * cos**r
        * ((r**2 + 2 * r + 2) - (r + 1) ** 2 * cos**2)
    )  # fmt: skip
    third = rate**2 / 4 * cos ** (2 * r) * ((r + 1) * cos**2 - (r + 2))
    shape = first + second * (r * lon).cos() + third * (2 * r * lon).cos()
    return torch.cat([wind, (8000.0 + a**2 * shape / model.config.gravity)[None]])


def jet(model: ShallowWater) -> Tensor:
    """Return the jet of Galewsky et al. (2004), in nonlinear balance."""
    south, north, lat = math.pi / 7, math.pi / 2 - math.pi / 7, model.lat_rad
    inside = (lat > south) & (lat < north)
    width = torch.where(inside, (lat - south) * (lat - north), -1.0)
    u = torch.where(inside, 80.0 * (1 / width + 4 / (north - south) ** 2).exp(), 0.0)
    u = u[:, None].expand(model.sphere.shape)
    return model.with_balanced_depth(torch.stack([u, torch.zeros_like(u)]), depth=1.0e4)


def test_analysis_undoes_synthesis_and_parseval_holds() -> None:
    sphere, c = SphericalHarmonics(15), coefficients(15)
    x = sphere.synthesise(c)
    torch.testing.assert_close(sphere.analyse(x), c)
    power = x.square().mean(-1) @ sphere.weights
    torch.testing.assert_close(sphere.spectrum(c).sum(), power)


def test_low_harmonics_are_those_of_the_books() -> None:
    """Normalised to a mean square of 1: sqrt(5) (3 mu^2 - 1) / 2, and sqrt(15 / 2) for P_2^1."""
    sphere = SphericalHarmonics(6)
    mu = sphere.lat_rad.sin()[:, None]
    lon = torch.arange(sphere.shape[1], dtype=torch.float64) * (2 * math.pi / sphere.shape[1])
    c = torch.zeros(7, 7, dtype=torch.complex128)
    c[0, 2] = 1
    torch.testing.assert_close(
        sphere.synthesise(c), (5**0.5 * (3 * mu**2 - 1) / 2).expand(sphere.shape)
    )
    c = torch.zeros(7, 7, dtype=torch.complex128)
    c[1, 2] = 1  # and its conjugate at order -1
    expected = 2 * 7.5**0.5 * mu * (1 - mu**2).sqrt() * lon.cos()
    torch.testing.assert_close(sphere.synthesise(c), expected)


def test_vectors_have_the_curl_and_divergence_they_are_made_of() -> None:
    sphere = SphericalHarmonics(15)
    curl, divergence = coefficients(15, 0), coefficients(15, 1)
    u, v = sphere.vector(curl, divergence)
    torch.testing.assert_close(sphere.curl(u, v), curl)
    torch.testing.assert_close(sphere.divergence(u, v), divergence)


def test_solid_rotation_has_the_vorticity_of_a_disc() -> None:
    model = ShallowWater(SMALL)
    u = 20.0 * model.lat_rad.cos()[:, None].expand(model.sphere.shape)
    x = torch.stack([u, torch.zeros_like(u), torch.full_like(u, 1.0e4)])
    expected = 2 * 20.0 / SMALL.radius * model.lat_rad.sin()[:, None].expand_as(u)
    torch.testing.assert_close(model.vorticity(x), expected)
    torch.testing.assert_close(model.divergence(x), torch.zeros_like(u), rtol=0, atol=1e-18)


@pytest.mark.parametrize("tilt", [0.0, 0.05, math.pi / 2 - 0.05])
def test_the_steady_flow_of_williamson_case_2_stays(tilt: float) -> None:
    """Also over the poles: errors there would show first."""
    model = ShallowWater(replace(FREE, tilt=tilt))
    x = steady(model)
    later = model.forecast(x, steps=5 * 72)
    error = (later - x).square().mean((-2, -1)).sqrt()
    assert (error / x.square().mean((-2, -1)).sqrt().clamp(min=1.0)).max() < 1e-10


def test_the_rossby_haurwitz_wave_of_williamson_case_6_travels_and_keeps_its_shape() -> None:
    """Without divergence it would move at 12.2 degrees a day; with a depth a little slower."""
    model = ShallowWater(SMALL)
    x = rossby_haurwitz(model)
    later = model.forecast(x, steps=2 * 72)

    def wave(x: Tensor) -> Tensor:
        middle = x[2, model.sphere.shape[0] // 4]  # in the middle of the northern hemisphere
        return torch.fft.rfft(middle)[4]

    change = wave(later) / wave(x)
    assert -change.angle().item() * 180 / math.pi / 4 / 2 == pytest.approx(12.2, rel=0.1)
    assert change.abs().item() == pytest.approx(1.0, rel=0.05)
    # Its depth is that of nonlinear balance, to the truncation of the formula's highest waves.
    balanced = model.with_balanced_depth(x[:2], depth=model.mass(x).item())
    torch.testing.assert_close(balanced[2], x[2], rtol=0, atol=1e-6)


def test_a_truncation_more_changes_little_of_the_rossby_haurwitz_wave() -> None:
    """After two days, against T31: smooth flows converge fast in a spectral model."""
    fine = ShallowWater(ShallowWaterConfig(truncation=31, time_step=900.0))
    coarse = ShallowWater(SMALL)
    one, two = (
        model.sphere.analyse(model.forecast(rossby_haurwitz(model), steps=steps)[2])
        for model, steps in ((coarse, 144), (fine, 192))
    )
    difference = coarse.sphere.spectrum(one - two[:22, :22]).sum().sqrt()
    assert difference < 1.0  # metres, of waves of hundreds


def test_the_jet_of_galewsky_rests_and_is_unstable_to_a_bump() -> None:
    """Balanced it stays zonal; a bump of depth makes it roll up within six days."""
    config = ShallowWaterConfig(truncation=31, time_step=1200.0, diffusion_time=4 * 3600.0)
    model = ShallowWater(config)
    x = jet(model)
    lat, lon = model.lat_rad[:, None], model.lon_rad
    east = torch.remainder(lon + math.pi, 2 * math.pi) - math.pi
    bump = 120.0 * lat.cos() * (-((3 * east) ** 2) - (15 * (math.pi / 4 - lat)) ** 2).exp()
    disturbed = x.clone()
    disturbed[2] += bump
    later = model.forecast(torch.stack([x, disturbed]), steps=6 * 72)
    assert x[0].max().item() == pytest.approx(80.0, rel=0.05)  # as sharp as T31 has it
    v = later[:, 1].abs().amax((-2, -1))
    assert v[0] < 0.05  # the diffusion of a sharp jet drives some
    assert v[1] > 20.0


def test_without_rotation_waves_of_gravity_have_their_frequency() -> None:
    """A small wave of degree n swings with sqrt(g H n (n + 1)) / a."""
    config = replace(FREE, rotation=1e-12, time_step=300.0)
    model, n, depth = ShallowWater(config), 5, 1.0e4
    c = torch.zeros(22, 22, dtype=torch.complex128)
    c[0, 0], c[2, n] = depth, 1e-3
    still = torch.zeros(model.sphere.shape, dtype=torch.float64)
    x = torch.stack([still, still, model.sphere.synthesise(c)])
    frequency = math.sqrt(config.gravity * depth * n * (n + 1)) / config.radius
    steps = 40
    swung = model.sphere.analyse(model.forecast(x, steps=steps)[2])[2, n].real.item()
    assert swung / 1e-3 == pytest.approx(math.cos(frequency * steps * 300.0), abs=1e-5)


def test_mass_energy_and_potential_enstrophy_are_conserved_without_diffusion() -> None:
    model = ShallowWater(FREE)
    x = turbulence(model)
    later = model.forecast(x, steps=72)
    assert (later - x)[:, 0].abs().max() > 5.0
    torch.testing.assert_close(model.mass(later), model.mass(x), rtol=1e-13, atol=0)
    # The truncation of cubic terms and the time step leave this much in a day.
    torch.testing.assert_close(model.energy(later), model.energy(x), rtol=1e-5, atol=0)
    torch.testing.assert_close(
        model.potential_enstrophy(later), model.potential_enstrophy(x), rtol=1e-3, atol=0
    )


def test_fourth_order_in_the_time_step() -> None:
    steps, x = (18, 36, 288), turbulence(ShallowWater(FREE))
    coarse, fine, truth = (
        ShallowWater(replace(FREE, time_step=21600.0 / n)).forecast(x, steps=n) for n in steps
    )
    ratio = (coarse - truth).norm() / (fine - truth).norm()
    assert 12 < ratio < 20


def test_balanced_states_make_few_waves_of_gravity() -> None:
    model = ShallowWater(SMALL)
    x = turbulence(model)
    flat = x.clone()
    flat[:, 2] = 1.0e4
    shares = [
        (model.divergence(later).std() / model.vorticity(later).std()).item()
        for later in (model.forecast(start, steps=72) for start in (x, flat))
    ]
    assert shares[0] < 0.05
    assert shares[1] > 5 * shares[0]


def test_a_nature_run_keeps_its_energy_and_a_steep_spectrum() -> None:
    model = ShallowWater(SMALL)
    run = nature_run(model, turbulence(model, 2), steps=72)
    for _ in range(10):
        x = next(run)
    spectrum = model.kinetic_energy_spectrum(x)
    u, v, _ = x.unbind(-3)
    kinetic = ((u**2 + v**2) / 2).mean(-1) @ model.sphere.weights
    torch.testing.assert_close(spectrum.sum(-1), kinetic)
    assert (kinetic > 300.0).all()  # of 450 at the start
    large, small = spectrum[:, 3:7].mean(-1), spectrum[:, 12:16].mean(-1)
    assert (large / small > 8.0).all()  # a slope below -2


def test_a_batch_is_many_states_and_single_precision_follows() -> None:
    model = ShallowWater(SMALL)
    x = turbulence(model, 2)
    later = model.forecast(x, steps=6)
    torch.testing.assert_close(later[1], model.forecast(x[1], steps=6))
    single = ShallowWater(SMALL, dtype=torch.float32)
    # Depths of 1e4 m have 1e-3 m in single precision; six steps add some of it up.
    torch.testing.assert_close(
        single.forecast(x.float(), steps=6), later.float(), rtol=1e-5, atol=2e-2
    )


def test_gradients() -> None:
    model = ShallowWater(ShallowWaterConfig(truncation=5, time_step=1800.0))
    x = model.balanced(1, speed=10.0, degrees=(1, 4), generator=torch.Generator().manual_seed(0))
    g = torch.Generator().manual_seed(1)
    step = torch.randn(x.shape, generator=g, dtype=torch.float64)
    weight = torch.randn(x.shape, generator=g, dtype=torch.float64)

    def height(x: Tensor) -> Tensor:
        return (weight * model.forecast(x, steps=2)).sum()

    start = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(height(start), start)
    ahead, behind = (height(x + s * step) for s in (1e-2, -1e-2))
    torch.testing.assert_close((slope * step).sum(), (ahead - behind) / 2e-2, rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SphericalHarmonics(3), "truncation: expected at least 4, got 3"),
        (
            lambda: ShallowWaterConfig(time_step=0.0),
            "time_step: expected a positive number, got 0.0",
        ),
        (
            lambda: ShallowWaterConfig(diffusion_order=3),
            "diffusion_order: expected an even number >= 2, got 3",
        ),
        (
            lambda: ShallowWater(SMALL).balanced(
                1, speed=1.0, degrees=(3, 22), generator=torch.Generator()
            ),
            "degrees: expected 1 <= low <= high <= 21, got (3, 22)",
        ),
        (
            lambda: ShallowWater(SMALL).forecast(torch.zeros(2, 32, 64), steps=1),
            "x: expected (*batch, 3, 32, 64), got (2, 32, 64)",
        ),
    ],
)
def test_bad_input_is_named(make, message: str) -> None:
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        make()
