"""The network on globes with poles and on lists of cells: reach, symmetry, training, sampling."""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from stormda.assimilation import DiagonalError, Observation, select
from stormda.grid import Grid, LatLonGrid, PointGrid, grid, locate, nearest
from stormda.storm import StormConfig
from stormda.storm.filtering import FilterSettings, OneStageFilter
from stormda.storm.modes import fit_modes
from stormda.storm.network import StormNetwork, parameter_count
from stormda.storm.normalization import Normalization
from stormda.storm.objective import Batch, denoising_loss, total_variation
from stormda.storm.prior import Storm
from stormda.storm.token_layout import has_poles
from stormda.storm.training import Trainer
from stormda.storm.training_config import TrainingConfig

CONFIG = StormConfig(
    variables=("u", "h"), width=16, heads=2, encoder_depth=1, depth=1, patch=(2, 2)
)


def scattered(points: int = 150) -> PointGrid:
    xyz = np.random.default_rng(0).normal(size=(points, 3))
    x, y, z = (xyz / np.linalg.norm(xyz, axis=1, keepdims=True)).T
    return PointGrid(np.degrees(np.arcsin(z)), np.degrees(np.arctan2(y, x)))


LISTS: dict[str, Grid] = {
    "healpix8": grid("healpix8"),
    "healpix8-ring": grid("healpix8-ring"),
    "octahedral": grid("o8"),
    "reduced": grid("n32"),
    "points": scattered(),
}


