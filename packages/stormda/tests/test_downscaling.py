"""Downscaling: coarse means by loops, samples by an exact Gaussian, files by the command line."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner

from stormda.cli import main
from stormda.grid import LatLonGrid, PlaneGrid
from stormda.io import open_store, read_ensemble, write_fields
from stormda.storm.config import StormConfig
from stormda.storm.downscaling import (
    Coarsening,
    CoarsePairs,
    DownscalingConfig,
    downscale_fields,
    downscale_files,
    fit_residuals,
    trimmed,
)
from stormda.storm.downscaling.run import SEEN, coarsening_of, conditioned
from stormda.storm.frames import Frames, clock_features, read_frames
from stormda.storm.modes import Modes
from stormda.storm.network import StormNetwork
from stormda.storm.normalization import Normalization
from stormda.storm.objective import denoising_loss, total_variation
from stormda.storm.prior import Storm
from stormda.storm.real_recipes import FileRecipe

HOURS = np.datetime64("2020-01-01T00", "s") + 3600 * np.arange(40)
GRID = LatLonGrid(np.linspace(60, 53, 8), np.linspace(0, 11, 12))


def noise(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(0))


def frames_of(values: torch.Tensor, grid: LatLonGrid | PlaneGrid = GRID) -> Frames:
    return Frames(
        variables=("t2m",),
        units=("K",),
        grid=grid,
        times=np.datetime64("2020-01-01", "s") + 3600 * np.arange(len(values)),
        values=values,
        valid=torch.ones_like(values, dtype=torch.bool),
    )


def test_means_are_those_of_a_loop_over_blocks() -> None:
    x, blocks = noise(3, 2, 8, 12), Coarsening(GRID, 4)
    area = np.array(GRID.area)
    for b in np.ndindex(2, 3):
        cells = np.s_[4 * b[0] : 4 * b[0] + 4, 4 * b[1] : 4 * b[1] + 4]
        wanted = np.average(x.numpy()[..., cells[0], cells[1]], axis=(2, 3), weights=area[cells])
        np.testing.assert_allclose(blocks.means(x)[..., b[0], b[1]], wanted, rtol=2e-5, atol=1e-6)


def test_cells_without_fields_do_not_count() -> None:
    valid = torch.ones(1, 8, 12, dtype=torch.bool)
    valid[..., :4, :4], valid[..., 4:, :3] = False, False
    blocks = Coarsening(GRID, 4, valid)
    x = noise(1, 1, 8, 12)
    means = blocks.means(torch.where(valid, x, 1e6))
    torch.testing.assert_close(means[0, 0, 1, 0], blocks.means(x * valid)[0, 0, 1, 0])
    assert means[0, 0, 0, 0] == 0
    assert not blocks.known[0, 0, 0]
    assert blocks.observe(x).shape == (1, 5)


def test_spreading_is_exact_for_linear_fields_inside_and_for_waves_that_wrap() -> None:
    plane = Coarsening(PlaneGrid((8, 16), (1.0, 1.0), (False, False)), 4)
    x = (0.5 + torch.arange(16.0)).expand(8, 16)
    torch.testing.assert_close(plane.smooth(x)[:, 2:-2], x[:, 2:-2])
    around = Coarsening(LatLonGrid(np.arange(-87.5, 90, 5), np.arange(0, 360, 10)), 4)
    y = noise(1, 36, 36)
    torch.testing.assert_close(around.smooth(y.roll(8, -1)), around.smooth(y).roll(8, -1))


@pytest.mark.parametrize(
    "grid", [GRID, PlaneGrid((8, 12), (2.0, 3.0), (True, False), (10.0, 20.0))]
)
def test_the_grid_of_the_blocks_has_their_areas(grid) -> None:
    coarse = Coarsening(grid, 4).grid()
    blocks = np.array(grid.area).reshape(2, 4, 3, 4).sum((1, 3))
    np.testing.assert_allclose(np.array(coarse.area), blocks, rtol=1e-12)


def test_only_grids_with_walls_are_trimmed() -> None:
    values = noise(2, 1, 7, 9)
    some = frames_of(values, LatLonGrid(np.linspace(50, 53, 7), np.linspace(0, 4, 9)))
    assert trimmed(some, 4).values.shape == (2, 1, 4, 8)
    assert trimmed(some, 4).grid.shape == (4, 8)
    for grid in (
        PlaneGrid((7, 9), (1.0, 1.0)),
        LatLonGrid(np.linspace(50, 53, 7), np.arange(0, 360, 40)),
    ):
        with pytest.raises(ValueError, match=re.escape("expected a divisor of the grid (7, 9)")):
            trimmed(frames_of(values, grid), 4)


def test_a_sample_is_a_field_and_its_smooth_coarse_field() -> None:
    some, blocks = frames_of(noise(30, 1, 8, 12)), Coarsening(GRID, 4)
    n = fit_residuals(some, blocks)
    source = CoarsePairs(some, blocks, n, clock=False, season=False, seed=1)
    batch = source.batch(2, 5)
    torch.testing.assert_close(batch.history, blocks.smooth(batch.target)[:, None])
    assert not batch.level.any()
    every = torch.cat([source.batch(step, 5).target for step in range(6)])
    z = n.to_z(some.values)
    assert {tuple(x) for x in every.flatten(1).tolist()} == {
        tuple(x) for x in z.flatten(1).tolist()
    }
    rest = (z - blocks.smooth(z)) / n.increment
    area = torch.from_numpy(np.array(GRID.area)).float()
    torch.testing.assert_close(
        (rest.square() * area).sum() / (30 * area.sum()), torch.tensor(1.0), rtol=1e-4, atol=0
    )


def gaussian_prior(blocks: Coarsening) -> tuple[Storm, torch.Tensor]:
    """Return a prior that has learned nothing but modes, and the covariance of departures."""
    torch.manual_seed(0)
    config = StormConfig(
        variables=("t2m",), history=1, width=16, heads=2, encoder_depth=1, depth=1, modes=20
    )
    network = StormNetwork(config, blocks.fine)
    basis = torch.linalg.qr(noise(96, 20)).Q.mT
    variance = torch.cat([torch.linspace(3.0, 0.5, 20), torch.tensor([0.1])])
    one = torch.ones(1, 1, 1)
    assert network.modes is not None
    network.modes.set(
        Modes(climate=variance, own=variance, scale=one, basis=basis.reshape(20, 1, 8, 12))
    )
    network.eval().requires_grad_(False)
    covariance = 0.1 * torch.eye(96) + basis.mT @ (basis * (variance[:20, None] - 0.1))
    record = {"settings": {"coarsening": 4, "season": False}, "variables": {"t2m": "K"}}
    prior = Storm(network, Normalization(0 * one, one, one), step_hours=1.0, provenance=record)
    return prior, covariance


@pytest.mark.parametrize("inflation", [1.0, 0.6])
def test_samples_have_the_mean_and_spread_of_the_exact_posterior(inflation: float) -> None:
    blocks = Coarsening(GRID, 4)
    prior, covariance = gaussian_prior(blocks)
    covariance = inflation**2 * covariance
    coarse = noise(1, 2, 3)
    config = DownscalingConfig(members=600, error=0.3, inflation=inflation)
    g = torch.Generator().manual_seed(1)
    fine = downscale_fields(prior, coarse, clock=None, config=config, generator=g)
    first = conditioned(prior, blocks, coarse, clock=None, members=1)
    forecast = first.to_physical(torch.zeros(1, 1, 8, 12)).flatten()
    h = blocks.observe(torch.eye(96).reshape(96, 1, 8, 12)).mT
    gain = covariance @ h.mT @ torch.linalg.inv(h @ covariance @ h.mT + 0.09 * torch.eye(6))
    mean = forecast + gain @ (coarse.flatten() - h @ forecast)
    spread = (covariance - gain @ h @ covariance).diagonal().sqrt()
    off = (fine.mean(0).flatten() - mean) / (spread / np.sqrt(600))
    assert off.abs().max() < 5
    assert off.square().mean().sqrt() < 1.3
    ratio = fine.std(0).flatten() / spread
    assert 0.98 < ratio.mean() < 1.05  # 30 steps of the sampler overshoot a little
    forecast_only = downscale_fields(
        prior, coarse, clock=None, config=replace(config, members=1), generator=g
    )
    torch.testing.assert_close(forecast_only.flatten(), forecast)


def test_relative_samples_are_the_same_for_every_unit_and_zero() -> None:
    blocks = Coarsening(GRID, 4)
    fields, moved = noise(12, 1, 8, 12), torch.arange(12.0)[:, None, None, None]
    scales = 1 + torch.rand(12, 1, 1, 1, generator=torch.Generator().manual_seed(3))
    one = torch.ones(1, 1, 1)
    n = Normalization(0 * one, one, one)

    def batch(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        some = frames_of(values)
        source = CoarsePairs(some, blocks, n, relative=True, clock=False, season=False, seed=1)
        # as the prior of a run would have it: no climate, fields as they are
        source.z = values
        made = source.batch(0, 6)
        return made.history, made.target

    # float32 fields that lie at up to 11 lose three digits of their differences
    for a, b in zip(batch(fields), batch(moved + scales * fields), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-3)


def test_a_relative_prior_refines_a_field_of_any_unit_alike() -> None:
    blocks = Coarsening(GRID, 4)
    prior, _ = gaussian_prior(blocks)
    record = {**prior.provenance, "settings": {**prior.provenance["settings"], "relative": True}}
    prior, coarse = replace(prior, provenance=record), noise(1, 2, 3)

    def fine(means: torch.Tensor) -> torch.Tensor:
        g, config = torch.Generator().manual_seed(1), DownscalingConfig(members=4)
        return downscale_fields(prior, means, clock=None, config=config, generator=g)

    small = fine(coarse)
    torch.testing.assert_close(fine(20 + 5 * coarse), 20 + 5 * small, rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(blocks.means(small), coarse.expand(4, -1, -1, -1))


def test_fields_that_lie_about_are_relative_only_where_they_are_refined() -> None:
    network = StormConfig(variables=("t2m",))
    with pytest.raises(ValueError, match=r"^relative: expected False but for downscaling"):
        FileRecipe(network=network, relative=True)


def test_total_variation_smooths_the_forecast_only() -> None:
    blocks = Coarsening(GRID, 4)
    prior, _ = gaussian_prior(blocks)
    network = prior.network.requires_grad_(True)
    for p in network.forecast.parameters():
        torch.nn.init.normal_(p, std=0.1, generator=torch.Generator().manual_seed(2))
    some = frames_of(noise(8, 1, 8, 12))
    source = CoarsePairs(some, blocks, prior.normalization, clock=False, season=False, seed=1)
    batch = source.batch(0, 4)
    inputs = network, prior.normalization, batch, torch.ones(4), noise(4, 1, 8, 12)
    rough = denoising_loss(*inputs)
    past = network.encode(batch.history, batch.level, None)
    field = batch.history[:, 0] + past.forecast
    torch.testing.assert_close(
        denoising_loss(*inputs, variation=0.3) - rough, 0.3 * total_variation(field)
    )


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Fine fields of 7 x 9 cells, and the means of their blocks of 3 x 3."""
    folder = tmp_path_factory.mktemp("fine")
    grid = LatLonGrid(np.linspace(50, 52.5, 6), np.linspace(0, 4, 9))
    hour = np.arange(len(HOURS))[:, None, None]
    waves = 3 * np.sin(0.5 * np.arange(9) + 0.3 * hour)
    fields = 280 + waves + noise(len(HOURS), 6, 9).numpy()
    attributes = {"t2m": {"units": "K", "standard_name": "air_temperature"}}
    fine, coarse = folder / "fine.nc", folder / "coarse.nc"
    write_fields(fine, {"t2m": fields}, times=HOURS, grid=grid, attributes=attributes)
    blocks = Coarsening(grid, 3)
    means = blocks.means(torch.from_numpy(fields)).numpy()[-4:]
    write_fields(
        coarse, {"t2m": means}, times=HOURS[-4:], grid=blocks.grid(), attributes=attributes
    )
    return folder, fine, coarse


