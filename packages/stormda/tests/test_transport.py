"""Laws of learned motion: against sums over waves, the true model, what is conserved; its fit."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from stormda.assimilation.systems import SQG, SQGConfig
from stormda.grid import PlaneGrid
from stormda.storm.config import StormConfig
from stormda.storm.encoded import Encoded
from stormda.storm.error_spectrum import error_spectrum
from stormda.storm.filtering import FilterSettings, given_pasts
from stormda.storm.network import StormNetwork
from stormda.storm.objective import error_after
from stormda.storm.prior import Storm
from stormda.storm.real_recipes import fields
from stormda.storm.transport import Law, Spectral, Transport, cut, knots, padded, wavenumbers
from stormda.storm.transport_fit import FitSettings, fit_law
from stormda.storm.twin.archive import Archive, ArchiveConfig, make_archive
from stormda.storm.twin.archive_law import archive_law, note_growth
from stormda.storm.twin.samples import ArchivedSamples, PastErrors
from stormda.storm.twin.training import PERSISTENCE_ERROR, sqg_normalization

ROWS, COLS = 8, 12
CONFIG = StormConfig(
    variables=("lower", "upper"),
    patch=(2, 2),
    width=16,
    heads=2,
    encoder_depth=1,
    depth=1,
    waves=True,
    transport=4,
)
MODEL = SQG(SQGConfig(points=16, time_step=3600.0))
ARCHIVE = ArchiveConfig(runs=4, together=4, spin_up_days=10, days=4, every_hours=3)
HOUR = 3600.0


def normal(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def some_law(
    rows: int = ROWS, cols: int = COLS, *, rate: float = 0.1, forcing: float = 1.0
) -> Law:
    number = len(knots(rows, cols))
    return Law(
        normal(number, 2, 2), rate * normal(number, 2, 2, seed=2), forcing * normal(2, rows)
    )


def resolved(z: Tensor) -> Tensor:
    """Return fields without the waves that products are cut to."""
    rows, cols = z.shape[-2:]
    return torch.fft.irfft2(
        cut(padded(torch.fft.rfft2(z), rows, cols), rows, cols), s=(rows, cols)
    )


def whole_spectrum(z: Tensor) -> Tensor:
    return torch.fft.fft2(z, norm="forward")


def at_knots(k: float, matrices: Tensor) -> Tensor:
    """Interpolate the matrix of a wavenumber."""
    k, at = max(k, 1.0), knots(ROWS, COLS).tolist()
    above = next(i for i in range(1, len(at)) if at[i] > k or i == len(at) - 1)
    share = (k - at[above - 1]) / (at[above] - at[above - 1])
    return (1 - share) * matrices[above - 1] + share * matrices[above]


def tendency_by_sums(law: Law, z: Tensor) -> dict[tuple[int, int], Tensor]:
    """Return the spectrum of dz/dt of fields (2, rows, cols) by sums over pairs of waves."""
    y, x = range(1 - ROWS // 2, ROWS // 2), range(1 - COLS // 2, COLS // 2)
    scale = COLS / ROWS  # rows of a shorter side: their waves are longer per radian
    hat, forcing = whole_spectrum(z), whole_spectrum(law.forcing[..., None].expand_as(z))
    waves = [(p, q) for p in y for q in x]
    long = {(p, q): math.hypot(scale * p, q) for p, q in waves}
    here = {(p, q): hat[:, p, q] for p, q in waves}
    psi = {w: (at_knots(long[w], law.wind) + 0j) @ here[w] / max(long[w], 1.0) for w in waves}
    out = {w: (at_knots(long[w], law.rate) + 0j) @ here[w] + forcing[:, w[0], w[1]] for w in waves}
    for p, q in waves:
        for r, s in waves:
            if (p + r, q + s) in out:
                cross = scale * (q * r - p * s)  # (i k_p) x (i k_r), k = (q, scale p)
                out[p + r, q + s] = out[p + r, q + s] + cross * psi[p, q] * here[r, s]
    return out


def test_tendency_is_a_sum_over_pairs_of_waves() -> None:
    law, z = some_law(), resolved(normal(2, ROWS, COLS, seed=3))
    acts = Spectral.of(law, ROWS, COLS)
    tendency = acts.tendency(torch.fft.rfft2(z[None]))[0]
    found = whole_spectrum(torch.fft.irfft2(tendency, s=(ROWS, COLS)))
    for (p, q), expected in tendency_by_sums(law, z).items():
        torch.testing.assert_close(found[:, p, q], expected, rtol=0, atol=1e-12)


def true_law(model: SQG) -> Law:
    """Return the numbers of surface quasi-geostrophic turbulence, in hours and kelvin."""
    c = model.config
    k = knots(c.points, c.points).double()
    kappa = 2 * math.pi * k / c.length
    mu = kappa * math.sqrt(c.stratification) * c.depth / c.coriolis
    speed = c.buoyancy_per_kelvin * c.depth / mu * k * (2 * math.pi / c.length) ** 2 * HOUR
    own, other = -speed / mu.tanh(), speed / mu.sinh()
    wind = torch.stack([own, other, -other, -own], -1).reshape(-1, 2, 2)
    relaxation = HOUR / c.relaxation_time
    shortest = math.pi * c.points / c.length
    damping = HOUR * (kappa / shortest) ** c.diffusion_order / c.diffusion_time
    rate = -(damping + relaxation)[:, None, None] * torch.eye(2, dtype=torch.float64)
    return Law(wind, rate, relaxation * model.equilibrium[..., 0].double())


def test_with_its_numbers_it_is_surface_quasi_geostrophic() -> None:
    """Between knots numbers are interpolated: errors are of a thousandth of the change."""
    model = SQG(SQGConfig(points=32, time_step=900.0), dtype=torch.float64)
    z = model.spin_up(1, days=20, generator=torch.Generator().manual_seed(1))
    later = model.forecast(z, hours=6)
    law = true_law(model)
    found = Spectral.of(law, 32, 32).advance(z, steps=12, time=6.0)
    change = (later - z).square().mean().sqrt()
    assert (found - later).square().mean().sqrt() < 5e-3 * change
    wrong = Spectral.of(replace(law, wind=1.1 * law.wind), 32, 32).advance(z, steps=12, time=6.0)
    assert (wrong - later).square().mean().sqrt() > 5e-2 * change


def test_carrying_conserves_what_it_should() -> None:
    """Means, squares, and the energy of a symmetric S, as J(psi, z) does not change their sums."""
    law = some_law(rate=0.0, forcing=0.0)
    law = replace(law, wind=law.wind + law.wind.mT)
    acts = Spectral.of(replace(law, wind=0.1 * law.wind), ROWS, COLS)
    z = resolved(normal(3, 2, ROWS, COLS))
    later = acts.advance(z, steps=64)
    assert (later - z).abs().max() > 0.05
    torch.testing.assert_close(later.mean((2, 3)), z.mean((2, 3)), rtol=0, atol=1e-12)
    square, then = (x.square().mean((2, 3)) for x in (z, later))
    torch.testing.assert_close(then, square, rtol=1e-6, atol=0)
    energy, then = (energy_of(acts, x) for x in (z, later))
    torch.testing.assert_close(then, energy, rtol=1e-6, atol=1e-9)


def energy_of(acts: Spectral, z: Tensor) -> Tensor:
    psi = torch.einsum("vwrc,bwrc->bvrc", acts.streamfunction + 0j, torch.fft.rfft2(z))
    return (z * torch.fft.irfft2(psi, s=z.shape[-2:])).mean((1, 2, 3))


def test_steps_are_of_fourth_order() -> None:
    acts = Spectral.of(some_law(), ROWS, COLS)
    z = 0.1 * normal(1, 2, ROWS, COLS)
    exact = acts.advance(z, steps=256)
    coarse, fine = ((acts.advance(z, steps=n) - exact).norm() for n in (8, 16))
    assert 12 < coarse / fine < 20


def test_a_state_times_the_identity_blows_no_wind() -> None:
    law = some_law()
    eye = torch.eye(2, dtype=torch.float64)
    k = knots(ROWS, COLS).double()[:, None, None]
    other = replace(law, wind=law.wind + 3.0 * k * eye)
    z = normal(1, 2, ROWS, COLS)
    one, two = (Spectral.of(each, ROWS, COLS) for each in (law, other))
    spectrum = torch.fft.rfft2(z)
    # interpolation of k S between knots is exact for a multiple of k
    torch.testing.assert_close(one.tendency(spectrum), two.tendency(spectrum), rtol=0, atol=1e-9)


def test_wavenumbers_are_of_the_longer_side() -> None:
    kx, ky = wavenumbers(4, 8)
    assert kx.tolist() == [0, 1, 2, 3, 4]
    assert ky.flatten().tolist() == [0, 2, -4, -2]


def archive() -> Archive:
    return make_archive(ARCHIVE, MODEL)


def test_a_law_is_found_that_forecasts_what_it_was_not_fitted_to() -> None:
    found = archive_law(
        archive(), sqg_normalization(), CONFIG, seed=1, settings=FitSettings(steps=800, batch=8)
    )
    law = Transport((2, 16, 16), CONFIG.transport)
    law.set(found)
    z = MODEL.spin_up(2, days=20, generator=torch.Generator().manual_seed(9))
    later = MODEL.forecast(z, hours=12)
    n = sqg_normalization()
    missed = n.to_x(law.next_frame(n.to_z(z))) - later
    assert missed.square().mean() < 0.005 * (later - z).square().mean()


def test_the_fit_says_when_it_blows_up() -> None:
    def draw(number: int) -> tuple[Tensor, Tensor]:
        z = 1e4 * normal(number, 1, 8, 8).float()
        return z, -z

    with pytest.raises(ValueError, match=r"^transport: expected more than 1 Runge-Kutta steps"):
        fit_law(draw, time=1.0, steps=1, settings=FitSettings(steps=30, batch=2, rate=1e3))


def test_pairs_that_are_alike_tell_nothing() -> None:
    def draw(number: int) -> tuple[Tensor, Tensor]:
        return torch.ones(number, 1, 8, 8), torch.ones(number, 1, 8, 8)

    with pytest.raises(ValueError, match=r"^transport: expected pairs of states that differ"):
        fit_law(draw, time=1.0, steps=1)


def network(config: StormConfig = CONFIG, points: int = 16) -> StormNetwork:
    torch.manual_seed(1)
    plane = PlaneGrid((points, points), spacing_m=(1e5, 1e5), periodic=(True, True))
    made = StormNetwork(config, plane)
    assert made.transport is not None
    for numbers in made.transport.buffers():
        numbers.copy_(0.1 * torch.randn(numbers.shape))
    return made


@pytest.mark.parametrize("targets", [1, 3])
def test_a_new_network_forecasts_by_its_law(targets: int) -> None:
    made = network(replace(CONFIG, targets=targets))
    history = torch.randn(2, 2, 2, 16, 16)
    past = made.encode(history, torch.rand(2, 2, 12))
    course = made.transport(history[:, -1], targets)
    expected = course.diff(dim=1).flatten(1, 2)
    torch.testing.assert_close(past.forecast, expected, rtol=0, atol=1e-5)
    each = [made.transport.next_frame(course[:, i]) for i in range(targets)]
    torch.testing.assert_close(course[:, 1:], torch.stack(each, 1), rtol=0, atol=1e-5)


def test_where_the_law_leads_is_a_frame_of_the_history() -> None:
    """What the trunk is told changes with the law alone, and carries no gradient into it."""
    made = network()
    with torch.no_grad():
        for p in made.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    history, level = torch.randn(2, 2, 2, 16, 16), torch.rand(2, 2, 12)
    before = made.encode(history, level)
    assert before.keys.keys.shape[2] == CONFIG.history + 2
    made.transport.wind.mul_(2.0)
    after = made.encode(history, level)
    raw = CONFIG.history
    assert torch.equal(before.keys.keys[:, :, :raw], after.keys.keys[:, :, :raw])
    assert not torch.equal(before.keys.keys[:, :, raw], after.keys.keys[:, :, raw])
    assert {name for name, _ in made.named_parameters() if "transport" in name} == set()


def test_what_becomes_of_errors_is_noted() -> None:
    """In the mean over samples, errors of pasts are told as large as they are."""
    flow, n = archive(), sqg_normalization()
    made = network()
    made.transport.set(Law(*(torch.zeros_like(x) for x in vars(made.transport.law).values())))
    source = ArchivedSamples(flow, n, PastErrors(exact=0.0), seed=1)
    note_growth(made, source)
    batch = source.batch(0, 512)
    found = made.transport.grown(batch.level).mean(0)
    expected = error_after(made, made.course(batch.history), batch.target).mean(0)
    unit = n.increment.square().flatten()[:, None]
    torch.testing.assert_close(found, expected * made.modes.unit.flatten()[:, None] ** 2 / unit)


def test_a_spectrum_is_the_smoothed_power_of_waves() -> None:
    """Slow twin: sums over all waves; a single long wave counts for its neighbours."""
    error = normal(2, 1, ROWS, COLS)
    found = error_spectrum(error)
    power, (kx, ky) = torch.fft.fft2(error, norm="ortho").abs().square(), wavenumbers(ROWS, COLS)
    number = found.shape[-1]
    sums, sizes = torch.zeros(2, number, dtype=torch.float64), torch.zeros(number)
    for i in range(ROWS):
        for j in range(COLS):
            k = round(math.hypot(ky[i, 0].item(), kx[min(j, COLS - j)].item()))
            sums[:, k] += power[:, 0, i, j]
            sizes[k] += 1
    for k in range(number):
        near = [
            max(0.0, 1 - abs(math.log(max(k, 1) / max(other, 1))) / math.log(1.5))
            for other in range(number)
        ]
        weights = torch.tensor(near, dtype=torch.float64)
        expected = (sums * weights).sum(1) / (sizes * weights).sum()
        torch.testing.assert_close(found[:, 0, k], expected, rtol=1e-12, atol=0)


def test_the_spread_of_an_ensemble_tells_how_wrong_it_is() -> None:
    """White noise on a law at rest: the spectrum is flat, its size the spread's."""
    made = network()
    made.transport.set(Law(*(torch.zeros_like(x) for x in vars(made.transport.law).values())))
    prior = Storm(made, sqg_normalization(), 12.0)
    pasts = torch.randn(64, 2, 2, 16, 16, generator=torch.Generator().manual_seed(1))
    settings = FilterSettings(error_factor=0.5, cohesion=0.0, smallest_error=1e-4)
    told: list[Tensor] = []
    made.encode = lambda z, level, clock: told.append(level) or past(made, z)  # type: ignore[method-assign]
    given_pasts(prior, pasts, settings)
    (level,) = told
    assert level.shape == (64, 2, 12)
    expected = (0.5 / PERSISTENCE_ERROR) ** 2
    torch.testing.assert_close(level, torch.full_like(level, expected), rtol=0.2, atol=0)