def random(*shape: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def filled(config: StormConfig, on: Grid, **kwargs: Tensor) -> StormNetwork:
    """Return a network whose zero-initialised layers have been filled: else it is the identity."""
    torch.manual_seed(0)
    network = StormNetwork(config, on, **kwargs)
    with torch.no_grad():
        for parameter in network.parameters():
            if not parameter.any():
                parameter.normal_(std=0.1)
    return network


def output(network: StormNetwork, history: Tensor, d: Tensor) -> Tensor:
    past = network.encode(history, torch.full((len(d), 2), 0.1))
    estimate: Tensor = network(d, torch.tensor(1.0), past)
    return estimate


@dataclass
class Walk:
    """Samples whose present is their past, smoothed: something to learn."""

    on: Grid
    normalization: Normalization
    valid: Tensor | None = None

    def batch(self, step: int, size: int) -> Batch:
        history = random(size, 2, 2, *self.on.shape, seed=step)
        target = 0.5 * history[:, -1]
        return Batch(history, target, torch.full((size, 2), 0.1), valid=self.valid)

    def state_dict(self) -> dict[str, object]:
        return {}

    def load_state_dict(self, state: dict[str, object]) -> None:
        del state


def units(on: Grid) -> Normalization:
    one = torch.ones(2, *[1] * len(on.shape))
    return Normalization(mean=0 * one, std=3 * one, increment=0.5 * one)


@pytest.mark.parametrize("name", LISTS)
def test_a_prior_on_a_list_of_cells_is_trained_saved_and_sampled(
    name: str, tmp_path: Path
) -> None:
    on = LISTS[name]
    torch.manual_seed(0)
    config = TrainingConfig(steps=30, batch=4, warmup=5, learning_rate=3e-3)
    losses: list[float] = []
    trainer = Trainer(StormNetwork(CONFIG, on), Walk(on, units(on)), config)
    assert trainer.run(progress=lambda step, loss: losses.append(loss))
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    prior = Storm(trainer.averaged(), units(on), step_hours=6.0)
    prior.save(tmp_path / "prior.safetensors")
    prior = Storm.load(tmp_path / "prior.safetensors")
    assert prior.grid == on
    initial, seen = random(3, 2, *on.shape), torch.tensor([0, 7, 20])
    settings = FilterSettings(steps=3)
    generator = torch.Generator().manual_seed(0)
    state = OneStageFilter(prior, initial, settings, generator)
    observation = Observation(torch.full((3,), 40.0), select(seen), DiagonalError(0.01))
    analysis = state.step(observation)
    assert analysis.shape == initial.shape
    free = OneStageFilter(prior, initial, settings, torch.Generator().manual_seed(0)).step(None)
    # one Gaussian step cannot reach a value so far out, but it goes there
    assert (analysis.flatten(1)[:, seen] > free.flatten(1)[:, seen] + 10).all()


@pytest.mark.parametrize("name", LISTS)
def test_a_cell_reaches_every_cell_but_by_neighbours_only_some(name: str) -> None:
    on = LISTS[name]
    d = random(1, 2, *on.shape).requires_grad_()
    for mixer, all_of_them in (("linear", True), ("none", False)):
        network = filled(replace(CONFIG, mixer=mixer), on)
        out = output(network, torch.zeros(1, 2, 2, *on.shape), d)
        (gradient,) = torch.autograd.grad(out[0, 0, 5], d)
        touched = int((gradient[0, 0] != 0).sum())
        cells = on.shape[0]
        assert touched == cells if all_of_them else 4 * 4 <= touched < 0.9 * cells


def test_weights_do_not_know_the_grid() -> None:
    """A network of rows and columns and one of a list have the same tensors."""
    rows, cells = StormNetwork(CONFIG, grid("f16")), StormNetwork(CONFIG, grid("healpix8"))
    cells.load_state_dict(rows.state_dict())
    assert parameter_count(rows) == parameter_count(cells)


def test_a_quarter_turn_of_healpix_turns_the_answer() -> None:
    """The twelve faces are three rings of four; only absolute positions know which is which."""
    network = filled(CONFIG, grid("healpix8"))
    network.features.zero_()

    def turned(x: Tensor) -> Tensor:
        return x.unflatten(-1, (3, 4, 64)).roll(1, -2).flatten(-3)

    history, d = random(1, 2, 2, 768), random(1, 2, 768, seed=1)
    got = output(network, turned(history), turned(d))
    torch.testing.assert_close(got, turned(output(network, history, d)), rtol=1e-4, atol=1e-5)


def test_ring_and_nested_order_are_one_grid() -> None:
    nested, ring = grid("healpix8"), grid("healpix8-ring")
    first, other = (filled(CONFIG, on) for on in (nested, ring))
    cell = torch.from_numpy(locate(nested, *ring.points, nearest).cells[:, 0])
    history, d = random(1, 2, 2, 768), random(1, 2, 768, seed=1)
    got = output(other, history[..., cell], d[..., cell])
    torch.testing.assert_close(got, output(first, history, d)[..., cell], rtol=1e-4, atol=1e-5)


def test_masks_on_a_list_of_cells() -> None:
    on = grid("healpix8")
    valid = torch.ones(2, 768, dtype=torch.bool)
    valid[0, :300] = False
    network = filled(CONFIG, on, valid=valid)
    d = random(2, 2, 768)
    assert (output(network, torch.zeros(2, 2, 2, 768), d)[:, ~valid] == 0).all()
    batch = Walk(on, units(on), valid[None]).batch(0, 2)
    sigma, noise = torch.tensor([0.3, 2.0]), random(2, 2, 768, seed=2)
    loss = denoising_loss(network, units(on), batch, sigma, noise)
    changed = replace_where(batch, ~valid)
    torch.testing.assert_close(denoising_loss(network, units(on), changed, sigma, noise), loss)


def replace_where(batch: Batch, hidden: Tensor) -> Batch:
    """Return the batch with other targets where they are not known."""
    return replace(batch, target=torch.where(hidden, 9.0, batch.target))


def test_modes_on_a_list_of_cells_are_those_of_rows_and_columns() -> None:
    """Modes know no geometry: the same numbers as a list and as a field."""
    z = random(20, 2, 8, 16)
    one = torch.ones(2, 1, 1)
    rows = fit_modes(z, 0.1 * z, one, count=4)
    cells = fit_modes(z.flatten(2), 0.1 * z.flatten(2), one[..., 0], count=4)
    torch.testing.assert_close(cells.basis, rows.basis.flatten(2))
    torch.testing.assert_close(cells.level(torch.ones(3)), rows.level(torch.ones(3)))
    network = StormNetwork(replace(CONFIG, modes=4), grid("healpix8"))
    assert network.modes is not None
    z = random(20, 2, 768)
    network.modes.set(fit_modes(z, 0.1 * z, one[..., 0], count=4))
    past = network.encode(z[None, :2], torch.full((1, 2), 0.1))
    assert network.uncertainty(past).shape == (1, 2, 768)
    assert network(z[:1], torch.tensor(1.0), past).shape == (1, 2, 768)


def test_the_local_branch_sees_over_the_poles() -> None:
    """By neighbours alone, the first row of a globe reaches its other side; that of a band not."""
    globe = grid("f8")
    band = LatLonGrid(np.linspace(60, -60, 16), np.arange(32) * 11.25)
    d = random(1, 2, 16, 32).requires_grad_()
    for on, over in ((globe, True), (band, False)):
        network = filled(replace(CONFIG, mixer="none"), on)
        out = output(network, torch.zeros(1, 2, 2, 16, 32), d)
        (gradient,) = torch.autograd.grad(out[0, 0, 0, 0], d)
        other_side = gradient[0, :, 0, 16]
        assert bool((other_side != 0).any()) is over
        assert (gradient[0, :, :2, 30:] != 0).any()  # round the date line
        assert (gradient[0, :, 8:] == 0).all()


def test_a_turn_of_the_globe_by_whole_patches_turns_the_answer() -> None:
    network = filled(CONFIG, grid("f8"))
    network.features.zero_()
    history, d = random(1, 2, 2, 16, 32), random(1, 2, 16, 32, seed=1)
    got = output(network, history.roll(6, -1), d.roll(6, -1))
    expected = output(network, history, d).roll(6, -1)
    torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_which_grids_have_poles() -> None:
    def poles(name: str, patch: tuple[int, int]) -> bool:
        return has_poles(StormNetwork(replace(CONFIG, patch=patch), grid(name)).patching)

    assert poles("f8", (2, 2))
    assert poles("5deg-poles", (4, 4))
    assert not poles("f8", (2, 32))  # one column: nothing lies opposite
    assert not poles("healpix8", (2, 2))


def test_errors() -> None:
    message = r"^mixer: expected one without tiles as the tokens have no rows .*, got tile$"
    with pytest.raises(ValueError, match=message):
        StormNetwork(replace(CONFIG, mixer="tile"), grid("healpix8"))
    message = (
        r"^field: expected \(batch, variables, rows, cols\) for a total variation, "
        r"got \(1, 2, 768\)$"
    )
    with pytest.raises(ValueError, match=message):
        total_variation(torch.zeros(1, 2, 768))
    one = torch.ones(2, 1)
    with pytest.raises(ValueError, match=r"^std: expected \(variables, cells\), got \(2, 1, 1\)$"):
        Normalization(mean=one, std=one[..., None], increment=one)
