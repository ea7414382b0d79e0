"""The experiment on the globe: symmetries, covariances, cases, methods, a short training."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stormda.assimilation import rmse
from stormda.assimilation.systems import ShallowWaterConfig
from stormda.grid import grid
from stormda.storm.config import StormConfig
from stormda.storm.filtering import FilterSettings
from stormda.storm.modes import Modes
from stormda.storm.recipes import RECIPES, SphereRecipe, sphere
from stormda.storm.sphere.case import SphereCase, SphereCaseConfig, make_sphere_case
from stormda.storm.sphere.cells import OnCells, normalization_on
from stormda.storm.sphere.covariance import persistence_covariance
from stormda.storm.sphere.flow import VARIABLES, FlowConfig, GlobalFlow
from stormda.storm.sphere.methods import (
    cell_vectors,
    great_circle_km,
    interpolation,
    letkf_with_model,
    letkf_with_prior,
    one_stage,
)
from stormda.storm.sphere.training import (
    archive_of,
    fit_archive,
    interpolation_of,
    mirrored,
    move_on_sphere,
    train_sphere,
)
from stormda.storm.training_config import TrainingConfig
from stormda.storm.twin.archive import Archive, ArchiveConfig
from stormda.storm.twin.archive_modes import archive_modes
from stormda.storm.twin.ensemble_filter import EnsembleSettings

FLOW = GlobalFlow(
    FlowConfig(model=ShallowWaterConfig(truncation=10, time_step=1800.0), error_degrees=(2, 10))
)
RECIPE = SphereRecipe(
    network=StormConfig(
        variables=VARIABLES, width=16, heads=2, encoder_depth=1, depth=1, patch=(4, 4), modes=20
    ),
    flow=FLOW.config,
    archive=replace(sphere().archive, runs=4, together=4, spin_up_days=1, days=3),
    training=TrainingConfig(steps=3, batch=4, warmup=1, seed=3),
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("sphere")
    return made


@pytest.fixture(scope="module")
def archive(folder: Path) -> Archive:
    return archive_of(RECIPE, folder)


@pytest.fixture(scope="module")
def case() -> SphereCase:
    config = SphereCaseConfig(cycles=2, discarded=0, members=6, spin_up_days=2)
    return make_sphere_case(config, FLOW)


def test_the_grid_is_that_of_the_model() -> None:
    np.testing.assert_allclose(np.radians(FLOW.grid.lat), FLOW.model.lat_rad.numpy())
    np.testing.assert_allclose(
        FLOW.grid.area.sum(1), FLOW.model.sphere.weights.numpy(), rtol=1e-10
    )


def test_samples_are_moved_by_symmetries_of_the_flow(archive: Archive) -> None:
    """What is turned or mirrored now is the same turned or mirrored later."""
    moved = move_on_sphere(archive.truth[:, :2], torch.Generator().manual_seed(1))
    assert not torch.equal(moved, archive.truth[:, :2])
    later = FLOW.forecast(moved[:, 0], hours=12)
    # float32 states, wind of 20 m/s and depth of 10 km
    torch.testing.assert_close(later, moved[:, 1], rtol=1e-4, atol=0.05)


def test_mirroring_is_its_own_inverse(archive: Archive) -> None:
    assert torch.equal(mirrored(mirrored(archive.truth)), archive.truth)


def test_errors_are_small_and_in_balance() -> None:
    error = FLOW.error(3, torch.Generator().manual_seed(0)).double()
    speed = (error[:, 0].square() + error[:, 1].square()).mean(-1) @ FLOW.model.sphere.weights
    torch.testing.assert_close(speed, torch.ones_like(speed), rtol=1e-4, atol=0)
    state = FLOW.spin_up(3, days=0, generator=torch.Generator().manual_seed(1)).double()
    added = FLOW.model.divergence(state + error) - FLOW.model.divergence(state)
    assert added.abs().max() < 1e-3 * FLOW.model.vorticity(error).abs().max()


def test_the_shadow_is_wrong_by_about_what_it_was_given(archive: Archive) -> None:
    gap = (archive.shadow - archive.truth[:, 1:])[:, :, :2].square().sum(2).mean(dim=(1, 2, 3))
    assert ((gap > 0.05**2) & (gap < 10**2)).all()


def test_statistics_do_not_know_longitude_or_hemisphere(archive: Archive) -> None:
    n = fit_archive(archive)
    assert n.mean.shape == (3, 16, 1)
    torch.testing.assert_close(mirrored(n.mean), n.mean)
    assert n.std.shape == n.increment.shape == (3, 1, 1)
    assert 200 < n.std[2] < 1000
    z = n.to_z(archive.truth)
    torch.testing.assert_close(z.square().mean(dim=(0, 1, 3, 4)), torch.ones(3), rtol=0, atol=0.01)


def test_the_covariance_is_that_of_all_turns_and_mirrors() -> None:
    """Entry by entry from its definition, over every turn of every error and of its mirror."""
    states = torch.randn(3, 2, 3, 4, 6, generator=torch.Generator().manual_seed(0))
    mean, damping = torch.randn(3, 4, 1, generator=torch.Generator().manual_seed(1)), 0.6
    anomaly = states - mean
    error = (anomaly[:, 1:] - damping * anomaly[:, :-1]).flatten(0, 1)
    error = torch.cat([error, mirrored(error)]).double()
    turns = torch.cat([error.roll(k, -1) for k in range(6)]).flatten(1)
    expected = turns.mT @ turns / len(turns)
    b = persistence_covariance(states, mean, damping)
    torch.testing.assert_close(b @ torch.eye(72, dtype=torch.float64), expected)
    torch.testing.assert_close(b.diagonal().double(), expected.diagonal(), rtol=1e-6, atol=0)
    half = b.scaled(0.5) @ torch.eye(72, dtype=torch.float64)
    torch.testing.assert_close(half, 0.5 * expected)


def test_observations_are_the_truth_with_errors(case: SphereCase) -> None:
    seen = case.observed[0]
    cells = round(0.05 * 16 * 32)
    assert len(seen.y) == 3 * cells
    assert torch.equal(seen.index[:cells] + 512, seen.index[cells : 2 * cells])
    observation = case.observation(0)
    exact = observation.operator(case.truth[1:2])[0]
    scaled = (seen.y - exact) / observation.error.std
    assert 0.7 < scaled.std() < 1.3  # 78 errors: 8 % of sampling error
    assert not torch.equal(seen.index, case.observed[1].index)


def test_poles_are_not_observed_more_closely() -> None:
    """Of cells drawn by area, the outermost rows hold their share of the sphere."""
    config = SphereCaseConfig(cycles=40, discarded=0, members=2, spin_up_days=0, density=0.1)
    case = make_sphere_case(config, FLOW)
    rows = torch.cat([seen.index[: len(seen.index) // 3] for seen in case.observed]) // 32
    share = ((rows < 4) | (rows >= 12)).double().mean()
    area = FLOW.grid.area.sum(1)
    expected = area[:4].sum() + area[12:].sum()
    assert abs(float(share) - expected) < 0.06  # 2040 draws, without putting back


def test_distances_are_great_circles() -> None:
    cells = cell_vectors(FLOW.grid)
    apart = great_circle_km(cells[:1], cells)
    cosine = (cells[:1] @ cells.mT).clamp(-1, 1)
    # the arc cosine is poor at small angles
    torch.testing.assert_close(apart, 6371.22 * torch.acos(cosine), rtol=0, atol=0.2)


def test_filters_are_nearer_to_the_truth_than_their_start(
    case: SphereCase, archive: Archive, folder: Path
) -> None:
    n = fit_archive(archive)

    def error(mean: Tensor, truth: Tensor) -> float:
        return float(rmse(n.to_z(mean), n.to_z(truth)))

    start = error(case.initial.mean(0), case.truth[0])
    cells, settings = cell_vectors(FLOW.grid), EnsembleSettings(radius_km=6000)
    ensembles = list(letkf_with_model(case, lambda x: FLOW.forecast(x, hours=12), cells, settings))
    assert error(ensembles[-1].mean(0), case.truth[-1]) < start
    damping = 0.7
    b = persistence_covariance(archive.truth, n.mean, damping)
    analyses = list(interpolation(case, n.mean, b, damping))
    assert error(analyses[-1].mean, case.truth[-1]) < error(
        n.mean.expand(3, 16, 32), case.truth[-1]
    )
    prior = train_sphere(RECIPE, folder)
    assert prior is not None
    assert (folder / "prior.safetensors").is_file()
    assert prior.grid == FLOW.grid
    quick = FilterSettings(steps=3)
    for run in (
        one_stage(case, prior, quick),
        letkf_with_prior(case, prior, settings, quick),
    ):
        ensembles = list(run)
        assert [x.shape for x in ensembles] == [case.initial.shape] * 2
        assert all(bool(torch.isfinite(x).all()) for x in ensembles)


def test_what_is_far_from_every_observation_stays_as_it_was(case: SphereCase) -> None:
    cells, radius = cell_vectors(FLOW.grid), 1500.0
    settings = EnsembleSettings(radius_km=radius, rtps=0.0)
    forecast = next(letkf_with_model(case, lambda x: x, cells, settings))
    changed = (forecast - case.initial).abs().amax((0, 1)).flatten() > 1e-2
    places = cells[case.observed[0].index % 512]
    near = (great_circle_km(cells, places) < radius).any(1)
    assert not (changed & ~near).any()
    assert changed[case.observed[0].index % 512].all()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"density": 0.0}, r"density: expected a number in \(0, 1\], got 0.0"),
        ({"members": 1}, "members: expected at least 2, got 1"),
        ({"discarded": 24}, "discarded: expected 0 <= discarded < cycles=24, got 24"),
    ],
)
def test_impossible_experiments_are_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        SphereCaseConfig(**changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", [None, "healpix8"])
def test_modes_do_not_know_longitude_or_hemisphere(archive: Archive, name: str | None) -> None:
    """What they leave of a field turned about the axis or mirrored is as large as of the field."""
    on = interpolation_of(replace(RECIPE, grid=name))
    n = fit_archive(archive)
    n = n if on is None else normalization_on(on, n)
    network = replace(RECIPE.network, modes=60)
    modes = archive_modes(archive, n, network, seed=1, move=move_on_sphere, on=on)
    assert isinstance(modes, Modes)
    basis = modes.basis.flatten(1)
    torch.testing.assert_close(basis @ basis.mT, torch.eye(60), rtol=0, atol=1e-4)
    assert bool((modes.climate[:-1].diff() <= 1e-3 * modes.climate[0]).all())

    def left(fields: Tensor) -> float:
        z = n.to_z(fields if on is None else on(fields)) / n.increment
        rest = modes.weigh(z, torch.cat([torch.zeros(60), torch.ones(1)]).expand(len(z), -1))
        return float(rest.square().mean() / z.square().mean())

    # Modes of frames as they are would leave nothing of x, 0.2 of it turned and 0.5 mirrored.
    x = archive.truth[:, -1]
    assert left(x) < 0.2
    for moved in (x.roll(5, -1), mirrored(x)):
        assert left(moved) == pytest.approx(left(x), rel=0.5)


def test_an_archive_of_other_settings_is_refused(archive: Archive, folder: Path) -> None:
    other = replace(RECIPE, archive=ArchiveConfig(runs=4, together=4))
    with pytest.raises(ValueError, match=r"archive.safetensors: expected ArchiveConfig\(.*, got"):
        archive_of(other, folder)


def test_winds_keep_their_direction_over_the_poles() -> None:
    """A flow straight over the pole: its components turn with the meridian, not jump."""
    on = OnCells(FLOW.grid, grid("healpix16"))

    def over_the_pole(lat: np.ndarray, lon: np.ndarray) -> np.ndarray:
        turn = np.radians(lon)
        u, v = -np.sin(turn), -np.sign(lat) * np.cos(turn)
        return np.stack([u, v, 0 * lat + 5])

    x = torch.from_numpy(over_the_pole(*FLOW.grid.points))
    expected = over_the_pole(*on.target.points)
    polar = np.abs(on.target.points[0]) > 80
    assert polar.sum() > 20
    # linear between meridians 11 degrees apart
    np.testing.assert_allclose(on(x).numpy()[:, polar], expected[:, polar], atol=0.02)
    torch.testing.assert_close(on.sizes(torch.ones(3, 16, 32)), torch.ones(3, 3072))


def test_a_prior_on_cells_is_trained_and_cycled(folder: Path, archive: Archive) -> None:
    recipe = replace(RECIPE, grid="healpix8")
    there = folder / "cells"
    there.mkdir()
    archive.save(there / "archive.safetensors")
    prior = train_sphere(recipe, there)
    on = interpolation_of(recipe)
    assert prior is not None
    assert on is not None
    assert prior.grid == grid("healpix8")
    n = fit_archive(archive)
    torch.testing.assert_close(prior.normalization.std, n.std[..., 0])
    config = SphereCaseConfig(cycles=2, discarded=0, members=4, spin_up_days=1)
    case = make_sphere_case(config, FLOW, on)
    assert case.truth.shape == (3, 3, 768)
    (first, *_) = one_stage(case, prior, FilterSettings(steps=3))
    assert first.shape == (4, 3, 768)
    settings = EnsembleSettings(radius_km=6000)
    (first, *_) = letkf_with_prior(case, prior, settings, FilterSettings(steps=3))
    assert first.shape == (4, 3, 768)
    (first, *_) = letkf_with_model(case, lambda x: x, cell_vectors(FLOW.grid), settings)
    assert rmse(first.mean(0)[2], case.truth[1, 2]) < rmse(
        case.initial.mean(0)[2], case.truth[1, 2]
    )
    b = persistence_covariance(archive.truth, n.mean, 0.7)
    (gaussian, *_) = interpolation(case, n.mean, b, 0.7)
    assert gaussian.mean.shape == gaussian.variance.shape == (3, 768)
    assert (gaussian.variance > 0).all()


def test_both_observations_of_a_case_on_cells_are_one() -> None:
    on = OnCells(FLOW.grid, grid("healpix8"))
    config = SphereCaseConfig(cycles=1, discarded=0, members=2, spin_up_days=0)
    case = make_sphere_case(config, FLOW, on)
    own, of_model = case.observation(0), case.observation_of_model(0)
    torch.testing.assert_close(own.operator(case.initial), of_model.operator(case.start))


def test_the_recipes_are_of_known_grids() -> None:
    named = RECIPES["sphere-healpix"]()
    assert isinstance(named, SphereRecipe)
    on = interpolation_of(named)
    assert on is not None
    assert on.target.shape == (3072,)
    assert on.source.shape == (32, 64)
    assert interpolation_of(sphere()) is None
