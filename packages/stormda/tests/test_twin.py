"""The twin experiment: its case, its climatology, the classical methods, and its files."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stormda.assimilation import rmse
from stormda.assimilation.systems import SQG, SQGConfig
from stormda.io import open_store, read_ensemble, read_observations
from stormda.storm.twin.case import (
    NETWORKS,
    SHOCK_PERIOD,
    THETA_STD,
    Case,
    Network,
    TwinConfig,
    make_case,
)
from stormda.storm.twin.climatology import Climatology
from stormda.storm.twin.dense_interpolation import apply_gain, dense_gain, run_dense_interpolation
from stormda.storm.twin.ensemble_filter import EnsembleSettings, run_forecast, run_letkf, update
from stormda.storm.twin.files import EPOCH, CaseFiles
from stormda.storm.twin.interpolation import InterpolationSettings, run_interpolation
from stormda.storm.twin.methods import load_tuned

MODEL = SQGConfig(points=16)
TINY = TwinConfig(cycles=2, discarded=0, members=4, spin_up_days=2)


def small_climate() -> Climatology:
    """Boundaries that lean on each other at a distance, with rows of unequal variance."""
    noise = torch.randn(40, 6, 8, generator=torch.Generator().manual_seed(1))
    lower = noise + noise.roll(1, -1) + noise.roll(1, -2)
    upper = lower.roll((1, 2), (-2, -1)) + 0.3 * noise.roll(3, -1)
    rows = 1 + torch.arange(6.0)[:, None]
    return Climatology.from_states(torch.stack([5 + rows * lower, upper], 1))


def dense_matrix(climate: Climatology) -> Tensor:
    """B from its definition, entry by entry."""
    _, rows, cols = (*climate.std.shape, climate.correlation.shape[-1])
    index = torch.arange(2 * rows * cols)
    v, y, x = index // (rows * cols), index // cols % rows, index % cols
    correlation = climate.correlation[
        v[:, None], v, (y - y[:, None]) % rows, (x - x[:, None]) % cols
    ]
    std = climate.std[v, y]
    return (std[:, None] * correlation * std).double()


def make(network: str = "arctan-sparse", **changes: float) -> Case:
    return make_case(replace(TINY, network=network, **changes), SQG(MODEL))


@pytest.fixture(scope="module")
def case() -> Case:
    return make()


def test_the_truth_follows_the_model(case: Case) -> None:
    model = SQG(MODEL)
    for now, then in zip(case.truth, case.truth[1:], strict=False):
        torch.testing.assert_close(model.forecast(now, hours=12), then)


def test_the_same_seed_gives_the_same_case(case: Case) -> None:
    again, other = make(), make(seed=201)
    assert torch.equal(again.truth, case.truth)
    assert torch.equal(again.initial, case.initial)
    assert all(torch.equal(a.y, b.y) for a, b in zip(again.observed, case.observed, strict=True))
    assert not torch.equal(other.truth, case.truth)


def test_every_network_observes_the_same_truth(case: Case) -> None:
    for name in NETWORKS:
        assert torch.equal(make(name).truth, case.truth)  # shocks come later than two cycles


def test_the_truth_jumps_and_goes_on_from_where_it_jumped_to() -> None:
    model, shock = SQG(MODEL), NETWORKS["arctan-shocks"].shock
    case = make("arctan-shocks", cycles=8)
    for cycle, (now, then) in enumerate(zip(case.truth, case.truth[1:], strict=False)):
        jump = then - model.forecast(now, hours=12)
        if cycle == SHOCK_PERIOD // 2:
            # 512 numbers: the standard error of a standard deviation is 3 %
            torch.testing.assert_close(jump.std(), torch.tensor(shock), rtol=0.12, atol=0)
        else:
            torch.testing.assert_close(jump, torch.zeros_like(jump), rtol=0, atol=1e-4)
    assert torch.equal(make("arctan-shocks", cycles=8).truth, case.truth)
    assert not torch.equal(make("arctan-shocks", cycles=8, seed=201).truth[6], case.truth[6])


def test_observations_are_the_truth_seen_through_the_operator(case: Case) -> None:
    (first, second), truth = case.observed, case.truth[1].flatten()
    assert len(first.y) == round(0.1 * 2 * 16 * 16)
    assert not torch.equal(first.index, second.index)
    error = first.y - torch.atan(truth[first.index] / THETA_STD)
    assert 0.05 < error.std() < 0.2  # 51 errors of standard deviation 0.1
    torch.testing.assert_close(case.observation(0).operator(case.truth[1:2])[0], first.y - error)


def test_the_ensemble_starts_around_the_truth() -> None:
    many = make(members=400)
    # 400 members: the standard error of a standard deviation is 3.5 %, less over 512 points
    torch.testing.assert_close(many.initial.std(0).mean(), torch.tensor(3.0), rtol=0.02, atol=0)
    assert rmse(many.initial.mean(0), many.truth[0]) < 3 * 3 / 400**0.5


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"network": "radar"}, "network: expected one of ['arctan-shocks', 'arctan-sparse', "
         "'arctan-sparser', 'linear-dense', 'linear-sparse'], got 'radar'"),
        ({"members": 1}, "members: expected at least 2, got 1"),
        ({"discarded": 2}, "discarded: expected 0 <= discarded < cycles=2, got 2"),
    ],
)  # fmt: skip
def test_impossible_experiments_are_refused(changes: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011
        replace(TINY, **changes)  # type: ignore[arg-type]
    assert str(caught.value) == message


def test_impossible_networks_are_refused() -> None:
    with pytest.raises(ValueError, match=r"^density: expected a number in \(0, 1\], got 0$"):
        Network(density=0, std=1.0, saturating=False)
    with pytest.raises(ValueError, match=r"^std: expected a positive number, got -1\.0$"):
        Network(density=1.0, std=-1.0, saturating=False)
    with pytest.raises(ValueError, match=r"^shock: expected a number >= 0, got -0\.5$"):
        Network(density=1.0, std=1.0, saturating=False, shock=-0.5)


def test_the_covariance_is_that_of_its_definition() -> None:
    climate = small_climate()
    dense = dense_matrix(climate)
    product = climate.covariance() @ torch.eye(len(dense))
    # the correlation is kept in float32
    torch.testing.assert_close(product.double(), dense, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(climate.covariance().diagonal().double(), dense.diagonal())


def test_the_covariance_is_that_of_the_states_it_was_made_from() -> None:
    shift = torch.randn(4000, 4, 4, generator=torch.Generator().manual_seed(2))
    states = torch.stack([shift, shift.roll(1, -1)], 1)
    climate = Climatology.from_states(states)
    sample = torch.cov(states.flatten(1).T)
    product = climate.covariance() @ torch.eye(32)
    # a sample covariance of 4000 states has errors of about 1 / sqrt(4000)
    torch.testing.assert_close(product, sample, rtol=0, atol=0.08)


def test_climatology_survives_its_file(tmp_path: Path) -> None:
    climate = small_climate()
    climate.save(tmp_path / "climate.safetensors")
    again = Climatology.load(tmp_path / "climate.safetensors")
    assert torch.equal(again.mean, climate.mean)
    assert torch.equal(again.correlation, climate.correlation)


def test_the_dense_gain_is_that_of_the_full_matrices() -> None:
    climate, noise = small_climate(), 0.7
    prior = 1.5 * dense_matrix(climate)
    full = prior @ torch.linalg.inv(prior + noise * torch.eye(len(prior), dtype=torch.float64))
    gain, variance = dense_gain(climate, scale=1.5, error_variance=noise)
    columns = torch.eye(len(prior), dtype=torch.float64).reshape(-1, 2, 6, 8)
    increments = torch.stack([apply_gain(gain, column).flatten() for column in columns], 1)
    # the correlation is kept in float32
    torch.testing.assert_close(increments, full, rtol=1e-5, atol=1e-5)
    posterior = (noise * full).diagonal().reshape(2, 6, 8)
    torch.testing.assert_close(variance.double(), posterior, rtol=1e-5, atol=1e-5)


def test_dense_interpolation_is_optimal_interpolation() -> None:
    dense = make("linear-dense")
    states = SQG(MODEL).spin_up(6, days=4, generator=torch.Generator().manual_seed(3))
    climate = Climatology.from_states(states)
    settings = InterpolationSettings(damping=0.5, scale=0.8)
    slow = run_interpolation(dense, climate, settings)
    quick = run_dense_interpolation(dense, climate, settings)
    for one, other in zip(slow, quick, strict=True):
        # the slow one factorises in float32
        torch.testing.assert_close(one.mean, other.mean, rtol=0, atol=2e-3)
        torch.testing.assert_close(one.variance, other.variance, rtol=1e-2, atol=1e-3)


def test_interpolation_is_nearer_to_the_truth_than_the_climate(case: Case) -> None:
    states = SQG(MODEL).spin_up(8, days=20, generator=torch.Generator().manual_seed(3))
    climate = Climatology.from_states(states)
    for analysis, truth in zip(
        run_interpolation(case, climate, InterpolationSettings()), case.truth[1:], strict=True
    ):
        assert rmse(analysis.mean, truth) < rmse(climate.background(), truth)
        assert (analysis.variance <= climate.covariance().diagonal().reshape(2, 16, 16)).all()


def test_the_filter_is_nearer_to_the_truth_than_the_free_forecast() -> None:
    case, model = make("linear-dense", members=10), SQG(MODEL)
    free = run_forecast(case, lambda x: model.forecast(x, hours=12))
    filtered = run_letkf(case, model, EnsembleSettings(radius_km=4000))
    for forecast, analysis, truth in zip(free, filtered, case.truth[1:], strict=True):
        assert rmse(analysis.mean(0), truth) < rmse(forecast.mean(0), truth)
        assert analysis.shape == case.initial.shape


def test_what_is_far_from_every_observation_stays_as_it_was(case: Case) -> None:
    spacing = MODEL.spacing
    settings = EnsembleSettings(radius_km=1.5 * spacing / 1000, rtps=0.0)
    analysis = update(case.initial, case, 0, spacing, settings)
    changed = (analysis - case.initial).abs().amax((0, 1)) > 1e-4
    seen = torch.zeros(16 * 16, dtype=torch.bool)
    seen[case.observed[0].index % 256] = True
    near = seen.reshape(16, 16)
    shifts = [(dy, dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    reach = torch.stack([near.roll(shift, (0, 1)) for shift in shifts]).any(0)
    assert not (changed & ~reach).any()
    assert changed[near].all()


def test_the_tuned_settings_name_every_network() -> None:
    assert set(load_tuned()) == set(NETWORKS)


def test_a_setting_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "tuned.toml"
    path.write_text("[arctan-sparse.letkf]\nradius = 3\n")
    with pytest.raises(ValueError, match=r"EnsembleSettings: expected .*, got \['radius'\]"):
        load_tuned(path)


@pytest.mark.parametrize("network", ["arctan-sparse", "linear-dense"])
def test_files_give_back_the_case(network: str, tmp_path: Path) -> None:
    case = make(network)
    files = CaseFiles(tmp_path, case, MODEL, {"seed": 200})
    files.write_case()
    store = open_store(tmp_path / "truth.nc", units="as_is")
    values, valid = store.read("theta")
    assert valid.all()
    assert store.grid == files.grid
    np.testing.assert_array_equal(values, case.truth.numpy())
    np.testing.assert_array_equal(store.times, EPOCH + np.arange(3) * np.timedelta64(12, "h"))
    ensemble = read_ensemble(tmp_path / "initial_ensemble.nc")
    np.testing.assert_array_equal(ensemble.fields["theta"][:, 0], case.initial.numpy())
    assert ensemble.provenance["seed"] == 200


@pytest.mark.parametrize("network", ["arctan-sparse", "linear-dense"])
def test_observations_come_back_at_their_points(network: str, tmp_path: Path) -> None:
    case = make(network)
    files = CaseFiles(tmp_path, case, MODEL, {})
    files.write_case()
    table = read_observations(tmp_path / "observations.nc")
    assert len(table) == sum(len(seen.y) for seen in case.observed)
    np.testing.assert_array_equal(table.error, case.network.std)
    cycle = (table.time - EPOCH) // np.timedelta64(12, "h") - 1
    boundary = np.char.endswith(table.variable, "upper")
    row, col = (np.rint(place / MODEL.spacing).astype(int) for place in (table.y, table.x))
    index = boundary * 256 + row * 16 + col
    for k, seen in enumerate(case.observed):
        mine = np.flatnonzero(cycle == k)
        mine = mine[np.argsort(index[mine])]
        np.testing.assert_array_equal(index[mine], seen.index.numpy())
        np.testing.assert_allclose(table.value[mine], seen.y.numpy(), rtol=1e-7)