def past(made: StormNetwork, z: Tensor) -> Encoded:
    return StormNetwork.encode(made, z, torch.ones(len(z), 2, 12))


def test_errors() -> None:
    with pytest.raises(
        ValueError, match=r"^transport: expected 0, or steps and waves=True, got 4"
    ):
        replace(CONFIG, waves=False)
    with pytest.raises(ValueError, match=r"^transport: expected even rows and columns"):
        Transport((1, 8, 7), 2)
    stormy = torch.zeros(3, 2, 16, 16)
    stormy[1] = 1e6 * torch.randn(2, 16, 16)
    message = r"^transport: expected frames that 4 Runge-Kutta steps .* sample 1 of 3, which"
    with pytest.raises(ValueError, match=message):
        network().transport.next_frame(stormy)
    with pytest.raises(ValueError, match=r"^transport: expected a multiple of 4, the frames"):
        archive_law(archive(), sqg_normalization(), replace(CONFIG, transport=6), seed=1)
    prior = Storm(network(), sqg_normalization(), 12.0)
    with pytest.raises(ValueError, match=r"^error, spectrum: expected one of them"):
        prior.given(torch.zeros(1, 2, 2, 16, 16))
    recipe = fields(("lower", "upper"))
    with pytest.raises(ValueError, match=r"^network\.transport: expected 0 for files"):
        replace(recipe, network=CONFIG)