def run(*arguments: object):
    return CliRunner().invoke(main, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def trained(files):
    folder, fine, _ = files
    result = run(
        *["train", fine, "--variables", "t2m", "--recipe", "downscaling", "--device", "cpu"],
        *["--out", folder / "run", "--train-end", "2020-01-02T06"],
        *["--set", "coarsening=3", "--set", "network.patch=3,3", "--set", "network.width=16"],
        *["--set", "network.heads=2", "--set", "network.modes=9", "--set", "network.depth=1"],
        *["--set", "network.encoder_depth=1", "--set", "training.steps=20"],
        *["--set", "training.batch=4", "--set", "split.validation_hours=4"],
        *["--set", "split.embargo_hours=2", "--set", "validate_every=10"],
    )
    assert result.exit_code == 0, result.output
    return folder / "run"


@pytest.mark.parametrize("members", [1, 5])
def test_exact_means_are_those_of_every_member(files, trained, members) -> None:
    _, _, coarse = files
    prior = Storm.load(trained / "prior.safetensors")
    given = read_frames(open_store(coarse), ["t2m"]).values
    clock = clock_features(HOURS[-4:], prior.grid, season=False)
    g = torch.Generator().manual_seed(1)
    config = DownscalingConfig(members=members)
    fine = downscale_fields(prior, given[0], clock=clock[0], config=config, generator=g)
    rough = downscale_fields(
        prior,
        given[0],
        clock=clock[0],
        config=replace(config, error=SEEN),
        generator=torch.Generator().manual_seed(1),
    )
    blocks = coarsening_of(prior)
    torch.testing.assert_close(
        blocks.means(fine), given[0].expand(members, 1, -1, -1), rtol=1e-6, atol=0
    )
    shift = fine - rough  # the same within each block, and small beside what means leave unknown
    assert blocks.means(shift**2).sub(blocks.means(shift) ** 2).abs().max() < 1e-6
    if members > 1:
        assert shift.std() < 5 * SEEN * prior.normalization.std * prior.normalization.increment


def test_every_member_reproduces_the_coarse_field(files, trained, tmp_path) -> None:
    _, fine, coarse = files
    out = tmp_path / "out.nc"
    result = run("downscale", coarse, "--prior", trained, "--out", out, "--members", 5,
                 "--set", "error=0.05")  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "4 times" in result.output
    ensemble = read_ensemble(out)
    assert ensemble.fields["t2m"].shape == (5, 4, 6, 9)
    assert ensemble.provenance["run"]["settings"]["members"] == 5
    prior = Storm.load(trained / "prior.safetensors")
    blocks = Coarsening(open_store(fine).grid, 3)
    means = blocks.means(torch.from_numpy(ensemble.fields["t2m"]))
    given = read_frames(open_store(coarse), ["t2m"]).values[:, 0]
    unknown = float(prior.normalization.std * prior.normalization.increment)
    assert (means - given).std() < 2 * 0.05 * unknown
    assert ensemble.fields["t2m"].std(0).mean() > 0.2


def test_an_interrupted_run_goes_on_to_the_same_numbers(files, trained, tmp_path) -> None:
    _, _, coarse = files
    prior, store = Storm.load(trained / "prior.safetensors"), open_store(coarse)
    config = DownscalingConfig(members=3, seed=1)
    whole, parts = tmp_path / "whole.nc", tmp_path / "parts.nc"
    assert downscale_files(prior, store, whole, config, inputs={}) == 4
    assert (
        downscale_files(prior, store, parts, config, inputs={}, interrupted=lambda: True) is None
    )
    assert not parts.exists()
    done = []
    downscale_files(
        prior, store, parts, config, inputs={}, progress=lambda k, n, t: done.append((k, n))
    )
    assert done == [(2, 4), (3, 4), (4, 4)]
    np.testing.assert_array_equal(
        read_ensemble(parts).fields["t2m"], read_ensemble(whole).fields["t2m"]
    )


def test_what_does_not_fit_is_refused(files, trained, prior, case, tmp_path) -> None:
    _, fine, coarse = files
    own = Storm.load(trained / "prior.safetensors")
    config, out = DownscalingConfig(members=2), tmp_path / "out.nc"
    with pytest.raises(ValueError, match=r"fine\.nc: expected the grid of the prior's blocks"):
        downscale_files(own, open_store(fine), out, config, inputs={})
    with pytest.raises(ValueError, match=r"expected one trained with the recipe downscaling"):
        downscale_files(prior, open_store(coarse), out, config, inputs={})
    with pytest.raises(ValueError, match="members: expected at least 1, got 0"):
        DownscalingConfig(members=0)
    with pytest.raises(ValueError, match="error: expected a number that is not negative, got -1"):
        DownscalingConfig(error=-1)
    with pytest.raises(ValueError, match="seed: expected a number that is not negative, got -1"):
        DownscalingConfig(seed=-1)
    with pytest.raises(ValueError, match="inflation: expected a positive number, got 0"):
        DownscalingConfig(inflation=0)
    with pytest.raises(ValueError, match="expected a factor of at least 2, got 1"):
        Coarsening(GRID, 1)
    with pytest.raises(ValueError, match=re.escape("expected a divisor of the grid (8, 12)")):
        Coarsening(GRID, 5)
    with pytest.raises(ValueError, match=r"network\.history: expected 1 for downscaling"):
        FileRecipe(network=StormConfig(variables=("t2m",), history=2), coarsening=4)
    result = run("assimilate", "--prior", trained, "--history", fine,
                 "--observations", case.observations, "--out", out)  # fmt: skip
    assert result.exit_code == 2
    assert "expected one that forecasts, got one trained with the recipe downscaling" in (
        result.stderr.replace("\n", " ")
    )


def test_missing_values_are_refused(files, trained, tmp_path) -> None:
    _, _, coarse = files
    store = open_store(coarse)
    values = store.read("t2m")[0].copy()
    values[1, 0, 0] = np.nan
    bad = tmp_path / "bad.nc"
    write_fields(bad, {"t2m": values}, times=store.times, grid=store.grid,
                 attributes={"t2m": {"units": "K"}})  # fmt: skip
    own = Storm.load(trained / "prior.safetensors")
    with pytest.raises(ValueError, match=r"bad\.nc: expected values .* got 1 missing ones"):
        downscale_files(own, open_store(bad), tmp_path / "o.nc", DownscalingConfig(), inputs={})
